"""The evaluation folder: per_slice.csv, per_patient.csv, figures, summary.json."""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from jdl_keras.evaluation.figures import save_figure
from jdl_keras.evaluation.overlap import OverlapCounts
from jdl_keras.evaluation.per_patient import (
    PATIENT_COLUMNS,
    SLICE_COLUMNS,
    PatientResult,
    SliceResult,
)
from jdl_keras.evaluation.statistics import (
    absolute_agreement,
    bland_altman,
    concordance,
    describe,
    number,
)
from tfrecords_tools.files import safe_name, write_text
from tfrecords_tools.labels import TASKS

EMPTY_RULE = (
    "reference and prediction both empty: Dice undefined, patient left out; "
    "one of them empty (miss or false alarm): Dice 0"
)
HEADLINES = ("dice", "precision", "recall", "hd95_mm", "volume_difference_ml")
"""Described over the patients whose reference has the structure."""


def summarise(
    split: str, slices: Sequence[SliceResult], patients: Sequence[PatientResult]
) -> dict:
    """The content of summary.json; `tasks` holds those that were measured."""
    tasks = {}
    for task in TASKS:
        of_task = [row for row in patients if row.task == task]
        if of_task:
            tasks[task] = _summarise_task(
                [r for r in slices if r.task == task], of_task
            )
    if "scar" in tasks:
        tasks["scar"]["burden_percent"] = _burden(
            [r for r in patients if r.task == "scar"]
        )
    return {
        "split": split,
        "patients": len({row.patient_key for row in patients}),
        "slices": len({(r.patient_key, r.study_key, r.slice_index) for r in slices}),
        "tasks": tasks,
    }


def _summarise_task(
    slices: Sequence[SliceResult], patients: Sequence[PatientResult]
) -> dict:
    positive = [row for row in patients if row.counts.reference]
    negative = [row for row in patients if not row.counts.reference]
    pooled = sum((row.counts for row in patients), OverlapCounts())
    return {
        **{name: describe([getattr(r, name) for r in positive]) for name in HEADLINES},
        "dice_all_patients": {
            **describe([row.dice for row in patients]),
            "empty_rule": EMPTY_RULE,
        },
        "dice_pooled": number(pooled.dice),
        "detection": {
            "per_patient": _detection(patients),
            "per_slice": _detection(slices),
        },
        "false_positive_ml": describe([row.false_positive_ml for row in negative]),
        "missed": sum(not row.counts.prediction for row in positive),
    }


def _detection(rows: Sequence[SliceResult | PatientResult]) -> dict[str, int]:
    """Is there any voxel of the structure? Prediction against reference."""
    found = [(bool(r.counts.reference), bool(r.counts.prediction)) for r in rows]
    return {
        "tp": found.count((True, True)),
        "fp": found.count((False, True)),
        "fn": found.count((True, False)),
        "tn": found.count((False, False)),
    }


def _burden(scar: Sequence[PatientResult]) -> dict:
    """Agreement of scar burden over all patients that have both, scar-free included."""
    pair = (
        [row.burden_reference_percent for row in scar],
        [row.burden_prediction_percent for row in scar],
    )
    return {
        **bland_altman(*pair),
        "ccc": concordance(*pair),
        "icc_a1": absolute_agreement(np.transpose(pair)),
    }


def write_evaluation(
    folder: Path,
    split: str,
    slices: Sequence[SliceResult],
    patients: Sequence[PatientResult],
    figures: Iterable[tuple[str, Figure]] = (),
) -> dict:
    """Writes the evaluation of one split and returns its summary.

    Args:
        folder: `evaluation/<split>` of a run, made if absent.
        split: name of the split.
        slices: rows of per_slice.csv.
        patients: rows of per_patient.csv.
        figures: (name, figure), drawn one after another into `figures/<name>.png`.

    Each file is there whole or not at all; summary.json comes last.
    """
    summary = summarise(split, slices, patients)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, figure in figures:
        save_figure(figure, folder / "figures" / f"{safe_name(name)}.png")
    write_text(folder / "per_slice.csv", _csv(slices, SLICE_COLUMNS))
    write_text(folder / "per_patient.csv", _csv(patients, PATIENT_COLUMNS))
    write_text(folder / "summary.json", json.dumps(summary, indent=2, allow_nan=False))
    return summary


def _csv(rows: Sequence, columns: tuple[str, ...]) -> str:
    """One line per row; undefined values are empty cells."""
    table = [[getattr(row, column) for column in columns] for row in rows]
    buffer = io.StringIO()
    pd.DataFrame(table, columns=columns).to_csv(
        buffer, index=False, lineterminator="\n"
    )
    return buffer.getvalue()


def table(summary: dict) -> Table:
    """A small table of a summary to print: one column per measured task."""
    tasks = summary["tasks"]
    size = f"{summary['patients']} patients, {summary['slices']} slices"
    grid = Table(title=f"{summary['split']}: {size}", caption=_CAPTION, box=box.SIMPLE)
    grid.add_column("mean (95 % interval)")
    for task in tasks:
        grid.add_column(task, justify="right")
    for name in HEADLINES:
        grid.add_row(name, *(_mean(values[name]) for values in tasks.values()))
    grid.add_section()
    for label, text in _FURTHER_ROWS.items():
        grid.add_row(label, *(text(values) for values in tasks.values()))
    return grid


def _mean(values: dict) -> str:
    return f"{_text(values['mean'])} {_range(values['ci95'])} n={values['patients']}"


def _range(bounds: Sequence[float | None]) -> str:
    return f"({_text(bounds[0])}, {_text(bounds[1])})"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:#.3g}"


def _found(values: dict) -> str:
    counts = values["detection"]["per_patient"]
    return f"{counts['tp']} of {counts['tp'] + counts['fn']}"


def _false_alarms(values: dict) -> str:
    counts = values["detection"]["per_patient"]
    return f"{counts['fp']} of {counts['fp'] + counts['tn']}"


def _bias(values: dict) -> str:
    if "burden_percent" not in values:
        return ""
    burden = values["burden_percent"]
    limits = _range(burden["limits_of_agreement"])
    return f"{_text(burden['bias'])} {limits} n={burden['patients']}"


def _ccc(values: dict) -> str:
    return _text(values["burden_percent"]["ccc"]) if "burden_percent" in values else ""


_CAPTION = (
    "Upper part: patients whose reference has the structure. "
    "False alarms and false_positive_ml: patients without it."
)
_FURTHER_ROWS = {
    "found": _found,
    "false alarms": _false_alarms,
    "false_positive_ml": lambda values: _mean(values["false_positive_ml"]),
    "dice_all_patients": lambda values: _mean(values["dice_all_patients"]),
    "dice_pooled": lambda values: _text(values["dice_pooled"]),
    "burden bias (limits)": _bias,
    "burden CCC": _ccc,
}
