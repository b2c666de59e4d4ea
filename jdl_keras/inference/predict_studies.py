"""Predicts the studies of an input, one after another, and lists what was found."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from jdl_keras.inference.inputs import Input, InputStudy
from jdl_keras.inference.result_folders import fill_folders, read_prediction
from jdl_keras.inference.study_predictor import StudyPredictor
from jdl_keras.inference.study_results import (
    Output,
    measure_prediction,
    write_result,
)
from jdl_keras.quantification.tables import SUMMARY_COLUMNS
from tfrecords_tools.csv_text import csv_text
from tfrecords_tools.files import write_text
from tfrecords_tools.study import Study

COLUMNS = (
    *("study", "verdict", "reasons"),
    *("burden_percent", "burden_low_percent", "burden_high_percent"),
    *(name for name in SUMMARY_COLUMNS if name != "burden_percent"),
)
"""Of studies.csv, one row a study."""


def predict_studies(
    predictor: StudyPredictor, studies: Input, output: Output
) -> tuple[int, int]:
    """Predicts every study; one that is refused is printed and costs itself only.

    A study whose results are whole and of the same networks is not predicted again.

    Returns:
        How many have results now, and how many were refused.
    """
    made_by = _made_by(predictor, output)

    def write(folder: Path, one: InputStudy, study: Study) -> None:
        prediction = predictor.predict(study)
        result = measure_prediction(prediction, predictor.calibration, output)
        write_result(folder, result, predictor.provenance, made_by, one.item, output)

    counts = fill_folders(studies, output.folder, made_by, output.overwrite, write)
    _write_table(output.folder)
    return counts


def _made_by(predictor: StudyPredictor, output: Output) -> dict:
    """What decides the results of a study, besides the study."""
    points, calibration = output.insertions_mm, repr(predictor.calibration)
    return {
        **dataclasses.asdict(predictor.provenance),
        "mask_rule": dataclasses.asdict(predictor.rule),
        "calibration_sha256": hashlib.sha256(calibration.encode()).hexdigest(),
        "insertions_mm": None if points is None else points.tolist(),
        "dicom": output.dicom,
        "include_identifiers": output.include_identifiers,
    }


def _write_table(folder: Path) -> None:
    """Gathers the results of all studies that lie in the folder."""
    studies = (one for one in sorted(folder.iterdir()) if one.name[0] != ".")
    rows = [_table_row(one) for one in map(read_prediction, studies) if one]
    write_text(folder / "studies.csv", csv_text(COLUMNS, rows))


def _table_row(found: Mapping) -> tuple:
    interval = found["burden_interval"]
    own = found["summary"] | {
        "study": found["study"],
        "verdict": found["verdict"],
        "reasons": "; ".join(one["text"] for one in found["concerns"]),
        "burden_low_percent": interval["low_percent"],
        "burden_high_percent": interval["high_percent"],
    }
    return tuple(own[name] for name in COLUMNS)
