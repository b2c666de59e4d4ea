import json
import math

import pandas as pd
import pytest

from jdl_keras.evaluation.comparison import (
    compare_methods,
    patient_means,
    write_comparison,
)
from jdl_keras.evaluation.finished_runs import results_table
from tfrecords_tools.errors import RefusedError

ROUNDING = 1e-12
"""Relative tolerance where only float rounding differs."""


@pytest.fixture
def comparison(two_methods):
    return compare_methods(results_table(two_methods))


def test_seeds_are_averaged_before_patients(comparison):
    dice = comparison["methods"]["jdl"]["scar"]["dice"]
    # a (0.8 + 0.6) / 2 = 0.7; b (0.6 + 0.4) / 2 = 0.5; c (0 + 0.5) / 2 = 0.25
    assert dice["mean"] == pytest.approx(1.45 / 3, rel=ROUNDING)
    mean = 1.45 / 3
    squares = (0.7 - mean) ** 2 + (0.5 - mean) ** 2 + (0.25 - mean) ** 2
    assert dice["sd"] == pytest.approx(math.sqrt(squares / 2), rel=ROUNDING)
    assert (dice["patients"], dice["undefined"]) == (3, 0)
    # Seeds: (0.8 + 0.6 + 0) / 3 and (0.6 + 0.4 + 0.5) / 3; sd of two is |x - y| / √2
    assert dice["seed_means"] == pytest.approx([1.4 / 3, 0.5], rel=ROUNDING)
    expected = (0.5 - 1.4 / 3) / math.sqrt(2)
    assert dice["sd_over_seeds"] == pytest.approx(expected, rel=1e-10)  # cancels


def test_undefined_values_are_left_out_and_counted(comparison):
    scar = comparison["methods"]["jdl"]["scar"]
    # Seed 0 predicts nothing in c: precision a 0.7, b 0.5, c 0.5 of seed 1 alone
    assert scar["precision"]["mean"] == pytest.approx(1.7 / 3, rel=ROUNDING)
    assert (scar["precision"]["patients"], scar["precision"]["undefined"]) == (3, 1)
    # HD95 a (2 + 4) / 2, b 6, c 5
    assert scar["hd95_mm"]["mean"] == pytest.approx(14 / 3, rel=ROUNDING)
    assert comparison["methods"]["direct"]["scar"]["hd95_mm"]["patients"] == 2


def test_detection_counts_patients_and_seeds(comparison):
    scar = comparison["methods"]["jdl"]["scar"]
    # Seed 0 misses c and has an alarm in e.
    assert scar["detection"] == {"tp": 5, "fp": 1, "fn": 1, "tn": 3}
    assert scar["sensitivity"]["mean"] == pytest.approx(5 / 6, rel=ROUNDING)
    assert scar["specificity"]["mean"] == pytest.approx(3 / 4, rel=ROUNDING)
    # d 0; e (5 + 0) / 2 voxels x 0.05 ml = 0.125 ml
    assert scar["false_positive_ml"]["mean"] == pytest.approx(0.0625, rel=ROUNDING)
    assert scar["false_positive_ml"]["patients"] == 2


def test_a_task_that_a_method_lacks_is_absent(comparison):
    assert [*comparison["methods"]["direct"]] == ["scar"]
    wall = comparison["methods"]["jdl"]["myocardium"]["dice"]
    # 180 / 200 in all five patients
    assert (wall["mean"], wall["sd"], wall["patients"]) == (0.9, 0, 5)


def test_paired_dice_by_hand(comparison):
    (test,) = comparison["paired_tests"]["dice"].values()
    # 0.7 - 0.4, 0.5 - 0.2, 0.25 - 0.5
    assert test["difference"]["mean"] == pytest.approx(0.35 / 3, rel=ROUNDING)
    # Ranks 2.5, 2.5 and 1: W+ = 5, W- = 1, reached by {} and {1} of 8: two-sided 4 / 8
    assert test["wilcoxon_p"] == pytest.approx(0.5, rel=ROUNDING)
    assert test["holm_p"] == pytest.approx(0.5, rel=ROUNDING)
    assert test["rank_biserial"] == pytest.approx(4 / 6, rel=ROUNDING)
    assert (test["zero_differences"], test["left_out"]) == (0, 0)


