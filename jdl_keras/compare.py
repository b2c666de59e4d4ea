"""Compares methods over seeds and folds: `python -m jdl_keras.compare`."""

import gc
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrecords_tools.errors import DIVERGED, DivergedError, RefusedError, run_command

if TYPE_CHECKING:
    from jdl_keras.config import Config
    from jdl_keras.evaluation.finished_runs import FinishedRun
    from jdl_keras.evaluation.report import ReportContext
    from jdl_keras.experiment import Experiment, PlannedRun
    from tfrecords_tools.study import Study

PROGRAM = "jdl_keras.compare"
COST = "cost.json"
"""In the folder of a run that is finished: its seconds and parameters."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return run_command(lambda: _compare(argv))


def _compare(argv: Sequence[str] | None) -> None:
    from jdl_keras.backend import check_training, choose_backend, load_backend
    from jdl_keras.experiment import plan
    from jdl_keras.train import with_records
    from tfrecords_tools.files import locked

    experiment, base, backend = _parse(argv)
    choose_backend(backend)
    check_training(base)
    out = Path(experiment.out)
    planned = plan(experiment, with_records(base))
    load_backend()
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _train_all(planned, experiment.jobs)
        given = sys.argv[1:] if argv is None else argv
        command = shlex.join(["python", "-m", PROGRAM, *given])
        _write(out, experiment, planned, command)
    print(f"{out}: report.html, comparison.csv, comparison.json, runs/")


def _parse(argv: Sequence[str] | None) -> "tuple[Experiment, Config, str | None]":
    from jdl_keras.backend import add_backend_option
    from jdl_keras.config import Config
    from jdl_keras.config_file import config_of
    from jdl_keras.experiment import Experiment
    from tfrecords_tools.command_line import make_parser, parse, settings_of

    parser = make_parser(PROGRAM, "Compares methods over seeds and folds.", config=True)
    parser.add_class_arguments(Experiment, None)
    # These differ from run to run.
    parser.add_class_arguments(Config, None, skip={"method", "seed", "run_dir"})
    add_backend_option(parser)
    arguments = parse(parser, argv)
    found = settings_of(Experiment, arguments)
    return found, config_of(arguments), arguments.get("backend")


def _train_all(planned: "Sequence[PlannedRun]", jobs: int) -> None:
    """Trains what is not finished; one run that fails does not stop the others."""
    from jdl_keras.data.views import open_records
    from jdl_keras.run_processes import LOG, train_in_processes

    sha256 = open_records(planned[0].config).sha256
    open_runs = [run for run in planned if not _is_finished(run, sha256)]
    if len(open_runs) < len(planned):
        print(f"{len(planned) - len(open_runs)} runs are finished already")
    if jobs == 1:
        failed = _train_in_turn(open_runs)
    else:
        failed = train_in_processes(open_runs, jobs, _train)
        for run, code in failed.items():
            (*_, said) = ["", *(run.folder / LOG).read_text().splitlines()]
            print(f"{run.folder / LOG}: exit code {code}: {said}", file=sys.stderr)
    if failed:
        names = ", ".join(run.folder.name for run in failed)
        if {*failed.values()} == {DIVERGED}:
            raise DivergedError(f"{names}; the others are finished")
        reason = "not trained, see above; the others are finished"
        raise RefusedError(names, "RUN_FAILED", reason)


def _train_in_turn(runs: "Sequence[PlannedRun]") -> "dict[PlannedRun, int]":
    """In this process; the exit code of every run that diverged."""
    started = time.monotonic()
    failed = {}
    for done, run in enumerate(runs):
        left = ""
        if done:
            minutes = (time.monotonic() - started) / done * (len(runs) - done) / 60
            left = f", about {minutes:.0f} min left"
        name = f"{run.entry}, seed {run.seed}, fold {run.fold}"
        print(f"run {done + 1} of {len(runs)}: {name}{left}", flush=True)
        try:
            _train(run)
        except DivergedError as error:
            print(f"ERROR {run.folder}: DIVERGED: {error}", file=sys.stderr)
            failed[run] = DIVERGED
    return failed


def _is_finished(planned: "PlannedRun", sha256: str) -> bool:
    """Whether this run was measured, with this configuration and record set."""
    from jdl_keras.config_file import flat
    from jdl_keras.run_folder import RunFolder

    if not (planned.folder / COST).is_file():
        return False
    folder = RunFolder(planned.folder)
    before = {**flat(folder.load_config()), "record set": folder.record_set_sha256()}
    for key, value in {**flat(planned.config), "record set": sha256}.items():
        if before[key] != value and key != "run_dir":
            reason = f"the finished runs have {before[key]}, now {value}; change --out"
            raise RefusedError(key, "OTHER_RUN", reason)
    return True


def _train(planned: "PlannedRun") -> None:
    import keras

    from jdl_keras.run_folder import RunFolder
    from jdl_keras.train import run
    from tfrecords_tools.files import write_text

    folder = RunFolder(planned.folder)
    resumed = folder.checkpoints.exists()
    started = time.monotonic()
    run(planned.config)
    seconds = time.monotonic() - started
    cost = {
        # Of a run that was interrupted, only the last part was timed.
        "seconds": None if resumed else round(seconds, 1),
        "parameters": folder.load_network().count_params(),
    }
    write_text(folder.path / COST, json.dumps(cost) + "\n")
    keras.utils.clear_session()
    # Networks and their traced functions refer to each other.
    gc.collect()


def _write(
    out: Path, experiment: "Experiment", planned: "Sequence[PlannedRun]", command: str
) -> None:
    from jdl_keras.evaluation.comparison import write_comparison
    from jdl_keras.evaluation.comparison_figures import draw_figures
    from jdl_keras.evaluation.comparison_panels import read_panels
    from jdl_keras.evaluation.report import write_report

    runs = [_finished(run) for run in planned]
    table, comparison = write_comparison(out, runs, experiment.candidate)
    panels = read_panels(table, runs, _studies(planned), experiment.candidate)
    figures = draw_figures(table, runs, panels)
    write_report(
        out / "report.html", comparison, figures, _context(planned[0].config, command)
    )


def _finished(planned: "PlannedRun") -> "FinishedRun":
    from jdl_keras.evaluation.finished_runs import FinishedRun

    return FinishedRun(
        planned.entry,
        planned.seed,
        planned.fold,
        planned.folder,
        split=planned.config.evaluation.split,
        **json.loads((planned.folder / COST).read_text()),
    )


def _studies(planned: "Sequence[PlannedRun]") -> "Iterator[Study]":
    """The studies that were measured, those of every fold once."""
    from jdl_keras.data.views import open_records

    for config in {run.fold: run.config for run in planned}.values():
        yield from open_records(config).studies(config.evaluation.split)


def _context(config: "Config", command: str) -> "ReportContext":
    from jdl_keras.config import Config
    from jdl_keras.config_file import flat
    from jdl_keras.data.views import open_records
    from jdl_keras.evaluation.report import ReportContext
    from jdl_keras.run_folder import versions
    from tfrecords_tools.splits import SPLITS

    record_set = open_records(config)
    own = ("seed", "method", "run_dir", "records", "split.fold")
    defaults = flat(Config())
    return ReportContext(
        command=command,
        source=record_set.source,
        totals={split: record_set.totals(split) for split in SPLITS},
        record_set_sha256=record_set.sha256,
        settings={
            key: value
            for key, value in flat(config).items()
            if value != defaults[key] and key not in own
        },
        versions=versions(),
    )


if __name__ == "__main__":
    sys.exit(main())
