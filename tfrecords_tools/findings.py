"""What a check on labels found, and the kinds of it."""

import dataclasses

import numpy as np

CODES = {
    "EMPTY": "nothing is labelled though the reference is said to be there",
    "MISSING_SLICE": "no label between labelled slices",
    "LONE_SLICE": "labelled between two slices without label",
    "BORDER": "labels reach the edge of the image",
    "OFF_IMAGE": "labels lie where the image has no content",
    "SHIFTED": "the contour is not where those of the other slices are",
    "OPEN_RING": "the wall does not close though it does towards base and apex",
    "SCAR_OUTSIDE": "scar outside the wall",
    "SCAR_IN_BLOOD": "scar inside the blood pool",
    "MASS": "implausible mass of the wall",
    "NO_BLOOD": "cavity without blood pool though other slices have it",
    "SCAR_SHARE": "most of the wall is scar",
    "ISLAND": "a small piece apart from the rest",
    "HOLE": "unlabelled pixels inside the labels",
}
"""Every kind of finding, the serious ones first."""

SERIOUS = frozenset([*CODES][: [*CODES].index("NO_BLOOD")])
"""Findings that change what is learned or measured, and are kept with the study."""

NO_PLACE = np.zeros((0, 0), bool)


@dataclasses.dataclass(frozen=True, eq=False)
class Finding:
    """Something in the labels that a reader should look at.

    Attributes:
        code: one of `CODES`.
        index: the slice, 0 at the base; None if it is about the study.
        value: how much of it, in `unit`.
        text: what it is, in one plain sentence.
        place: (H, W) where in the slice; empty if it is about all of it.
    """

    code: str
    index: int | None
    value: float
    unit: str
    text: str
    place: np.ndarray = dataclasses.field(default_factory=lambda: NO_PLACE, repr=False)

    @property
    def where(self) -> str:
        """The slice as readers count, from 1 at the base; or the study."""
        return "study" if self.index is None else f"slice {self.index + 1}"

    @property
    def place_in_stack(self) -> int:
        """By what findings are sorted: those of the study first, then by slice."""
        return -1 if self.index is None else self.index
