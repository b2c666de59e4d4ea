"""Measurements as JSON and as rows of tables: every number with its unit and rule."""

import json
from collections.abc import Iterator

from jdl_keras.quantification import burden, transmurality
from jdl_keras.quantification.aha17 import NAMES, REPORTED, SEGMENT_RULE
from jdl_keras.quantification.completeness import RING_RULE
from jdl_keras.quantification.masks import HOLE_RULE
from jdl_keras.quantification.measurement import Measurements
from tfrecords_tools.csv_text import Cell, csv_text

RESEARCH_USE_ONLY = "research use only; not for diagnosis"

COLUMNS = ("name", "value", "unit", "rule")
"""Of measurements.csv; where the value is empty, the rule says why."""

SLICE_COLUMNS = (
    *("slice_index", "position_mm", "kind", "gap_degrees", "myocardium_mm2"),
    *("myocardium_g", "scar_g", "mvo_g", "burden_percent"),
    *("scar_transmurality_percent", "scar_extent_degrees"),
)
SEGMENT_COLUMNS = (
    *("segment", "name", "territory", "myocardium_g", "scar_g"),
    *("area_fraction_percent", "transmurality_percent", "transmurality_class"),
)
SUMMARY_COLUMNS = (
    *("myocardium_ml", "myocardium_g", "scar_ml", "scar_g", "mvo_g"),
    *("burden_percent", "scar_transmurality_percent", "full_rings", "slices"),
    "warnings",
)
"""One row a study, where many are measured."""

Row = tuple[Cell, ...]


def measurement_rows(found: Measurements) -> list[Row]:
    """Rows of `COLUMNS`."""
    return [
        *_burden_rows(found),
        *_wall_rows(found),
        *_territory_rows(found),
        *_threshold_rows(found),
    ]


def _burden_rows(found: Measurements) -> Iterator[Row]:
    own = found.burden
    for name, ml, g in (
        ("myocardium", own.myocardium_ml, own.myocardium_g),
        ("scar", own.scar_ml, own.scar_g),
        ("MVO", own.mvo_ml, own.mvo_g),
    ):
        by = f"; {HOLE_RULE}" if name != "myocardium" and found.holes_filled else ""
        yield f"{name} volume", ml, "ml", burden.VOLUME_RULE + by
        yield f"{name} mass", g, "g", burden.MASS_RULE + by
    yield "scar burden", own.burden_percent, "%", burden.BURDEN_RULE
    yield "holes of scar", found.hole_ml, "ml", _hole_rule(found)


def _hole_rule(found: Measurements) -> str:
    return HOLE_RULE if found.holes_filled else "wall that scar encloses; not counted"


def _wall_rows(found: Measurements) -> Iterator[Row]:
    rule = f"{transmurality.TRANSMURALITY_RULE} that meet scar"
    yield "transmurality of scar", found.transmurality_percent, "%", rule
    for layer in found.layers:
        share, scarred = layer.share_of_scar_percent, layer.scarred_percent
        rule = transmurality.LAYER_RULE
        yield f"share of scar in the {layer.name} layer", share, "%", rule
        yield f"scarred part of the {layer.name} layer", scarred, "%", rule
    rings = len(found.completeness.full_rings)
    yield "slices with a full ring", rings, "slices", RING_RULE
    yield "slices", len(found.slices), "slices", "of the stack"


def _territory_rows(found: Measurements) -> Iterator[Row]:
    rule = f"{SEGMENT_RULE}; usual territories, segment 17 left out"
    for one in found.territories:
        yield f"scar mass, {one.name} territory", one.scar_g, "g", rule
        yield f"scar burden, {one.name} territory", one.burden_percent, "%", rule


def _threshold_rows(found: Measurements) -> Iterator[Row]:
    for one in found.thresholds:
        rule = one.rule
        if one.not_assessed:
            rule = f"not assessed: {one.not_assessed}; {rule}"
        yield f"scar mass, {one.method}", one.scar_g, "g", rule
        yield f"scar burden, {one.method}", one.burden_percent, "%", rule
        yield f"threshold, {one.method}", one.threshold, "intensity", rule
        if one.base is not None:
            yield f"base, {one.method}", one.base, "intensity", rule


def slice_rows(found: Measurements) -> list[Row]:
    """Rows of `SLICE_COLUMNS`, base first."""
    return [
        (
            *(row.index, row.position_mm, row.kind, row.gap_degrees, row.area_mm2),
            *(row.burden.myocardium_g, row.burden.scar_g, row.burden.mvo_g),
            *(row.burden.burden_percent, row.transmurality_percent),
            row.scar_extent_degrees,
        )
        for row in found.slices
    ]


def segment_rows(found: Measurements) -> list[Row]:
    """Rows of `SEGMENT_COLUMNS`, 17 with the last one empty; none if not assessed."""
    if not found.segments:
        return []
    rows: list[Row] = [
        (
            *(one.number, one.name, one.territory, one.myocardium_g, one.scar_g),
            *(one.area_fraction_percent, one.transmurality_percent),
            one.transmurality_class,
        )
        for one in found.segments
    ]
    missing = REPORTED + 1
    return [*rows, (missing, NAMES[missing], "LAD", *[None] * 5)]


def summary_row(found: Measurements) -> Row:
    """A row of `SUMMARY_COLUMNS`."""
    own = found.burden
    return (
        *(own.myocardium_ml, own.myocardium_g, own.scar_ml, own.scar_g, own.mvo_g),
        *(own.burden_percent, found.transmurality_percent),
        *(len(found.completeness.full_rings), len(found.slices)),
        "; ".join(found.warnings),
    )


def as_json(found: Measurements) -> dict:
    """Everything as one JSON object; None is what was not assessed."""
    return {
        "use": RESEARCH_USE_ONLY,
        "geometry": {
            "slices": len(found.slices),
            "spacing_mm": [*found.masks.spacing_mm],
            "slice_spacing_mm": found.masks.slice_spacing_mm,
        },
        "warnings": [*found.warnings],
        "measurements": _records(COLUMNS, measurement_rows(found)),
        "slices": _records(SLICE_COLUMNS, slice_rows(found)),
        "segments": _records(SEGMENT_COLUMNS, segment_rows(found)),
        "segments_not_assessed": found.segments_not_assessed,
        "segment_rules": {
            "segments": SEGMENT_RULE,
            "area_fraction_percent": "scar area / wall area of the segment",
            "transmurality_percent": transmurality.TRANSMURALITY_RULE,
            "transmurality_class": transmurality.CLASS_RULE,
        },
    }


def _short(rows: list[Row]) -> Iterator[Row]:
    """Six digits, for readers; the JSON file keeps all."""
    for row in rows:
        yield tuple(
            float(f"{cell:.6g}") if isinstance(cell, float) else cell for cell in row
        )


def _records(columns: tuple[str, ...], rows: list[Row]) -> list[dict[str, Cell]]:
    return [dict(zip(columns, row, strict=True)) for row in rows]


def texts(found: Measurements) -> dict[str, str]:
    """The files of a measured study by name, without pictures."""
    files = {
        "measurements.csv": csv_text(COLUMNS, _short(measurement_rows(found))),
        "slices.csv": csv_text(SLICE_COLUMNS, _short(slice_rows(found))),
    }
    if found.segments:
        files["segments.csv"] = csv_text(SEGMENT_COLUMNS, _short(segment_rows(found)))
    whole = json.dumps(as_json(found), indent=2, allow_nan=False) + "\n"
    return files | {"measurements.json": whole}
