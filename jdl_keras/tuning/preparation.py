"""What a search needs before its first trial, and keeps so that it can continue."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

from jdl_keras.config import Config
from jdl_keras.config_file import flat
from jdl_keras.data.views import open_records
from jdl_keras.run_folder import RunFolder, versions
from jdl_keras.run_processes import LOG, start_process
from jdl_keras.training.loop import FREE_KEYS, check_splits
from jdl_keras.tuning.search import (
    FREE,
    Search,
    localiser_folder,
    makes_localiser,
    trial_config,
)
from jdl_keras.tuning.tuner import tell_exit
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import write_text

Train = Callable[[Config], None]

SEARCH = "search.json"
"""In the folder of a search: what must be the same for it to continue."""


def prepare(search: Search, base: Config, train: Train) -> None:
    """Checks that every trial can be measured; makes what all of them need.

    Args:
        search: what is searched.
        base: the settings that all trials share.
        train: trains the localiser of a configuration, in a process of its own.

    Raises:
        RefusedError: `OTHER_SEARCH` if the folder holds another search; `SPLIT`;
            `RUN_FAILED` if there is no localiser.
    """
    record_set = open_records(base)
    first = trial_config(search, base, 0, {})
    check_splits(first, record_set)
    _check_same(search, base, record_set.sha256)
    if makes_localiser(base):
        _make_localiser(first, localiser_folder(search.out), train)


def _check_same(search: Search, base: Config, sha256: str) -> None:
    """Refuses to continue another search."""
    settings = {k: v for k, v in flat(base).items() if k not in FREE_KEYS}
    now = dataclasses.asdict(search) | settings | versions()
    now = {key: value for key, value in now.items() if key not in FREE}
    now["record set"] = sha256
    now = json.loads(json.dumps(now))
    path = Path(search.out) / SEARCH
    if not path.is_file():
        write_text(path, json.dumps(now, indent=1) + "\n")
        return
    try:
        before = json.loads(path.read_text())
    except ValueError:
        raise RefusedError(path, "CORRUPT", "damaged; use another --out") from None
    for key, value in now.items():
        if before.get(key) != value:
            reason = f"the search has {before.get(key)}, now {value}; change --out"
            raise RefusedError(key, "OTHER_SEARCH", reason)


def _make_localiser(config: Config, folder: Path, train: Train) -> None:
    run = RunFolder(folder)
    if run.config.is_file():  # It is written last.
        return
    print("training the localiser of all trials", flush=True)
    localiser = dataclasses.replace(config.localiser, run=None)
    own = dataclasses.replace(config, run_dir=str(folder), localiser=localiser)
    process = start_process(folder, 1, functools.partial(train, own))
    try:
        process.join()
    finally:
        process.terminate()
        process.join()
    if process.exitcode:
        tell_exit(folder / LOG, process.exitcode)
        reason = "could not be trained; --grid.centre image does without"
        raise RefusedError(folder, "RUN_FAILED", reason)


def conditions(search: Search, base: Config) -> dict[str, object]:
    """What a reader of the report must know of a search that was begun."""
    known = json.loads((Path(search.out) / SEARCH).read_text())
    defaults = flat(Config())
    settings = {k: v for k, v in flat(base).items() if v != defaults[k]}
    settings.pop("records", None)  # a place, which may name somebody
    names = ("oracle", "oracle_seed", "random_trials", "stop_rule", "record set")
    return {
        **{name: known[name] for name in names},
        "settings that differ from their defaults": settings or "none",
        "space": search.space,
    }
