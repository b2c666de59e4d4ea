"""Figures of a search."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from jdl_keras.tuning.results import FinishedTrial, ranked
from jdl_keras.tuning.search import Range
from jdl_keras.tuning.surrogate import Effect, place, value_at

_COLOURS = {"finished": "#0072B2", "stopped": "#E69F00", "diverged": "#D55E00"}
_MARKERS = {"finished": "o", "stopped": "v", "diverged": "X"}
_LABEL = "validation scar Dice"


def draw_figures(
    space: Mapping[str, Range],
    trials: Sequence[FinishedTrial],
    effects: Mapping[str, Effect],
) -> dict[str, Figure]:
    """All figures of the report by name.

    Args:
        space: by dotted key.
        trials: those that are over, in order.
        effects: see `surrogate.effects`.
    """
    return {
        "progress": progress_figure(trials),
        "settings": settings_figure(space, trials, effects),
        "parallel": parallel_figure(space, trials),
    }


def progress_figure(trials: Sequence[FinishedTrial]) -> Figure:
    """The objective over the trials, and the best until each of them."""
    figure = Figure(figsize=(8.5, 3.8), layout="constrained")
    axes = figure.subplots()
    x = [trial.number for trial in trials]
    y = [trial.outcome.scar_dice for trial in trials]
    axes.step(x, np.maximum.accumulate(y), where="post", color="black", label="best")
    _points(axes, x, trials)
    axes.set(xlabel="trial", ylabel=_LABEL)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=9, loc="lower right")
    axes.grid(alpha=0.3)
    return figure


def settings_figure(
    space: Mapping[str, Range],
    trials: Sequence[FinishedTrial],
    effects: Mapping[str, Effect],
) -> Figure:
    """The objective over each setting, with what the surrogate makes of it."""
    figure = Figure(figsize=(3.0 * len(space) + 0.6, 3.2), layout="constrained")
    panels = figure.subplots(1, len(space), sharey=True, squeeze=False)[0]
    for axes, (key, scope) in zip(panels, space.items(), strict=True):
        _points(axes, [_shown(scope, trial.values[key]) for trial in trials], trials)
        axes.set_xlabel(key)
        if scope.log:
            axes.set_xscale("log")
        if scope.choices is not None:
            axes.set_xticks(range(len(scope.choices)), map(str, scope.choices))
        if key in effects:
            effect = effects[key]
            x = [_at(scope, where) for where in effect.places]
            axes.plot(x, effect.mean, color="black", lw=1.5)
            axes.set_title(f"explains {effect.importance:.0%}", fontsize=9)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(_LABEL)
    return figure


def parallel_figure(
    space: Mapping[str, Range], trials: Sequence[FinishedTrial]
) -> Figure:
    """A line a trial through its settings, in the colour of its score; best on top."""
    figure = Figure(figsize=(8.5, 4.0), layout="constrained")
    axes = figure.subplots()
    y = [trial.outcome.scar_dice for trial in trials]
    scale = ScalarMappable(Normalize(min(y), max(y)), colormaps["viridis"])
    for trial in reversed(ranked(trials)):
        places = [place(scope, trial.values[key]) for key, scope in space.items()]
        colour = scale.to_rgba(trial.outcome.scar_dice)
        best = trial is ranked(trials)[0]
        axes.plot(places, color=colour, lw=3.0 if best else 1.2, marker="o", ms=3)
    for x, scope in enumerate(space.values()):
        axes.axvline(x, color="black", lw=0.8, zorder=0)
        for where in (0.0, 1.0):
            text = f" {_name(scope, where)}"
            axes.annotate(text, (x, where), fontsize=8, va="bottom" if where else "top")
    axes.set_xticks(range(len(space)), [key.replace(".", "\n") for key in space])
    axes.set(yticks=[], ylim=(-0.1, 1.1), xlim=(-0.2, len(space) - 0.5))
    figure.colorbar(scale, ax=axes, label=_LABEL)
    return figure


def _points(axes: Axes, x: Sequence[float], trials: Sequence[FinishedTrial]) -> None:
    for state, colour in _COLOURS.items():
        chosen = [i for i, trial in enumerate(trials) if trial.outcome.state == state]
        if chosen:
            axes.scatter(
                [x[i] for i in chosen],
                [trials[i].outcome.scar_dice for i in chosen],
                color=colour,
                marker=_MARKERS[state],
                s=26,
                zorder=3,
                label=state,
            )


def _shown(scope: Range, value: float | str | bool) -> float:
    """Where a value stands on its axis."""
    return float(value) if scope.choices is None else scope.choices.index(value)


def _at(scope: Range, where: float) -> float:
    if scope.choices is None:
        return value_at(scope, where)
    return where * (len(scope.choices) - 1)


def _name(scope: Range, where: float) -> str:
    if scope.choices is None:
        return f"{value_at(scope, where):.3g}"
    return str(scope.choices[-1 if where else 0])
