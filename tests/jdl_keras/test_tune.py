"""The real command: killed, with workers, and with toys for networks to its end.

`KILLS=20 python -m pytest tests/jdl_keras/test_tune.py` kills more often.
"""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pretended_trials import SPACE, values_and_scores

from jdl_keras.run_folder import RunFolder
from jdl_keras.tune import main
from jdl_keras.tuning.search import Search, trial_folder
from tfrecords_tools.errors import ENVIRONMENT, REFUSED

pytestmark = pytest.mark.slow
PRETENDED = Path(__file__).with_name("pretended_trials.py")
KILLS = int(os.environ.get("KILLS", "2"))
TRIALS = KILLS + 3


@pytest.fixture(scope="module")
def options(cohort_records):
    """All trials are drawn: this is about processes, not about the oracle."""
    return (
        *("--records", str(cohort_records), "--trials", str(TRIALS)),
        *("--space", json.dumps(SPACE), "--random_trials", str(TRIALS)),
        *("--grid.centre", "image", "--stop_rule", "none"),
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What a search in this process finds."""
    from pretended_trials import search_in, searched

    search = search_in(
        tmp_path_factory.mktemp("expected"), trials=TRIALS, random_trials=TRIALS
    )
    searched(search)
    return values_and_scores(search)


def wait_for(look, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_killed_at_random_it_ends_with_the_same_trials(
    start, run, options, expected, tmp_path
):
    command = (PRETENDED, *options, "--out", tmp_path / "out")
    chance = random.Random(1)
    trials = tmp_path / "out" / "trials"
    for kill in range(KILLS):
        process = start(*command)
        wait_for(lambda n=kill: (trials / f"{n:04d}").exists(), process)
        time.sleep(chance.uniform(0, 1))
        process.kill()
        process.communicate()
    done = run(*command)
    assert done.code == 0, done.err
    assert values_and_scores(Search(out=str(tmp_path / "out"))) == expected
    for name in ("tuning.csv", "best.yaml", "report.html"):
        assert (tmp_path / "out" / name).is_file()
    assert "next: python -m jdl_keras.train --config" in done.out


def children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def test_search_survives_the_loss_of_a_worker(
    start, options, expected, tmp_path, monkeypatch
):
    monkeypatch.setenv("PRETENDED_SECONDS", "2")
    out = tmp_path / "out"
    process = start(PRETENDED, *options, "--out", out, "--workers", "2")

    def both_at_work():
        begun = {path.parent.name for path in out.glob("trials/*/proposal.json")}
        return len(begun) >= 2

    wait_for(both_at_work, process)
    # Its child processes: multiprocessing's tracker, and the two workers.
    workers = [
        pid
        for pid in children(process.pid)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    said, complained = process.communicate(timeout=300)
    assert process.returncode == 0, complained
    assert "worker-0: died with exit code -9; started anew" in complained
    assert values_and_scores(Search(out=str(out))) == expected
    used = {
        pid for path in out.glob("trials/*/runs") for pid in path.read_text().split()
    }
    assert len(used) >= TRIALS  # each in a process of its own
    assert not any(out.glob("workers/*"))


@pytest.fixture(scope="module")
def tuned(options, tmp_path_factory):
    """Two trials of toys, trained and measured, with a localiser for both."""
    import pretended_trials

    from jdl_keras import tune

    out = tmp_path_factory.mktemp("tuned") / "out"
    command = (
        *options,
        *("--trials", "2", "--out", str(out), "--keep", "1"),
        *("--grid.centre", "localiser", "--localiser.steps", "4"),
        *("--localiser.size", "[32, 32]", "--localiser.width", "8"),
        *("--grid.size", "[32, 32]", "--grid.spacing_mm", "[3.0, 3.0]"),
        *("--training.batch_size", "8", "--training.epochs", "2"),
        *("--evaluation.figures", "false"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "train_trial", pretended_trials.train_toys)
        assert main(command) == 0
    return SimpleNamespace(out=out, command=command)


def outcomes(tuned):
    return [
        json.loads((trial_folder(tuned.out, n) / "outcome.json").read_text())
        for n in (0, 1)
    ]


def test_a_trial_is_a_run_that_never_saw_the_test_split(tuned):
    for number, outcome in enumerate(outcomes(tuned)):
        folder = RunFolder(trial_folder(tuned.out, number))
        assert folder.evaluation("validation").is_dir()
        assert not folder.evaluation("test").exists()
        rows = folder.history.read_text().splitlines()
        column = rows[0].split(",").index("val_scar_dice")
        scores = [float(row.split(",")[column]) for row in rows[1:]]
        assert outcome["scar_dice"] == max(scores)
        assert (outcome["state"], outcome["epochs"]) == ("finished", 2)
        summary = json.loads(
            (folder.evaluation("validation") / "summary.json").read_text()
        )
        native = summary["tasks"]["scar"]["dice"]["mean"]
        assert outcome["native_scar_dice"] == native
    assert RunFolder(tuned.out / "localiser").localiser.is_file()


def test_winner_trains_again_to_the_same_score(tuned, toy_method, monkeypatch):
    from jdl_keras import train
    from jdl_keras.models.methods import METHODS

    monkeypatch.setitem(METHODS, "jdl", toy_method)
    assert train.main(["--config", str(tuned.out / "best.yaml")]) == 0
    best = max(range(2), key=lambda n: outcomes(tuned)[n]["scar_dice"])
    trial = RunFolder(trial_folder(tuned.out, best))
    again = RunFolder(tuned.out / "best")
    assert again.history.read_bytes() == trial.history.read_bytes()
    assert again.evaluation("test").is_dir()


def test_another_search_in_the_same_folder_is_refused(tuned, capsys):
    for changes, key in (
        (["--oracle_seed", "1"], "oracle_seed"),
        (["--training.epochs", "3"], "training.epochs"),
    ):
        assert main([*tuned.command, *changes]) == REFUSED
        assert f"ERROR {key}: OTHER_SEARCH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--records", "nowhere"], "ERROR nowhere"),
        (["--space", "{no.such: {low: 0, high: 1}}"], "ERROR space.no.such: CONFIG"),
        (["--run_dir", "x"], "run_dir"),
    ],
)
def test_mistakes_are_told_in_one_line(options, tmp_path, capsys, changes, words):
    assert main([*options, "--out", str(tmp_path / "out"), *changes]) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_variables_of_chief_and_workers_are_checked(options, tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
        assert main([*options, "--out", str(tmp_path / "out")]) == REFUSED
    assert "ERROR KERASTUNER_TUNER_ID: ENVIRONMENT" in capsys.readouterr().err


def test_validation_without_scar_is_refused_before_the_first_trial(
    options, tmp_path, capsys, monkeypatch
):
    from tfrecords_tools.study_set import StudySet

    totals = StudySet.totals

    def without(self, split):
        return totals(self, split) | ({"with_scar": 0} if split == "validation" else {})

    monkeypatch.setattr(StudySet, "totals", without)
    assert main([*options, "--out", str(tmp_path / "out")]) == REFUSED
    assert "validation split has no patient with scar" in capsys.readouterr().err
    assert not (tmp_path / "out" / "trials").exists()


def test_one_search_at_a_time(tuned, capsys):
    from tfrecords_tools.files import locked

    with contextlib.suppress(BlockingIOError), locked(tuned.out):
        assert main(tuned.command) == ENVIRONMENT
    assert "another process works in this folder" in capsys.readouterr().err
