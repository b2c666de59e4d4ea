"""The label table: tissues, and the regions that the tasks segment."""

import enum
from collections.abc import Collection

import numpy as np


class Tissue(enum.IntEnum):
    """Tissue of one pixel of a label map. Numbers as in the EMIDEC challenge."""

    BACKGROUND = 0
    BLOOD_POOL = 1
    HEALTHY_MYOCARDIUM = 2
    SCAR = 3
    MVO = 4
    """Microvascular obstruction (no-reflow): the dark core inside a scar."""


MYOCARDIUM = frozenset({Tissue.HEALTHY_MYOCARDIUM, Tissue.SCAR, Tissue.MVO})
"""The whole LV wall, scar and MVO included."""

SCAR = frozenset({Tissue.SCAR, Tissue.MVO})
"""Enhanced wall, MVO included."""

MYOCARDIAL_DENSITY_G_PER_ML = 1.05
"""Density of myocardium, as mass is reported in cardiac MR."""

TASKS: dict[str, frozenset[Tissue]] = {"myocardium": MYOCARDIUM, "scar": SCAR}
"""The region that each task segments, in the order used everywhere."""


def region_mask(label_map: np.ndarray, region: frozenset[Tissue]) -> np.ndarray:
    """Boolean mask of the pixels of `label_map` (any shape) that lie in `region`."""
    return np.isin(label_map, [int(tissue) for tissue in region])


def tissues_without(tasks: Collection[str]) -> np.ndarray:
    """What is known of each tissue where the references of `tasks` are missing.

    Without a reference of scar, scar and MVO are myocardium like any other; without
    one of the myocardium, the healthy wall is background.

    Returns:
        (tissues,) uint8, by `Tissue`: `tissues_without(tasks)[label_map]` is the label
        map that is left.
    """
    left = np.arange(len(Tissue), dtype=np.uint8)
    if "scar" in tasks:
        left[[Tissue.SCAR, Tissue.MVO]] = Tissue.HEALTHY_MYOCARDIUM
    if "myocardium" in tasks:
        left[left == Tissue.HEALTHY_MYOCARDIUM] = Tissue.BACKGROUND
    return left