def test_paired_distances_leave_out_what_one_method_missed(comparison):
    test = comparison["paired_tests"]["hd95_mm"]["direct"]
    # a 3 - 5, b 6 - 9; direct has no distance in c
    assert test["difference"]["mean"] == pytest.approx(-2.5, rel=ROUNDING)
    assert (test["difference"]["patients"], test["left_out"]) == (2, 1)


def test_holm_is_over_the_baselines(write_run):
    # Differences to jdl: 6 of 6 better, p = 2/64 each; corrected 2/64 x 2
    patients = [f"p{i}" for i in range(6)]
    values = {"jdl": 9, "direct": 5, "two_step": 3}
    runs = [
        write_run(name, 0, {k: (tp, i, 10 - tp) for i, k in enumerate(patients)})
        for name, tp in values.items()
    ]
    tests = compare_methods(results_table(runs))["paired_tests"]["recall"]
    assert [*tests] == ["direct", "two_step"]
    for test in tests.values():
        assert test["wilcoxon_p"] == pytest.approx(2 / 64, rel=ROUNDING)
        assert test["holm_p"] == pytest.approx(4 / 64, rel=ROUNDING)


def test_folds_are_put_together(write_run):
    runs = [
        write_run("jdl", 0, {"a": (8, 2, 2)}),
        write_run("jdl", 0, {"b": (6, 4, 4)}, 1),
    ]
    found = compare_methods(results_table(runs))
    assert (found["folds"], found["patients"]) == ([0, 1], 2)
    assert found["methods"]["jdl"]["scar"]["dice"]["mean"] == pytest.approx(0.7)
    assert found["paired_tests"]["dice"] == {}


def test_patients_stand_beside_each_other(two_methods):
    means = patient_means(results_table(two_methods), "dice")
    assert [*means.columns] == ["direct", "jdl"]
    assert [*means.index] == ["a", "b", "c"]
    assert [*means["direct"]] == [0.4, 0.2, 0.5]


def test_without_scar_there_is_nothing_to_test(write_run):
    runs = [write_run(name, 0, {"a": (0, 1, 0)}) for name in ("jdl", "direct")]
    found = compare_methods(results_table(runs))
    assert found["patients_with_scar"] == 0
    assert found["methods"]["jdl"]["scar"]["dice"]["mean"] is None
    assert found["paired_tests"]["dice"]["direct"]["wilcoxon_p"] is None
    json.dumps(found, allow_nan=False)


def test_an_unknown_candidate_is_refused(two_methods):
    with pytest.raises(RefusedError, match="expected one of .*direct.*jdl"):
        compare_methods(results_table(two_methods), candidate="two_step")


def test_files_of_a_comparison(two_methods, tmp_path):
    table, comparison = write_comparison(tmp_path / "out", two_methods)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["comparison.csv", "comparison.json"]
    text = (tmp_path / "out" / "comparison.json").read_text()
    assert json.loads(text) == comparison
    again = pd.read_csv(tmp_path / "out" / "comparison.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False, check_exact=True)


def test_costs_are_what_the_caller_measured(two_methods, tmp_path):
    _, comparison = write_comparison(tmp_path, two_methods)
    unknown = dict.fromkeys(("seconds", "seconds_per_run", "parameters"))
    assert comparison["costs"] == {
        "direct": {"runs": 2, "timed_runs": 0, **unknown},
        "jdl": {
            "runs": 2,
            "timed_runs": 2,
            "seconds": 60.0,
            "seconds_per_run": 30.0,
            "parameters": 2000,
        },
    }


def test_the_same_results_give_the_same_bytes(two_methods, tmp_path):
    written = []
    for name in ("one", "two"):
        write_comparison(tmp_path / name, two_methods)
        written.append((tmp_path / name / "comparison.json").read_bytes())
    assert written[0] == written[1]
