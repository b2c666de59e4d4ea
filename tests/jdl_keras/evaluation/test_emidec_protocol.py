import csv
import dataclasses
import json
import math

import numpy as np
import pytest
from rich.console import Console

from jdl_keras.evaluation.emidec_protocol import (
    MEASURES,
    emidec_table,
    measure_case,
    write_emidec,
)

ROUNDING = 1e-12
"""Relative tolerance where only float rounding differs."""


@pytest.fixture
def case(make_study):
    """Two slices of 1 x 8 voxels of 2 x 2.5 x 10 = 50 mm3; no scar in the second."""
    label_map = np.zeros((2, 1, 8))
    label_map[0, 0] = [2, 2, 2, 3, 4, 0, 0, 0]
    label_map[1, 0, :3] = 2
    wall, scar = np.zeros((2, 2, 1, 8), bool)
    wall[0, 0, :7] = True
    wall[1, 0, :3] = True
    scar[0, 0, 4:7] = True
    return make_study(label_map), {"myocardium": wall, "scar": scar}


def test_a_case_by_hand(case):
    found = measure_case(*case)
    assert set(found) == {"patient_key", "study_key", *MEASURES}
    assert (found["patient_key"], found["study_key"]) == ("aa", "01")
    # Wall 5 + 3 against 7 + 3 voxels, 5 + 3 shared; slices 10 / 12 and 1
    assert found["myocardium_dice"] == pytest.approx(16 / 18, rel=ROUNDING)
    assert found["myocardium_slice_dice"] == pytest.approx(
        (10 / 12 + 1) / 2, rel=ROUNDING
    )
    assert found["myocardium_volume_difference_mm3"] == pytest.approx(100, rel=ROUNDING)
    # From column 6 back to column 4: 2 x 2.5 mm
    assert found["myocardium_hausdorff_mm"] == 5
    # Scar and no-reflow, columns 3 and 4, against 4 to 6; slice 1 is empty in both: 1
    assert found["infarct_dice"] == pytest.approx(2 / 5, rel=ROUNDING)
    assert found["infarct_slice_dice"] == pytest.approx((2 / 5 + 1) / 2, rel=ROUNDING)
    assert found["infarct_volume_difference_mm3"] == pytest.approx(50, rel=ROUNDING)
    # 50 mm3 of the reference's 8 x 50 mm3
    assert found["infarct_volume_difference_percent"] == pytest.approx(12.5)


def test_differences_are_absolute(case):
    study, predictions = case
    found = measure_case(study, {**predictions, "scar": np.zeros((2, 1, 8), bool)})
    # A miss: 0 - 100 mm3
    assert (found["infarct_dice"], found["infarct_slice_dice"]) == (0, 0.5)
    assert found["infarct_volume_difference_mm3"] == pytest.approx(100, rel=ROUNDING)
    assert found["infarct_volume_difference_percent"] == pytest.approx(25)


def test_nothing_rightly_found_is_dice_1(case, make_study):
    _, predictions = case
    study = make_study(np.where(predictions["myocardium"], 2, 0))
    nothing = np.zeros((2, 1, 8), bool)
    found = measure_case(study, {**predictions, "scar": nothing})
    assert [found[name] for name in MEASURES] == [1, 1, 0, 0, 1, 1, 0, 0]
    found = measure_case(make_study(nothing), dict.fromkeys(predictions, nothing))
    assert (found["myocardium_dice"], found["infarct_dice"]) == (1, 1)
    assert math.isnan(found["myocardium_hausdorff_mm"])
    assert math.isnan(found["infarct_volume_difference_percent"])


def test_a_false_alarm_is_dice_0(case):
    study, predictions = case
    wall_only = np.where(study.label_map > 0, 2, 0).astype(np.uint8)
    healthy = dataclasses.replace(study, label_map=wall_only)
    found = measure_case(healthy, predictions)
    assert found["infarct_dice"] == 0
    # 3 voxels of the 8 of the wall
    assert found["infarct_volume_difference_percent"] == pytest.approx(37.5)


def test_direct_has_no_myocardium_but_the_reference_has(case):
    study, predictions = case
    found = measure_case(study, {"scar": predictions["scar"]})
    assert all(math.isnan(found[name]) for name in MEASURES[:4])
    assert found["infarct_volume_difference_percent"] == pytest.approx(12.5)


def test_slices_without_the_label_are_left_out(worked_case):
    found = measure_case(*worked_case)
    # Slices 0 and 1: columns 2 and 3 of row 0 against one of them and two below
    assert found["infarct_dice"] == pytest.approx(2 / 5, rel=ROUNDING)
    assert found["infarct_slice_dice"] == pytest.approx((2 / 5 + 1) / 2, rel=ROUNDING)
    study, predictions = worked_case
    unlabelled = dataclasses.replace(study, labelled=(frozenset(),) * 3)
    found = measure_case(unlabelled, predictions)
    assert all(math.isnan(found[name]) for name in MEASURES)


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def test_files_and_means(case, tmp_path):
    study, predictions = case
    nothing = np.zeros((2, 1, 8), bool)
    cases = [
        measure_case(study, predictions),
        measure_case(study, dict.fromkeys(predictions, nothing)),
    ]
    summary = write_emidec(tmp_path / "test", cases)
    text = (tmp_path / "test" / "emidec.json").read_text()
    assert json.loads(text, parse_constant=refuse_constant) == summary
    assert summary["cases"] == 2
    assert list(summary["measures"]) == [*MEASURES]
    wall = summary["measures"]["myocardium_dice"]
    assert wall["mean"] == pytest.approx(8 / 18, rel=ROUNDING)  # 16/18 and 0
    # The missed myocardium has no distance, and is not averaged away unseen.
    distance = summary["measures"]["myocardium_hausdorff_mm"]
    assert (distance["mean"], distance["patients"]) == (5, 1)
    assert summary["rules"]["no_reflow"].startswith("not assessed")
    with (tmp_path / "test" / "emidec.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == ["patient_key", "study_key", *MEASURES]
    assert float(first["infarct_volume_difference_percent"]) == pytest.approx(12.5)
    assert second["myocardium_hausdorff_mm"] == ""


def test_no_case_at_all(tmp_path):
    summary = write_emidec(tmp_path, [])
    assert summary["cases"] == 0
    assert summary["measures"]["infarct_dice"]["mean"] is None
    header = (tmp_path / "emidec.csv").read_text()
    assert header == ",".join(["patient_key", "study_key", *MEASURES]) + "\n"


def test_table_shows_the_means_and_what_is_not_assessed(case, tmp_path):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(emidec_table(write_emidec(tmp_path, [measure_case(*case)])))
    rows = [line.split() for line in capture.get().splitlines() if line.strip()]
    lines = {row[0]: row for row in rows}
    assert "EMIDEC protocol: 1 cases" in capture.get()
    assert lines["infarct_dice"] == ["infarct_dice", "0.4000", "-", "(-,", "-)", "1"]
    assert lines["no_reflow"] == ["no_reflow", "not", "assessed"]
