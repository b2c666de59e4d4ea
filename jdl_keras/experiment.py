"""The plan of a comparison: which runs, with which configuration, in which folder."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from jdl_keras.config import Config
from jdl_keras.config_file import flat, from_flat
from tfrecords_tools.errors import RefusedError

METHODS = get_args(get_type_hints(Config)["method"])

OWN = ("seed", "split.fold", "run_dir")
"""Settings that the comparison gives to every run."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Methods, and variants of them, over seeds and folds of one record set.

    Attributes:
        out: folder of the comparison; the same command continues what it finds there.
        methods: the methods to compare.
        variants: further entries by name, each with the settings in which it differs
            from all the others, such as `{jdl_wide: {message.widen_mm: 4}}`.
        seeds: each entry is trained once for every seed.
        candidate: the entry that is tested against each of the others.
        jobs: runs that are trained at once; each takes the memory of one, and on a
            processor they share the cores.
    """

    out: str = "runs/comparison"
    methods: list[str] = dataclasses.field(default_factory=lambda: [*METHODS])
    variants: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    seeds: list[int] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    candidate: str = "jdl"
    jobs: int = 1


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison."""

    entry: str
    seed: int
    fold: int
    config: Config

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.config.run_dir)


def plan(experiment: Experiment, base: Config) -> list[PlannedRun]:
    """All runs, seed by seed, so that an early look has every entry.

    Args:
        experiment: what is compared.
        base: the settings that all entries share.

    Raises:
        RefusedError: if a name or a setting cannot be used.
    """
    _check(experiment)
    entries = {method: {"method": method} for method in experiment.methods}
    entries |= experiment.variants
    return [*_runs(experiment, entries, flat(base))]


def _runs(
    experiment: Experiment, entries: Mapping[str, dict], base: dict
) -> Iterator[PlannedRun]:
    parts = itertools.product(experiment.seeds, range(max(base["split.folds"], 1)))
    for seed, fold in parts:
        makers: dict[tuple, str] = {}
        for entry, changes in entries.items():
            folder = Path(experiment.out) / "runs" / f"{entry}-seed{seed}-fold{fold}"
            own = dict(zip(OWN, (seed, fold, str(folder)), strict=True))
            config = _with_localiser(from_flat(base | changes | own), makers)
            yield PlannedRun(entry, seed, fold, config)


def _with_localiser(config: Config, makers: dict[tuple, str]) -> Config:
    """A localiser does not depend on the method: the first one made serves all alike.

    Args:
        config: of a run.
        makers: the folder of the first run, by what its localiser depends on.
    """
    if config.grid.centre != "localiser" or config.localiser.run:
        return config
    maker = makers.setdefault((config.localiser, config.split), config.run_dir)
    if maker == config.run_dir:
        return config
    localiser = dataclasses.replace(config.localiser, run=maker)
    return dataclasses.replace(config, localiser=localiser)


def _check(experiment: Experiment) -> None:
    for method in experiment.methods:
        if method not in METHODS:
            _refuse("methods", f"expected some of {[*METHODS]}, got {method!r}")
    for name, changes in experiment.variants.items():
        if name in experiment.methods or not re.fullmatch(r"[A-Za-z0-9_]+", name):
            expected = "a name of letters, digits and _ that no method has"
            _refuse("variants", f"expected {expected}, got {name!r}")
        for key in changes:
            if key in OWN:
                _refuse("variants", f"{name}: {key} is set by the comparison")
    entries = [*experiment.methods, *experiment.variants]
    if experiment.candidate not in entries:
        _refuse("candidate", f"expected one of {entries}")
    if experiment.jobs < 1:
        _refuse("jobs", f"expected 1 or more, got {experiment.jobs}")
    for key in ("methods", "seeds"):
        values = getattr(experiment, key)
        if not values or len({*values}) < len(values):
            _refuse(key, f"expected each once, and one at least, got {values}")


def _refuse(key: str, reason: str) -> None:
    raise RefusedError(key, "CONFIG", reason)
