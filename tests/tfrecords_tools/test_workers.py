"""Processes that work, die, and leave no one behind."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfrecords_tools.workers import in_processes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

HELPER = '''
"""Work that a new process can import."""

import dataclasses
import os
import signal
import sys
import time


@dataclasses.dataclass(frozen=True)
class Number:
    value: int
    files: tuple = ()

    @property
    def key(self):
        return f"number {self.value}"


def square(number):
    return number.value**2


def square_or_die(number):
    if number.value in (3, 4):
        os.kill(os.getpid(), signal.SIGKILL)
    return number.value**2


def die_in_company(number):
    """As under a memory that is enough for one, and not for two."""
    if number.value == 5 and not os.path.exists(sys.path[0] + "/died"):
        open(sys.path[0] + "/died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return number.value**2


def loaded(number):
    return sorted(m for m in ("tensorflow", "keras", "pandas") if m in sys.modules)


def fail(number):
    raise OSError(28, "No space left on device", "records")


def sleep_and_tell(number):
    print(os.getpid(), flush=True)
    time.sleep(60)


if __name__ == "__main__":
    from tfrecords_tools.workers import in_processes

    list(in_processes(sleep_and_tell, [Number(n) for n in range(4)], 2))
'''


@pytest.fixture
def helper(tmp_path, monkeypatch):
    (tmp_path / "worker_helper.py").write_text(HELPER)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("worker_helper")
    sys.modules.pop("worker_helper")


def outcomes(work, helper, count=12, workers=2):
    items = [helper.Number(n) for n in range(count)]
    return {n.value: outcome for n, outcome in in_processes(work, items, workers)}


def test_one_worker_is_this_process(helper):
    assert outcomes(lambda n: n.value + 1, helper, 3, workers=1) == {0: 1, 1: 2, 2: 3}


def test_no_items():
    assert list(in_processes(print, [], 4)) == []


def test_all_is_done_in_other_processes(helper):
    assert outcomes(helper.square, helper) == {n: n * n for n in range(12)}


def test_workers_load_nothing_heavy(helper, make_study):
    assert outcomes(helper.loaded, helper, 2) == {0: [], 1: []}


def test_error_of_the_system_ends_all(helper):
    with pytest.raises(OSError, match="No space left") as error:
        outcomes(helper.fail, helper)
    assert error.value.filename == "records"


def test_study_that_kills_its_worker_costs_only_itself(helper):
    found = outcomes(helper.square_or_die, helper)
    for n in (3, 4):
        assert str(found.pop(n)).startswith(f"ERROR number {n}: KILLED: ")
    assert found == {n: n * n for n in range(12) if n not in (3, 4)}


def test_study_that_can_be_read_alone_is_read(helper):
    assert outcomes(helper.die_in_company, helper) == {n: n * n for n in range(12)}


def test_killed_parent_leaves_no_worker(helper, tmp_path):
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    process = subprocess.Popen(
        [sys.executable, tmp_path / "worker_helper.py"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    workers = [int(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


def is_alive(number):
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
