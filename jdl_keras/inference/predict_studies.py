"""Predicts the studies of an input, one after another, and lists what was found."""

import dataclasses
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from jdl_keras.inference.calibration import Calibration
from jdl_keras.inference.inputs import Input, InputStudy
from jdl_keras.inference.study_predictor import StudyPredictor
from jdl_keras.inference.study_results import (
    PREDICTION,
    Output,
    measure_prediction,
    write_result,
)
from jdl_keras.quantification.tables import SUMMARY_COLUMNS
from tfrecords_tools.csv_text import csv_text
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import safe_name, write_text
from tfrecords_tools.progress import shown

COLUMNS = (
    *("study", "verdict", "reasons"),
    *("burden_percent", "burden_low_percent", "burden_high_percent"),
    *(name for name in SUMMARY_COLUMNS if name != "burden_percent"),
)
"""Of studies.csv, one row a study."""


def predict_studies(
    predictor: StudyPredictor,
    calibration: Calibration | None,
    studies: Input,
    output: Output,
) -> tuple[int, int]:
    """Predicts every study; one that is refused is printed and costs itself only.

    A study whose results are whole and of the same networks is not predicted again.

    Returns:
        How many have results now, and how many were refused.
    """
    output.folder.mkdir(parents=True, exist_ok=True)
    refused = 0
    for one in shown(studies.studies, "predicting", studies.count):
        try:
            _predict(predictor, calibration, one, output)
        except RefusedError as error:
            print(error, file=sys.stderr)
            refused += 1
    _write_table(output.folder)
    return studies.count - refused, refused


def _predict(
    predictor: StudyPredictor,
    calibration: Calibration | None,
    one: InputStudy,
    output: Output,
) -> None:
    made_by = _made_by(predictor, calibration, output)
    folder = output.folder / safe_name(one.key)
    if not output.overwrite and _is_done(folder, made_by):
        return
    study = one.read()
    if isinstance(study, RefusedError):
        raise study
    result = measure_prediction(predictor.predict(study), calibration, output)
    stage = output.folder / f".tmp-{folder.name}"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    try:
        write_result(stage, result, predictor.provenance, made_by, one.item, output)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(stage, folder)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _made_by(
    predictor: StudyPredictor, calibration: Calibration | None, output: Output
) -> dict:
    """What decides the results of a study, besides the study."""
    points = output.insertions_mm
    return {
        **dataclasses.asdict(predictor.provenance),
        "mask_rule": dataclasses.asdict(predictor.rule),
        "calibration_sha256": hashlib.sha256(repr(calibration).encode()).hexdigest(),
        "insertions_mm": None if points is None else points.tolist(),
        "dicom": output.dicom,
        "include_identifiers": output.include_identifiers,
    }


def _is_done(folder: Path, made_by: Mapping) -> bool:
    """Whether a study has these results already.

    Raises:
        RefusedError: `EXISTS` if it has others.
    """
    if not folder.exists():
        return False
    found = _read_prediction(folder)
    if found and found.get("made_by") == json.loads(json.dumps(made_by)):
        return True
    reason = "has results of other networks or settings; add --overwrite"
    raise RefusedError(folder, "EXISTS", reason)


def _read_prediction(folder: Path) -> dict | None:
    try:
        return json.loads((folder / PREDICTION).read_bytes())
    except (OSError, ValueError):
        return None


def _write_table(folder: Path) -> None:
    """Gathers the results of all studies that lie in the folder."""
    studies = (one for one in sorted(folder.iterdir()) if one.name[0] != ".")
    rows = [_table_row(one) for one in map(_read_prediction, studies) if one]
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
