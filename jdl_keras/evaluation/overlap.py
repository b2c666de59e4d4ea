"""Overlap of two masks: counts first, ratios last."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class OverlapCounts:
    """Voxel counts of one structure; add them up before taking a ratio."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    def __add__(self, other: "OverlapCounts") -> "OverlapCounts":
        """Counts of both together, as over the slices of a stack."""
        return OverlapCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )

    @property
    def reference(self) -> int:
        """Voxels of the reference."""
        return self.true_positive + self.false_negative

    @property
    def prediction(self) -> int:
        """Voxels of the prediction."""
        return self.true_positive + self.false_positive

    @property
    def dice(self) -> float:
        """Dice in [0, 1]; 0 for a false alarm or a miss; NaN only if both are empty."""
        return _ratio(2 * self.true_positive, self.reference + self.prediction)

    @property
    def precision(self) -> float:
        """Share of the prediction that is right; NaN if nothing is predicted."""
        return _ratio(self.true_positive, self.prediction)

    @property
    def recall(self) -> float:
        """Share of the reference that is found; NaN if the reference is empty."""
        return _ratio(self.true_positive, self.reference)


def overlap_counts(reference: np.ndarray, prediction: np.ndarray) -> OverlapCounts:
    """Counts the voxels of two boolean masks of the same shape.

    Raises:
        ValueError: if the shapes differ or a mask is not boolean.
    """
    check_masks(reference, prediction)
    return OverlapCounts(
        true_positive=int(np.count_nonzero(reference & prediction)),
        false_positive=int(np.count_nonzero(~reference & prediction)),
        false_negative=int(np.count_nonzero(reference & ~prediction)),
    )


def check_masks(reference: np.ndarray, prediction: np.ndarray) -> None:
    """Raises ValueError unless both are boolean masks of one shape.

    NumPy would broadcast other shapes, and would take `~` of integers bit by bit.
    """
    for name, mask in (("reference", reference), ("prediction", prediction)):
        if mask.dtype != bool:
            raise ValueError(
                f"expected a boolean {name} mask, got {mask.dtype}; threshold it first"
            )
    if reference.shape != prediction.shape:
        raise ValueError(
            f"expected a prediction on the reference's grid {reference.shape}, got "
            f"{prediction.shape}; map it back to the native grid first"
        )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
