"""Finished runs of several methods, and the table of all that they measured."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jdl_keras.evaluation.masks import mask_path, read_mask
from jdl_keras.evaluation.per_patient import PATIENT_COLUMNS
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS
from tfrecords_tools.study import Study

RUN_COLUMNS = ("method", "seed", "fold")
"""Columns of comparison.csv before those of per_patient.csv."""
_TYPES = {
    **dict.fromkeys(PATIENT_COLUMNS, "float64"),
    **{"patient_key": "str", "task": "str"},
    **dict.fromkeys(("studies", "slices", "tp", "fp", "fn"), "int64"),
}


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """One run that ended with the evaluation of a split.

    Attributes:
        method: name of the method, or of a variant of one.
        seed: of the run.
        fold: of the cross-validation; 0 without one.
        folder: the run folder.
        split: the split that is compared.
        seconds: wall-clock time of the training, where known.
        parameters: weights of the network, where known.
    """

    method: str
    seed: int
    fold: int
    folder: Path
    split: str = "test"
    seconds: float | None = None
    parameters: int | None = None

    @property
    def evaluation(self) -> Path:
        """Folder of the evaluation."""
        return self.folder / "evaluation" / self.split

    def masks(self, study: Study) -> dict[str, np.ndarray]:
        """Task to predicted boolean (S, H, W) mask; every method predicts scar.

        Raises:
            RefusedError: if a file cannot be read or is not on the study's grid.
        """
        paths = {
            task: mask_path(self.evaluation / "masks", study, task) for task in TASKS
        }
        return {
            task: _read_mask(path, study.pixels.shape)
            for task, path in paths.items()
            if task == "scar" or path.is_file()
        }


def _read_mask(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    mask = read_mask(path)
    if mask.shape != shape:
        reason = f"expected {shape} as the study, got {mask.shape}"
        raise RefusedError(path, "SHAPE_MISMATCH", reason)
    return mask


def results_table(runs: Sequence[FinishedRun]) -> pd.DataFrame:
    """What all runs measured: one row per method, seed, fold, patient and task.

    Raises:
        RefusedError: `NOT_A_FILE` or `CORRUPT` if a result cannot be read,
            `DIFFERENT_RUNS` if the methods do not have the same seeds and folds,
            `DIFFERENT_PATIENTS` if the runs of a fold were not measured on the same
            patients with the same reference, or a patient is tested in two folds.
    """
    if not runs:
        raise RefusedError("runs", "DIFFERENT_RUNS", "no finished run to compare")
    results = [_read_results(run) for run in runs]
    _check_same_runs(runs)
    _check_same_patients(runs, results)
    table = pd.concat(results, ignore_index=True)
    return table[[*RUN_COLUMNS, *PATIENT_COLUMNS]]


def _read_results(run: FinishedRun) -> pd.DataFrame:
    path = run.evaluation / "per_patient.csv"
    for needed in (path, path.with_name("summary.json")):  # the latter is written last
        if not needed.is_file():
            raise RefusedError(needed, "NOT_A_FILE", "finish the evaluation of the run")
    try:
        result = _parse_results(path.read_text(encoding="utf-8"))
    except ValueError as error:
        words = " ".join(str(error).split())  # a refusal is one line
        reason = f"not a table of results ({words}); evaluate again"
        raise RefusedError(path, "CORRUPT", reason) from None
    return result.assign(**{name: getattr(run, name) for name in RUN_COLUMNS})


def _parse_results(text: str) -> pd.DataFrame:
    if not text.endswith("\n"):
        raise ValueError("its last line is cut")
    # As text first: a key of digits is no number, and floats keep all their bits.
    cells = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    if tuple(cells.columns) != PATIENT_COLUMNS or not set(cells["task"]) <= {*TASKS}:
        raise ValueError("other columns or tasks")
    if cells.duplicated(["patient_key", "task"]).any():
        raise ValueError("a patient stands there twice")
    return cells.replace("", "nan").astype(_TYPES)


def _check_same_runs(runs: Sequence[FinishedRun]) -> None:
    """Every method needs each seed on each fold once, or means are not comparable."""
    parts: dict[str, list[tuple[int, int]]] = {}
    for run in runs:
        parts.setdefault(run.method, []).append((run.seed, run.fold))
    everything = {part for of_method in parts.values() for part in of_method}
    seeds, folds = ({part[i] for part in everything} for i in (0, 1))
    expected = sorted((seed, fold) for seed in seeds for fold in folds)
    for method, found in parts.items():
        if sorted(found) != expected:
            reason = f"expected (seed, fold) {expected}, each once, got {sorted(found)}"
            raise RefusedError(method, "DIFFERENT_RUNS", reason)


def _check_same_patients(
    runs: Sequence[FinishedRun], results: Sequence[pd.DataFrame]
) -> None:
    references: dict[tuple[int, str], dict[str, int]] = {}
    fold_of: dict[str, int] = {}
    for run, result in zip(runs, results, strict=True):
        found = _reference_voxels(result)
        # `direct` predicts no myocardium; scar is what all are compared on.
        if "scar" not in found:
            _refuse_patients(run, "no patient was measured on scar")
        for task, voxels in found.items():
            if references.setdefault((run.fold, task), voxels) != voxels:
                reason = f"{task}: not the patients and references of the other runs"
                _refuse_patients(run, reason)
        for patient in result["patient_key"]:
            if fold_of.setdefault(patient, run.fold) != run.fold:
                reason = f"patient {patient} is tested in fold {fold_of[patient]} too"
                _refuse_patients(run, reason)


def _reference_voxels(result: pd.DataFrame) -> dict[str, dict[str, int]]:
    """For each measured task the size of each patient's reference."""
    voxels = result.assign(reference=result["tp"] + result["fn"])
    return {
        str(task): dict(zip(rows["patient_key"], rows["reference"], strict=True))
        for task, rows in voxels.groupby("task")
    }


def _refuse_patients(run: FinishedRun, reason: str) -> None:
    raise RefusedError(run.folder, "DIFFERENT_PATIENTS", reason)
