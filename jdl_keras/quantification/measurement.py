"""All that is measured in one study, in one call."""

import dataclasses

import numpy as np

from jdl_keras.quantification import aha17
from jdl_keras.quantification.burden import Burden, burden, slice_burdens, volume_ml
from jdl_keras.quantification.chords import SliceChords, any_anchor, slice_chords
from jdl_keras.quantification.completeness import Completeness, completeness
from jdl_keras.quantification.config import RemoteRule
from jdl_keras.quantification.masks import WallMasks, with_filled_holes
from jdl_keras.quantification.remote import automatic_remote, given_remote
from jdl_keras.quantification.thresholds import ThresholdScar, threshold_scars
from jdl_keras.quantification.transmurality import (
    Layer,
    layers,
    mean_transmurality_percent,
)
from tfrecords_tools.errors import RefusedError

NO_INSERTION = (
    f"{aha17.NOT_ASSESSED}: the anterior RV insertion was not given, and is not guessed"
)


@dataclasses.dataclass(frozen=True)
class SliceRow:
    """One slice, 0 at the base.

    Attributes:
        index: place in the stack, 0 at the base.
        position_mm: of its centre along the axis, from that of slice 0.
        kind: see `Completeness.kinds`.
        gap_degrees: widest gap of the wall; None without wall.
        area_mm2: of the wall.
        burden: volumes and masses.
        transmurality_percent: mean over the chords that meet scar; None without.
        scar_extent_degrees: around how much of the circle a chord meets scar.
    """

    index: int
    position_mm: float
    kind: str
    gap_degrees: int | None
    area_mm2: float
    burden: Burden
    transmurality_percent: float | None
    scar_extent_degrees: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Measurements:
    """One study.

    Attributes:
        masks: that were measured.
        burden: volumes and masses.
        hole_ml: wall that scar encloses, by `masks.HOLE_RULE`; None if nobody looked
            for scar.
        holes_filled: whether it counts as MVO and so as scar.
        slices: one row each.
        completeness: what of the ventricle the masks cover.
        transmurality_percent: mean over the chords that meet scar; None without.
        layers: endocardial, mid-wall, epicardial; empty if nobody looked for scar.
        segments: 1 to 16; empty if not assessed.
        territories: the same.
        segments_not_assessed: why not; empty if they were.
        thresholds: scar by thresholds; empty without an image.
        warnings: what is doubtful, one line each.
    """

    masks: WallMasks
    burden: Burden
    hole_ml: float | None
    holes_filled: bool
    slices: tuple[SliceRow, ...]
    completeness: Completeness
    transmurality_percent: float | None
    layers: tuple[Layer, ...]
    segments: tuple[aha17.Segment, ...]
    territories: tuple[aha17.Territory, ...]
    segments_not_assessed: str
    thresholds: tuple[ThresholdScar, ...]
    warnings: tuple[str, ...]


def measure(
    masks: WallMasks,
    pixels: np.ndarray | None = None,
    insertions_mm: np.ndarray | None = None,
    remote: np.ndarray | None = None,
    remote_rule: RemoteRule = "auto",
    fwhm_base: str = "remote",
    fill_holes: bool = False,
    warnings: tuple[str, ...] = (),
) -> Measurements:
    """Measures the masks of one study.

    Args:
        masks: the stack.
        pixels: (S, H, W) intensities; without them there are no threshold methods.
        insertions_mm: (3,) or (P, 3) anterior insertion of the RV, LPS; without it no
            segments.
        remote: (S, H, W) boolean wall without enhancement, if somebody drew it.
        remote_rule: how it is found otherwise.
        fwhm_base: of `thresholds.BASES`.
        fill_holes: count holes of scar as MVO.
        warnings: found before.

    Raises:
        RefusedError: what `anchors`, `given_remote`, `automatic_remote` and
            `threshold_scars` refuse.
    """
    filled = with_filled_holes(masks)
    hole_ml = volume_ml(filled.scar & ~masks.scar, masks)
    masks = filled if fill_holes else masks
    cover = completeness(masks)
    anchor = np.tile(any_anchor(masks), (len(cover.kinds), 1))
    if insertions_mm is not None:
        anchor = aha17.anchors(masks, insertions_mm)
    chords = {
        index: slice_chords(masks, index, anchor[index])
        for index, kind in enumerate(cover.kinds)
        if kind in ("full ring", "open ring") and masks.has_scar
    }
    segments, reason = _segments(masks, anchor, chords, cover, insertions_mm)
    told = (*warnings, *cover.warnings, *_hole_warning(hole_ml, fill_holes))
    return Measurements(
        masks=masks,
        burden=burden(masks),
        hole_ml=hole_ml if masks.has_scar else None,
        holes_filled=fill_holes,
        slices=tuple(_slice_rows(masks, cover, chords)),
        completeness=cover,
        transmurality_percent=mean_transmurality_percent([*chords.values()], True),
        layers=tuple(layers([*chords.values()])) if masks.has_scar else (),
        segments=tuple(segments),
        territories=tuple(aha17.territories(segments)) if segments else (),
        segments_not_assessed=reason,
        thresholds=_thresholds(masks, pixels, remote, remote_rule, fwhm_base),
        warnings=told,
    )


def _segments(
    masks: WallMasks,
    anchor: np.ndarray,
    chords: dict[int, SliceChords],
    cover: Completeness,
    insertions_mm: np.ndarray | None,
) -> tuple[list[aha17.Segment], str]:
    """The segments, or why there are none."""
    if insertions_mm is None:
        return [], NO_INSERTION
    if not masks.has_scar:
        return [], f"{aha17.NOT_ASSESSED}: nobody looked for scar"
    try:
        level_of = aha17.levels(cover.full_rings)
    except RefusedError as error:
        return [], error.reason
    numbers = aha17.segment_map(masks, anchor, level_of)
    return aha17.measure_segments(masks, numbers, chords, level_of), ""


def _slice_rows(
    masks: WallMasks, cover: Completeness, chords: dict[int, SliceChords]
) -> list[SliceRow]:
    rows = []
    for index, own in enumerate(slice_burdens(masks)):
        here = [chords[index]] if index in chords else []
        extents = [float((one.transmurality_percent > 0).sum()) for one in here]
        rows.append(
            SliceRow(
                index=index,
                position_mm=index * masks.slice_spacing_mm,
                kind=cover.kinds[index],
                gap_degrees=cover.gaps_degrees[index],
                area_mm2=float(masks.myocardium[index].sum() * masks.pixel_mm2),
                burden=own,
                transmurality_percent=mean_transmurality_percent(here, True),
                scar_extent_degrees=extents[0] if extents else None,
            )
        )
    return rows


def _thresholds(
    masks: WallMasks,
    pixels: np.ndarray | None,
    remote: np.ndarray | None,
    rule: RemoteRule,
    base: str,
) -> tuple[ThresholdScar, ...]:
    if pixels is None:
        return ()
    found = (
        automatic_remote(masks, pixels, rule)
        if remote is None
        else given_remote(masks, remote)
    )
    return tuple(threshold_scars(masks, pixels, found, base))


def _hole_warning(hole_ml: float, filled: bool) -> list[str]:
    if not hole_ml:
        return []
    done = "counted as MVO" if filled else "not counted as scar; fill_holes counts it"
    return [f"HOLES: scar encloses {hole_ml:.2f} ml of wall without scar, {done}"]
