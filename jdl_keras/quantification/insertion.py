"""The anterior insertion of the right ventricle, read off a mask of its cavity.

In each slice the cavity borders on the septum along an arc of the wall. Its two ends
are the insertions; the anterior one lies further to the front and the head, as the
front wall of a heart does however the pixel grid lies.
"""

import numpy as np
from scipy import ndimage

from jdl_keras.quantification.completeness import completeness
from jdl_keras.quantification.masks import WallMasks
from tfrecords_tools.errors import RefusedError

INSERTION_RULE = (
    "anterior end of the arc along which the right ventricle's cavity lies within 5 mm "
    "of the wall"
)

CONTACT_MM = 5.0
"""Between cavity and septum lie the septum's right side and what readers leave out."""

ARC_DEGREES = (30.0, 200.0)
"""A septum is a third of the circle; what is far from it is no right ventricle."""

TO_FRONT_AND_HEAD = np.array([0.0, -1.0, 1.0]) / np.sqrt(2)
"""LPS. From the inferior wall, which lies on the diaphragm, to the anterior one."""

LEAST_COSINE = 0.3
"""Of the way between the insertions with that direction: below, nobody can say which of
them is the anterior one."""


def insertions_of_cavity(masks: WallMasks, cavity: np.ndarray) -> np.ndarray:
    """One point (P, 3) in LPS for each slice that shows the arc, base first.

    Args:
        masks: the stack.
        cavity: (S, H, W) boolean, of the right ventricle.

    Raises:
        RefusedError: `SHAPE_MISMATCH`; `LABELS` if no slice shows a plausible arc.
    """
    if cavity.shape != masks.label_map.shape or cavity.dtype != bool:
        reason = f"expected boolean {masks.label_map.shape}, got {cavity.dtype} "
        raise RefusedError("rv", "SHAPE_MISMATCH", f"{reason}{cavity.shape}")
    found = (
        _anterior_end(masks, index, cavity[index])
        for index in completeness(masks).full_rings
    )
    points = [point for point in found if point is not None]
    if not points:
        arc = " to ".join(f"{degrees:.0f}" for degrees in ARC_DEGREES)
        reason = f"borders in no slice on {arc} degrees of the wall, one end in front"
        raise RefusedError("rv", "LABELS", f"{reason}; is it the right ventricle?")
    return np.stack(points)


def _anterior_end(
    masks: WallMasks, index: int, cavity: np.ndarray
) -> np.ndarray | None:
    """The insertion (3,) in one slice; None if it shows none."""
    shape = masks.shapes[index]
    assert shape is not None, "a full ring has a shape"
    off_mm = ndimage.distance_transform_edt(
        ~masks.myocardium[index], sampling=masks.spacing_mm
    )
    pixels = np.argwhere(cavity & (off_mm <= CONTACT_MM))
    if not len(pixels):
        return None
    place = np.column_stack([pixels, np.full(len(pixels), index), np.ones(len(pixels))])
    points = (place @ masks.affine.T)[:, :3]
    rows = (pixels - np.asarray(shape.centre)) * masks.spacing_mm
    first, last, arc = _ends(np.degrees(np.arctan2(rows[:, 0], rows[:, 1])))
    if not ARC_DEGREES[0] <= arc <= ARC_DEGREES[1]:
        return None
    way = points[first] - points[last]
    cosine = way @ TO_FRONT_AND_HEAD / np.linalg.norm(way)
    if abs(cosine) < LEAST_COSINE:
        return None
    return points[first] if cosine > 0 else points[last]


def _ends(degrees: np.ndarray) -> tuple[int, int, float]:
    """Indices of the first and the last of directions on a circle, and the arc between.

    The arc is what is left of the circle without the widest gap.
    """
    order = np.argsort(degrees)
    gaps = np.diff(degrees[order], append=degrees[order[0]] + 360)
    widest = int(np.argmax(gaps))
    first = order[(widest + 1) % len(order)]
    return int(first), int(order[widest]), float(360 - gaps[widest])
