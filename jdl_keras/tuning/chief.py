"""Chief and workers: KerasTuner's, with an end in every case.

KerasTuner's chief answers workers over gRPC and waits until each of them took leave,
for ever if one is dead. Here its server runs in a thread; beside it the chief watches
the workers' signs of life, which lie in the folder of the search that all of them see,
and gives the trial of a silent worker to another one.
"""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from socket import create_server

from keras_tuner.engine.trial import TrialStatus

from jdl_keras.tuning.oracle import FolderMemory
from jdl_keras.tuning.tuner import SECONDS, SearchTuner
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import safe_name

ID, ADDRESS, PORT = (
    *("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP"),
    "KERASTUNER_ORACLE_PORT",
)
"""KerasTuner's variables: who a process is, and where the chief listens."""

BEAT_SECONDS = 2.0
LEAVE_SECONDS = 10.0
"""For workers to hear that the search is over."""

RESTARTS = 3
"""Of a worker on this machine that dies."""


def role() -> str:
    """`alone`, `chief` or `worker`, by KerasTuner's variables.

    Raises:
        RefusedError: `ENVIRONMENT` if only some of them are set.
    """
    given = {name: os.environ.get(name) for name in (ID, ADDRESS, PORT)}
    if not given[ADDRESS] and not given[PORT]:
        return "alone"
    missing = [name for name, value in given.items() if not value]
    if missing:
        reason = f"is not set; chief and workers need {', '.join(given)}"
        raise RefusedError(missing[0], "ENVIRONMENT", reason)
    if not str(given[PORT]).isdigit() or not 0 < int(str(given[PORT])) < 65536:
        raise RefusedError(PORT, "ENVIRONMENT", f"no port: {given[PORT]}")
    try:
        safe_name(str(given[ID]))
    except ValueError as error:
        raise RefusedError(ID, "ENVIRONMENT", str(error)) from None
    return "chief" if "chief" in str(given[ID]) else "worker"


def be_local_chief() -> None:
    """Makes this process the chief of workers on this machine."""
    with create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    os.environ |= {ID: "chief", ADDRESS: "127.0.0.1", PORT: str(port)}


def _beats(out: Path) -> Path:
    return out / "workers"


@contextmanager
def signs_of_life(out: Path):  # noqa: ANN201
    """Shows that this worker lives, for as long as the context lasts."""
    path = _beats(out) / os.environ[ID]
    path.parent.mkdir(parents=True, exist_ok=True)
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            path.touch()
            over.wait(BEAT_SECONDS)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        path.unlink(missing_ok=True)


class LocalWorkers:
    """Workers on this machine, started anew when they die.

    Args:
        count: of workers.
        work: what each of them does; can be pickled.
    """

    def __init__(self, count: int, work: Callable[[], int]):
        self.work = work
        self.restarts = {f"worker-{n}": RESTARTS for n in range(count)}
        self.processes = {name: self._start(name) for name in self.restarts}

    def _start(self, name: str) -> BaseProcess:
        # Not a daemon: it starts a process for each of its trials.
        target = _as_worker
        process = get_context("spawn").Process(target=target, args=(name, self.work))
        process.start()
        return process

    def look(self) -> None:
        """Starts those anew that died.

        Raises:
            RefusedError: `WORKERS` if none is left.
        """
        for name, process in self.processes.items():
            if process.is_alive() or not process.exitcode or not self.restarts[name]:
                continue
            self.restarts[name] -= 1
            line = (
                f"WARNING {name}: died with exit code {process.exitcode}; started anew"
            )
            print(line, file=sys.stderr)
            self.processes[name] = self._start(name)
        if not any(process.is_alive() for process in self.processes.values()):
            reason = "all of them died again and again, see above"
            raise RefusedError("workers", "WORKERS", reason)

    def end(self, seconds: float) -> None:
        """Waits so long for each of them, then ends it."""
        deadline = time.monotonic() + seconds
        for process in self.processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.terminate()
        for process in self.processes.values():
            process.join(LEAVE_SECONDS)
            process.kill()
            process.join()


def _as_worker(name: str, work: Callable[[], int]) -> None:
    from tfrecords_tools.workers import die_with_parent

    threading.Thread(target=die_with_parent, daemon=True).start()
    os.environ[ID] = name
    sys.exit(work())


def lead(
    tuner: SearchTuner,
    look: Callable[[], None],
    workers: LocalWorkers | None,
    lost_after_seconds: float,
) -> None:
    """Is the chief until the search is over.

    Args:
        tuner: whose oracle is asked by the workers.
        look: called again and again, to show how far the search is.
        workers: those on this machine, or none.
        lost_after_seconds: see `Search`.

    Raises:
        RefusedError: `WORKERS` if none is left, or none comes.
        OSError: if a trial cannot be kept.
    """
    oracle: FolderMemory = tuner.oracle
    # KerasTuner's server has no end of its own; the process's end is its.
    server = threading.Thread(target=tuner.search, daemon=True)
    server.start()
    watch = _Watch(oracle, lost_after_seconds)
    while not oracle.over:
        if oracle.fault:
            raise oracle.fault
        if not server.is_alive() and not oracle.over:
            address = f"{os.environ[ADDRESS]}:{os.environ[PORT]}"
            raise OSError(errno.EADDRINUSE, "cannot listen here", address)
        if workers:
            workers.look()
        watch.look()
        look()
        time.sleep(SECONDS)
    deadline = time.monotonic() + LEAVE_SECONDS
    while oracle.tuner_ids and time.monotonic() < deadline:
        time.sleep(SECONDS)


class _Watch:
    """Takes trials from workers that are silent; by this machine's clock only."""

    def __init__(self, oracle: FolderMemory, lost_after_seconds: float):
        self.oracle, self.lost_after = oracle, lost_after_seconds
        self.last_beats: dict[str, tuple[int, float]] = {}
        self.heard = time.monotonic()

    def look(self) -> None:
        now = time.monotonic()
        for path in _beats(self.oracle.out).glob("*"):
            try:
                beat = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
            if self.last_beats.get(path.name, (0, 0.0))[0] != beat:
                self.last_beats[path.name] = (beat, now)
                self.heard = now
        for tuner_id, trial in dict(self.oracle.ongoing_trials).items():
            _, last = self.last_beats.setdefault(tuner_id, (0, now))
            if now - last > self.lost_after:
                self._lose(tuner_id, trial)
        if now - self.heard > 10 * self.lost_after:
            reason = (
                f"none was heard of for {10 * self.lost_after:.0f} s; start them with "
                f"the same {ADDRESS} and {PORT}, then the same command continues"
            )
            raise RefusedError("workers", "WORKERS", reason)

    def _lose(self, tuner_id: str, trial) -> None:  # noqa: ANN001
        line = f"WARNING {tuner_id}: silent for {self.lost_after:.0f} s"
        print(f"{line}; trial {trial.trial_id} goes to another one", file=sys.stderr)
        del self.last_beats[tuner_id]
        self.oracle.tuner_ids.discard(tuner_id)
        trial.status = TrialStatus.INVALID
        self.oracle.end_trial(trial)
