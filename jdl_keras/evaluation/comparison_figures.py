"""Figures that compare methods; points and boxes are patients, averaged over seeds.

A method keeps its colour, marker and line in all figures. Colours are Okabe and Ito's;
markers and lines tell the methods apart in black and white.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jdl_keras.evaluation.comparison import patient_means
from jdl_keras.evaluation.comparison_panels import Panel, panel_figure
from jdl_keras.evaluation.figures import draw_boxes
from jdl_keras.evaluation.finished_runs import FinishedRun
from tfrecords_tools.errors import RefusedError

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)))
SCORE = "val_scar_dice"
"""Column of history.csv with the scar Dice on the validation split."""


def draw_figures(
    table: pd.DataFrame, runs: Sequence[FinishedRun], panels: Sequence[Panel]
) -> dict[str, Figure]:
    """All figures of the report by name.

    Args:
        table: see `comparison.compare_methods`.
        runs: the runs that the table was read from.
        panels: see `comparison_panels.read_panels`.
    """
    return {
        "dice": dice_figure(table),
        "panels": panel_figure(panels),
        "precision_recall": precision_recall_figure(table),
        "false_positives": false_positive_figure(table),
        "curves": curves_figure(runs),
    }


def method_styles(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each method, by its place in the order given."""
    styles = itertools.cycle(zip(_COLOURS, _MARKERS, _LINES, strict=True))
    return {
        method: {"color": colour, "marker": marker, "linestyle": line}
        for method, (colour, marker, line) in zip(methods, styles, strict=False)
    }


def dice_figure(table: pd.DataFrame) -> Figure:
    """Figure 2 of the paper: scar Dice of each patient with scar, a box per method.

    Args:
        table: see `comparison.compare_methods`.
    """
    figure, (axes,) = _wide_figure(table, panels=1)
    _draw_methods(axes, patient_means(table, "dice"))
    axes.set(ylim=(-0.03, 1.03), ylabel="scar Dice")
    return figure


def precision_recall_figure(table: pd.DataFrame) -> Figure:
    """Figure 4 of the paper: precision and recall of scar, a box per method."""
    figure, panels = _wide_figure(table, panels=2)
    for axes, measure in zip(panels, ("precision", "recall"), strict=True):
        _draw_methods(axes, patient_means(table, measure))
        axes.set(ylim=(-0.03, 1.03), ylabel=f"scar {measure}")
    return figure


def false_positive_figure(table: pd.DataFrame) -> Figure:
    """False-positive millilitres of the patients without scar: points and their mean.

    Points sit beside each other where they would cover each other, so that the many
    zeros of a good method can be seen.
    """
    means = patient_means(table, "false_positive_ml", with_scar=False)
    figure, (axes,) = _wide_figure(table, panels=1)
    styles = method_styles(means.columns)
    largest = float(np.nan_to_num(means.to_numpy(float)).max(initial=0.0))
    for place, method in enumerate(means.columns):
        values = np.sort(means[method].to_numpy(float))
        x = place + _side_by_side(values, near=0.02 * largest)
        style = {key: styles[method][key] for key in ("color", "marker")}
        axes.scatter(x, values, s=24, alpha=0.8, linewidths=0, zorder=3, **style)
        if values.size:
            axes.hlines(values.mean(), place - 0.3, place + 0.3, color="black", lw=1.5)
    labels = [f"{method}\nn = {len(means)}" for method in means.columns]
    axes.set_xticks(range(len(labels)), labels)
    axes.set(ylabel="false-positive scar, ml", xlim=(-0.5, len(labels) - 0.5))
    axes.set_ylim(-0.04 * (largest or 1.0), 1.06 * (largest or 1.0))
    axes.grid(axis="y", alpha=0.3)
    return figure


def curves_figure(runs: Sequence[FinishedRun]) -> Figure:
    """Scar Dice on the validation split over the epochs: one line per run.

    Raises:
        RefusedError: if a run has no readable history.csv.
    """
    styles = method_styles(dict.fromkeys(run.method for run in runs))
    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for run in runs:
        history = _validation_score(run)
        style = styles[run.method] | {"marker": None}
        axes.plot(history.index, history, linewidth=1.3, alpha=0.85, **style)
    handles = [
        Line2D([], [], **(style | {"marker": None}), label=method)
        for method, style in styles.items()
    ]
    axes.legend(handles=handles, fontsize=9, handlelength=3.5, loc="lower right")
    axes.set(xlabel="epoch", ylabel="validation scar Dice", ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)
    return figure


def _wide_figure(table: pd.DataFrame, panels: int) -> tuple[Figure, list[Axes]]:
    width = panels * (1.4 + 1.15 * table["method"].nunique())
    figure = Figure(figsize=(width, 4.2), layout="constrained")
    return figure, [*figure.subplots(1, panels, squeeze=False)[0]]


def _draw_methods(axes: Axes, means: pd.DataFrame) -> None:
    points = {
        method: {key: style[key] for key in ("color", "marker")}
        for method, style in method_styles(means.columns).items()
    }
    draw_boxes(axes, {method: means[method] for method in means.columns}, points)


def _side_by_side(values: np.ndarray, near: float) -> np.ndarray:
    """Shifts to the side of sorted values that lie within `near` of each other."""
    shifts = np.zeros(len(values))
    start = 0
    for stop in range(1, len(values) + 1):
        if stop == len(values) or values[stop] - values[start] > near:
            count = stop - start
            step = min(0.08, 0.7 / count)
            shifts[start:stop] = step * (np.arange(count) - (count - 1) / 2)
            start = stop
    return shifts


def _validation_score(run: FinishedRun) -> pd.Series:
    """The score by epoch, counted from 1 as it is printed during training."""
    path = run.folder / "history.csv"
    try:
        history = pd.read_csv(path)
        return history.set_index(history["epoch"] + 1)[SCORE].dropna()
    except (OSError, ValueError, KeyError):
        reason = f"expected a history with epoch and {SCORE}; train the run again"
        raise RefusedError(path, "CORRUPT", reason) from None
