"""The two small files beside a trial's run: what was proposed, and what came of it.

Both are written whole and once, and with the run's own config.yaml they are all that a
search remembers: no file holds the state of several trials.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from jdl_keras.config_file import flat
from jdl_keras.run_folder import RunFolder
from tfrecords_tools import files
from tfrecords_tools.errors import RefusedError

PROPOSAL, OUTCOME = "proposal.json", "outcome.json"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        state: `finished`; `stopped` by the stop rule; `diverged`, which counts as a
            network that finds nothing.
        scar_dice: the objective: the best `val_scar_dice` of history.csv, the mean over
            patients of the validation split, with counts over their slices, on the
            network's grid.
        best_epoch: that had it.
        epochs: that were trained.
        seconds: of training and measuring; None if it was interrupted.
        native_scar_dice: scar Dice of evaluation/validation/summary.json: the same
            network on the native grid, at the chosen operating point.
    """

    state: str
    scar_dice: float
    best_epoch: int = 0
    epochs: int = 0
    seconds: float | None = None
    native_scar_dice: float | None = None


def numbers(out: Path) -> list[int]:
    """The trials that were begun, in order."""
    names = [path.name for path in (out / "trials").glob("*")]
    return sorted(int(name) for name in names if re.fullmatch(r"\d{4,}", name))


def write_proposal(folder: Path, values: dict[str, Any]) -> None:
    """Keeps what is to be tried."""
    folder.mkdir(parents=True, exist_ok=True)
    if _read(folder / PROPOSAL) != values:
        files.write_text(folder / PROPOSAL, json.dumps(values) + "\n")


def read_proposal(folder: Path, keys: Collection[str]) -> dict[str, Any] | None:
    """What is tried in a folder; None if nothing there says so any more.

    The run's own configuration comes first: it is what was trained.
    """
    if RunFolder(folder).config.is_file():
        try:
            settings = flat(RunFolder(folder).load_config())
            return {key: settings[key] for key in keys}
        except (RefusedError, KeyError):
            _warn(RunFolder(folder).config)
    values = _read(folder / PROPOSAL)
    if values is not None and values.keys() == {*keys}:
        return values
    return None


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Keeps what came of a trial; from now on it is over."""
    text = json.dumps(dataclasses.asdict(outcome), indent=1)
    files.write_text(folder / OUTCOME, text + "\n")


def read_outcome(folder: Path) -> Outcome | None:
    """What came of a trial; None if it is not over."""
    values = _read(folder / OUTCOME)
    if values is None:
        return None
    try:
        outcome = Outcome(**values)
        if 0 <= outcome.scar_dice <= 1:
            return outcome
    except TypeError:
        pass
    _warn(folder / OUTCOME)
    return None


def _read(path: Path) -> dict | None:
    try:
        values = json.loads(path.read_text())
        if isinstance(values, dict):
            return values
    except FileNotFoundError:
        return None
    except ValueError:
        pass
    _warn(path)
    return None


def _warn(path: Path) -> None:
    print(f"WARNING {path}: CORRUPT: damaged, made again", file=sys.stderr)
