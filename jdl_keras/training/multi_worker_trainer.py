"""The training of a network by several workers."""

import tensorflow as tf

from jdl_keras.training.joint_trainer import JointTrainer
from jdl_keras.training.objective import Batch


class MultiWorkerTrainer(JointTrainer):
    """A `JointTrainer` around what `fit` of Keras 3.15 cannot do with several workers.

    It builds a model from the mean of a batch over workers, which it takes of a
    dictionary as if that were a tensor, and reduces logs along an axis that numbers
    do not have.
    """

    def _maybe_symbolic_build(self, **_: object) -> None:
        """Everything is built already."""

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One update from this replica's share of a batch."""
        return _with_axis(super().train_step(batch))

    def test_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Losses and Dice by patient of a batch, without update."""
        return _with_axis(super().test_step(batch))


def _with_axis(logs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {name: value[None] for name, value in logs.items()}
