"""A trace says how long training waited for its input."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from jdl_keras.training.profile import Profile, newest_trace, waiting_share


def write_trace(path, *lines):
    """Events (name, begin, end) of threads, in nanoseconds."""
    space = xplane_pb2.XSpace()
    plane = space.planes.add(name="/host:CPU")
    names = sorted({name for line in lines for name, _, _ in line})
    for number, name in enumerate(names):
        plane.event_metadata[number].name = name
    for events in lines:
        start = min(begin for _, begin, _ in events)
        line = plane.lines.add(timestamp_ns=start)
        for name, begin, end in events:
            line.events.add(
                metadata_id=names.index(name),
                offset_ps=(begin - start) * 1000,
                duration_ps=(end - begin) * 1000,
            )
    path.write_bytes(space.SerializeToString())
    return path


def test_share_by_hand(tmp_path):
    trace = write_trace(
        tmp_path / "trace",
        [("training_step", 100, 200), ("training_step", 250, 350), ("other", 0, 400)],
        # Two devices: together they wait from 150 to 190; then from 240 to 260, of
        # which 10 are in a step; what lies outside of the steps does not count.
        [("IteratorGetNextOp::DoCompute", 150, 180), ("IteratorGetNext", 240, 260)],
        [("IteratorGetNextAsOptional", 160, 190), ("IteratorGetNext", 500, 600)],
    )
    # (40 + 10) / (100 + 100)
    assert waiting_share(trace) == pytest.approx(0.25)


@pytest.mark.slow
@pytest.mark.parametrize(("sleep", "low", "high"), [(0.02, 0.5, 1.0), (0.0, 0.0, 0.3)])
def test_slow_input_is_seen(sleep, low, high, tmp_path, capsys):
    def samples():
        while True:
            time.sleep(sleep)
            yield np.ones(8, np.float32), np.ones(2000, np.float32)

    specs = (tf.TensorSpec([8]), tf.TensorSpec([2000]))
    batches = tf.data.Dataset.from_generator(samples, output_signature=specs)
    network = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(2000), keras.layers.Dense(2000)]
    )
    network.compile("sgd", "mse")
    if not sleep:  # ready before the step asks for it
        batches = batches.take(1).cache().repeat()
    network.fit(
        batches.batch(2).prefetch(4),
        steps_per_epoch=12,
        verbose=0,
        shuffle=False,
        callbacks=[Profile(tmp_path, steps=12)],
    )
    share = waiting_share(newest_trace(tmp_path))
    assert low < share < high
    said = f"trace of steps 3 to 12 in {tmp_path}: {100 * share:.0f} % of their time"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("steps", "traced"), [(1000, (11, 20)), (20, (11, 20)), (12, (3, 12)), (5, (2, 5))]
)
def test_steps_after_a_warm_up(tmp_path, steps, traced):
    profile = Profile(tmp_path, steps)
    assert (profile.first, profile.last) == traced
