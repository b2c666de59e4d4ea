import dataclasses

import numpy as np
import pytest

from jdl_keras.evaluation.finished_runs import results_table
from jdl_keras.evaluation.per_patient import PATIENT_COLUMNS
from tfrecords_tools.errors import RefusedError

SCAR = {"a": (8, 2, 2), "b": (6, 4, 4)}


def test_a_row_per_method_seed_fold_patient_and_task(two_methods):
    table = results_table(two_methods)
    assert tuple(table.columns) == ("method", "seed", "fold", *PATIENT_COLUMNS)
    # direct 2 x 5 patients on scar; jdl 2 x 5 on two tasks
    assert len(table) == 10 + 20
    row = table.query("method == 'jdl' and seed == 1 and patient_key == 'b'").iloc[0]
    assert (row["task"], row["tp"], row["dice"], row["hd95_mm"]) == ("scar", 4, 0.4, 6)


def test_keys_of_digits_stay_text(write_run):
    table = results_table([write_run("jdl", 0, {"0123": (1, 0, 0), "1e5": (1, 0, 0)})])
    assert [*table["patient_key"]] == ["0123", "1e5"]


def refusal(runs):
    with pytest.raises(RefusedError) as caught:
        results_table(runs)
    return caught.value


def test_other_patients_are_refused_by_run(write_run):
    first = write_run("jdl", 0, SCAR)
    fewer = write_run("direct", 0, {"a": (8, 2, 2)})
    error = refusal([first, fewer])
    assert (error.code, error.subject) == ("DIFFERENT_PATIENTS", str(fewer.folder))


def test_another_reference_is_refused(write_run):
    # Patient b: 10 voxels of reference against 11
    other = write_run("direct", 0, SCAR | {"b": (6, 4, 5)})
    error = refusal([write_run("jdl", 0, SCAR), other])
    assert (error.code, error.subject) == ("DIFFERENT_PATIENTS", str(other.folder))


def test_myocardium_is_compared_among_those_that_predict_it(write_run):
    wall = {"a": (9, 1, 1), "b": (9, 1, 1)}
    direct = write_run("direct", 0, SCAR)
    jdl = write_run("jdl", 0, SCAR, myocardium=wall)
    results_table([direct, jdl])
    other = write_run("multi_task", 0, SCAR, myocardium={"a": (9, 1, 1)})
    assert refusal([direct, jdl, other]).subject == str(other.folder)


def test_a_run_without_scar_is_refused(write_run):
    error = refusal([write_run("jdl", 0, {}, myocardium=SCAR)])
    assert (error.code, "scar" in error.reason) == ("DIFFERENT_PATIENTS", True)


def test_folds_hold_different_patients(write_run):
    first, second = write_run("jdl", 0, SCAR), write_run("jdl", 0, {"c": SCAR["a"]}, 1)
    assert [*results_table([first, second])["fold"]] == [0, 0, 1]
    error = refusal([first, write_run("jdl", 0, {"b": SCAR["b"]}, 1)])
    assert "patient b is tested in fold 0 too" in error.reason


def test_every_method_needs_each_seed_and_fold_once(write_run):
    jdl = [write_run("jdl", seed, SCAR) for seed in (0, 1)]
    error = refusal([*jdl, write_run("direct", 0, SCAR)])
    assert (error.code, error.subject) == ("DIFFERENT_RUNS", "direct")
    assert "[(0, 0), (1, 0)], each once, got [(0, 0)]" in error.reason
    assert refusal([*jdl, jdl[0]]).subject == "jdl"
    assert refusal([]).code == "DIFFERENT_RUNS"


@pytest.mark.parametrize("name", ["per_patient.csv", "summary.json"])
def test_an_unfinished_evaluation_is_refused(write_run, name):
    run = write_run("jdl", 0, SCAR)
    (run.evaluation / name).unlink()
    error = refusal([run])
    assert (error.code, error.subject) == ("NOT_A_FILE", str(run.evaluation / name))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("tp,fp", "tp,xp"),
        lambda text: text.replace("scar", "mvo"),
        lambda text: text.replace("0.8,", "high,"),
        lambda text: text.replace("b,", "a,"),
        lambda text: text[:-30],
        lambda text: text + "a,b,c," * 20 + "\n",
        lambda text: "",
    ],
)
def test_a_damaged_table_is_refused(write_run, damage):
    run = write_run("jdl", 0, SCAR)
    path = run.evaluation / "per_patient.csv"
    damaged = damage(path.read_text())
    assert damaged != path.read_text()
    path.write_text(damaged)
    error = refusal([run])
    assert (error.code, error.subject) == ("CORRUPT", str(path))
    assert "\n" not in str(error)


def test_masks_are_read_in_the_order_of_the_study(write_run, write_masks, make_study):
    study = make_study(np.full((2, 3, 4), 3), patient="a", study="01")
    run = write_run("jdl", 0, SCAR)
    masks = {task: np.zeros((2, 3, 4), bool) for task in ("myocardium", "scar")}
    masks["scar"][1, 2, 3] = masks["myocardium"][0, 1, 3] = True
    write_masks(run, study, masks)
    found = run.masks(study)
    assert [*found] == ["myocardium", "scar"]
    assert all(np.array_equal(found[task], masks[task]) for task in masks)


def test_masks_that_are_missing_or_on_another_grid(write_run, write_masks, make_study):
    study = make_study(np.full((2, 3, 4), 3), patient="a", study="01")
    run = write_run("direct", 0, SCAR)
    with pytest.raises(RefusedError, match="a-01-scar.nii.gz: NOT_A_FILE"):
        run.masks(study)
    write_masks(run, study, {"scar": np.zeros((2, 3, 4), bool)})
    assert [*run.masks(study)] == ["scar"]
    other = make_study(np.full((2, 4, 3), 3), patient="a", study="01")
    write_masks(run, other, {"scar": np.zeros((2, 4, 3), bool)})
    with pytest.raises(RefusedError, match=r"expected \(2, 3, 4\).*got \(2, 4, 3\)"):
        run.masks(study)


def test_another_split_has_its_own_folder(write_run):
    run = dataclasses.replace(write_run("jdl", 0, SCAR), split="validation")
    assert run.evaluation == run.folder / "evaluation" / "validation"
