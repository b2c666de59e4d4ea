"""Distance between the surfaces of two masks, in millimetres.

The surface of a mask is its voxels that have a face neighbour outside the mask (6
neighbours in a stack, 4 in a slice); outside the array is outside the mask. Distances
run between voxel centres. HD95 is the larger of the two directed 95th percentiles
(linear interpolation), each over the surface voxels of one mask, every voxel counted
alike; the Hausdorff distance is the same of the largest distances.
"""

import numpy as np
from scipy import ndimage

from jdl_keras.evaluation.overlap import check_masks


def hd95_mm(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: tuple[float, float],
    slice_spacing_mm: float,
) -> float:
    """Symmetric 95th percentile surface distance of two stacks.

    Args:
        reference: (S, H, W) boolean mask.
        prediction: (S, H, W) boolean mask.
        spacing_mm: distances of neighbouring (rows, columns).
        slice_spacing_mm: distance of neighbouring slice centres.

    Returns:
        Millimetres, or NaN if a mask is empty: a missed or a false structure has no
        distance, it is counted as missed or as a false alarm instead.
    """
    return _distance_mm(reference, prediction, (slice_spacing_mm, *spacing_mm), 95)


def hausdorff_mm(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: tuple[float, float],
    slice_spacing_mm: float,
) -> float:
    """The same as `hd95_mm` with the largest distance; one stray voxel decides it."""
    return _distance_mm(reference, prediction, (slice_spacing_mm, *spacing_mm), 100)


def in_plane_hd95_mm(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, float]
) -> float:
    """The same within one slice: (H, W) masks, (row, column) spacing.

    Beside the distance in the stack because one step between slices (8-10 mm)
    outweighs most in-plane errors.
    """
    return _distance_mm(reference, prediction, spacing_mm, 95)


def _distance_mm(
    reference: np.ndarray,
    prediction: np.ndarray,
    steps_mm: tuple[float, ...],
    percentile: float,
) -> float:
    check_masks(reference, prediction)
    if not reference.any() or not prediction.any():
        return float("nan")
    # Both surfaces lie inside this box, so cropping to it changes no distance.
    box = bounding_box(reference | prediction)
    surfaces = _surface(reference[box]), _surface(prediction[box])
    return max(
        _directed_mm(*surfaces, steps_mm, percentile),
        _directed_mm(*surfaces[::-1], steps_mm, percentile),
    )


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box, one slice per axis, that holds a mask that is not empty."""
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask, border_value=0)


def _directed_mm(
    origin: np.ndarray,
    target: np.ndarray,
    steps_mm: tuple[float, ...],
    percentile: float,
) -> float:
    distance_mm = ndimage.distance_transform_edt(~target, sampling=steps_mm)
    return float(np.percentile(distance_mm[origin], percentile))
