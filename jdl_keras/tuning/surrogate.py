"""What a search says about each setting: a Gaussian process over all its trials."""

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from jdl_keras.tuning.results import FinishedTrial
from jdl_keras.tuning.search import Range

ENOUGH = 6
"""Trials that a surface is fitted to, at least."""

PLACES = 512
"""Random settings over which an effect is averaged."""

STEPS = 41
"""Values at which an effect is computed."""


@dataclasses.dataclass(frozen=True)
class Effect:
    """What the score does with one setting, averaged over all others.

    Attributes:
        places: (STEPS,) in [0, 1], from `low` to `high`; of choices, one for each.
        mean: (STEPS,) mean score of the surface.
        importance: share of the surface's variance that this setting alone explains.
    """

    places: np.ndarray
    mean: np.ndarray
    importance: float


def place(scope: Range, value: float | str | bool) -> float:
    """Where a value lies in its range, from 0 to 1."""
    if scope.choices is not None:
        return scope.choices.index(value) / max(1, len(scope.choices) - 1)
    low, high, at = float(scope.low or 0), float(scope.high or 0), float(value)
    if scope.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def value_at(scope: Range, where: float) -> float:
    """The number at a place of a range without choices."""
    low, high = float(scope.low or 0), float(scope.high or 0)
    if scope.log:
        return float(low * (high / low) ** where)
    return low + where * (high - low)


def effects(
    space: Mapping[str, Range], trials: Sequence[FinishedTrial]
) -> dict[str, Effect]:
    """The effect of each setting; none while there are too few trials.

    Partial dependence (Friedman 2001) of a Gaussian process with a length for each
    setting and noise; the importance is that of Hutter et al. 2014 (fANOVA) for single
    settings.

    Args:
        space: by dotted key.
        trials: those that are over.
    """
    if len(trials) < ENOUGH:
        return {}
    x = np.array(
        [[place(s, t.values[key]) for key, s in space.items()] for t in trials]
    )
    y = np.array([trial.outcome.scar_dice for trial in trials])
    if np.ptp(y) == 0:
        return {}
    surface = _fit(x, y)
    random = np.random.default_rng(0).uniform(size=(PLACES, x.shape[1]))
    variance = float(np.var(surface.predict(random)))
    found = {}
    for axis, (key, scope) in enumerate(space.items()):
        steps = STEPS if scope.choices is None else len(scope.choices)
        places = np.linspace(0, 1, steps)
        mean = np.array([_mean(surface, random, axis, at) for at in places])
        # A flat surface explains nothing.
        share = float(np.var(mean)) / variance if variance > 1e-12 else 0.0
        found[key] = Effect(places, mean, min(1.0, share))
    return found


def _fit(x: np.ndarray, y: np.ndarray) -> GaussianProcessRegressor:
    lengths = Matern(np.ones(x.shape[1]), (0.1, 10.0), nu=2.5)
    kernel = ConstantKernel(1.0, (0.1, 10.0)) * lengths + WhiteKernel(0.1, (1e-3, 1.0))
    surface = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        # A length at its bound is a setting without effect.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return surface.fit(x, y)


def _mean(
    surface: GaussianProcessRegressor, random: np.ndarray, axis: int, at: float
) -> float:
    x = random.copy()
    x[:, axis] = at
    return float(surface.predict(x).mean())
