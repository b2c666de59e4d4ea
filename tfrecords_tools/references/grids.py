"""Laying a label volume on the grid of a stack, exactly or not at all."""

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.stack import Grid

_STEP_TOLERANCE = 1e-3
"""Relative difference of steps that headers with four digits leave."""

_POSITION_TOLERANCE_MM = 0.05


def lay(
    subject: object, voxels: np.ndarray, affine: np.ndarray, onto: Grid
) -> tuple[np.ndarray, int]:
    """Orders a volume as the stack is: axes permuted and flipped, nothing resampled.

    Args:
        subject: the file at fault.
        voxels: (a, b, c), axes in any order.
        affine: (4, 4) from (a, b, c) to LPS.
        onto: rows, columns and slices of what it was drawn on.

    Returns:
        (slices, H, W) voxels, and the index of the first slice they lie on.

    Raises:
        RefusedError: `GEOMETRY_MISMATCH`.
    """
    laid = _ordered(voxels, affine, onto.affine)
    if laid is None:
        reason = "the reference has other axes than the images; of another study?"
        raise RefusedError(subject, "GEOMETRY_MISMATCH", reason)
    voxels, affine = laid
    if voxels.shape[:2] != onto.shape[:2]:
        reason = (
            f"the reference has {voxels.shape[:2]} pixels a slice, the images "
            f"{onto.shape[:2]}"
        )
        raise RefusedError(subject, "GEOMETRY_MISMATCH", reason)
    compared = 3 if voxels.shape[2] > 1 else 2  # one slice has no step of its own
    steps, expected = affine[:3, :compared], onto.affine[:3, :compared]
    lengths = np.linalg.norm(expected, axis=0)
    if (np.linalg.norm(steps - expected, axis=0) > _STEP_TOLERANCE * lengths).any():
        reason = "the reference has voxels of another size or direction than the images"
        raise RefusedError(subject, "GEOMETRY_MISMATCH", reason)
    return voxels.transpose(2, 0, 1), _first_slice(subject, affine, onto, voxels.shape)


def lay_whole(
    subject: object, voxels: np.ndarray, affine: np.ndarray, onto: Grid
) -> np.ndarray:
    """As `lay`, for a volume that must cover the stack: (S, H, W) voxels.

    Raises:
        RefusedError: `GEOMETRY_MISMATCH`.
    """
    laid, _ = lay(subject, voxels, affine, onto)
    if len(laid) != onto.shape[2]:
        reason = f"the reference has {len(laid)} slices, the images {onto.shape[2]}"
        raise RefusedError(subject, "GEOMETRY_MISMATCH", reason)
    return laid


def fits(grid: Grid, onto: Grid) -> bool:
    """Whether `lay_whole` takes a volume with this grid, told without its voxels."""
    voxels = np.broadcast_to(np.uint8(0), grid.shape)  # one byte, whatever the shape
    try:
        lay_whole("", voxels, grid.affine, onto)
    except RefusedError:
        return False
    return True


def _ordered(
    voxels: np.ndarray, affine: np.ndarray, onto: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Voxels and affine in the axis order and directions of `onto`."""
    if not np.isfinite(affine).all():
        return None
    steps = np.linalg.solve(onto[:3, :3], affine[:3, :3])
    order = np.argsort(np.abs(steps).argmax(axis=0), kind="stable")
    if sorted(np.abs(steps).argmax(axis=0)) != [0, 1, 2]:
        return None
    voxels, affine = voxels.transpose(order), affine.copy()
    affine[:3, :3] = affine[:3, order]
    for axis in range(3):
        if steps[axis, order[axis]] < 0:
            affine[:3, 3] += (voxels.shape[axis] - 1) * affine[:3, axis]
            affine[:3, axis] *= -1
            voxels = np.flip(voxels, axis)
    return voxels, affine


def _first_slice(
    subject: object, affine: np.ndarray, onto: Grid, shape: tuple[int, ...]
) -> int:
    offset = affine[:3, 3] - onto.affine[:3, 3]
    step = onto.affine[:3, 2]
    first = round(float(offset @ step / (step @ step)))
    if np.linalg.norm(offset - first * step) > _POSITION_TOLERANCE_MM:
        reason = "the reference does not lie where the images do; of another study?"
        raise RefusedError(subject, "GEOMETRY_MISMATCH", reason)
    if first < 0 or first + shape[2] > onto.shape[2]:
        reason = "the reference has slices beyond the images"
        raise RefusedError(subject, "GEOMETRY_MISMATCH", reason)
    return first
