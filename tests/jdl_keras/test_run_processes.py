"""Runs at once: which start when, what becomes of those that fail, who is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pretended_runs import (
    fail_by_name,
    planned,
    sleep,
    sleep_then_make_localiser,
    times,
)

from jdl_keras.run_processes import LOG, train_in_processes
from tfrecords_tools.errors import REFUSED

pytestmark = pytest.mark.slow


def test_so_many_at_once_and_in_order(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    runs = planned(tmp_path)
    assert train_in_processes(runs, 2, sleep) == {}
    spans = [times(run) for run in runs]
    assert [start for start, _ in spans[::2]] == sorted(s for s, _ in spans[::2])
    for start, _ in spans:
        assert sum(a <= start < b for a, b in spans) <= 2
    threads = max(1, os.cpu_count() // 2)
    assert (runs[0].folder / LOG).read_text() == f"slept with {threads}\n"


def test_runs_wait_for_the_localiser_that_they_share(tmp_path):
    maker, *others = runs = planned(tmp_path, centre="localiser")
    assert train_in_processes(runs, 4, sleep_then_make_localiser) == {}
    assert min(times(run)[0] for run in others) > times(maker)[1]


def test_failures_are_told_apart_and_stop_no_other(tmp_path, capfd):
    runs = planned(tmp_path)
    failed = train_in_processes(runs, 2, fail_by_name)
    in_order = [(runs[1], REFUSED), (runs[2], -signal.SIGKILL)]
    assert [*failed.items()] == in_order
    assert (runs[1].folder / LOG).read_text() == "ERROR records: SPLIT: too few\n"
    assert (runs[3].folder / "times").is_file()
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1].startswith("4 of 4 runs: entry")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_run_outlives_its_parent(tmp_path, number):
    code = (
        "import sys; from pathlib import Path; "
        "from pretended_runs import *; from jdl_keras.run_processes import *; "
        "from tfrecords_tools.errors import run_command; "
        f"run_command(lambda: train_in_processes(planned(Path({str(tmp_path)!r})), 2, "
        "never_end))"
    )
    here = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | here, stderr=subprocess.DEVNULL
    )
    pids = wait_for(lambda: [int(p.name[4:]) for p in tmp_path.rglob("pid-*")], 2)
    parent.send_signal(number)
    parent.wait(30)
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(look, count):
    deadline = time.monotonic() + 60
    while len(found := look()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
