"""Cross entropy plus soft Dice of one task, one value per sample.

Source: Xing et al. 2023, section 2.2. The paper prints a minus before the Dice term's
weight w; the intended sum is meant here. A batch that is split over replicas gives the
same loss as the whole; split into micro-batches, it does with Dice per sample.
"""

import dataclasses
from collections.abc import Callable, Iterable

from keras import KerasTensor, Variable, ops

SPACE = (1, 2, 3)
"""Rows, columns and the one channel of (B, H, W, 1)."""

PROBABILITY_FLOOR = 1e-7
"""Keeps the logarithm finite; the largest loss of a pixel is 16.1."""


def cross_entropy(
    reference: KerasTensor,
    probability: KerasTensor,
    weight: KerasTensor | float = 1.0,
) -> KerasTensor:
    """Mean two-class cross entropy over the pixels, (B,).

    Args:
        reference: (B, H, W, 1), 0 or 1.
        probability: (B, H, W, 1) foreground probability.
        weight: of every pixel, (B, H, W, 1).
    """
    p = ops.clip(probability, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    pixels = reference * ops.log(p) + (1 - reference) * ops.log(1 - p)
    return -ops.mean(weight * pixels, axis=SPACE)


def dice_loss(
    intersection: KerasTensor,
    reference_sum: KerasTensor,
    probability_sum: KerasTensor,
    smoothing: float,
) -> KerasTensor:
    """`1 - (2 I + smoothing) / (R + P + smoothing)`, for sums of any shape.

    Both masks empty gives 0; a false alarm on an empty reference approaches 1.
    """
    total = reference_sum + probability_sum
    return 1 - (2 * intersection + smoothing) / (total + smoothing)


@dataclasses.dataclass(frozen=True)
class SegmentationLoss:
    """`cross entropy + dice_weight * Dice loss` of one task.

    Attributes:
        dice_weight: w of the paper.
        smoothing: epsilon of the paper, in pixels.
        dice_over: `sample`, or `batch`: pixels are summed over the whole batch before
            the ratio is taken, so that a false alarm on a scar-free sample counts.
    """

    dice_weight: float = 1.0
    smoothing: float = 1e-6
    dice_over: str = "sample"

    def __call__(
        self,
        reference: KerasTensor,
        probability: KerasTensor,
        labelled: KerasTensor,
        over_replicas: Callable[[list[KerasTensor]], list[KerasTensor]] = list,
        weight: KerasTensor | float = 1.0,
    ) -> KerasTensor:
        """Loss per sample, (B,); 0 for samples without a reference.

        Args:
            reference: (B, H, W, 1), 0 or 1; any finite value where `labelled` is 0.
            probability: (B, H, W, 1) foreground probability.
            labelled: (B,), 1 where the sample has a reference of this task, else 0.
            over_replicas: sums numbers over the replicas that share a batch.
            weight: of every pixel in the cross entropy, (B, H, W, 1).
        """
        sums = [
            ops.sum(volume, axis=SPACE) * labelled
            for volume in (reference * probability, reference, probability)
        ]
        if self.dice_over == "batch":
            sums = over_replicas([ops.sum(values) for values in sums])
        dice = dice_loss(*sums, self.smoothing)
        return labelled * (
            cross_entropy(reference, probability, weight) + self.dice_weight * dice
        )


def l2(variables: Iterable[Variable]) -> KerasTensor:
    """Sum of squares of all `variables`: Reg of the paper."""
    return sum(ops.sum(ops.square(variable)) for variable in variables)
