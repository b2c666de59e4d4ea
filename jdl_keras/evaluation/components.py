"""Post-processing of masks: what is too small to be believed is taken out.

A component is a set of voxels that touch by face, edge or corner (26 neighbours),
within a slice and from slice to slice: between thick slices an outline shifts by more
than a pixel, and a narrow scar would else fall to pieces.
"""

import math

import numpy as np
from scipy import ndimage

TOUCHING = np.ones((3, 3, 3), bool)


def without_small_components(
    mask: np.ndarray, smallest_ml: float, voxel_ml: float
) -> np.ndarray:
    """The mask less its components of a volume below `smallest_ml`.

    Args:
        mask: (S, H, W) boolean.
        smallest_ml: volume of the smallest component that stays.
        voxel_ml: volume of a voxel.
    """
    components, sizes = label_components(mask)
    stays = sizes >= smallest_voxels(smallest_ml, voxel_ml)
    stays[0] = False
    return stays[components]


def label_components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, H, W) numbers of the components, 0 outside, and the voxels of each number."""
    components, count = ndimage.label(mask, TOUCHING)
    return components, np.bincount(components.ravel(), minlength=count + 1)


def smallest_voxels(smallest_ml: float, voxel_ml: float) -> int:
    """Voxels of the smallest component that is not below `smallest_ml`."""
    # In floats 2.1 / 0.3 is a little more than 7, and 7 voxels are not below 2.1 ml.
    return math.ceil(smallest_ml / voxel_ml - 1e-6)
