"""Each worker's rows of every batch."""

import dataclasses
import functools

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Share:
    """What one worker takes of every batch.

    Together the shares of all workers are the batches that a single process has.

    Attributes:
        index: of the worker.
        workers: how many there are.
    """

    index: int = 0
    workers: int = 1

    def samples(self, samples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Its own among samples in the order in which they are batched."""
        if self.workers == 1:
            return samples

        def is_own(place: tf.Tensor, *_: object) -> tf.Tensor:
            return place % batch_size % self.workers == self.index

        return samples.enumerate().filter(is_own).map(lambda _, sample: sample)

    def batches(
        self, own: tf.data.Dataset, count: int, batch_size: int
    ) -> tf.data.Dataset:
        """Its part of every batch, in which the last may leave nothing.

        Args:
            own: what `samples` returned, prepared.
            count: samples of all workers.
            batch_size: of all workers, at least one for each.
        """
        batches = own.batch(self._rows(batch_size))
        last = count % batch_size
        if last == 0 or self._rows(last):
            return batches
        # All workers must take the same number of steps.
        nothing = tf.nest.map_structure(_no_sample, batches.element_spec)
        return batches.concatenate(tf.data.Dataset.from_tensors(nothing))

    def _rows(self, size: int) -> int:
        """Its rows of a batch of `size` samples."""
        return len(range(self.index, size, self.workers))


WHOLE = Share()


def _no_sample(spec: tf.TensorSpec) -> tf.Tensor:
    return tf.zeros([0, *spec.shape[1:]], spec.dtype)


def by_replica(batches: tf.data.Dataset, replicas: int) -> tf.data.Dataset:
    """Each batch as parts for the replicas of one worker, one after another."""

    def parts(batch: dict) -> tf.data.Dataset:
        size = tf.shape(batch["image"])[0]
        edges = [size * part // replicas for part in range(replicas + 1)]
        datasets = [
            tf.data.Dataset.from_tensors(
                tf.nest.map_structure(lambda t, a=a, b=b: t[a:b], batch)
            )
            for a, b in zip(edges[:-1], edges[1:], strict=True)
        ]
        return functools.reduce(tf.data.Dataset.concatenate, datasets)

    return batches if replicas == 1 else batches.flat_map(parts)
