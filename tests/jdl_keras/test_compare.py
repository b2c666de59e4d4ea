"""The real command, with toys for networks: what is trained, kept, written, refused."""

import csv
import itertools
import json
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from jdl_keras.compare import main
from jdl_keras.models.methods import METHODS
from jdl_keras.run_folder import RunFolder
from tfrecords_tools import files
from tfrecords_tools.errors import DIVERGED, DONE, ENVIRONMENT, REFUSED

pytestmark = pytest.mark.slow

ENTRIES, SEEDS, FOLDS = ("two_step", "jdl"), (0, 1), (0, 1)
RUNS = [*itertools.product(ENTRIES, SEEDS, FOLDS)]


@pytest.fixture(scope="module")
def toys(toy_method):
    with pytest.MonkeyPatch.context() as patch:
        for method in METHODS:
            patch.setitem(METHODS, method, toy_method)
        yield


@pytest.fixture(scope="module")
def options(toys, cohort_records):
    return (
        *("--records", str(cohort_records), "--grid.size", "[32, 32]"),
        *("--grid.spacing_mm", "[3.0, 3.0]", "--training.batch_size", "8"),
        *("--training.epochs", "1", "--evaluation.figures", "false"),
        # A point that is specific enough would show no scar of networks this untrained.
        *("--evaluation.choose_operating_point", "false"),
    )


@pytest.fixture(scope="module")
def compared(options, tmp_path_factory):
    """Two methods, two seeds, two folds; half of the patients train the wall only."""
    out = tmp_path_factory.mktemp("compared") / "out"
    command = (
        *options,
        *("--out", str(out), "--methods", f"[{', '.join(ENTRIES)}]"),
        *("--seeds", str([*SEEDS]), "--split.folds", "2", "--grid.centre", "image"),
        *("--split.scar_patients", "2"),
    )
    assert main(command) == DONE
    table = csv.DictReader((out / "comparison.csv").read_text().splitlines())
    return SimpleNamespace(
        out=out,
        command=command,
        rows=[*table],
        json=json.loads((out / "comparison.json").read_text()),
        html=(out / "report.html").read_text(),
    )


def folder_of(compared, entry, seed, fold):
    return RunFolder(compared.out / "runs" / f"{entry}-seed{seed}-fold{fold}")


def test_every_run_has_its_own_folder_and_settings(compared):
    assert len(list((compared.out / "runs").iterdir())) == len(RUNS)
    for entry, seed, fold in RUNS:
        config = folder_of(compared, entry, seed, fold).load_config()
        assert (config.method, config.seed, config.split.fold) == (entry, seed, fold)
        assert (config.split.folds, config.split.scar_patients) == (2, 2)


def test_table_has_a_row_a_patient_method_seed_fold_and_task(compared, cohort):
    keys = ("method", "seed", "fold", "task")
    rows = {}
    for row in compared.rows:
        rows.setdefault(tuple(row[key] for key in keys), []).append(row["patient_key"])
    expected = {
        (entry, str(seed), str(fold), task)
        for entry, seed, fold in RUNS
        for task in ("myocardium", "scar")
    }
    assert set(rows) == expected
    # 12 patients in 2 folds, each once
    assert {len(patients) for patients in rows.values()} == {6}
    assert all(len(set(patients)) == 6 for patients in rows.values())
    tested = [set(rows["jdl", "0", str(fold), "scar"]) for fold in FOLDS]
    assert len(tested[0] | tested[1]) == len(cohort.names)


def test_rows_are_those_of_the_runs(compared):
    for entry, seed, fold in RUNS:
        path = folder_of(compared, entry, seed, fold).evaluation("test")
        for row in csv.DictReader((path / "per_patient.csv").read_text().splitlines()):
            run = {"method": entry, "seed": str(seed), "fold": str(fold)}
            (found,) = [
                r for r in compared.rows if r.items() >= (run | identity(row)).items()
            ]
            for name, value in row.items():
                if name not in identity(row):
                    same = float(found[name] or "nan"), float(value or "nan")
                    np.testing.assert_equal(*same)


def identity(row):
    return {name: row[name] for name in ("patient_key", "task")}


def scar_rows(compared, method, positive=True):
    return [
        row
        for row in compared.rows
        if (row["method"], row["task"]) == (method, "scar")
        and (int(row["tp"]) + int(row["fn"]) > 0) == positive
    ]


def patient_means(rows, name):
    """Patient to the mean over seeds of what is defined."""
    values = {}
    for row in rows:
        if row[name] not in ("", "nan"):
            values.setdefault(row["patient_key"], []).append(float(row[name]))
    return {key: np.mean(of_patient) for key, of_patient in sorted(values.items())}


