"""Radial chords through the wall of a slice: where each begins, ends and has scar.

A chord starts at the slice's centre, the centre of mass of the convex hull of the wall.
Its directions are directions in the patient, so that the same tissue is met however the
pixel grid lies.
"""

import dataclasses

import numpy as np

from jdl_keras.quantification.masks import WallMasks

CHORDS = 360
"""One a degree, at 0.5, 1.5, ...: never along an axis of the grid or a border of
segments."""

STEP_PIXELS = 0.1
"""A chord's length is that of its way through the pixels' squares, to this step."""


@dataclasses.dataclass(frozen=True, eq=False)
class SliceChords:
    """The chords of one slice.

    Attributes:
        degrees: (C,) directions from the anchor, counter-clockwise seen from the apex.
        radius_mm: (R,) distances of the samples from the centre.
        wall: (C, R) boolean, which samples lie in the wall.
        scar: (C, R) boolean, which of them lie in scar.
    """

    degrees: np.ndarray
    radius_mm: np.ndarray
    wall: np.ndarray
    scar: np.ndarray

    @property
    def transmurality_percent(self) -> np.ndarray:
        """(C,) scar length / wall length; NaN for chords without wall."""
        wall, scar = self.wall.sum(axis=1), self.scar.sum(axis=1)
        ratio: np.ndarray = 100 * scar / np.maximum(wall, 1)
        return np.where(wall > 0, ratio, np.nan)

    @property
    def depth(self) -> np.ndarray:
        """(C, R) place in the wall, 0 at the endocardium, 1 at the epicardium."""
        samples = self.wall.shape[1]
        first = self.wall.argmax(axis=1)[:, None]
        last = samples - self.wall[:, ::-1].argmax(axis=1)[:, None]
        return (np.arange(samples) + 0.5 - first) / (last - first)


def slice_chords(masks: WallMasks, index: int, anchor: np.ndarray) -> SliceChords:
    """The chords of slice `index`, which must have wall.

    Args:
        masks: the stack.
        index: of the slice.
        anchor: (3,) direction in the plane of the slice, LPS; the zero of the angles.

    Raises:
        ValueError: if the slice has no wall.
    """
    shape = masks.shapes[index]
    if shape is None or not shape.wall.any():
        raise ValueError(f"expected wall in slice {index}, there is none")
    wall = shape.wall & shape.hull  # islands lie outside the hull
    degrees = (np.arange(CHORDS) + 0.5) * (360 / CHORDS)
    step_mm = STEP_PIXELS * min(masks.spacing_mm)
    extent_mm = np.ptp(np.argwhere(shape.hull), axis=0) + 2
    reach_mm = np.linalg.norm(extent_mm * masks.spacing_mm)
    radius_mm = (np.arange(np.ceil(reach_mm / step_mm)) + 0.5) * step_mm
    steps = directions(degrees, anchor, masks.long_axis) @ pixels_per_mm(masks.affine)
    places = shape.centre + radius_mm[:, None] * steps[:, None, :]  # (C, R, 2)
    rows, columns = np.moveaxis(np.rint(places).astype(int), -1, 0)
    height, width = wall.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = np.where(inside, rows, 0), np.where(inside, columns, 0)
    met = wall[rows, columns] & inside
    return SliceChords(degrees, radius_mm, met, met & shape.scar[rows, columns])


def directions(
    degrees: np.ndarray, anchor: np.ndarray, long_axis: np.ndarray
) -> np.ndarray:
    """Unit vectors (C, 3) at angles from `anchor`, right-handed about the long axis.

    Who looks from the apex to the base has the long axis pointing at him: right-handed
    is counter-clockwise to him.
    """
    radians = np.deg2rad(degrees)[:, None]
    return np.cos(radians) * anchor + np.sin(radians) * np.cross(long_axis, anchor)


def pixels_per_mm(affine: np.ndarray) -> np.ndarray:
    """(3, 2): a vector in the slices' plane, LPS in mm, times it is (rows, columns)."""
    return np.linalg.pinv(affine[:3, :2]).T


def any_anchor(masks: WallMasks) -> np.ndarray:
    """A direction (3,) in the slices' plane, where none means anything: the front.

    Where the stack is coronal, the left.
    """
    for direction in (np.array([0.0, -1.0, 0.0]), np.array([1.0, 0.0, 0.0])):
        flat = direction - (direction @ masks.long_axis) * masks.long_axis
        if np.linalg.norm(flat) > 0.1:
            break
    return flat / np.linalg.norm(flat)
