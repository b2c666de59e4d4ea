import csv
import json
import math

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from jdl_keras.evaluation.overlap import OverlapCounts
from jdl_keras.evaluation.per_patient import PatientResult, SliceResult
from jdl_keras.evaluation.summary import summarise, table, write_evaluation

NAN = math.nan
VOXEL_ML = 0.05


def result(kind, key, task, counts, **more):
    return kind(
        patient_key=key,
        task=task,
        counts=OverlapCounts(*counts),
        reference_ml=(counts[0] + counts[2]) * VOXEL_ML,
        prediction_ml=(counts[0] + counts[1]) * VOXEL_ML,
        false_positive_ml=counts[1] * VOXEL_ML,
        **more,
    )


def patient(key, task, counts, hd95_mm=NAN, burden=(NAN, NAN)):
    return result(
        PatientResult,
        key,
        task,
        counts,
        studies=1,
        slices=1,
        hd95_mm=hd95_mm,
        burden_reference_percent=burden[0],
        burden_prediction_percent=burden[1],
    )


def one_slice(key, index, task, counts):
    where = {"study_key": f"{key}1", "slice_index": index}
    return result(SliceResult, key, task, counts, **where, hd95_in_plane_mm=NAN)


# Scar of six patients: two found, one missed, one false alarm, two rightly empty.
PATIENTS = [
    patient("a", "scar", (6, 2, 2), hd95_mm=4.0, burden=(10, 12)),
    patient("b", "scar", (2, 4, 2), hd95_mm=8.0, burden=(20, 21)),
    patient("c", "scar", (0, 0, 4), burden=(30, NAN)),
    patient("d", "scar", (0, 4, 0), burden=(0, 3)),
    patient("e", "scar", (0, 0, 0), burden=(0, 0)),
    patient("f", "scar", (0, 0, 0), burden=(0, 0)),
    patient("a", "myocardium", (9, 1, 1), hd95_mm=2.0),
]
SLICES = [
    one_slice("a", 0, "scar", (6, 2, 0)),
    one_slice("a", 1, "scar", (0, 0, 2)),
    one_slice("b", 0, "scar", (2, 4, 2)),
    one_slice("c", 0, "scar", (0, 0, 4)),
    one_slice("d", 0, "scar", (0, 4, 0)),
    one_slice("e", 0, "scar", (0, 0, 0)),
    one_slice("f", 0, "scar", (0, 0, 0)),
    one_slice("a", 0, "myocardium", (9, 1, 1)),
]
DESCRIPTION = {"mean", "sd", "median", "ci95", "patients"}


@pytest.fixture
def summary():
    return summarise("test", SLICES, PATIENTS)


def test_keys_are_the_contract(summary):
    assert set(summary) == {"split", "patients", "slices", "tasks"}
    headlines = {"dice", "precision", "recall", "hd95_mm", "volume_difference_ml"}
    others = {"dice_all_patients", "dice_pooled", "detection", "false_positive_ml"}
    task_keys = headlines | others | {"missed"}
    assert set(summary["tasks"]["myocardium"]) == task_keys
    scar = summary["tasks"]["scar"]
    assert set(scar) == task_keys | {"burden_percent"}
    for name in headlines | {"false_positive_ml"}:
        assert set(scar[name]) == DESCRIPTION
    assert set(scar["dice_all_patients"]) == DESCRIPTION | {"empty_rule"}
    for unit in ("per_patient", "per_slice"):
        assert set(scar["detection"][unit]) == {"tp", "fp", "fn", "tn"}
    assert {"bias", "limits_of_agreement", "ccc"} <= set(scar["burden_percent"])


def test_patients_and_slices_are_counted_once(summary):
    # "a" slice 0 carries both tasks: 8 rows, 7 slices.
    assert (summary["split"], summary["patients"], summary["slices"]) == ("test", 6, 7)


def test_headlines_are_over_patients_with_the_structure(summary):
    scar = summary["tasks"]["scar"]
    # Dice 12/16 = 0.75, 4/10 = 0.4 and 0 for the miss
    assert scar["dice"]["mean"] == pytest.approx(1.15 / 3, rel=1e-12)  # float rounding
    assert (scar["dice"]["median"], scar["dice"]["patients"]) == (0.4, 3)
    # The miss has no precision (6/8, 2/6), but recall 0 (6/8, 2/4, 0/4).
    assert scar["precision"]["mean"] == pytest.approx(13 / 24, rel=1e-12)
    assert scar["precision"]["patients"] == 2
    assert scar["recall"]["mean"] == pytest.approx(1.25 / 3, rel=1e-12)
    assert (scar["hd95_mm"]["mean"], scar["hd95_mm"]["patients"]) == (6, 2)
    # (8 - 8, 6 - 4, 0 - 4) voxels x 0.05 ml = 0, 0.1, -0.2 ml
    volume = scar["volume_difference_ml"]
    assert volume["mean"] == pytest.approx(-0.1 / 3, rel=1e-9)  # sums that cancel
    assert volume["patients"] == 3


def test_false_alarms_and_misses_stand_beside_the_headline(summary):
    scar = summary["tasks"]["scar"]
    # 0.75, 0.4, 0 (miss), 0 (false alarm); e and f are undefined.
    everyone = scar["dice_all_patients"]
    assert everyone["mean"] == pytest.approx(1.15 / 4, rel=1e-12)
    assert everyone["patients"] == 4
    assert "undefined" in everyone["empty_rule"]
    # tp 8, fp 2 + 4 + 4, fn 2 + 2 + 4: 16 / (16 + 10 + 8)
    assert scar["dice_pooled"] == 16 / 34
    assert scar["detection"]["per_patient"] == {"tp": 2, "fp": 1, "fn": 1, "tn": 2}
    assert scar["detection"]["per_slice"] == {"tp": 2, "fp": 1, "fn": 2, "tn": 2}
    # d has 4 x 0.05 ml, e and f none: over three patients 0.2 / 3 ml
    alarms = scar["false_positive_ml"]
    assert alarms["mean"] == pytest.approx(0.2 / 3, rel=1e-12)
    assert (alarms["median"], alarms["patients"]) == (0, 3)
    assert scar["missed"] == 1