EXACT = {"rel": 1e-9, "abs": 1e-12}
"""float64 in another order of sums."""


@pytest.mark.parametrize("method", ENTRIES)
def test_every_number_follows_from_the_table(compared, method):
    found = compared.json["methods"][method]["scar"]
    rows = scar_rows(compared, method)
    for measure in ("dice", "precision", "recall", "hd95_mm"):
        values = [*patient_means(rows, measure).values()]
        assert len(values) > 0
        assert found[measure]["patients"] == len(values)
        assert found[measure]["mean"] == pytest.approx(np.mean(values), **EXACT)
        assert found[measure]["median"] == pytest.approx(np.median(values), **EXACT)
        assert found[measure]["sd"] == pytest.approx(np.std(values, ddof=1), **EXACT)
    of_seeds = [
        np.mean([float(row["dice"]) for row in rows if row["seed"] == str(seed)])
        for seed in SEEDS
    ]
    assert found["dice"]["seed_means"] == pytest.approx(of_seeds, **EXACT)
    healthy = scar_rows(compared, method, positive=False)
    # 6 patients with scar and 6 without, in two seeds
    assert (len(rows), len(healthy)) == (12, 12)
    alarms, hits = (
        sum(int(row["tp"]) + int(row["fp"]) > 0 for row in some)
        for some in (healthy, rows)
    )
    assert found["detection"] == {
        **{"tp": hits, "fn": 12 - hits, "fp": alarms, "tn": 12 - alarms}
    }
    millilitres = [*patient_means(healthy, "false_positive_ml").values()]
    assert found["false_positive_ml"]["mean"] == pytest.approx(
        np.mean(millilitres), **EXACT
    )


def test_paired_test_follows_from_the_table(compared):
    jdl, other = (
        patient_means(scar_rows(compared, method), "dice")
        for method in ("jdl", "two_step")
    )
    differences = np.array([jdl[key] - other[key] for key in jdl])
    assert np.count_nonzero(differences) == 6  # no zeros, no rule for them
    found = compared.json["paired_tests"]["dice"]["two_step"]
    assert found["difference"]["mean"] == pytest.approx(differences.mean(), **EXACT)
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert found["wilcoxon_p"] == pytest.approx(expected, **EXACT)
    # One comparison: nothing to correct.
    assert found["holm_p"] == found["wilcoxon_p"]


def test_costs_are_those_of_the_runs(compared):
    for entry in ENTRIES:
        costs = [
            json.loads((folder_of(compared, *run).path / "cost.json").read_text())
            for run in RUNS
            if run[0] == entry
        ]
        found = compared.json["costs"][entry]
        assert found["runs"] == found["timed_runs"] == 4
        assert found["seconds"] == pytest.approx(sum(c["seconds"] for c in costs))
        # Toys: each network 9 x 8 + 9 x 8 x 8 + 4 x 2 x 8 + 9 x 8 x 2 + 2
        assert {c["parameters"] for c in costs} == {2 * (72 + 576 + 64 + 144 + 2)}


def test_report_stands_alone(compared):
    assert compared.html.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?:", compared.html)
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', compared.html)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    for entry in ENTRIES:
        assert entry in compared.html
        mean = compared.json["methods"][entry]["scar"]["dice"]["mean"]
        assert f"{mean:.3f}" in compared.html


def test_report_says_how_it_was_made(compared):
    # As a shell takes it: a list is one argument.
    assert "python -m jdl_keras.compare --records " in compared.html
    assert "&#39;[two_step, jdl]&#39;" in compared.html


def kept(compared):
    return {
        path: path.stat().st_mtime_ns
        for path in (compared.out / "runs").rglob("*")
        if path.is_file()
    }


def test_second_call_trains_nothing(compared, capsys):
    before, written = kept(compared), (compared.out / "comparison.csv").read_bytes()
    started = time.monotonic()
    assert main(compared.command) == DONE
    # Reading and drawing alone; eight runs take ten times as long, whatever the load.
    trained = sum(c["seconds"] for c in compared.json["costs"].values())
    assert time.monotonic() - started < trained
    assert kept(compared) == before
    assert (compared.out / "comparison.csv").read_bytes() == written
    assert "8 runs are finished already" in capsys.readouterr().out


def test_other_setting_in_the_same_folder_is_refused_by_its_key(compared, capsys):
    before = kept(compared)
    assert main([*compared.command, "--loss.dice_weight", "0.5"]) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "ERROR loss.dice_weight: OTHER_RUN: the finished runs have 1.0, now 0.5; "
        "change --out"
    )
    assert kept(compared) == before


