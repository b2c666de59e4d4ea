"""Stack geometry in patient coordinates (LPS, millimetres).

An affine here is a 4x4 matrix that maps (row, column, slice, 1) of a voxel centre to
LPS: its columns are the steps of one row, one column and one slice, and the origin.
"""

from functools import cached_property

import numpy as np

PIXEL_SPACING_MM = (0.1, 10.0)
"""Smallest and largest distance of neighbouring pixels that is believed."""

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI speaks RAS, DICOM speaks LPS; the matrix is its own inverse."""

TOWARDS_APEX = np.array([1.0, -1.0, -1.0]) / np.sqrt(3.0)
"""From base to apex the left ventricle runs to the left, the front and the feet."""

GRID_TOLERANCE_VOXELS = 0.1
"""How far two grids may lie apart at a corner and be the same: rounded headers."""


def affine_from_positions(
    first_position_mm: np.ndarray,
    row_direction: np.ndarray,
    column_direction: np.ndarray,
    spacing_mm: tuple[float, float],
    slice_step_mm: np.ndarray,
) -> np.ndarray:
    """The affine of a stack.

    Args:
        first_position_mm: (3,) centre of the first slice's first pixel.
        row_direction: (3,) unit vector along which the *row index* grows.
        column_direction: (3,) unit vector along which the *column index* grows.
        spacing_mm: distances of neighbouring (rows, columns).
        slice_step_mm: (3,) step from a slice to the next.
    """
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(row_direction) * spacing_mm[0]
    affine[:3, 1] = np.asarray(column_direction) * spacing_mm[1]
    affine[:3, 2] = slice_step_mm
    affine[:3, 3] = first_position_mm
    return affine


def stack_normal(affine: np.ndarray) -> np.ndarray:
    """Unit normal (3,) of the slices: rows direction x columns direction."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    return normal / np.linalg.norm(normal)


def same_grid(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether two affines put every voxel of a grid (a, b, c) in the same place.

    Raises:
        numpy.linalg.LinAlgError: if `one` spans no space.
    """
    corners = np.indices((2, 2, 2)).reshape(3, -1) * (np.array(shape)[:, None] - 1)
    places = np.vstack([corners, np.ones(8)])
    apart = np.linalg.solve(one, other @ places) - places
    return bool((np.abs(apart) <= GRID_TOLERANCE_VOXELS).all())


def towards_apex(direction: np.ndarray) -> float:
    """How much a direction (3,) across the short axis points to the apex, -1 to 1.

    0 where it cannot tell: across the long axis of any heart, or along an axis of the
    patient, which no short-axis stack is; then the file has lost its orientation.
    """
    unit = direction / np.linalg.norm(direction)
    cosine = float(unit @ TOWARDS_APEX)
    lost = np.abs(unit).max() > 0.999  # 2.6 degrees
    return 0.0 if lost or abs(cosine) < 0.2 else cosine


def pixel_spacing_mm(affine: np.ndarray) -> tuple[float, float]:
    """Distances in millimetres of neighbouring (rows, columns)."""
    steps = np.linalg.norm(affine[:3, :2], axis=0)
    return float(steps[0]), float(steps[1])


def slice_spacing_mm(affine: np.ndarray) -> float:
    """Distance of neighbouring slice centres along the stack normal.

    Thickness plus gap: what a volume is summed with, never the thickness alone.
    """
    return float(abs(affine[:3, 2] @ stack_normal(affine)))


def fault(affine: np.ndarray) -> str | None:
    """What is wrong with an affine of a stack; None if it can be one."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        return "expected a finite 4x4 affine"
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    smallest, largest = PIXEL_SPACING_MM
    if (steps[:2] < smallest).any() or (steps[:2] > largest).any():
        return f"pixel spacing {steps[:2]} not in {smallest:g}-{largest:g} mm"
    if not 0.5 <= slice_spacing_mm(affine) <= 50:
        return f"slice spacing {slice_spacing_mm(affine):.3g} not in 0.5-50 mm"
    return None


class Placed:
    """Arrays (S, H, W) or (H, W) in the patient, with the affine of a stack."""

    affine: np.ndarray

    @cached_property
    def spacing_mm(self) -> tuple[float, float]:
        """Distances of neighbouring (rows, columns)."""
        return pixel_spacing_mm(self.affine)

    @cached_property
    def slice_spacing_mm(self) -> float:
        """Distance of neighbouring slice centres, thickness plus gap."""
        return slice_spacing_mm(self.affine)


def voxel_volume_ml(spacing_mm: tuple[float, float], slice_spacing_mm: float) -> float:
    """Volume in millilitres that one pixel of a slice stands for."""
    return spacing_mm[0] * spacing_mm[1] * slice_spacing_mm / 1000.0


def bounding_box(mask: np.ndarray) -> np.ndarray | None:
    """First and last (row, column), (2, 2), of a mask (H, W); None if it is empty."""
    places = np.argwhere(mask)
    return np.stack([places.min(axis=0), places.max(axis=0)]) if len(places) else None
