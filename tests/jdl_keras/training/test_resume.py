"""An interrupted run ends with the same bits as one that was left alone.

The toy network has dropout and batch statistics; augmentation, patience and the cosine
schedule are on. `KILLS=10 python -m pytest tests/jdl_keras/training/test_resume.py`
kills more often.
"""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jdl_keras.models.methods import METHODS
from jdl_keras.run_folder import RunFolder
from jdl_keras.train import main
from tfrecords_tools.errors import ENVIRONMENT

pytestmark = pytest.mark.slow
TOY = Path(__file__).parents[1] / "toy.py"
KILLS = int(os.environ.get("KILLS", "3"))
EPOCHS = 4 * KILLS + 4
"""Enough to kill in: half of the kills leave a few epochs behind them."""


@pytest.fixture(scope="module")
def options(cohort_records):
    return (
        *("--records", str(cohort_records), "--grid.size", "[32, 32]"),
        *("--grid.spacing_mm", "[3.0, 3.0]", "--training.batch_size", "4"),
        *("--training.epochs", str(EPOCHS), "--training.patience", str(EPOCHS - 2)),
        *("--model.dropout", "0.2", "--evaluation.figures", "false"),
        *("--grid.centre", "image"),
    )


@pytest.fixture(scope="module")
def untouched(run, options, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("untouched") / "run")
    done = run(TOY, *options, "--run_dir", folder.path)
    assert done.code == 0, done.err
    return folder


class Interrupter:
    """Starts one command and interrupts it at chosen moments."""

    def __init__(self, start, folder):
        self.start, self.checkpoints = start, folder.checkpoints
        self.random = random.Random(7)

    def interrupt(self, command, wait, signal_number=signal.SIGKILL):
        left_over = self.unfinished()
        process = self.start(*command)
        wait(process)
        process.send_signal(signal_number)
        out, err = process.communicate()
        in_write = bool(self.unfinished() - left_over)
        return SimpleNamespace(code=process.returncode, err=err, in_write=in_write)

    def unfinished(self):
        """Checkpoints that are being written, or were when a kill came."""
        found = set()
        for path in self.checkpoints.glob(".tmp-*"):
            with contextlib.suppress(FileNotFoundError):
                found.add((path.name, path.stat().st_ctime_ns))
        return found

    def wait_for_new(self, process, listed):
        """Polls often: a checkpoint is written in milliseconds."""
        before = listed()
        while not listed() - before:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.0005)

    def after_an_epoch(self, process):
        self.wait_for_new(process, lambda: set(self.checkpoints.glob("epoch-*")))

    def at_random(self, process):
        self.after_an_epoch(process)
        time.sleep(self.random.uniform(0, 0.5))

    def inside_a_write(self, process):
        self.wait_for_new(process, self.unfinished)
        time.sleep(self.random.uniform(0, 0.005))


def assert_same_checkpoints(one, other, names):
    for folder in (one, other):
        assert sorted(path.name for path in folder.glob("epoch-*")) == names
    for name in names:
        arrays = [np.load(f / name / "variables.npz") for f in (one, other)]
        assert arrays[0].files == arrays[1].files
        for key in arrays[0].files:
            assert arrays[0][key].tobytes() == arrays[1][key].tobytes()
        states = [
            json.loads((f / name / "state.json").read_text()) for f in (one, other)
        ]
        assert states[0] == states[1]


@pytest.fixture(scope="module")
def interrupted(start, run, options, tmp_path_factory):
    """SIGTERM once, then KILLS times SIGKILL, then the same command to its end."""
    folder = RunFolder(tmp_path_factory.mktemp("interrupted") / "run")
    command = (TOY, *options, "--run_dir", folder.path)
    interrupter = Interrupter(start, folder)
    result = SimpleNamespace(folder=folder)

    def second_process(process):
        interrupter.after_an_epoch(process)
        process.send_signal(signal.SIGSTOP)  # so that it cannot end meanwhile
        result.second_code = main([*options, "--run_dir", str(folder.path)])
        process.send_signal(signal.SIGCONT)

    result.terminated = interrupter.interrupt(command, second_process, signal.SIGTERM)
    moments = (interrupter.inside_a_write, interrupter.at_random)
    result.killed = [
        interrupter.interrupt(command, moments[kill % 2]) for kill in range(KILLS)
    ]
    result.end = run(*command)
    return result


def test_one_process_at_a_time(interrupted):
    assert interrupted.second_code == ENVIRONMENT


def test_sigterm_says_how_to_go_on(interrupted):
    assert interrupted.terminated.code == 128 + signal.SIGTERM
    last_line = interrupted.terminated.err.splitlines()[-1]
    assert last_line == "interrupted by SIGTERM; the same command continues"
    assert "Traceback" not in interrupted.terminated.err


def test_kills_came_before_the_end_and_inside_writes(interrupted):
    assert [kill.code for kill in interrupted.killed] == [-signal.SIGKILL] * KILLS
    # Every second kill aims at a write; one that comes too late is a random one.
    assert sum(kill.in_write for kill in interrupted.killed) >= KILLS // 3
    assert interrupted.end.code == 0, interrupted.end.err


def test_every_bit_is_that_of_the_untouched_run(untouched, interrupted):
    names = [f"epoch-{EPOCHS - 1:05}", f"epoch-{EPOCHS:05}"]
    assert_same_checkpoints(
        untouched.checkpoints, interrupted.folder.checkpoints, names
    )


def test_history_is_that_of_the_untouched_run(untouched, interrupted):
    history = untouched.history.read_bytes()
    assert history.count(b"\n") == EPOCHS + 1  # a header, a line an epoch
    assert history == interrupted.folder.history.read_bytes()


def test_best_network_is_that_of_the_untouched_run(untouched, interrupted):
    summaries = [
        (folder.evaluation("test") / "summary.json").read_bytes()
        for folder in (untouched, interrupted.folder)
    ]
    assert summaries[0] == summaries[1]


def test_kills_around_the_localiser_leave_no_trace(
    start, options, tmp_path, monkeypatch, toy_method
):
    monkeypatch.setitem(METHODS, "jdl", toy_method)
    folders = [RunFolder(tmp_path / name) for name in ("untouched", "killed")]
    commands = [
        (
            *(*options, "--run_dir", str(folder.path), "--grid.centre", "localiser"),
            *("--localiser.steps", "4", "--localiser.size", "[32, 32]"),
            *("--localiser.width", "8", "--training.epochs", "2"),
        )
        for folder in folders
    ]
    assert main(commands[0]) == 0

    killed = folders[1]
    interrupter = Interrupter(start, killed)

    def before_an_epoch(process):
        # The localiser is there, and what it is part of is not.
        interrupter.wait_for_new(
            process, lambda: {*killed.path.glob("localiser.keras")}
        )
        assert not killed.checkpoints.exists()

    for moment in (before_an_epoch, interrupter.after_an_epoch):
        kill = interrupter.interrupt((TOY, *commands[1]), moment)
        assert kill.code == -signal.SIGKILL
    written = killed.localiser.stat().st_mtime_ns
    assert main(commands[1]) == 0
    assert killed.localiser.stat().st_mtime_ns == written  # it was not made again
    weights = [f.load_localiser().network.get_weights() for f in folders]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    names = ["epoch-00001", "epoch-00002"]
    assert_same_checkpoints(*(folder.checkpoints for folder in folders), names)
    for name in ("summary.json", "localiser.json", "per_slice.csv"):
        one, other = ((f.evaluation("test") / name).read_bytes() for f in folders)
        assert one == other
