"""Trains the networks of all tasks together, on one device of any backend."""

import keras
import numpy as np
from keras import KerasTensor, ops

from jdl_keras.config import Config, LossConfig
from jdl_keras.metrics import PatientDice
from jdl_keras.training.objective import Batch, Objective

NEVER = 2**31 - 1
"""More updates than any run has."""

MOST_SKIPPED = 64
"""Skipped updates of an epoch, each of which halves the scale of the loss: beyond, the
gradients in float32 would be cut off."""


def skipping(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """An optimizer that leaves out an update whose gradients are not finite."""
    return keras.optimizers.LossScaleOptimizer(
        optimizer, initial_scale=1.0, dynamic_growth_steps=NEVER
    )


class PortableTrainer(Objective):
    """The training of a network by Keras' own step and `fit`.

    Unlike `JointTrainer` it knows one device, and an update that is left out keeps the
    averages of batch statistics that its forward pass has moved.

    Args:
        network: what `models.methods.build_network` returned.
        loss: the configuration of the loss.
        batch_size: samples of one update.
    """

    def __init__(self, network: keras.Model, loss: LossConfig, batch_size: int):
        # It computes nothing itself, and must not cast what its networks are given.
        super().__init__(
            network, loss, batch_size, name="portable_trainer", dtype="float32"
        )
        # A variable, for a compiled step keeps every number that it has seen.
        self.scar_counts = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="scar_counts"
        )
        names = ["loss", *(f"{task}_loss" for task in self.tasks)]
        self.means = {name: keras.metrics.Mean(name) for name in names}
        self.built = True

    @property
    def metrics(self) -> list[keras.Metric]:
        """Means over the updates of an epoch; not Keras' own, which NaN would spoil."""
        return [*self.means.values()]

    def scar_weight(self) -> KerasTensor:
        """As the warm-up wants it, see `EpochFrame`."""
        return ops.convert_to_tensor(self.scar_counts)

    def call(self, batch: Batch, training: bool = False) -> dict[str, KerasTensor]:
        """Probability maps of all tasks."""
        if not training:
            return self.network(batch["image"], training=False)
        inputs = [batch["image"], batch["myocardium"]]
        return self.training_network(inputs, training=True)

    def compute_loss(
        self,
        x: Batch,
        y: None = None,
        y_pred: dict[str, KerasTensor] | None = None,
        sample_weight: None = None,
        training: bool = True,
    ) -> KerasTensor:
        """The loss of a batch, see `Objective`; Keras' names of the arguments."""
        task_sums = self._task_sums(self._trainable_labels(x), y_pred)
        loss = self._data_loss(task_sums) + self._regularization()
        losses = {f"{task}_loss": s / self.batch_size for task, s in task_sums.items()}
        finite = ops.isfinite(loss)
        for name, value in {"loss": loss, **losses}.items():
            # The weight alone would not do: 0 times NaN is NaN.
            counted = ops.where(finite, value, 0.0)
            self.means[name].update_state(counted, ops.cast(finite, "float32"))
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of the update before; only PyTorch's step keeps them.

        Keras finds variables by name here, and of the two networks' equal names only
        one: the gradients of the others would add up from update to update.
        """
        for variable in self.trainable_variables:
            variable.value.grad = None

    def validate(
        self, batches: list[Batch], patients: int, threshold: float
    ) -> dict[str, float]:
        """For each task the mean loss of the samples, and the Dice by patient."""
        dice = {task: PatientDice(patients, threshold) for task in self.tasks}
        sums, samples = dict.fromkeys(self.tasks, 0.0), 0
        for batch in batches:
            found = self.network.predict_on_batch(batch["image"])
            maps = {task: ops.convert_to_tensor(p) for task, p in found.items()}
            samples += len(batch["image"])
            for task, value in self._task_sums(batch, maps).items():
                sums[task] += float(value)
                pair, labelled = (batch[task], maps[task]), batch["labelled"][task]
                dice[task].update_state(*pair, batch["patient"], labelled)
        losses = {f"{task}_loss": value / samples for task, value in sums.items()}
        return losses | {f"{task}_dice": float(d.result()) for task, d in dice.items()}


class EpochFrame(keras.callbacks.Callback):
    """What an epoch needs before and after its updates; the first callback.

    Args:
        config: of the run.
        validation: batches to measure after every epoch.
        patients: patients of the validation split.
        steps: updates of an epoch.
    """

    def __init__(
        self, config: Config, validation: list[Batch], patients: int, steps: int
    ):
        super().__init__()
        self.config, self.steps = config, steps
        self.validation, self.patients = validation, patients

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Sets what an epoch starts from, as if it had not been interrupted before."""
        self.seed = epoch_seed(self.config.seed, epoch)
        warmed_up = epoch >= self.config.message.warmup_epochs
        self.model.scar_counts.assign(float(warmed_up))
        self.model.optimizer.dynamic_scale.assign(1.0)
        self.updates = int(self.model.optimizer.iterations)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Seeds PyTorch's dropout, whose state no checkpoint holds.

        Not before the first batch is there: its loader draws a number once in a run.
        """
        if batch == 0:
            keras.utils.set_random_seed(self.seed)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds `skipped_updates` and the validation to the logs of those after it."""
        done = int(self.model.optimizer.iterations) - self.updates
        too_many = self.steps - done > MOST_SKIPPED
        logs["skipped_updates"] = 1.0 if too_many else 1 - done / self.steps
        threshold = self.config.evaluation.threshold
        scores = self.model.validate(self.validation, self.patients, threshold)
        logs |= {f"val_{name}": value for name, value in scores.items()}


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed of 31 bits for an epoch of a run."""
    (state,) = np.random.SeedSequence([seed, epoch]).generate_state(1)
    return int(state >> 1)
