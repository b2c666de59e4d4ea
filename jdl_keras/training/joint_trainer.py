"""Trains the networks of all tasks together, on any number of replicas."""

from collections.abc import Iterable
from typing import TypeVar

import keras
import tensorflow as tf

from jdl_keras.config import LossConfig
from jdl_keras.metrics import PatientDice
from jdl_keras.training.objective import Batch, Objective

Nested = TypeVar("Nested")
"""Tensors in lists, tuples and dictionaries."""

Sums = tuple[list[tf.Tensor], dict[str, tf.Tensor]]
"""Gradients by variable and losses by task, summed over samples."""


def never_empty(batch: Batch) -> Batch:
    """The batch, or one unlabelled sample of zeros in place of no sample.

    The last batch of an epoch may leave nothing to a replica or a micro-batch, and
    TensorFlow's convolution on CPUs has no result for nothing.
    """
    missing = tf.maximum(0, 1 - tf.shape(batch["image"])[0])

    def padded(values: tf.Tensor) -> tf.Tensor:
        return tf.pad(values, [[0, missing], *[[0, 0]] * (values.shape.rank - 1)])

    return tf.nest.map_structure(padded, batch)


def over_replicas(values: Nested) -> Nested:
    """Sums tensors over the replicas; gradients flow back to what each of them gave."""
    replica = tf.distribute.get_replica_context()
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)


