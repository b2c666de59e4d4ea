"""What a search has brought so far: its table, its best configuration, its disk."""

import csv
import dataclasses
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from jdl_keras.config import Config
from jdl_keras.config_file import flat, from_flat, plain
from jdl_keras.run_folder import RunFolder, checksum_file
from jdl_keras.tuning.outcome import Outcome, numbers, read_outcome, read_proposal
from jdl_keras.tuning.search import (
    Search,
    localiser_folder,
    makes_localiser,
    rounded,
    space_of,
    trial_folder,
)
from tfrecords_tools import files

TABLE, BEST = "tuning.csv", "best.yaml"


@dataclasses.dataclass(frozen=True)
class FinishedTrial:
    """A trial that is over.

    Attributes:
        number: from 0.
        values: of the settings that are searched, by dotted key.
        outcome: what came of it.
    """

    number: int
    values: dict[str, Any]
    outcome: Outcome


def finished_trials(search: Search, base: Config) -> list[FinishedTrial]:
    """The trials that are over, in the order in which they were proposed."""
    keys = [*space_of(search, base)]
    found = []
    for number in numbers(Path(search.out)):
        folder = trial_folder(search.out, number)
        values, outcome = read_proposal(folder, keys), read_outcome(folder)
        if values is not None and outcome is not None:
            found.append(FinishedTrial(number, rounded(values), outcome))
    return found


def ranked(trials: Sequence[FinishedTrial]) -> list[FinishedTrial]:
    """The best first; of equals the earliest."""
    return sorted(trials, key=lambda trial: (-trial.outcome.scar_dice, trial.number))


def keep_up(search: Search, base: Config) -> list[FinishedTrial]:
    """Writes the table and the best configuration, and frees the disk.

    Returns:
        The trials that are over.
    """
    trials = finished_trials(search, base)
    if not trials:
        return []
    order = ranked(trials)
    for trial in order[search.keep :]:
        drop_weights(trial_folder(search.out, trial.number))
    files.write_text(Path(search.out) / TABLE, _table(trials))
    write_best(search, base, order[0])
    return trials


def drop_weights(folder: Path) -> None:
    """Takes networks and checkpoints from a run; what was measured stays."""
    run = RunFolder(folder)
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    for path in (run.model, run.localiser):
        path.unlink(missing_ok=True)
        checksum_file(path).unlink(missing_ok=True)


def _table(trials: Sequence[FinishedTrial]) -> str:
    names = [field.name for field in dataclasses.fields(Outcome)]
    text = io.StringIO()
    keys = [*trials[0].values]
    writer = csv.DictWriter(text, ["trial", *keys, *names], lineterminator="\n")
    writer.writeheader()
    for trial in trials:
        outcome = dataclasses.asdict(trial.outcome)
        writer.writerow({"trial": trial.number} | trial.values | outcome)
    return text.getvalue()


def best_config(search: Search, base: Config, best: FinishedTrial) -> Config:
    """The configuration of the best trial, for a run of its own.

    It measures the split that was configured, by default test: nothing is left to be
    chosen.
    """
    own: dict[str, Any] = {"run_dir": str(Path(search.out) / "best")}
    if makes_localiser(base):
        own["localiser.run"] = str(localiser_folder(search.out))
    return from_flat(flat(base) | best.values | own)


def write_best(search: Search, base: Config, best: FinishedTrial) -> None:
    """Writes `best.yaml`."""
    path = Path(search.out) / BEST
    config = best_config(search, base, best)
    outcome = best.outcome
    head = (
        f"# python -m jdl_keras.train --config {path}\n#\n"
        f"# Trial {best.number} of a search: scar Dice {outcome.scar_dice:.4f} on "
        f"validation, epoch {outcome.best_epoch}\n# of {config.training.epochs}. The "
        f"same bits again on the same device; then the {config.evaluation.split} split "
        "is measured.\n"
    )
    files.write_text(path, head + yaml.safe_dump(plain(config), sort_keys=False))