def test_burden_agreement_is_over_all_patients_that_have_both(summary):
    burden = summary["tasks"]["scar"]["burden_percent"]
    # Differences 2, 1, 3, 0, 0 (c has no predicted myocardium): 6 / 5
    assert (burden["bias"], burden["patients"]) == (1.2, 5)
    # reference 10 20 0 0 0: mean 6, variance 500/5 - 36 = 64; prediction 12 21 3 0 0:
    # mean 7.2, variance 594/5 - 51.84 = 66.96; covariance 540/5 - 43.2 = 64.8
    ccc = 2 * 64.8 / (64 + 66.96 + 1.2**2)
    assert burden["ccc"] == pytest.approx(ccc, rel=1e-12)


def test_a_task_that_was_not_measured_is_absent():
    scar = [row for row in PATIENTS if row.task == "scar"]
    assert set(summarise("test", SLICES, scar)["tasks"]) == {"scar"}


def test_nothing_predicted_anywhere_is_null_not_nan():
    rows = [patient("a", "scar", (0, 0, 0)), patient("b", "scar", (0, 0, 0))]
    scar = summarise("test", [], rows)["tasks"]["scar"]
    undefined = {"mean": None, "sd": None, "median": None, "ci95": [None, None]}
    assert scar["dice"] == {**undefined, "patients": 0}
    assert scar["dice_pooled"] is None
    assert scar["burden_percent"]["bias"] is None
    assert scar["detection"]["per_patient"] == {"tp": 0, "fp": 0, "fn": 0, "tn": 2}


def test_no_patient_at_all():
    found = summarise("test", [], [])
    assert found == {"split": "test", "patients": 0, "slices": 0, "tasks": {}}


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def test_files_of_an_evaluation(tmp_path):
    folder = tmp_path / "evaluation" / "test"
    figures = [("overlay-aa-01", Figure((1, 1)))]
    summary = write_evaluation(folder, "test", SLICES, PATIENTS, figures)
    text = (folder / "summary.json").read_text()
    assert json.loads(text, parse_constant=refuse_constant) == summary
    assert (folder / "figures/overlay-aa-01.png").read_bytes()[:4] == b"\x89PNG"
    names = sorted(path.name for path in folder.rglob("*") if path.is_file())
    expected = ["overlay-aa-01.png", "per_patient.csv", "per_slice.csv", "summary.json"]
    assert names == expected


def test_csv_columns_and_empty_cells(tmp_path):
    write_evaluation(tmp_path, "test", SLICES, PATIENTS)
    with (tmp_path / "per_slice.csv").open(newline="") as file:
        slices = list(csv.DictReader(file))
    shared = ["task", "tp", "fp", "fn", "dice", "precision", "recall", "reference_ml"]
    shared += ["prediction_ml", "volume_difference_ml", "false_positive_ml"]
    place = ["patient_key", "study_key", "slice_index"]
    assert list(slices[0]) == [*place, *shared, "hd95_in_plane_mm"]
    assert len(slices) == len(SLICES)
    with (tmp_path / "per_patient.csv").open(newline="") as file:
        patients = list(csv.DictReader(file))
    burdens = ["burden_reference_percent", "burden_prediction_percent"]
    place = ["patient_key", "studies", "slices"]
    assert list(patients[0]) == [*place, *shared, "hd95_mm", *burdens]
    first, missed = patients[0], patients[2]
    assert (first["tp"], first["fp"], first["fn"]) == ("6", "2", "2")
    assert float(first["dice"]) == 0.75
    assert (missed["dice"], missed["precision"], missed["hd95_mm"]) == ("0.0", "", "")


def test_tables_without_rows_keep_their_columns(tmp_path):
    write_evaluation(tmp_path, "test", [], [])
    header = (tmp_path / "per_patient.csv").read_text()
    assert header.startswith("patient_key,studies,slices,task,tp,")
    assert header.count("\n") == 1


def test_summary_is_written_last(tmp_path):
    def broken_figures():
        yield "first", Figure((1, 1))
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_evaluation(tmp_path, "test", SLICES, PATIENTS, broken_figures())
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize("name", ["../outside", "a/b", "", "x.png", "a\n"])
def test_a_figure_name_cannot_leave_the_folder(tmp_path, name):
    folder = tmp_path / "evaluation"
    with pytest.raises(ValueError, match="expected letters"):
        write_evaluation(folder, "test", [], [], [(name, Figure((1, 1)))])
    assert not list(tmp_path.rglob("*.png"))


def test_table_shows_what_the_summary_says(summary):
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table(summary))
    lines = capture.get().splitlines()
    scar = {line.split("  ")[1]: line.split("  ")[-2] for line in lines if "  " in line}
    assert "test: 6 patients, 7 slices" in lines[0]
    # ... (mean 1.15 / 3 = 0.383), the scar column is the last one
    row = next(line for line in lines if line.strip().startswith("dice "))
    assert "0.383 (" in row
    assert row.rstrip().endswith("n=3")
    assert scar["found"].strip() == "2 of 3"
    assert scar["false alarms"].strip() == "1 of 3"
    assert any(line.strip().startswith("burden bias (limits)") for line in lines)
