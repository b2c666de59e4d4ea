"""From masks to one result per slice and one per patient, on the native grid.

A slice without a task's label is left out of that task. The patient is the unit: the
voxel counts and volumes of all its slices, over all its studies, are added up before a
ratio is taken.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from jdl_keras.evaluation.overlap import OverlapCounts, check_masks, overlap_counts
from jdl_keras.evaluation.surface import hd95_mm, in_plane_hd95_mm
from tfrecords_tools.geometry import voxel_volume_ml
from tfrecords_tools.labels import TASKS, region_mask
from tfrecords_tools.study import Study

_SHARED_COLUMNS = (
    *("task", "tp", "fp", "fn", "dice", "precision", "recall"),
    *("reference_ml", "prediction_ml", "volume_difference_ml", "false_positive_ml"),
)
SLICE_COLUMNS = (
    *("patient_key", "study_key", "slice_index", *_SHARED_COLUMNS),
    "hd95_in_plane_mm",
)
"""Columns of per_slice.csv, each an attribute of `SliceResult`."""
PATIENT_COLUMNS = (
    *("patient_key", "studies", "slices", *_SHARED_COLUMNS, "hd95_mm"),
    *("burden_reference_percent", "burden_prediction_percent"),
)
"""Columns of per_patient.csv, each an attribute of `PatientResult`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Result:
    """One task, measured over one slice or over one patient."""

    patient_key: str
    task: str
    counts: OverlapCounts
    reference_ml: float
    prediction_ml: float
    false_positive_ml: float

    tp = property(lambda self: self.counts.true_positive)
    fp = property(lambda self: self.counts.false_positive)
    fn = property(lambda self: self.counts.false_negative)
    dice = property(lambda self: self.counts.dice)
    precision = property(lambda self: self.counts.precision)
    recall = property(lambda self: self.counts.recall)

    @property
    def volume_difference_ml(self) -> float:
        """Prediction minus reference."""
        return self.prediction_ml - self.reference_ml


@dataclasses.dataclass(frozen=True, kw_only=True)
class SliceResult(_Result):
    """One task on one slice: a row of per_slice.csv.

    Attributes:
        hd95_in_plane_mm: NaN if reference or prediction is empty.
    """

    study_key: str
    slice_index: int
    hd95_in_plane_mm: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatientResult(_Result):
    """One task of one patient: a row of per_patient.csv.

    Attributes:
        slices: slices with this task's label, over all studies.
        hd95_mm: the largest over the patient's studies; NaN if a study has only one
            of reference and prediction, or none has both.
        burden_reference_percent: for scar, 100 x scar / myocardium in the reference,
            over the slices measured for both tasks; NaN without such slices, without
            myocardium, and for the other task.
        burden_prediction_percent: the same of the prediction.
    """

    studies: int
    slices: int
    hd95_mm: float
    burden_reference_percent: float
    burden_prediction_percent: float


@dataclasses.dataclass(frozen=True)
class StudyResult:
    """What one study adds to its patient.

    Attributes:
        hd95_mm: for each task with a structure in either mask; NaN if in one only.
    """

    patient_key: str
    slices: tuple[SliceResult, ...]
    hd95_mm: Mapping[str, float]


def measure_study(study: Study, predictions: Mapping[str, np.ndarray]) -> StudyResult:
    """Compares the predictions of one study with its reference.

    Args:
        study: the reference, untouched and on its native grid.
        predictions: task to boolean (S, H, W) mask on the same grid. A task that is
            not predicted (`direct` has no myocardium) is not measured.

    Raises:
        ValueError: if a task is unknown, or a mask is not boolean or has another shape.
    """
    slices: list[SliceResult] = []
    distances_mm = {}
    for task, prediction in predictions.items():
        reference = reference_mask(study, task)
        check_masks(reference, prediction)
        labelled = [i for i, tasks in enumerate(study.labelled) if task in tasks]
        slices += [
            _slice_result(study, task, i, reference, prediction) for i in labelled
        ]
        # What is unlabelled was not compared, so it has no surface either.
        compared = np.zeros_like(prediction)
        compared[labelled] = prediction[labelled]
        if (reference | compared).any():
            distances_mm[task] = hd95_mm(
                reference, compared, study.spacing_mm, study.slice_spacing_mm
            )
    return StudyResult(study.patient_key, tuple(slices), distances_mm)


