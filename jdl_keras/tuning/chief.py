"""The chief of a search: KerasTuner's, with an end in every case.

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

from keras_tuner.engine.trial import Trial, TrialStatus

from jdl_keras.tuning.oracle import FolderMemory
from jdl_keras.tuning.tuner import SECONDS, SearchTuner
from jdl_keras.tuning.workers import (
    ADDRESS,
    LEAVE_SECONDS,
    PORT,
    LocalWorkers,
    beats,
)
from tfrecords_tools.errors import RefusedError


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
        for path in beats(self.oracle.out).glob("*"):
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

    def _lose(self, tuner_id: str, trial: Trial) -> None:
        line = f"WARNING {tuner_id}: silent for {self.lost_after:.0f} s"
        print(f"{line}; trial {trial.trial_id} goes to another one", file=sys.stderr)
        del self.last_beats[tuner_id]
        self.oracle.tuner_ids.discard(tuner_id)
        trial.status = TrialStatus.INVALID
        self.oracle.end_trial(trial)
