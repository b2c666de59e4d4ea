"""Searches for good settings: `python -m jdl_keras.tune`."""

import functools
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrecords_tools.errors import RefusedError, run_command

if TYPE_CHECKING:
    from jdl_keras.config import Config
    from jdl_keras.tuning.progress import SearchView
    from jdl_keras.tuning.search import Search
    from jdl_keras.tuning.tuner import SearchTuner, Train

PROGRAM = "jdl_keras.tune"
DESCRIPTION = "Searches for the settings with the best scar Dice on validation."


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return run_command(lambda: _tune([*(sys.argv[1:] if argv is None else argv)]))


def _tune(argv: list[str]) -> None:
    from jdl_keras.backend import check_training, choose_backend, load_backend
    from jdl_keras.train import with_records
    from jdl_keras.tuning.search import check_search

    search, base, backend = _parse(argv)
    check_search(search, base)
    choose_backend(backend)
    check_training(base)
    base = with_records(base)
    load_backend()

    from jdl_keras.tuning.workers import be_local_chief, role

    own_role = role()
    if own_role == "worker":
        _work(search, base, train_trial)
        return
    if own_role == "alone" and search.workers > 1:
        be_local_chief()
        _lead(search, base, local=True)
    elif own_role == "alone":
        _search_alone(search, base)
    else:
        _lead(search, base, local=False)


def _parse(argv: Sequence[str]) -> "tuple[Search, Config, str | None]":
    from jdl_keras.backend import add_backend_option
    from jdl_keras.config import Config
    from jdl_keras.config_file import config_of
    from jdl_keras.tuning.search import Search
    from tfrecords_tools.command_line import make_parser, parse, settings_of

    parser = make_parser(PROGRAM, DESCRIPTION, config=True)
    parser.add_class_arguments(Search, None)
    parser.add_class_arguments(Config, None, skip={"run_dir"})
    add_backend_option(parser)
    arguments = parse(parser, argv)
    found = settings_of(Search, arguments)
    return found, config_of(arguments), arguments.get("backend")


def _search_alone(search: "Search", base: "Config") -> None:
    """Trial after trial, each in a process of its own."""
    from jdl_keras.tuning.preparation import prepare
    from tfrecords_tools.files import locked

    out = Path(search.out)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        prepare(search, base, train_localiser)
        with _view(search, base) as view:
            tuner = _tuner(search, base, train_trial)
            tuner.look = functools.partial(_look, view, search, base)
            tuner.oracle.reload()
            tuner.search()
        _finish(search, base, tuner.oracle.failed)


def _lead(search: "Search", base: "Config", local: bool) -> None:
    """As the chief of workers, on this machine or on others."""
    from jdl_keras.tuning.chief import lead
    from jdl_keras.tuning.preparation import prepare
    from jdl_keras.tuning.workers import LocalWorkers, beats
    from tfrecords_tools.files import locked

    out = Path(search.out)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        prepare(search, base, train_localiser)
        tuner = _tuner(search, base, train_trial)
        tuner.oracle.reload()
        work = functools.partial(_worker, search, base, train_trial)
        workers = LocalWorkers(search.workers, work) if local else None
        try:
            with _view(search, base) as view:
                look = functools.partial(_look, view, search, base)
                lead(tuner, look, workers, search.lost_after_seconds)
            if workers:
                workers.end(10.0)
        finally:
            if workers:
                workers.end(0.0)
        shutil.rmtree(beats(out), ignore_errors=True)
        _finish(search, base, tuner.oracle.failed)


def _worker(search: "Search", base: "Config", train: "Train") -> int:
    """In a process of its own: a worker on this machine."""
    from jdl_keras.backend import load_backend

    load_backend()
    return run_command(lambda: _work(search, base, train))