def reference_mask(study: Study, task: str) -> np.ndarray:
    """Boolean (S, H, W) reference of a task; empty on slices without its label."""
    if task not in TASKS:
        raise ValueError(f"expected a task of {[*TASKS]}, got {task!r}")
    labelled = np.array([task in tasks for tasks in study.labelled])
    return region_mask(study.label_map, TASKS[task]) & labelled[:, None, None]


def patient_results(results: Iterable[StudyResult]) -> list[PatientResult]:
    """Adds up the studies of each patient: one result per patient and measured task."""
    by_patient: dict[str, list[StudyResult]] = {}
    for result in results:
        by_patient.setdefault(result.patient_key, []).append(result)
    rows = []
    for studies in by_patient.values():
        slices = [row for study in studies for row in study.slices]
        measured = {row.task for row in slices}
        rows += [_patient_result(task, studies) for task in TASKS if task in measured]
    return rows


def _slice_result(
    study: Study, task: str, index: int, reference: np.ndarray, prediction: np.ndarray
) -> SliceResult:
    counts = overlap_counts(reference[index], prediction[index])
    voxel_ml = voxel_volume_ml(study.spacing_mm, study.slice_spacing_mm)
    return SliceResult(
        patient_key=study.patient_key,
        study_key=study.study_key,
        slice_index=index,
        task=task,
        counts=counts,
        reference_ml=counts.reference * voxel_ml,
        prediction_ml=counts.prediction * voxel_ml,
        false_positive_ml=counts.false_positive * voxel_ml,
        hd95_in_plane_mm=in_plane_hd95_mm(
            reference[index], prediction[index], study.spacing_mm
        ),
    )


def _patient_result(task: str, studies: list[StudyResult]) -> PatientResult:
    every_slice = [row for study in studies for row in study.slices]
    rows = [row for row in every_slice if row.task == task]
    burdens = _burdens_percent(every_slice) if task == "scar" else (np.nan, np.nan)
    return PatientResult(
        patient_key=rows[0].patient_key,
        task=task,
        counts=sum((row.counts for row in rows), OverlapCounts()),
        reference_ml=sum(row.reference_ml for row in rows),
        prediction_ml=sum(row.prediction_ml for row in rows),
        false_positive_ml=sum(row.false_positive_ml for row in rows),
        studies=len({row.study_key for row in rows}),
        slices=len(rows),
        hd95_mm=_largest([s.hd95_mm[task] for s in studies if task in s.hd95_mm]),
        burden_reference_percent=burdens[0],
        burden_prediction_percent=burdens[1],
    )


def _largest(distances_mm: list[float]) -> float:
    # np.max and not max: a NaN among the studies must not be averaged away.
    return float(np.max(distances_mm)) if distances_mm else float("nan")


def _burdens_percent(rows: list[SliceResult]) -> tuple[float, float]:
    """Scar burden of (reference, prediction) over the slices measured for both."""
    places = {
        task: {(row.study_key, row.slice_index) for row in rows if row.task == task}
        for task in TASKS
    }
    shared = places["scar"] & places["myocardium"]
    rows = [row for row in rows if (row.study_key, row.slice_index) in shared]
    scar = [row for row in rows if row.task == "scar"]
    wall = [row for row in rows if row.task == "myocardium"]
    return (
        _percent(sum(r.reference_ml for r in scar), sum(r.reference_ml for r in wall)),
        _percent(
            sum(r.prediction_ml for r in scar), sum(r.prediction_ml for r in wall)
        ),
    )


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else float("nan")
