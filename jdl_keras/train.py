"""Trains and measures a model: `python -m jdl_keras.train`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrecords_tools.errors import run_command

if TYPE_CHECKING:
    from jdl_keras.config import Config
    from jdl_keras.training.checkpoint import TrainingState

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
    arguments = parse(parser, argv)
    config = config_of(arguments)
    choose_backend(arguments.get("backend"))
    check_training(config)
    config = with_records(config)
    state = run(config)
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


def run(config: "Config") -> "TrainingState":
    """Trains a run, or what is left of it, on the chosen backend, and measures it.

    Raises:
        RefusedError: if configuration, record set or run folder cannot be used.
        DivergedError: if an epoch has no finite loss.
    """
    from jdl_keras.backend import load_backend
    from jdl_keras.data.views import open_records

    record_set = open_records(config)
    load_backend()

    from jdl_keras.inference.evaluate_run import (
        calibrate_on_validation,
        choose_on_validation,
        evaluate_run,
    )
    from jdl_keras.run_folder import RunFolder
    from jdl_keras.training.loop import train
    from tfrecords_tools.files import locked

    folder = RunFolder(Path(config.run_dir))
    folder.path.mkdir(parents=True, exist_ok=True)
    with locked(folder.path):
        state = train(config, record_set, folder)
        if config.evaluation.choose_operating_point:
            choose_on_validation(folder)
        calibrate_on_validation(folder)
        evaluate_run(folder.path, config.evaluation.split)
    return state


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
