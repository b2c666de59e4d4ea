"""SEG and SR before validators of others; each is skipped where it cannot run."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from predicted_dicom import INTERVAL, REVIEW, WHO, phantom_case, predict

from jdl_keras.inference.dicom_seg import write_seg
from jdl_keras.inference.dicom_sr import write_sr
from jdl_keras.quantification.measurement import measure

pytestmark = pytest.mark.slow

STANDARD = Path.home() / "dicom-validator"
"""Where dicom-validator keeps the standard that it has downloaded."""


@pytest.fixture(scope="module", params=["classic", "enhanced", "normal heart"])
def files(request, tmp_path_factory):
    """SEG and SR of a heart with scar, and of one without."""
    folder = tmp_path_factory.mktemp("study")
    kind = "enhanced" if request.param == "enhanced" else "classic"
    case = phantom_case(folder / "images", kind)
    if request.param == "normal heart":
        masks = dict(case.prediction.masks)
        masks["scar"] = np.zeros_like(masks["scar"])
        case.prediction = predict(case.prediction.study, masks)
    write_seg(folder / "seg.dcm", case.prediction, case.slices, WHO)
    measured = measure(case.prediction.wall)
    report = (measured, INTERVAL, REVIEW, WHO)
    write_sr(folder / "sr.dcm", case.prediction, case.slices, *report)
    return [folder / "seg.dcm", folder / "sr.dcm"]


@pytest.fixture(scope="module")
def dciodvfy():
    program = shutil.which("dciodvfy")
    if not program:
        pytest.skip("no dciodvfy; run: apt-get install dicom3tools")

    def dciodvfy(path):
        done = subprocess.run([program, "-new", path], capture_output=True, text=True)
        lines = (done.stdout + done.stderr).splitlines()
        return [line for line in lines if line.startswith("Error")], lines

    return dciodvfy


def test_dciodvfy_finds_no_error(files, dciodvfy):
    for path, kind in zip(files, ("Segmentation", "ComprehensiveSR"), strict=True):
        errors, lines = dciodvfy(path)
        assert errors == []
        assert kind in lines
        # Its tables are older than the standard, and know no private schemes.
        strange = [line for line in lines if line.startswith("Warning")]
        assert not [line for line in strange if "99JDLKERAS" not in line]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda seg: delattr(seg, "SegmentSequence"),
        lambda seg: delattr(seg, "ContentLabel"),
        lambda seg: setattr(seg, "SegmentationType", "FUZZY"),
        lambda seg: delattr(seg.SegmentSequence[1], "SegmentAlgorithmName"),
    ],
)
def test_dciodvfy_would_find_an_error(spoil, files, dciodvfy, tmp_path):
    seg = pydicom.dcmread(files[0])
    spoil(seg)
    seg.save_as(tmp_path / "spoiled.dcm")
    assert dciodvfy(tmp_path / "spoiled.dcm")[0]


def edition():
    """The edition of the standard that dicom-validator would use, if it is there."""
    if not importlib.util.find_spec("dicom_validator"):
        pytest.skip("no dicom-validator; run: pip install dicom-validator")
    if not (STANDARD / "editions.json").is_file():
        pytest.skip("dicom-validator has not downloaded the DICOM standard")
    found = max(json.loads((STANDARD / "editions.json").read_text()))
    if not (STANDARD / found / "docbook" / "part03.xml").is_file():
        pytest.skip(f"dicom-validator has not downloaded edition {found}")
    return found


def test_dicom_validator_finds_no_error(files):
    command = ["-m", "dicom_validator.validate_iods", "--edition", edition()]
    done = subprocess.run(
        [sys.executable, *command, *map(str, files)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