def test_folder_in_which_another_process_works_is_left_alone(compared, capsys):
    with files.locked(compared.out):
        assert main(compared.command) == ENVIRONMENT
    (line,) = capsys.readouterr().err.splitlines()
    assert "another process" in line


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("methods", "[jdl, three_step]", "got 'three_step'"),
        ("methods", "jdl", "list"),
        ("variants", "{jdl: {message.hard: true}}", "got 'jdl'"),
        ("variants", "{wide: 4}", "dict"),
        ("candidate", "wide", "expected one of ['direct', 'two_step', "),
        ("seeds", "[0, 0]", "each once"),
    ],
)
def test_bad_option_is_refused_in_one_line(
    options, tmp_path, capsys, option, value, words
):
    out = tmp_path / "out"
    assert main([*options, "--out", str(out), f"--{option}", value]) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ERROR {option}: CONFIG: ")
    assert words in line
    assert not out.exists()


@pytest.mark.parametrize("key", ["method", "seed", "run_dir"])
def test_what_differs_from_run_to_run_is_no_option(options, capsys, key):
    assert main([*options, f"--{key}", "1"]) == REFUSED
    assert f"--{key}" in capsys.readouterr().err


def test_run_that_diverges_does_not_stop_the_others(options, tmp_path, capsys):
    command = (
        *(*options, "--out", str(tmp_path), "--methods", "[jdl]", "--seeds", "[0]"),
        # From the first step on nothing is finite.
        *("--optimizer.learning_rate", "1e38", "--optimizer.clip_norm", "0"),
        *("--variants", '{"calm": {"optimizer.learning_rate": 0.001}}'),
        *("--localiser.steps", "2", "--localiser.size", "[32, 32]"),
        *("--localiser.width", "8"),
    )
    assert main(command) == DIVERGED
    error = capsys.readouterr().err
    folders = [
        RunFolder(tmp_path / "runs" / f"{n}-seed0-fold0") for n in ("jdl", "calm")
    ]
    assert f"ERROR {folders[0].path}: DIVERGED: " in error
    assert "jdl-seed0-fold0; the others are finished" in error.splitlines()[-1]
    assert [(f.path / "cost.json").is_file() for f in folders] == [False, True]
    # One localiser for both.
    one, other = (f.load_localiser().network.get_weights() for f in folders)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert folders[1].load_config().localiser.run == str(folders[0].path)
    assert not (tmp_path / "comparison.csv").exists()


def test_runs_at_once_are_those_of_one_command(cohort_records, tmp_path, capfd):
    command = (
        *("--records", str(cohort_records), "--out", str(tmp_path), "--jobs", "2"),
        *("--methods", "[direct, jdl]", "--seeds", "[0]", "--model.preset", "tiny"),
        *("--grid.size", "[32, 32]", "--grid.spacing_mm", "[4.0, 4.0]"),
        *("--grid.centre", "image", "--training.epochs", "1"),
        *("--evaluation.figures", "false"),
    )
    assert main(command) == DONE
    rows = [*csv.DictReader((tmp_path / "comparison.csv").read_text().splitlines())]
    assert {row["method"] for row in rows} == {"direct", "jdl"}
    for name in ("direct", "jdl"):
        folder = tmp_path / "runs" / f"{name}-seed0-fold0"
        assert json.loads((folder / "cost.json").read_text())["seconds"] > 0
        assert "training, epoch 1/1" in (folder / "train.log").read_text()
    lines = capfd.readouterr().err.splitlines()
    assert sum("of 2 runs: " in line for line in lines) == 2
    # Nothing is left to train: the same command with one job only writes again.
    assert main([*command, "--jobs", "1"]) == DONE


def test_run_that_fails_beside_others_is_named_with_its_log(
    cohort_records, tmp_path, capfd
):
    command = (
        *("--records", str(cohort_records), "--out", str(tmp_path), "--jobs", "2"),
        *("--methods", "[jdl]", "--seeds", "[0, 1]", "--model.preset", "tiny"),
        *("--model.initial_weights", str(tmp_path / "nowhere")),
        *("--grid.size", "[32, 32]", "--grid.centre", "image"),
    )
    assert main(command) == REFUSED
    first, second, last = capfd.readouterr().err.splitlines()[-3:]
    for line in (first, second):
        assert "train.log: exit code 2: ERROR " in line
        assert "nowhere" in line
    assert last.startswith("ERROR jdl-seed0-fold0, jdl-seed1-fold0: RUN_FAILED: ")
