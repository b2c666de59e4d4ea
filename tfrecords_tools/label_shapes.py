"""Shapes of the labels of one slice: pieces, the outline around them, gaps in it.

SciPy and scikit-image are imported where they are used: commands that only name what
is done with labels, such as `build --help`, start in half a second less.
"""

import dataclasses

import numpy as np

from tfrecords_tools.labels import MYOCARDIUM, SCAR, Tissue, region_mask
from tfrecords_tools.study import Slice

TOUCHING = np.ones((3, 3), bool)
"""Pixels that touch by a corner belong together, as the wall of a thin ring does."""

ISLAND_SHARE = 0.2
"""A piece smaller than this share of the largest is an island; two arcs of an open
basal slice are not."""

RAY_STEP_PIXELS = 0.25


@dataclasses.dataclass(frozen=True, eq=False)
class SliceShape:
    """The labelled heart of one slice.

    Attributes:
        wall: (H, W) myocardium, scar and MVO included.
        blood: (H, W) blood pool.
        scar: (H, W) scar, MVO included.
        hull: (H, W) convex hull of wall and blood pool without islands, about the
            epicardium.
        centre: (row, column) of the hull's centre of mass.
        spacing_mm: distances of neighbouring (rows, columns).
    """

    wall: np.ndarray
    blood: np.ndarray
    scar: np.ndarray
    hull: np.ndarray
    centre: np.ndarray
    spacing_mm: tuple[float, float]

    @property
    def pixel_mm2(self) -> float:
        """Area of one pixel."""
        return self.spacing_mm[0] * self.spacing_mm[1]

    @property
    def centre_mm(self) -> np.ndarray:
        """The centre (2,) in the plane of the stack."""
        return self.centre * self.spacing_mm


def shape_of(slice_: Slice) -> SliceShape | None:
    """The shape of a slice's labels; None where nothing is labelled."""
    return shape_of_labels(slice_.label_map, slice_.spacing_mm)


def shape_of_labels(
    labels: np.ndarray, spacing_mm: tuple[float, float]
) -> SliceShape | None:
    """The same of labels (H, W) of `Tissue` without an image."""
    wall = region_mask(labels, MYOCARDIUM)
    blood = labels == Tissue.BLOOD_POOL
    if not (wall.any() or blood.any()):
        return None
    hull = convex_hull(_without_islands(wall | blood))
    return SliceShape(
        wall=wall,
        blood=blood,
        scar=region_mask(labels, SCAR),
        hull=hull,
        centre=np.argwhere(hull).mean(axis=0),
        spacing_mm=spacing_mm,
    )


def convex_hull(mask: np.ndarray) -> np.ndarray:
    """The convex hull (H, W) of a mask; empty if that is."""
    from skimage.morphology import convex_hull_image

    return convex_hull_image(mask) if mask.any() else mask


def pieces(mask: np.ndarray) -> list[np.ndarray]:
    """The connected pieces (H, W) of a mask, the largest first."""
    from scipy import ndimage

    numbers, count = ndimage.label(mask, TOUCHING)
    parts = [numbers == number for number in range(1, count + 1)]
    return sorted(parts, key=np.count_nonzero, reverse=True)


def _without_islands(mask: np.ndarray) -> np.ndarray:
    main, *others = pieces(mask)
    least = ISLAND_SHARE * np.count_nonzero(main)
    return np.any([main, *(p for p in others if np.count_nonzero(p) >= least)], axis=0)


def enclosed_holes(mask: np.ndarray) -> np.ndarray:
    """The pixels (H, W) outside a mask from which no way leads to the image's edge."""
    from scipy import ndimage

    return ndimage.binary_fill_holes(mask) & ~mask


def distance_mm(mask: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Distance (H, W) of every pixel's centre to the nearest one of a mask."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(~mask, sampling=spacing_mm)


def gap(shape: SliceShape) -> tuple[int, np.ndarray]:
    """The widest angle under which the slice's centre sees no wall.

    One ray a degree; 0 for a closed ring and for an apical cap without blood pool.

    Returns:
        Degrees, 0 to 360, and the part (H, W) of the hull that lies in that angle.
    """
    rows, columns = np.indices(shape.wall.shape)
    rise = (rows - shape.centre[0]) * shape.spacing_mm[0]
    run = (columns - shape.centre[1]) * shape.spacing_mm[1]
    seen = np.flatnonzero(_rays_that_meet(shape))
    if len(seen) == 0:
        return 360, shape.hull
    steps = np.diff(np.append(seen, seen[0] + 360))
    widest, first = int(steps.max()) - 1, seen[steps.argmax()]
    angles = (np.degrees(np.arctan2(rise, run)) - first) % 360
    inside = (angles > 0) & (angles <= widest) & shape.hull & ~shape.blood
    return widest, inside if widest else np.zeros_like(shape.hull)


def _rays_that_meet(shape: SliceShape) -> np.ndarray:
    """For each of 360 degrees whether the ray from the centre meets the wall."""
    size_mm = np.ptp(np.argwhere(shape.hull), axis=0) * shape.spacing_mm
    step_mm = RAY_STEP_PIXELS * min(shape.spacing_mm)
    steps = np.arange(0, np.linalg.norm(size_mm) + step_mm, step_mm)
    angles = np.deg2rad(np.arange(360))[:, None]
    rows = shape.centre[0] + np.sin(angles) * steps / shape.spacing_mm[0]
    columns = shape.centre[1] + np.cos(angles) * steps / shape.spacing_mm[1]
    places = np.rint([rows, columns]).astype(int)
    limits = np.array(shape.wall.shape)[:, None, None]
    inside = ((places >= 0) & (places < limits)).all(axis=0)
    places = np.where(inside, places, 0)
    wall = shape.wall & shape.hull
    return (wall[places[0], places[1]] & inside).any(axis=1)
