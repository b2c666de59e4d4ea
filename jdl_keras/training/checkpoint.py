"""Crash-safe checkpoints: a folder that is there whole or not at all.

A checkpoint holds what the rest of a run depends on: weights, optimizer, dropout seeds,
the state of the callbacks, and the history. Its manifest with checksums is written last
and the folder gets its name by one rename, so a kill at any moment leaves the
checkpoint before it.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from tfrecords_tools import files
from tfrecords_tools.errors import RefusedError

KEPT = 2
"""If the newest is damaged, the one before it is read."""

ARRAYS, STATE, MANIFEST = "variables.npz", "state.json", "manifest.json"


@dataclasses.dataclass
class TrainingState:
    """What is not in a variable.

    Attributes:
        epoch: finished epochs.
        fingerprint: what must be the same for the run to continue.
        history: one row of logs for each finished epoch.
        best: the best validation score so far.
        best_epoch: the epoch, from 1, that reached it; 0 before the first.
        stopped: whether early stopping ended the run.
    """

    fingerprint: dict
    epoch: int = 0
    history: list[dict] = dataclasses.field(default_factory=list)
    best: float = -1.0
    best_epoch: int = 0
    stopped: bool = False


def save(
    folder: Path, variables: Sequence[keras.Variable], state: TrainingState
) -> None:
    """Writes checkpoint `folder/epoch-NNNNN` and drops all but the newest two."""
    target = folder / f"epoch-{state.epoch:05d}"
    temporary = folder / f".tmp-{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    arrays = {
        f"{index:05d}": keras.ops.convert_to_numpy(variable)
        for index, variable in enumerate(variables)
    }
    np.savez(temporary / ARRAYS, **arrays)
    (temporary / STATE).write_text(json.dumps(dataclasses.asdict(state)))
    sums = {name: files.sha256(temporary / name) for name in (ARRAYS, STATE)}
    (temporary / MANIFEST).write_text(json.dumps(sums))
    for path in (*temporary.iterdir(), temporary):
        files.sync(path)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    files.sync(folder)
    for old in sorted(folder.glob("epoch-*"))[:-KEPT]:
        shutil.rmtree(old)


def found(folder: Path) -> list[Path]:
    """The checkpoints, newest first, damaged ones too."""
    return sorted(folder.glob("epoch-*"), reverse=True)


def restore(
    folder: Path, variables: Sequence[keras.Variable], fingerprint: dict
) -> TrainingState:
    """Reads the newest intact checkpoint into `variables`; a new state if none is.

    Raises:
        RefusedError: `OTHER_RUN` if the checkpoint is of another configuration,
            record set or version, with the key; `CORRUPT` if all are damaged.
    """
    paths = found(folder)
    for path in paths:
        if _is_intact(path):
            return _read(path, variables, fingerprint)
        print(
            f"WARNING {path}: CORRUPT: damaged, trying the one before it",
            file=sys.stderr,
        )
    if paths:
        reason = "all checkpoints are damaged; start anew with another --run_dir"
        raise RefusedError(folder, "CORRUPT", reason)
    return TrainingState(fingerprint)


def _is_intact(path: Path) -> bool:
    try:
        sums = json.loads((path / MANIFEST).read_text())
        return sums.keys() == {ARRAYS, STATE} and all(
            files.sha256(path / name) == expected for name, expected in sums.items()
        )
    except (OSError, ValueError):
        return False


def _read(
    path: Path, variables: Sequence[keras.Variable], fingerprint: dict
) -> TrainingState:
    state = TrainingState(**json.loads((path / STATE).read_text()))
    for key, now in fingerprint.items():
        before = state.fingerprint.get(key)
        if before != now:
            reason = f"this run has {before}, now {now}; use another --run_dir"
            raise RefusedError(key, "OTHER_RUN", reason)
    with np.load(path / ARRAYS, allow_pickle=False) as arrays:
        for index, variable in enumerate(variables):
            variable.assign(arrays[f"{index:05d}"])
    return state
