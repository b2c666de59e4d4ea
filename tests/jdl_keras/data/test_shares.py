"""The workers' shares of a batch are the batch: nothing lost, nothing twice."""

import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.data.shares import Share, by_replica


def shares_of(count, batch_size, workers, replicas=1):
    """For each worker its parts of all batches."""
    result = []
    for index in range(workers):
        share, samples = Share(index, workers), tf.data.Dataset.range(count)
        own = share.samples(samples, batch_size).map(lambda number: {"image": number})
        batches = by_replica(share.batches(own, count, batch_size), replicas)
        result.append([batch["image"].numpy().tolist() for batch in batches])
    return result


def test_rows_of_a_batch_are_dealt_in_turn():
    # 7 samples in batches of 4: 0 1 2 3 and 4 5 6, dealt to two workers
    assert shares_of(7, 4, 2) == [[[0, 2], [4, 6]], [[1, 3], [5]]]


def test_worker_without_a_sample_takes_the_step_too():
    # 5 samples in batches of 4: the last has one
    assert shares_of(5, 4, 2) == [[[0, 2], [4]], [[1, 3], []]]


def test_replicas_of_a_worker_take_parts_one_after_another():
    # worker 0 has 0 2 4 and 6; its two replicas 0, 2 4 and nothing, 6
    assert shares_of(7, 6, 2, replicas=2)[0] == [[0], [2, 4], [], [6]]


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [5, 15, 16, 17, 19])
@pytest.mark.parametrize("batch_size", [5, 7, 8])
def test_together_they_are_every_batch(workers, count, batch_size):
    shares = shares_of(count, batch_size, workers)
    whole = [
        [*range(s, min(s + batch_size, count))] for s in range(0, count, batch_size)
    ]
    assert [sorted(sum(parts, [])) for parts in zip(*shares, strict=True)] == whole
    # No worker has more than one sample more than another.
    sizes = np.array([[len(part) for part in share] for share in shares])
    assert (np.ptp(sizes, axis=0) <= 1).all()
