"""Several runs at once, each in a process of its own.

Small networks leave most of a second core idle: two processes of one thread each train
far more in the same time than one process of two threads.
"""

import functools
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from jdl_keras.experiment import PlannedRun
from jdl_keras.run_folder import RunFolder, checksum_file
from tfrecords_tools.errors import run_command
from tfrecords_tools.workers import cores, die_with_parent

LOG = "train.log"
"""What a run printed, in its folder."""

THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
"""Where TensorFlow and PyTorch look for how many threads they may use."""

SECONDS = 1.0
"""Between two looks at how far the runs are."""


def train_in_processes(
    runs: Sequence[PlannedRun], jobs: int, train: Callable[[PlannedRun], None]
) -> dict[PlannedRun, int]:
    """Trains the runs, so many at once, and shows how far they are together.

    A run that takes its localiser from another one starts when that is made.

    Args:
        runs: to train, in this order.
        jobs: processes at once; they share the cores.
        train: what a process does; a function that can be pickled.

    Returns:
        The exit code of every run that failed, in their order.
    """
    waiting, failed = [*runs], {}
    active: dict[PlannedRun, BaseProcess] = {}
    with _View(runs) as view:
        try:
            while waiting or active:
                for run in _ready(waiting, active)[: jobs - len(active)]:
                    waiting.remove(run)
                    active[run] = _start(run, jobs, train)
                wait([process.sentinel for process in active.values()], SECONDS)
                over = {r: p.exitcode for r, p in active.items() if not p.is_alive()}
                for run in over:
                    del active[run]
                    view.finished(run)
                failed |= {run: code for run, code in over.items() if code}
                view.show(active)
        finally:
            _end(active)
    return {run: failed[run] for run in runs if run in failed}


def _ready(
    waiting: Sequence[PlannedRun], active: Sequence[PlannedRun]
) -> list[PlannedRun]:
    """Those that need no localiser which is still to be made."""
    making = {
        run.config.run_dir
        for run in [*waiting, *active]
        if not checksum_file(RunFolder(run.folder).localiser).is_file()
    }
    return [run for run in waiting if run.config.localiser.run not in making]


def _start(
    run: PlannedRun, jobs: int, train: Callable[[PlannedRun], None]
) -> BaseProcess:
    return start_process(run.folder, jobs, functools.partial(train, run))


def start_process(folder: Path, jobs: int, work: Callable[[], None]) -> BaseProcess:
    """Starts work in a process that ends with this one; its exit code is a command's.

    Args:
        folder: gets what the process prints, in `train.log`.
        jobs: processes that share the cores.
        work: can be pickled.
    """
    # A fork would carry TensorFlow's threads, half alive, into the child.
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_work, args=(folder, jobs, work), daemon=True)
    process.start()
    return process


def _work(folder: Path, jobs: int, work: Callable[[], None]) -> None:
    # Else the run of a parent that was killed would keep its folder locked.
    threading.Thread(target=die_with_parent, daemon=True).start()
    share_cores(jobs)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    sys.exit(run_command(work))


def share_cores(jobs: int) -> None:
    """Limits this process, and those that it starts, to its share of the cores."""
    for name in THREADS:
        os.environ.setdefault(name, str(max(1, cores() // jobs)))


def _end(active: dict[PlannedRun, BaseProcess]) -> None:
    for process in active.values():
        process.terminate()
    for process in active.values():
        process.join()


class EpochsBar:
    """A bar over the epochs of several runs, for a terminal.

    A context: however it ends, the terminal gets its cursor back.

    Args:
        noun: what the runs are called.
        runs: how many there are.
        epochs: of all of them together.
        done: those that are finished.
        over: runs that are over.
    """

    def __init__(self, noun: str, runs: int, epochs: int, done: int, over: int = 0):
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn(f"{{task.fields[over]}} of {runs} {noun}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(
            "", total=epochs, completed=done, over=over, now=""
        )

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def time_left(self) -> str:
        """For the end of a line; empty where there is no estimate yet."""
        left = self.bar.tasks[0].time_remaining
        return f", about {left / 60:.0f} min left" if left else ""


class _View(EpochsBar):
    """The bar of a comparison, or a line a run where there is no terminal.

    Args:
        runs: those that are trained.
    """

    def __init__(self, runs: Sequence[PlannedRun]):
        self.runs, self.over = runs, set()
        epochs = sum(run.config.training.epochs for run in runs)
        super().__init__("runs", len(runs), epochs, sum(map(_epochs, runs)))

    def finished(self, run: PlannedRun) -> None:
        """A run is over, well or not."""
        self.over.add(run)
        if self.bar.disable:
            place = f"{len(self.over)} of {len(self.runs)} runs"
            line = f"{place}: {run.folder.name}{self.time_left()}"
            self.bar.console.print(line, soft_wrap=True, highlight=False)

    def show(self, active: Sequence[PlannedRun]) -> None:
        """Counts the epochs that stand in the runs' folders."""
        done = sum(
            run.config.training.epochs if run in self.over else _epochs(run)
            for run in self.runs
        )
        now = ", ".join(
            f"{run.folder.name} {_epochs(run)}/{run.config.training.epochs}"
            for run in active
        )
        self.bar.update(self.task, completed=done, over=len(self.over), now=now)


def _epochs(run: PlannedRun) -> int:
    return finished_epochs(run.folder)


def finished_epochs(folder: Path) -> int:
    """Epochs that the run in a folder has finished."""
    history = RunFolder(folder).history
    return len(history.read_text().splitlines()) - 1 if history.is_file() else 0
