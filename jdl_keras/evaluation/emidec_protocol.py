"""The numbers of the EMIDEC challenge, so that ours can stand beside published ones.

Its rules (emidec.com/metrics and the public evaluation code) are not ours: both masks
empty is Dice 1, differences of volumes are absolute, that of the infarct is also given
relative to the reference myocardium, and means run over all cases, those without
infarct included. A case is one study.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from jdl_keras.evaluation.overlap import overlap_counts
from jdl_keras.evaluation.per_patient import reference_mask
from jdl_keras.evaluation.statistics import describe
from jdl_keras.evaluation.surface import hausdorff_mm
from tfrecords_tools.files import write_text
from tfrecords_tools.geometry import voxel_volume_ml
from tfrecords_tools.study import Study

MEASURES = (
    *("myocardium_dice", "myocardium_slice_dice", "myocardium_volume_difference_mm3"),
    "myocardium_hausdorff_mm",
    *("infarct_dice", "infarct_slice_dice", "infarct_volume_difference_mm3"),
    "infarct_volume_difference_percent",
)
"""Columns of emidec.csv after the keys."""
RULES = {
    "case": "one study; a region is measured on the slices that have its label",
    "mean": "over all cases, with or without infarct",
    "myocardium": "the whole wall, infarct and no-reflow included",
    "infarct": (
        "no-reflow included, as in the challenge's evaluation code: the same region as "
        "our scar, so nothing is added or left out"
    ),
    "no_reflow": "not assessed: it is not predicted apart from the infarct",
    "dice": "counts over the stack; both masks empty: 1",
    "slice_dice": (
        "mean of the slices' Dice, a slice with both masks empty being 1: what the "
        "challenge's public code computes in place of the Dice over the stack"
    ),
    "volume_difference_mm3": "absolute",
    "volume_difference_percent": "absolute, of the reference myocardium's volume",
    "hausdorff_mm": (
        "largest surface distance over the stack, between voxel centres, with the true "
        "spacing; without one of the masks undefined, left out and counted. The public "
        "code gives (x, y, slice) spacing to (slice, y, x) arrays: published distances "
        "may have these axes exchanged"
    ),
}
"""How the numbers are made; part of emidec.json."""


def measure_case(
    study: Study, predictions: Mapping[str, np.ndarray]
) -> dict[str, str | float]:
    """Compares the predictions of one study with its reference.

    Args:
        study: the reference, on its native grid.
        predictions: task to boolean (S, H, W) mask; `direct` has no myocardium.

    Returns:
        A row of emidec.csv: the keys and `MEASURES`; NaN is undefined.
    """
    row: dict[str, float] = dict.fromkeys(MEASURES, np.nan)
    if wall := _compared(study, predictions, "myocardium"):
        row |= _measure_region("myocardium", *wall, study)
        row["myocardium_hausdorff_mm"] = hausdorff_mm(
            *wall, study.spacing_mm, study.slice_spacing_mm
        )
    if infarct := _compared(study, predictions, "scar"):
        row |= _measure_region("infarct", *infarct, study)
        row["infarct_volume_difference_percent"] = _percent(
            row["infarct_volume_difference_mm3"],
            _volume_mm3(reference_mask(study, "myocardium"), study),
        )
    return {"patient_key": study.patient_key, "study_key": study.study_key, **row}


def _compared(
    study: Study, predictions: Mapping[str, np.ndarray], task: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Reference and prediction on the slices with the label; None without either."""
    labelled = [task in tasks for tasks in study.labelled]
    if task not in predictions or not any(labelled):
        return None
    return reference_mask(study, task)[labelled], predictions[task][labelled]


def _measure_region(
    region: str, reference: np.ndarray, prediction: np.ndarray, study: Study
) -> dict[str, float]:
    slices = [_dice(*pair) for pair in zip(reference, prediction, strict=True)]
    difference_mm3 = abs(_volume_mm3(prediction, study) - _volume_mm3(reference, study))
    return {
        f"{region}_dice": _dice(reference, prediction),
        f"{region}_slice_dice": float(np.mean(slices)),
        f"{region}_volume_difference_mm3": difference_mm3,
    }


def _dice(reference: np.ndarray, prediction: np.ndarray) -> float:
    counts = overlap_counts(reference, prediction)
    return counts.dice if counts.reference or counts.prediction else 1.0


def _volume_mm3(mask: np.ndarray, study: Study) -> float:
    voxel_ml = voxel_volume_ml(study.spacing_mm, study.slice_spacing_mm)
    return 1000 * voxel_ml * np.count_nonzero(mask)


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else np.nan


def write_emidec(folder: Path, cases: Sequence[Mapping[str, str | float]]) -> dict:
    """Writes emidec.csv and emidec.json beside summary.json.

    Args:
        folder: `evaluation/<split>` of a run, made if absent.
        cases: what `measure_case` gave for each study.

    Returns:
        The content of emidec.json: `cases`; `measures`, each described over the cases
        in which it is defined (`patients` of them); `rules`.
    """
    columns = ("patient_key", "study_key", *MEASURES)
    table = pd.DataFrame(cases, columns=columns)
    summary = {
        "cases": len(table),
        "measures": {name: describe(table[name]) for name in MEASURES},
        "rules": RULES,
    }
    folder.mkdir(parents=True, exist_ok=True)
    csv = table.to_csv(index=False, lineterminator="\n")
    write_text(folder / "emidec.csv", csv)
    write_text(folder / "emidec.json", json.dumps(summary, indent=2, allow_nan=False))
    return summary


def emidec_table(summary: dict) -> Table:
    """The content of emidec.json for the terminal."""
    title = f"EMIDEC protocol: {summary['cases']} cases"
    grid = Table(title=title, caption=_CAPTION, box=box.SIMPLE)
    grid.add_column("measure")
    for name in ("mean", "sd", "95 % interval", "cases"):
        grid.add_column(name, justify="right")
    for name, values in summary["measures"].items():
        low, high = map(_text, values["ci95"])
        spread = (_text(values["sd"]), f"({low}, {high})", str(values["patients"]))
        grid.add_row(name, _text(values["mean"]), *spread)
    grid.add_row("no_reflow", "not assessed")
    return grid


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:#.4g}"


_CAPTION = (
    "Both masks empty: Dice 1. Infarct with no-reflow, as our scar. "
    "Undefined distances are left out."
)
