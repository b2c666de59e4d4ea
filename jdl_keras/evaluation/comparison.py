"""The comparison of methods: the patient is the unit, seeds are averaged first.

The values of one patient are averaged over the seeds of a method; means, spreads and
intervals are then taken over patients. A value that is undefined for one seed (the
precision of an empty prediction, the distance to a missed scar) is left out of its
patient's mean, and counted.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jdl_keras.evaluation.finished_runs import FinishedRun, results_table
from jdl_keras.evaluation.paired_tests import ZERO_RULE, compare_pairs, holm
from jdl_keras.evaluation.statistics import BOOTSTRAP_RESAMPLES, describe, number
from jdl_keras.evaluation.summary import EMPTY_RULE, HEADLINES
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import write_text
from tfrecords_tools.labels import TASKS

TESTED = ("dice", "precision", "recall", "hd95_mm")
"""Measures of scar whose paired tests are made; Dice is the one that is asked about."""

RULES = {
    "unit": (
        "patient: the values of a patient are averaged over seeds, then described over "
        "patients; undefined values are left out and counted"
    ),
    "interval": (
        f"95 % percentile bootstrap over patients, {BOOTSTRAP_RESAMPLES} resamples"
    ),
    "empty": EMPTY_RULE,
    "detection": "any voxel of scar in a patient, counted over patients and seeds",
    "test": (
        "two-sided Wilcoxon signed-rank over patients whose reference has scar; "
        f"{ZERO_RULE}; Holm over the baselines, for each measure by itself"
    ),
}
"""How the numbers are made; part of comparison.json."""


def write_comparison(
    folder: Path, runs: Sequence[FinishedRun], candidate: str = "jdl"
) -> tuple[pd.DataFrame, dict]:
    """Writes comparison.csv and comparison.json; returns the content of both.

    Raises:
        RefusedError: see `results_table` and `compare_methods`.
    """
    table = results_table(runs)
    comparison = {
        **compare_methods(table, candidate),
        "crops": _crops(runs),
        "costs": _costs(runs),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "comparison.csv", table.to_csv(index=False))
    text = json.dumps(comparison, indent=2, allow_nan=False)
    write_text(folder / "comparison.json", text + "\n")
    return table, comparison


def compare_methods(table: pd.DataFrame, candidate: str = "jdl") -> dict:
    """Statistics of every method, and the candidate's tests against the others.

    Args:
        table: what `results_table` gives, the content of comparison.csv.
        candidate: the method that is tested against each of the others.

    Returns:
        `candidate`; `seeds`; `folds`; `patients` and `patients_with_scar`; `rules`;
        `methods`, for each the tasks measured; `paired_tests`, for each measure one
        entry per baseline.

    Raises:
        RefusedError: if the candidate is not among the methods.
    """
    methods = [*table["method"].unique()]
    if candidate not in methods:
        raise RefusedError("candidate", "CONFIG", f"expected one of {methods}")
    with_scar = positive(table, "scar")["patient_key"].nunique()
    return {
        "candidate": candidate,
        "seeds": sorted(map(int, table["seed"].unique())),
        "folds": sorted(map(int, table["fold"].unique())),
        "patients": int(table["patient_key"].nunique()),
        "patients_with_scar": int(with_scar),
        "rules": RULES,
        "methods": {name: _describe_method(table, name) for name in methods},
        "paired_tests": {
            measure: _paired_tests(table, measure, candidate) for measure in TESTED
        },
    }


def positive(table: pd.DataFrame, task: str) -> pd.DataFrame:
    """The rows of a task whose reference has the structure."""
    return table[(table["task"] == task) & (table["tp"] + table["fn"] > 0)]


def negative(table: pd.DataFrame, task: str) -> pd.DataFrame:
    """The rows of a task whose reference is empty."""
    return table[(table["task"] == task) & (table["tp"] + table["fn"] == 0)]


def patient_means(
    table: pd.DataFrame, measure: str, with_scar: bool = True
) -> pd.DataFrame:
    """Mean over seeds of a measure of scar: a row per patient, a column per method.

    Args:
        table: see `compare_methods`; the methods stand in its order.
        measure: a column of the table. NaN is left out of the mean.
        with_scar: of the patients whose reference has scar, or of the others.
    """
    rows = positive(table, "scar") if with_scar else negative(table, "scar")
    means = rows.groupby(["patient_key", "method"])[measure].mean().unstack()
    return means.reindex(columns=table["method"].unique())


def _describe_method(table: pd.DataFrame, method: str) -> dict:
    of_method = table[table["method"] == method]
    measured = [task for task in TASKS if (of_method["task"] == task).any()]
    return {task: _describe_task(of_method, task) for task in measured}


def _describe_task(of_method: pd.DataFrame, task: str) -> dict:
    ill, healthy = positive(of_method, task), negative(of_method, task)
    found, alarmed = _any_predicted(ill), _any_predicted(healthy)
    return {
        **{measure: _describe_over_seeds(ill, ill[measure]) for measure in HEADLINES},
        "detection": {
            "tp": int(found.sum()),
            "fp": int(alarmed.sum()),
            "fn": int((~found).sum()),
            "tn": int((~alarmed).sum()),
        },
        "sensitivity": _describe_over_seeds(ill, found),
        "specificity": _describe_over_seeds(healthy, ~alarmed),
        "false_positive_ml": _describe_over_seeds(
            healthy, healthy["false_positive_ml"]
        ),
    }


def _any_predicted(rows: pd.DataFrame) -> pd.Series:
    return rows["tp"] + rows["fp"] > 0


def _describe_over_seeds(rows: pd.DataFrame, values: pd.Series) -> dict:
    """`describe` of the patients' means over seeds, and the spread over seeds."""
    values = values.astype(float)
    seed_means = values.groupby(rows["seed"]).mean()
    of_seeds = describe(seed_means)
    return {
        **describe(values.groupby(rows["patient_key"]).mean()),
        "seed_means": [number(mean) for mean in seed_means],
        "sd_over_seeds": of_seeds["sd"],
        "undefined": int(values.isna().sum()),
    }