def _work(search: "Search", base: "Config", train: "Train") -> None:
    """As a worker: trials that the chief hands out, until there are no more."""
    import grpc

    from jdl_keras.tuning.workers import signs_of_life

    tuner = _tuner(search, base, train)
    try:
        with signs_of_life(Path(search.out)):
            tuner.search()
    except grpc.RpcError as error:
        reason = f"the chief does not answer: {error.code().name}"
        raise OSError(None, reason, "workers") from None


def _tuner(search: "Search", base: "Config", train: "Train") -> "SearchTuner":
    from jdl_keras.tuning.oracle import make_oracle
    from jdl_keras.tuning.tuner import SearchTuner

    return SearchTuner(make_oracle(search, base), search, base, train)


def train_trial(config: "Config", search: "Search") -> None:
    """In a process of its own: trains a trial and keeps what came of it."""
    from jdl_keras.backend import load_backend

    load_backend()

    from jdl_keras.run_folder import RunFolder
    from jdl_keras.train import run
    from jdl_keras.tuning.outcome import Outcome, write_outcome
    from jdl_keras.tuning.search import SPLIT
    from jdl_keras.tuning.stopping import MARK, MedianRule

    folder = RunFolder(Path(config.run_dir))
    resumed = folder.checkpoints.exists()
    watchers = []
    if search.stop_rule == "median":
        number = int(folder.path.name)
        watchers = [MedianRule(search.out, number, search.stop_after_epochs)]
    started = time.monotonic()
    state = run(config, watchers=watchers)
    seconds = None if resumed else round(time.monotonic() - started, 1)
    summary = json.loads((folder.evaluation(SPLIT) / "summary.json").read_text())
    stopped = state.stopped and (folder.path / MARK).is_file()
    outcome = Outcome(
        state="stopped" if stopped else "finished",
        scar_dice=state.best,
        best_epoch=state.best_epoch,
        epochs=state.epoch,
        seconds=seconds,
        native_scar_dice=summary["tasks"]["scar"]["dice"]["mean"],
    )
    write_outcome(folder.path, outcome)


def train_localiser(config: "Config") -> None:
    """In a process of its own: trains the localiser of all trials."""
    from jdl_keras.backend import load_backend
    from jdl_keras.data.views import open_records

    load_backend()

    from jdl_keras.run_folder import RunFolder
    from jdl_keras.training.loop import make_localiser

    record_set = open_records(config)
    make_localiser(config, record_set, RunFolder(Path(config.run_dir)))


def _view(search: "Search", base: "Config") -> "SearchView":
    from jdl_keras.tuning.progress import SearchView

    return SearchView(search.out, search.trials, base.training.epochs)


def _look(view: "SearchView", search: "Search", base: "Config") -> None:
    from jdl_keras.tuning.results import keep_up

    if view.look():
        keep_up(search, base)


def _finish(search: "Search", base: "Config", failed: Sequence[int]) -> None:
    """Writes and says what the search has brought."""
    from rich.console import Console

    from jdl_keras.tuning.hparams import write_hparams
    from jdl_keras.tuning.preparation import conditions
    from jdl_keras.tuning.report import REPORT, console_table, write_report
    from jdl_keras.tuning.results import BEST, TABLE, keep_up
    from jdl_keras.tuning.search import space_of

    trials, out = keep_up(search, base), Path(search.out)
    for number in failed:
        line = f"WARNING trial {number}: failed; the same command tries it again"
        print(line, file=sys.stderr)
    if not trials:
        reason = "no trial was trained, see trials/*/train.log"
        raise RefusedError(out, "RUN_FAILED", reason)
    space = space_of(search, base)
    write_hparams(out, space, trials)
    write_report(out, space, trials, conditions(search, base))
    # A file is as wide as the table.
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(console_table(space, trials))
    print(
        f"{out}: {TABLE}, {REPORT}, trials/; tensorboard --logdir {out}\n"
        f"next: python -m jdl_keras.train --config {out / BEST}"
    )


if __name__ == "__main__":
    sys.exit(main())