class JointTrainer(Objective):
    """The training of a network; the network itself is saved, exported, predicted with.

    The loss is divided by the *global* batch size, so that every replica contributes
    its share, an uneven last batch included, whatever the number of replicas.

    Args:
        network: what `models.methods.build_network` returned.
        loss: the configuration of the loss.
        batch_size: samples of one update, over all replicas.
        micro_batches: parts in which a replica computes its share, one after another.
        streams: parts of a micro-batch that are computed at the same time.
        clip_norm: largest global norm of the summed gradients; 0 for none.
        patients: patients of the validation split, for its metrics.
        threshold: probability from which a pixel belongs to a mask.
        warmup_steps: updates in which the scar's loss does not count.
    """

    over_replicas = staticmethod(over_replicas)

    def __init__(
        self,
        network: keras.Model,
        loss: LossConfig,
        batch_size: int,
        micro_batches: int = 1,
        streams: int = 1,
        clip_norm: float = 0.0,
        patients: int = 1,
        threshold: float = 0.5,
        warmup_steps: int = 0,
    ):
        super().__init__(network, loss, batch_size, name="joint_trainer")
        self.parts, self.streams = micro_batches * streams, streams
        self.clip_norm = clip_norm
        self.warmup_steps = warmup_steps
        self.averages = [
            variable
            for variable in network.non_trainable_variables
            if "float" in variable.dtype
        ]
        self._add_metrics(patients, threshold)
        self.built = True

    def _add_metrics(self, patients: int, threshold: float) -> None:
        names = ["loss", "skipped_updates"]
        names += [f"{task}_loss" for task in self.tasks]
        names += [f"{part}_gradient_norm" for part in self.part_variables]
        self.means = {name: keras.metrics.Mean(name) for name in names}
        self.dice = {
            task: PatientDice(patients, threshold, name=f"{task}_dice")
            for task in self.tasks
        }

    def call(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Probability maps of all tasks."""
        return self.network(images, training=training)

    def scar_weight(self) -> tf.Tensor:
        """0 in the first updates, then 1."""
        return tf.cast(self.optimizer.iterations >= self.warmup_steps, tf.float32)

    # Training

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One update from this replica's share of a batch, see `data.pipeline`."""
        averages = [tf.identity(variable) for variable in self.averages]
        gradients, task_sums = self._gradients(batch)
        gradients, task_sums = over_replicas((gradients, task_sums))
        losses = {task: value / self.batch_size for task, value in task_sums.items()}
        loss = self._data_loss(task_sums) + self._regularization()
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        scale = tf.minimum(1.0, self.clip_norm / norm) if self.clip_norm else 1.0
        clipped = [gradient * scale for gradient in gradients]
        replica = tf.distribute.get_replica_context()
        replica.merge_call(self._update_if, args=(finite, clipped))
        # The forward pass has moved the averages of batch statistics already.
        for variable, before in zip(self.averages, averages, strict=True):
            variable.assign(tf.where(finite, variable, before))
        self._log_training(loss, losses, gradients, finite)
        return self._results(self.means.values())

    def _gradients(self, batch: Batch) -> Sums:
        """Gradients and losses, summed over the parts of this replica's share."""
        sums: list[Sums] = []
        for part in self._split(self._trainable_labels(batch)):
            # Else TensorFlow computes all parts at once, in the memory of all.
            earlier = sums[-self.streams][0] if len(sums) >= self.streams else []
            with tf.control_dependencies(earlier):
                image = tf.identity(part["image"])
            found = self._gradients_of_part({**part, "image": image})
            sums.append(
                tf.nest.map_structure(tf.add, sums[-1], found) if sums else found
            )
        gradients, task_sums = sums[-1]
        return self._with_regularization(gradients), task_sums

    def _gradients_of_part(self, part: Batch) -> Sums:
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            probabilities = self.training_network(
                [part["image"], part["myocardium"]], training=True
            )
            task_sums = self._task_sums(part, probabilities)
            loss = self._data_loss(task_sums)
        gradients = tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        # That of an embedding comes as slices, which do not add up.
        return [tf.convert_to_tensor(gradient) for gradient in gradients], task_sums

    def _regularization(self) -> tf.Tensor:
        """As `Objective` has it; one pass over the weights instead of two."""
        return sum(
            2 * self.l2_weights[part] * tf.add_n([tf.nn.l2_loss(v) for v in variables])
            for part, variables in self.part_variables.items()
        )

    def _split(self, batch: Batch) -> list[Batch]:
        """Parts whose sizes differ by at most one."""
        size = tf.shape(batch["image"])[0]
        edges = [size * part // self.parts for part in range(self.parts + 1)]
        return [
            never_empty(tf.nest.map_structure(lambda t, a=a, b=b: t[a:b], batch))
            for a, b in zip(edges[:-1], edges[1:], strict=True)
        ]

    def _with_regularization(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Adds the gradient of the L2 terms, one replica's share of it."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        weight = {
            id(variable): 2 * self.l2_weights[part] / replicas
            for part, variables in self.part_variables.items()
            for variable in variables
        }
        variables = self.network.trainable_variables
        return [
            gradient + weight.get(id(variable), 0.0) * variable
            for gradient, variable in zip(gradients, variables, strict=True)
        ]

    def _update_if(
        self,
        strategy: tf.distribute.Strategy,
        finite: tf.Tensor,
        gradients: list[tf.Tensor],
    ) -> None:
        """Applies the summed gradients once all replicas are here, if `finite`.

        `optimizer.apply` would sum them again and cannot be skipped by a condition
        under a strategy; here the condition stands outside the update.
        """
        optimizer = self.optimizer
        variables = [variable.value for variable in self.network.trainable_variables]

        def update() -> tf.Tensor:
            rate = optimizer.learning_rate
            for gradient, variable in zip(gradients, variables, strict=True):
                strategy.extended.update(
                    variable,
                    lambda v, g, rate=rate: optimizer.update_step(g, v, rate),
                    args=(gradient,),
                    group=False,
                )
            optimizer.iterations.assign_add(1)
            return tf.constant(True)

        first = strategy.experimental_local_results(finite)[0]
        tf.cond(first, update, lambda: tf.constant(False))

    def _log_training(
        self,
        loss: tf.Tensor,
        losses: dict[str, tf.Tensor],
        gradients: list[tf.Tensor],
        finite: tf.Tensor,
    ) -> None:
        by_variable = {
            id(variable): gradient
            for variable, gradient in zip(
                self.network.trainable_variables, gradients, strict=True
            )
        }
        values = {"loss": loss, **{f"{t}_loss": losses[t] for t in self.tasks}}
        for part, variables in self.part_variables.items():
            norm = tf.linalg.global_norm([by_variable[id(v)] for v in variables])
            values[f"{part}_gradient_norm"] = norm
        for name, value in values.items():
            # The weight alone would not do: 0 times NaN is NaN.
            self.means[name].update_state(tf.where(finite, value, 0.0), finite)
        self.means["skipped_updates"].update_state(tf.cast(~finite, tf.float32))

    # Validation

    def test_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Losses and Dice by patient of a batch, without update."""
        size = tf.cast(tf.shape(batch["image"])[0], tf.float32)
        batch = never_empty(batch)
        probabilities = self.network(batch["image"], training=False)
        task_sums = self._task_sums(batch, probabilities)
        counts = {
            task: dice.count(
                batch[task],
                probabilities[task],
                batch["patient"],
                batch["labelled"][task],
            )
            for task, dice in self.dice.items()
        }
        # Keras reports the mean over replicas of what each of them has counted.
        size, task_sums, counts = over_replicas((size, task_sums, counts))
        for task in self.tasks:
            self.means[f"{task}_loss"].update_state(task_sums[task] / size, size)
            self.dice[task].add(counts[task])
        losses = [self.means[f"{task}_loss"] for task in self.tasks]
        return self._results([*losses, *self.dice.values()])

    @staticmethod
    def _results(metrics: Iterable[keras.Metric]) -> dict[str, tf.Tensor]:
        return {metric.name: metric.result() for metric in metrics}
