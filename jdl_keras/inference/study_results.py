"""What is measured in a predicted study, and the folder that it is written to."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from jdl_keras.inference.calibration import Calibration
from jdl_keras.inference.dicom_seg import write_seg
from jdl_keras.inference.dicom_sr import write_sr
from jdl_keras.inference.identifiers import patient_identifiers
from jdl_keras.inference.inputs import dicom_slices, nifti_image
from jdl_keras.inference.nifti_output import write_volume
from jdl_keras.inference.quality import review
from jdl_keras.inference.report import write_report
from jdl_keras.inference.result_folders import PREDICTION
from jdl_keras.inference.study_prediction import (
    Interval,
    Provenance,
    StudyPrediction,
    Verdict,
)
from jdl_keras.inference.uncertainty import burden_interval
from jdl_keras.quantification.files import write_measurements
from jdl_keras.quantification.measurement import Measurements, measure
from jdl_keras.quantification.tables import (
    RESEARCH_USE_ONLY,
    SUMMARY_COLUMNS,
    summary_row,
)
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import write_text
from tfrecords_tools.sources.source import Item

NOT_OF_IMAGES = ("SLICE_ORDER", "LABELS")
"""Warnings about which end is the base, and about a reference that is not used."""


@dataclasses.dataclass(frozen=True, eq=False)
class Output:
    """Where results go, and which.

    Attributes:
        folder: of all studies.
        overwrite: predict again what is there.
        dicom: write SEG and SR of DICOM studies.
        include_identifiers: name the patient in the report of a DICOM study.
        insertions_mm: anterior RV insertion of the one study, (P, 3) in LPS.
    """

    folder: Path
    overwrite: bool = False
    dicom: bool = True
    include_identifiers: bool = False
    insertions_mm: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class StudyResult:
    """A prediction with all that is read off it."""

    prediction: StudyPrediction
    found: Measurements
    interval: Interval
    verdict: Verdict


def measure_prediction(
    prediction: StudyPrediction, calibration: Calibration | None, output: Output
) -> StudyResult:
    """Measures a prediction and judges it.

    Raises:
        RefusedError: if no myocardium was found, and what `measure` refuses.
    """
    study = prediction.study
    try:
        wall = prediction.wall
    except RefusedError as error:
        reason = "no myocardium was found in any slice; is this a short-axis LGE stack?"
        raise RefusedError(study.study_key, error.code, reason) from None
    try:
        found = measure(
            wall,
            pixels=study.pixels.astype(np.float64),
            insertions_mm=output.insertions_mm,
            warnings=study.warnings,
        )
    except RefusedError as error:
        subject = {"masks": study.study_key}.get(error.subject, error.subject)
        raise RefusedError(subject, error.code, error.reason) from None
    return StudyResult(
        prediction,
        found,
        burden_interval(prediction, calibration),
        review(prediction, calibration, _of_images(study.warnings)),
    )


def _of_images(warnings: Iterable[str]) -> list[str]:
    """Those that make masks doubtful; the others stand in the report only."""
    return [line for line in warnings if not line.startswith(NOT_OF_IMAGES)]


def write_result(
    folder: Path,
    result: StudyResult,
    provenance: Provenance,
    made_by: Mapping,
    item: Item | None,
    output: Output,
) -> None:
    """Writes all files of a study.

    Args:
        folder: of the study; empty.
        result: of the study.
        provenance: who made it, for readers.
        made_by: what decides the results besides the study, for programs.
        item: what the study was read from; DICOM and NIfTI get results of their kind.
        output: which results are wanted.

    Raises:
        RefusedError: if a source file cannot be read any more.
    """
    prediction = result.prediction
    affine, like = prediction.study.affine, nifti_image(item)
    for task, values in prediction.maps.items():
        path = folder / f"{task}-probability.nii.gz"
        write_volume(path, values.astype(np.float32), affine, like)
    write_volume(folder / "labels.nii.gz", prediction.wall.label_map, affine, like)
    write_measurements(result.found, folder)
    slices = dicom_slices(item)
    identifiers = None
    if slices and output.dicom:
        write_seg(folder / "segmentation.dcm", prediction, slices, provenance)
        write_sr(
            folder / "measurements.dcm",
            prediction,
            slices,
            result.found,
            result.interval,
            result.verdict,
            provenance,
        )
    if slices and output.include_identifiers:
        identifiers = patient_identifiers(slices)
    write_report(
        folder,
        prediction,
        result.found,
        result.interval,
        result.verdict,
        provenance,
        identifiers,
    )
    _write_prediction(folder, result, made_by)


def _write_prediction(folder: Path, result: StudyResult, made_by: Mapping) -> None:
    content = {
        "use": RESEARCH_USE_ONLY,
        "study": result.prediction.study.study_key,
        "verdict": result.verdict.name,
        "concerns": [dataclasses.asdict(one) for one in result.verdict.concerns],
        "slices_to_look_at": [*result.verdict.slices],
        "burden_percent": result.found.burden.burden_percent,
        "burden_interval": dataclasses.asdict(result.interval),
        "pass_burdens_percent": [*result.prediction.pass_burdens_percent],
        "summary": dict(zip(SUMMARY_COLUMNS, summary_row(result.found), strict=True)),
        "made_by": made_by,
    }
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_text(folder / PREDICTION, text)