def _paired_tests(table: pd.DataFrame, measure: str, candidate: str) -> dict:
    means = patient_means(table, measure)
    tests = {
        baseline: compare_pairs(means[candidate], means[baseline])
        for baseline in means.columns
        if baseline != candidate
    }
    corrected = holm([test["wilcoxon_p"] for test in tests.values()])
    return {
        baseline: {**test, "holm_p": p}
        for (baseline, test), p in zip(tests.items(), corrected, strict=True)
    }


def _crops(runs: Sequence[FinishedRun]) -> dict:
    """For each method the means over its runs of what their localisers reached."""
    found: dict[str, list[dict]] = {}
    for run in runs:
        path = run.evaluation / "localiser.json"
        if path.is_file():
            found.setdefault(run.method, []).append(json.loads(path.read_text()))
    return {
        method: {
            "inside": _mean_of(reports, "crops", "study", "inside"),
            "error_mm": _mean_of(reports, "crops", "study", "error_mm", "median"),
            "dice": _mean_of(reports, "dice_by_crop_centre", "scar", "localiser"),
            "oracle_dice": _mean_of(
                reports, "dice_by_crop_centre", "scar", "reference"
            ),
        }
        for method, reports in found.items()
    }


def _mean_of(reports: Sequence[dict], *keys: str) -> float | None:
    values = []
    for report in reports:
        value: Any = report
        for key in keys:
            value = value[key]
        values.append(value)
    known = [value for value in values if value is not None]
    return number(float(np.mean(known))) if known else None


def _costs(runs: Sequence[FinishedRun]) -> dict:
    """What each method cost: seconds of its runs, and weights of its network."""
    costs = {}
    for method in dict.fromkeys(run.method for run in runs):
        of_method = [run for run in runs if run.method == method]
        seconds = [run.seconds for run in of_method if run.seconds is not None]
        costs[method] = {
            "runs": len(of_method),
            "timed_runs": len(seconds),
            "seconds": number(sum(seconds)) if seconds else None,
            "seconds_per_run": number(float(np.mean(seconds))) if seconds else None,
            "parameters": max(run.parameters or 0 for run in of_method) or None,
        }
    return costs
