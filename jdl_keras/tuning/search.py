"""What is searched: the space, the oracle, and the configuration of every trial."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jdl_keras.config import Config
from jdl_keras.config_file import flat, from_flat
from tfrecords_tools.errors import RefusedError

OWN = ("run_dir", "records", "seed", "method", "localiser.run", "evaluation.split")
"""Settings that the search gives to every trial, or that all trials share."""

SPLIT = "validation"
"""The only split that a trial measures."""

DIGITS = 4
"""Significant digits of a number that is tried, which float32 holds on its way
between chief and workers."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Where the value of a setting is looked for.

    Attributes:
        low: the smallest number.
        high: the largest number.
        log: whether factors matter rather than differences.
        choices: the values to choose from, in place of a range.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: list[Any] | None = None


def _default_space() -> dict[str, dict[str, Any]]:
    """Around what the paper found: 4.73e-4, 0.39, 1.02, 5.58e-6."""
    return {
        "optimizer.learning_rate": {"low": 1e-4, "high": 5e-3, "log": True},
        "model.dropout": {"low": 0.0, "high": 0.6},
        "loss.myocardium_weight": {"low": 0.2, "high": 2.0},
        "loss.l2_myocardium": {"low": 1e-7, "high": 1e-3, "log": True},
        "loss.l2_scar": {"low": 1e-7, "high": 1e-3, "log": True},
    }


@dataclasses.dataclass(frozen=True)
class Search:
    """A search for the settings with the best scar Dice on the validation split.

    Attributes:
        out: folder of the search; the same command continues what it finds there.
        trials: runs in all; a larger number continues a finished search.
        space: settings by dotted key, each with `low` and `high`, perhaps `log`, or
            with `choices`. Those that the method does not have are left out.
        oracle: `bayesian` asks a Gaussian process, `random` draws every trial.
        oracle_seed: of the trials that are drawn; the runs have `seed`.
        random_trials: drawn before the Gaussian process is asked.
        noise: variance of the score by chance, as a share of that over the trials.
        exploration: standard deviations by which an unknown place is overrated.
        stop_rule: `median` ends a trial whose best score so far is below the median
            of the mean scores that finished trials had until the same epoch.
        stop_after_epochs: no trial is stopped before it has so many epochs.
        keep: the best trials, of which the weights are kept.
        workers: trials at once on this machine; on a processor they share the cores.
        lost_after_seconds: a worker that is silent for so long loses its trial to
            another one; after ten times that without any worker the chief gives up.
    """

    out: str = "runs/tune"
    trials: int = 30
    space: dict[str, dict[str, Any]] = dataclasses.field(default_factory=_default_space)
    oracle: Literal["bayesian", "random"] = "bayesian"
    oracle_seed: int = 0
    random_trials: int = 6
    noise: float = 0.1
    exploration: float = 1.0
    stop_rule: Literal["median", "none"] = "median"
    stop_after_epochs: int = 3
    keep: int = 3
    workers: int = 1
    lost_after_seconds: float = 60.0


FREE = ("out", "trials", "keep", "workers", "lost_after_seconds")
"""Settings that may change when a search continues."""


def check_search(search: Search, base: Config) -> None:
    """Refuses a search that cannot be made.

    Args:
        search: what is searched.
        base: the settings that all trials share.

    Raises:
        RefusedError: `CONFIG`, with the key.
    """
    for key, low in {
        **{"trials": 1, "random_trials": 1, "keep": 1, "workers": 1},
        **{"stop_after_epochs": 1, "oracle_seed": 0, "exploration": 0, "noise": 1e-6},
        **{"lost_after_seconds": 1},
    }.items():
        value = getattr(search, key)
        if not low <= value < 2**31:
            _refuse(key, f"expected {low} or more, got {value}")
    settings = flat(base)
    for key, given in search.space.items():
        if key in OWN or key not in settings:
            known = "the same for all trials" if key in OWN else "no such setting"
            _refuse(f"space.{key}", known)
        scope = _range(key, given)
        _check_range(f"space.{key}", scope, settings[key])
        for value in ends(scope):
            from_flat(settings | {key: value})
    if not space_of(search, base):
        _refuse("space", f"expected a setting that {base.method} has, got none")


def _range(key: str, given: Mapping[str, Any]) -> Range:
    names = [field.name for field in dataclasses.fields(Range)]
    for name in given:
        if name not in names:
            _refuse(f"space.{key}.{name}", f"expected some of {names}")
    return Range(**given)


def _check_range(key: str, scope: Range, default: object) -> None:
    if scope.choices is not None:
        if scope.low is not None or scope.high is not None or scope.log:
            _refuse(key, "expected low and high, or choices; got both")
        if not isinstance(scope.choices, list):
            _refuse(key, f"expected a list of choices, got {scope.choices}")
        kinds = {type(choice) for choice in scope.choices}
        if kinds == {bool} and len({*scope.choices}) < 2:
            _refuse(key, "expected true and false")
        if len(kinds) != 1 or not kinds <= {str, int, float, bool}:
            given = f"got {scope.choices}"
            _refuse(key, f"expected choices that are all names or all numbers, {given}")
        return
    if isinstance(default, bool) or not isinstance(default, int | float):
        _refuse(key, "expected choices, since it is no number")
    numbers = [n for n in (scope.low, scope.high) if isinstance(n, int | float)]
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        _refuse(key, f"expected numbers low < high, got {scope.low} and {scope.high}")
    if not isinstance(scope.log, bool):
        _refuse(f"{key}.log", f"expected true or false, got {scope.log}")
    if scope.log and numbers[0] <= 0:
        _refuse(key, f"expected low > 0 where log is true, got {scope.low}")


def ends(scope: Range) -> list[Any]:
    """The choices, or the smallest and the largest number."""
    return scope.choices if scope.choices is not None else [scope.low, scope.high]


def space_of(search: Search, base: Config) -> dict[str, Range]:
    """The part of the space that the method of `base` has."""
    absent: set[str] = set()
    if base.method == "direct":
        absent = {"loss.myocardium_weight", "loss.l2_myocardium"}
    if base.model.share_weights:  # The one network has the rate of the myocardium's.
        absent = {"loss.l2_scar"}
    present = {key: one for key, one in search.space.items() if key not in absent}
    return {key: _range(key, given) for key, given in present.items()}


def trial_folder(out: Path | str, number: int) -> Path:
    """The run folder of a trial, counted from 0."""
    return Path(out) / "trials" / f"{number:04d}"


def localiser_folder(out: Path | str) -> Path:
    """A run folder with the localiser that all trials take."""
    return Path(out) / "localiser"


def trial_config(
    search: Search, base: Config, number: int, values: Mapping[str, Any]
) -> Config:
    """The configuration of a trial.

    Args:
        search: whose trial it is.
        base: the settings that all trials share.
        number: of the trial.
        values: of the settings that are searched.
    """
    own = {
        "run_dir": str(trial_folder(search.out, number)),
        "evaluation.split": SPLIT,
    }
    if makes_localiser(base):
        own["localiser.run"] = str(localiser_folder(search.out))
    return from_flat(flat(base) | rounded(values) | own)


def makes_localiser(base: Config) -> bool:
    """Whether the search trains a localiser for its trials."""
    return base.grid.centre == "localiser" and not base.localiser.run


def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers with the digits that are tried."""
    return {
        key: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for key, value in values.items()
    }


def _refuse(key: str, reason: str) -> None:
    raise RefusedError(key, "CONFIG", reason)
