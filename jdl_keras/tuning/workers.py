"""Who a process is in a search, and the workers of this machine.

Nothing here imports Keras: a worker loads it by itself, quietly.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from socket import create_server

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import safe_name
from tfrecords_tools.workers import die_with_parent

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


def beats(out: Path) -> Path:
    """Folder of the workers' signs of life."""
    return out / "workers"


@contextmanager
def signs_of_life(out: Path) -> Iterator[None]:
    """Shows that this worker lives, for as long as the context lasts."""
    path = beats(out) / os.environ[ID]
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
        processes = self.processes.values()
        if not any(one.is_alive() or one.exitcode == 0 for one in processes):
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
    threading.Thread(target=die_with_parent, daemon=True).start()
    os.environ[ID] = name
    sys.exit(work())
