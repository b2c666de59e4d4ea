"""Trains and measures a model: `python -m jdl_keras.train`."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from jdl_keras.cluster import ALONE, Cluster, cluster_of
from tfrecords_tools.errors import RefusedError, run_command

if TYPE_CHECKING:
    import keras

    from jdl_keras.config import Config
    from jdl_keras.run_folder import RunFolder
    from jdl_keras.training.checkpoint import TrainingState
    from jdl_keras.training.team import Team

PHANTOM_RECORDS = Path("records/phantom")
"""Where a cohort is made when no record set is given."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return run_command(lambda: _train(argv))


def _train(argv: Sequence[str] | None) -> None:
    from jdl_keras.backend import add_backend_option, check_training, choose_backend
    from jdl_keras.config_file import config_of, config_parser
    from tfrecords_tools.command_line import parse

    parser = config_parser("jdl_keras.train", "Trains and measures a model.")
    add_backend_option(parser)
    parser.add_argument(
        "--profile",
        action="store_true",
        default=argparse.SUPPRESS,  # no setting: --print_config leaves it out
        help="write a trace of some steps for TensorBoard",
    )
    arguments = parse(parser, argv)
    config = config_of(arguments)
    choose_backend(arguments.get("backend"))
    profile = "profile" in arguments
    check_training(config, profile)
    cluster = cluster_of(config.training.strategy)
    if cluster.several and config.records is None:
        reason = "several workers need one that is there; build it, and give it to all"
        raise RefusedError("records", "CONFIG", reason)
    config = with_records(config)
    state = run(config, cluster, profile=profile)
    if not cluster.is_chief:
        print(f"worker {cluster.index}: done; the chief has measured and keeps the run")
        return
    folder = Path(config.run_dir)
    curves = folder / "history.csv"
    if (folder / "tensorboard").is_dir():
        curves = f"tensorboard --logdir {folder / 'tensorboard'}"
    print(
        f"network of epoch {state.best_epoch}, chosen on validation "
        f"(scar Dice {state.best:.3f} on the grid)\n"
        f"{folder}: model.keras, evaluation/{config.evaluation.split}/; "
        f"curves: {curves}"
    )


def run(
    config: "Config",
    cluster: Cluster = ALONE,
    watchers: "Sequence[keras.callbacks.Callback]" = (),
    profile: bool = False,
) -> "TrainingState":
    """Trains a run, or what is left of it, on the chosen backend, and measures it.

    Args:
        config: of the run.
        cluster: the workers that train it together; each of them calls this, and the
            chief alone measures, while the others wait.
        watchers: see `training.loop.train`.
        profile: whether to write a trace of some steps.

    Raises:
        RefusedError: if configuration, record set or run folder cannot be used.
        DivergedError: if an epoch has no finite loss.
    """
    from jdl_keras.backend import load_backend
    from jdl_keras.data.views import open_records

    record_set = open_records(config)
    if cluster.several:
        # It tells at length of workers that have gone; we do in one line.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    load_backend(config.training.streams)

    from jdl_keras.run_folder import RunFolder
    from jdl_keras.training.loop import train

    folder = RunFolder(Path(config.run_dir))
    with ExitStack() as stack, _team(cluster) as team:
        team.from_chief(lambda: _claim(folder.path, stack))
        state = train(config, record_set, folder, team, watchers, profile)
        # The others wait, so that a command that is given again finds all workers.
        team.from_chief(lambda: _measure(config, folder))
    return state


def _measure(config: "Config", folder: "RunFolder") -> None:
    from jdl_keras.inference.evaluate_run import (
        calibrate_on_validation,
        choose_on_validation,
        evaluate_run,
    )

    if config.evaluation.choose_operating_point:
        choose_on_validation(folder)
    calibrate_on_validation(folder)
    evaluate_run(folder.path, config.evaluation.split)


def _team(cluster: Cluster) -> AbstractContextManager["Team"]:
    if cluster.several:
        from jdl_keras.training.worker_team import joined

        return joined(cluster)
    from jdl_keras.training.team import ALONE

    return nullcontext(ALONE)


def _claim(folder: Path, stack: ExitStack) -> None:
    """Makes the run folder, and locks it until the stack ends."""
    from tfrecords_tools.files import locked

    folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(locked(folder))


def with_records(config: "Config") -> "Config":
    """The configuration; without records, with the phantom's, made if not there."""
    from tfrecords_tools.build import main as build

    if config.records is not None:
        return config
    if not (PHANTOM_RECORDS / "manifest.json").is_file():
        print(f"no --records given: making synthetic patients in {PHANTOM_RECORDS}")
        if code := build(["phantom", str(PHANTOM_RECORDS)]):
            raise SystemExit(code)  # build has said why
    return dataclasses.replace(config, records=str(PHANTOM_RECORDS))


if __name__ == "__main__":
    sys.exit(main())
