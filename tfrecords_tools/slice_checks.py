"""Checks on the labels of one slice by itself."""

from collections.abc import Iterator

import numpy as np

from tfrecords_tools.findings import Finding
from tfrecords_tools.label_shapes import (
    ISLAND_SHARE,
    SliceShape,
    distance_mm,
    enclosed_holes,
    pieces,
)
from tfrecords_tools.study import Slice

CAVITY_MM2 = 50.0
"""A hole in the wall from this size on is a cavity, which has blood in it."""

PADDING_SHARE = 0.5
"""Share of labelled pixels as dark as the slice has any; 0 in EMIDEC."""


def check_slice(slice_: Slice, shape: SliceShape, has_blood: bool) -> Iterator[Finding]:
    """What is odd about the labels of one slice.

    Args:
        slice_: the slice.
        shape: of its labels.
        has_blood: whether any slice of the study has a blood pool.
    """
    yield from _off_image(slice_, shape)
    yield from _wall_pieces(slice_.index, shape)
    yield from _blood_pieces(slice_.index, shape)
    yield from _holes(slice_.index, shape, has_blood)


def _off_image(slice_: Slice, shape: SliceShape) -> Iterator[Finding]:
    labelled = shape.wall | shape.blood
    edge = np.ones_like(labelled)
    edge[1:-1, 1:-1] = False
    if count := np.count_nonzero(labelled & edge):
        text = f"{count} labelled pixels on the edge of the image: cut off there?"
        place = labelled & edge
        yield Finding("BORDER", slice_.index, float(count), "pixels", text, place)
    dark = labelled & (slice_.pixels == slice_.pixels.min())
    percent = 100 * np.count_nonzero(dark) / np.count_nonzero(labelled)
    if percent > 100 * PADDING_SHARE:
        text = f"{percent:.0f} % of the labels lie on pixels without signal."
        yield Finding("OFF_IMAGE", slice_.index, percent, "%", text, dark)


def _wall_pieces(index: int, shape: SliceShape) -> Iterator[Finding]:
    main, *others = pieces(shape.wall) or [shape.wall]
    if not others:
        return
    away_mm = distance_mm(main, shape.spacing_mm)
    for piece in others:
        area = np.count_nonzero(piece) * shape.pixel_mm2
        mostly_scar = 2 * np.count_nonzero(piece & shape.scar) > np.count_nonzero(piece)
        if mostly_scar and _lies_in(piece, shape.blood):
            text = f"{area:.3g} mm2 of scar inside the blood pool."
            yield Finding("SCAR_IN_BLOOD", index, area, "mm2", text, piece)
        elif mostly_scar:
            far = away_mm[piece].max()
            text = f"{area:.3g} mm2 of scar apart from the wall, up to {far:.0f} mm."
            yield Finding("SCAR_OUTSIDE", index, far, "mm", text, piece)
        elif np.count_nonzero(piece) < ISLAND_SHARE * np.count_nonzero(main):
            text = f"{area:.3g} mm2 of wall apart from the rest."
            yield Finding("ISLAND", index, area, "mm2", text, piece)


def _lies_in(piece: np.ndarray, mask: np.ndarray) -> bool:
    return bool(enclosed_holes(mask)[piece].all())


def _blood_pieces(index: int, shape: SliceShape) -> Iterator[Finding]:
    main, *others = pieces(shape.blood) or [shape.blood]
    for piece in others:
        area = np.count_nonzero(piece) * shape.pixel_mm2
        if np.count_nonzero(piece) < ISLAND_SHARE * np.count_nonzero(main):
            text = f"{area:.3g} mm2 of blood pool apart from the rest."
            yield Finding("ISLAND", index, area, "mm2", text, piece)


def _holes(index: int, shape: SliceShape, has_blood: bool) -> Iterator[Finding]:
    """Background inside the labels; the cavity itself where no blood is labelled."""
    for hole in pieces(enclosed_holes(shape.wall | shape.blood)):
        area = np.count_nonzero(hole) * shape.pixel_mm2
        is_cavity = not shape.blood.any() and area >= CAVITY_MM2
        if not is_cavity:
            text = f"{area:.3g} mm2 without label inside the labels."
            yield Finding("HOLE", index, area, "mm2", text, hole)
        elif has_blood:
            text = f"A cavity of {area:.3g} mm2 without blood pool, which others have."
            yield Finding("NO_BLOOD", index, area, "mm2", text, hole)
