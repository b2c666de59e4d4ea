"""Two processes that train one run end where one process ends, killed or not."""

import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jdl_keras.run_folder import RunFolder
from tfrecords_tools.errors import ENVIRONMENT

pytestmark = pytest.mark.slow
TOY = Path(__file__).parents[1] / "toy.py"
EPOCHS = 14
SECONDS = 300
"""For anything that waits here; an idle machine needs a tenth of it."""


@pytest.fixture(scope="module")
def options(cohort_records):
    # 18 slices, so batches of 8, 8 and 2. The toy's batch statistics and the Dice of a
    # batch need all of its samples, wherever they are.
    return (
        *("--records", cohort_records, "--grid.size", "[32, 32]"),
        *("--grid.spacing_mm", "[3.0, 3.0]", "--training.batch_size", "8"),
        *("--training.epochs", EPOCHS, "--evaluation.figures", "false"),
        *("--localiser.steps", "4", "--localiser.size", "[32, 32]"),
        *("--localiser.width", "8", "--optimizer.learning_rate", "2e-4"),
    )


@pytest.fixture(scope="module")
def one_process(run, options, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("one") / "run")
    done = run(TOY, *options, "--run_dir", folder.path)
    assert done.code == 0, done.err
    return folder


def free_ports(count):
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(count)
        ]
        return [server.getsockname()[1] for server in servers]


class TwoWorkers:
    """The same command for both of them, on the loopback address."""

    def __init__(self, start, command, folder):
        self.start, self.command, self.folder = start, command, folder
        self.workers = [f"127.0.0.1:{port}" for port in free_ports(2)]

    def launch(self, monkeypatch, interrupt=lambda workers: None):
        """Both workers, from their start to their end."""
        cluster, processes = {"worker": self.workers}, []
        for index in range(2):
            task = {"type": "worker", "index": index}
            content = json.dumps({"cluster": cluster, "task": task})
            monkeypatch.setenv("TF_CONFIG", content)
            processes.append(self.start(*self.command))
        monkeypatch.delenv("TF_CONFIG")
        try:
            interrupt(processes)
            said = [process.communicate(timeout=SECONDS) for process in processes]
        finally:
            for process in processes:
                process.kill()
        return [
            SimpleNamespace(code=process.returncode, out=out, err=err)
            for process, (out, err) in zip(processes, said, strict=True)
        ]

    def kill_after_an_epoch(self, *victims):
        """Kills workers as soon as another checkpoint is there."""
        before = {*self.folder.checkpoints.glob("epoch-*")}

        def kill(processes):
            end = time.monotonic() + SECONDS
            while not {*self.folder.checkpoints.glob("epoch-*")} - before:
                assert time.monotonic() < end
                for process in processes:
                    assert process.poll() is None, process.communicate()[1]
                time.sleep(0.001)
            for victim in victims:
                os.kill(processes[victim].pid, signal.SIGKILL)

        return kill


@pytest.fixture(scope="module")
def two_processes(start, options, tmp_path_factory):
    """One worker killed, then both, then the same command to its end."""
    path = tmp_path_factory.mktemp("two") / "run"
    folder = RunFolder(path)
    two = TwoWorkers(start, (TOY, *options, "--run_dir", path), folder)
    with pytest.MonkeyPatch.context() as patch:
        one_lost = two.launch(patch, two.kill_after_an_epoch(1))
        both_killed = two.launch(patch, two.kill_after_an_epoch(0, 1))
        left = [path.name for path in folder.checkpoints.glob("epoch-*")]
        end = two.launch(patch)
    return SimpleNamespace(
        folder=folder,
        workers=two.workers,
        one_lost=one_lost,
        both_killed=both_killed,
        left=left,
        end=end,
    )


def test_lost_worker_is_named_in_one_line(two_processes):
    chief, lost = two_processes.one_lost
    assert lost.code == -signal.SIGKILL
    assert chief.code == ENVIRONMENT, chief.err
    assert "Traceback" not in chief.err
    assert chief.err.splitlines()[-1] == (
        f"ERROR worker 1 ({two_processes.workers[1]}): ENVIRONMENT: lost; the run is "
        "kept up to its last checkpoint; give the same command again to all workers"
    )


def test_both_were_killed_on_the_way(two_processes):
    assert [one.code for one in two_processes.both_killed] == [-signal.SIGKILL] * 2
    assert max(two_processes.left) < f"epoch-{EPOCHS:05}"


def test_same_command_ends_the_run(two_processes):
    chief, other = two_processes.end
    assert (chief.code, other.code) == (0, 0), chief.err + other.err
    # One of them measures, keeps and shows the run.
    assert "test: 3 patients, 9 slices" in chief.out
    assert other.out == "worker 1: done; the chief has measured and keeps the run\n"
    assert "epoch" not in other.err
    assert "Traceback" not in chief.err + other.err


def last_arrays(folder):
    name = f"epoch-{EPOCHS:05}/variables.npz"
    with np.load(folder.checkpoints / name) as arrays:
        return {key: arrays[key] for key in arrays.files}


def test_weights_are_those_of_one_process(one_process, two_processes):
    one, two = (
        last_arrays(o.folder)
        for o in (SimpleNamespace(folder=one_process), two_processes)
    )
    assert one.keys() == two.keys()
    first = np.load(one_process.checkpoints / f"epoch-{EPOCHS - 1:05}/variables.npz")
    moved = max(np.abs(one[key] - first[key]).max() for key in one)
    assert moved > 1e-4
    for key, expected in one.items():
        # Sums of float32 in another order, in 42 steps.
        np.testing.assert_allclose(two[key], expected, rtol=0, atol=1e-5)


def test_history_is_that_of_one_process(one_process, two_processes):
    tables = [
        np.genfromtxt(folder.history, delimiter=",", names=True)
        for folder in (one_process, two_processes.folder)
    ]
    assert [len(table) for table in tables] == [EPOCHS] * 2
    for name in tables[0].dtype.names:
        one, two = (table[name] for table in tables)
        # A Dice moves by a pixel that is on the threshold in one of them only.
        tolerance = 2e-3 if name.endswith("dice") else 1e-4
        np.testing.assert_allclose(two, one, rtol=0, atol=tolerance, err_msg=name)
