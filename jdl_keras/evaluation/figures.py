"""Plots of an evaluation, and what its figures share. Keys only, never an identifier.

Each function returns a `Figure` of its own; pyplot, which keeps global state, is not
used. Colours are from Okabe and Ito's colour-blind-safe set. In black and white, the
reference is solid and the prediction broken, the myocardium thin and the scar thick.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import ArrayLike

from jdl_keras.evaluation.statistics import bland_altman, concordance
from tfrecords_tools.files import whole_file

SKY_BLUE, ORANGE, BLUE, VERMILION = "#56B4E9", "#E69F00", "#0072B2", "#D55E00"
TASK_LINES: dict[str, dict[str, Any]] = {
    "myocardium": {"color": SKY_BLUE, "linewidth": 1.0},
    "scar": {"color": ORANGE, "linewidth": 1.7},
}
SOURCE_LINES: dict[str, Any] = {"reference": "-", "prediction": (0, (3, 1.5))}
MARGIN_MM = 15.0
"""Shown around the heart, so that its surroundings can be judged."""
WINDOW_PERCENTILES = (1.0, 99.5)
"""Grey window of a panel figure; the few brightest pixels would darken the rest."""


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG, whole or not at all."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def draw_contour(axes: Axes, mask: np.ndarray, task: str, source: str) -> None:
    """Outlines a (H, W) mask in the line of its task and source; see `TASK_LINES`."""
    if mask.any() and not mask.all():
        style = TASK_LINES[task]
        contour = axes.contour(
            mask.astype(float),
            levels=[0.5],
            colors=style["color"],
            linewidths=style["linewidth"],
            linestyles=[SOURCE_LINES[source]],
        )
        # A dark rim keeps the line visible on bright scar.
        rim = Stroke(linewidth=style["linewidth"] + 0.6, foreground="black", alpha=0.5)
        contour.set_path_effects([rim, Normal()])


def contour_legend(tasks: Iterable[str]) -> list[Line2D]:
    """One entry per task and source, in the lines of `draw_contour`."""
    return [
        Line2D([], [], **TASK_LINES[task], linestyle=line, label=f"{task}, {source}")
        for task in tasks
        for source, line in SOURCE_LINES.items()
    ]


def dice_box_plot(dice: Mapping[str, Sequence[float]]) -> Figure:
    """Box plot with one point per patient.

    Args:
        dice: label (a task, or a method) to the Dice of each patient; NaN left out.
    """
    figure = Figure(figsize=(1.6 + 1.3 * len(dice), 4), layout="constrained")
    axes = figure.subplots()
    draw_boxes(axes, dice)
    axes.set(ylim=(-0.03, 1.03), ylabel="Dice")
    return figure


def draw_boxes(
    axes: Axes, groups: Mapping[str, ArrayLike], points: Mapping[str, dict] = {}
) -> None:
    """One box a group with one point per patient; NaN left out.

    Args:
        axes: what to draw on.
        groups: label to the values of its patients.
        points: label to the colour and marker of its points, where not the usual.
    """
    known = [np.asarray(v, float)[~np.isnan(v)] for v in groups.values()]
    labels = [f"{label}\nn = {len(v)}" for label, v in zip(groups, known, strict=True)]
    grey = {"color": "0.45", "linewidth": 1.0}
    axes.boxplot(
        known,
        tick_labels=labels,
        widths=0.5,
        showfliers=False,
        medianprops={"color": "black", "linewidth": 2.0},
        boxprops=grey,
        whiskerprops=grey,
        capprops=grey,
    )
    jitter = np.random.default_rng(0)
    for place, (label, values) in enumerate(zip(groups, known, strict=True), start=1):
        x = place + jitter.uniform(-0.15, 0.15, len(values))
        style = {"color": BLUE, "marker": "o"} | points.get(label, {})
        axes.scatter(x, values, s=18, alpha=0.75, linewidths=0, zorder=3, **style)
    axes.grid(axis="y", alpha=0.3)


def burden_bland_altman(
    reference_percent: ArrayLike, prediction_percent: ArrayLike
) -> Figure:
    """Bland-Altman plot of scar burden: difference over mean, one point per patient."""
    reference = np.asarray(reference_percent, float)
    prediction = np.asarray(prediction_percent, float)
    agreement = bland_altman(reference, prediction)
    figure = Figure(figsize=(5.2, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter((reference + prediction) / 2, prediction - reference, s=20, color=BLUE)
    axes.axhline(0, color="0.7", linewidth=0.8)
    _label_line(axes, agreement["bias"], "bias", "-")
    for limit, name in zip(agreement["limits_of_agreement"], "-+", strict=True):
        _label_line(axes, limit, f"{name}1.96 sd", "--")
    axes.set(
        xlabel="mean of reference and prediction, % of myocardium",
        ylabel="prediction - reference, % points",
        title=_agreement_title(agreement, concordance(reference, prediction)),
    )
    return figure


def _agreement_title(agreement: dict, ccc: float | None) -> str:
    text = f"scar burden, {agreement['patients']} patients"
    return text if ccc is None else f"{text}, CCC {ccc:.2f}"


def _label_line(axes: Axes, height: float | None, name: str, line: str) -> None:
    if height is None:
        return
    axes.axhline(height, color=VERMILION, linestyle=line, linewidth=1.2)
    axes.annotate(
        f"{name}: {height:.1f}",
        xy=(1, height),
        xycoords=("axes fraction", "data"),
        xytext=(-3, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )


def training_curves(history: pd.DataFrame) -> Figure:
    """One panel per logged quantity over the epochs, validation beside training.

    Args:
        history: one row per epoch, the content of history.csv: `epoch` (else the
            index), and numeric columns `NAME` and `val_NAME`.
    """
    numeric = history.select_dtypes("number")
    epochs = numeric.get("epoch", history.index)
    names = dict.fromkeys(c.removeprefix("val_") for c in numeric if c != "epoch")
    columns = max(1, min(3, len(names)))
    rows = max(1, math.ceil(len(names) / columns))
    size = (3.4 * columns, 2.4 * rows + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.remove()
    for axes, name in zip(grid, names, strict=False):
        _draw_curves(axes, epochs, numeric, name)
    return figure


def _draw_curves(
    axes: Axes, epochs: pd.Series | pd.Index, history: pd.DataFrame, name: str
) -> None:
    curves: dict[str, dict[str, Any]] = {
        name: {"color": BLUE, "linestyle": "-", "label": "training"},
        f"val_{name}": {"color": VERMILION, "linestyle": "--", "label": "validation"},
    }
    for column, style in curves.items():
        if column in history:
            axes.plot(epochs, history[column], **style)
    axes.set_title(name, fontsize=9)
    axes.set_xlabel("epoch", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    if f"val_{name}" in history:
        axes.legend(fontsize=7)
