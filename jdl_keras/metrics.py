"""Metrics that count first and divide last."""

import keras
from keras import KerasTensor, ops

from jdl_keras.losses import SPACE


@keras.saving.register_keras_serializable("jdl_keras")
class PatientDice(keras.metrics.Metric):
    """Mean over patients of the Dice of all their slices, on the network's grid.

    Counts are summed per patient over batches, so that the value does not depend on
    how slices are batched. Patients without the structure in their reference do not
    enter the mean; a patient whose structure is missed counts 0. Without any such
    patient the value is 0.

    Args:
        patients: number of patients.
        threshold: probability from which a pixel belongs to the mask.
    """

    def __init__(
        self, patients: int, threshold: float = 0.5, name: str = "dice", **kwargs: str
    ):
        super().__init__(name=name, **kwargs)
        self.patients, self.threshold = patients, threshold
        self.counts = self.add_variable(
            (patients, 3), initializer="zeros", name="counts"
        )

    def count(
        self,
        reference: KerasTensor,
        probability: KerasTensor,
        patient: KerasTensor,
        labelled: KerasTensor,
    ) -> KerasTensor:
        """Pixels of intersection, reference and prediction, (patients, 3).

        Args:
            reference: (B, H, W, 1), 0 or 1.
            probability: (B, H, W, 1).
            patient: (B,) integers below `patients`.
            labelled: (B,), 0 where the sample has no reference of this task.
        """
        reference = ops.cast(reference, "float32")
        predicted = ops.cast(probability >= self.threshold, "float32")
        sums = [
            ops.sum(volume, axis=SPACE)
            for volume in (reference * predicted, reference, predicted)
        ]
        per_sample = ops.stack(sums, axis=-1) * labelled[:, None]  # (B, 3)
        owner = ops.one_hot(patient, self.patients)  # (B, patients)
        return ops.matmul(ops.transpose(owner), per_sample)

    def add(self, counts: KerasTensor) -> None:
        """Adds what `count` returned, summed over replicas where there are several."""
        self.counts.assign_add(counts)

    def update_state(self, *args: KerasTensor, **kwargs: KerasTensor) -> None:
        """Adds slices; the arguments are those of `count`."""
        self.add(self.count(*args, **kwargs))

    def result(self) -> KerasTensor:
        """Mean Dice of the patients with a reference, in [0, 1]."""
        intersection, reference, predicted = ops.unstack(
            ops.convert_to_tensor(self.counts), axis=1
        )
        has_reference = ops.cast(reference > 0, "float32")
        dice = 2 * intersection / ops.maximum(reference + predicted, 1.0)
        return ops.sum(dice * has_reference) / ops.maximum(ops.sum(has_reference), 1.0)

    def get_config(self) -> dict:
        """Arguments of the constructor."""
        config = {"patients": self.patients, "threshold": self.threshold}
        return {**super().get_config(), **config}
