"""What the networks of all tasks are trained for, on any backend."""

from collections.abc import Callable, Mapping

import keras
from keras import KerasTensor, ops

from jdl_keras.config import LossConfig
from jdl_keras.losses import SegmentationLoss, l2
from jdl_keras.models.methods import parts, training_network

Batch = Mapping[str, KerasTensor | Mapping[str, KerasTensor]]
"""Samples of `data.samples`, stacked."""


class Objective(keras.Model):
    """A network and its loss; how the loss is followed is for trainers to say.

    Loss of a batch: sum over its samples, divided by the configured batch size, of
    `lambda * L_myocardium + L_scar`, plus L2 of each task's network. Samples without a
    reference add nothing.

    Args:
        network: what `models.methods.build_network` returned.
        loss: the configuration of the loss.
        batch_size: samples of one update.
        options: of `keras.Model`.
    """

    over_replicas: Callable[[list], list] = staticmethod(list)
    """Sums numbers over the replicas that share a batch; here one has all of it."""

    def __init__(
        self, network: keras.Model, loss: LossConfig, batch_size: int, **options: str
    ):
        super().__init__(**options)
        self.network = network
        self.training_network = training_network(network)
        self.batch_size = batch_size
        self.task_loss = SegmentationLoss(
            loss.dice_weight, loss.smoothing, loss.dice_over
        )
        self.tasks = tuple(network.output)
        self.myocardium_weight = loss.myocardium_weight
        self.wall_weight = loss.wall_weight
        self.part_variables = {
            name: part.trainable_variables for name, part in parts(network).items()
        }
        self.l2_weights = {
            name: loss.l2_scar if name.startswith("scar") else loss.l2_myocardium
            for name in self.part_variables
        }

    def scar_weight(self) -> KerasTensor:
        """1, or 0 while the myocardium network is warmed up."""
        raise NotImplementedError

    def _trainable_labels(self, batch: Batch) -> Batch:
        """Without a reference to mask by, `two_step` has no image for its scar."""
        if self.network.name != "two_step":
            return batch
        labelled = batch["labelled"]
        both = labelled["scar"] * labelled["myocardium"]
        return {**batch, "labelled": {**labelled, "scar": both}}

    def _task_sums(
        self, batch: Batch, probabilities: Mapping[str, KerasTensor]
    ) -> dict[str, KerasTensor]:
        """For each task the sum of the samples' losses."""
        weights = dict.fromkeys(self.tasks, 1.0)
        if self.wall_weight:
            wall = ops.stop_gradient(probabilities["myocardium"])
            weights["scar"] = 1.0 + self.wall_weight * wall
        return {
            task: ops.sum(
                self.task_loss(
                    batch[task],
                    probabilities[task],
                    batch["labelled"][task],
                    self.over_replicas,
                    weights[task],
                )
            )
            for task in self.tasks
        }

    def _data_loss(self, task_sums: Mapping[str, KerasTensor]) -> KerasTensor:
        """This share's part of the mean over the batch."""
        weight = {"myocardium": self.myocardium_weight, "scar": self.scar_weight()}
        return sum(weight[t] * task_sums[t] for t in self.tasks) / self.batch_size

    def _regularization(self) -> KerasTensor:
        return sum(
            self.l2_weights[part] * l2(variables)
            for part, variables in self.part_variables.items()
        )
