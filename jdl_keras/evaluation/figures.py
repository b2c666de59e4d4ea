"""Figures of an evaluation. Keys only, never an identifier.

Each function returns a `Figure` of its own; pyplot, which keeps global state, is not
used. Colours are from Okabe and Ito's colour-blind-safe set. In black and white, the
reference is solid and the prediction broken, the myocardium thin and the scar thick.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import ArrayLike

from jdl_keras.evaluation.overlap import OverlapCounts, overlap_counts
from jdl_keras.evaluation.per_patient import reference_mask
from jdl_keras.evaluation.statistics import bland_altman, concordance
from jdl_keras.evaluation.surface import bounding_box
from tfrecords_tools.files import whole_file
from tfrecords_tools.study import Study

SKY_BLUE, ORANGE, BLUE, VERMILION = "#56B4E9", "#E69F00", "#0072B2", "#D55E00"
TASK_LINES: dict[str, dict[str, Any]] = {
    "myocardium": {"color": SKY_BLUE, "linewidth": 1.0},
    "scar": {"color": ORANGE, "linewidth": 1.7},
}
SOURCE_LINES: dict[str, Any] = {"reference": "-", "prediction": (0, (3, 1.5))}
PANEL_INCHES = 2.7
MARGIN_MM = 15.0
"""Shown around the heart, so that its surroundings can be judged."""
WINDOW_PERCENTILES = (1.0, 99.5)
"""Grey window of a panel figure; the few brightest pixels would darken the rest."""


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG, whole or not at all."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def overlay_figures(
    cases: Iterable[tuple[Study, Mapping[str, np.ndarray]]],
) -> Iterator[tuple[str, Figure]]:
    """Draws one (name, figure) per study, when asked for it; see `overlay_figure`."""
    for study, predictions in cases:
        name = f"overlay-{study.patient_key}-{study.study_key}"
        yield name, overlay_figure(study, predictions)


def overlay_figure(study: Study, predictions: Mapping[str, np.ndarray]) -> Figure:
    """All slices of a study with the contours of reference and prediction.

    Args:
        study: image and reference.
        predictions: task to boolean (S, H, W) mask on the study's grid.
    """
    masks = {
        task: {"reference": reference_mask(study, task), "prediction": prediction}
        for task, prediction in predictions.items()
    }
    rows, columns = _heart_region(study, masks)
    shown = study.pixels[:, rows, columns]
    low, high = np.percentile(shown, WINDOW_PERCENTILES)
    aspect = study.spacing_mm[0] / study.spacing_mm[1]
    figure, panels = _panel_grid(len(shown), shown.shape[1] / shown.shape[2] * aspect)
    for index, axes in enumerate(panels):
        axes.imshow(shown[index], cmap="gray", vmin=low, vmax=high, aspect=aspect)
        axes.set_axis_off()
        axes.set_title(_slice_title(study, index, masks), fontsize=8)
        for task, sources in masks.items():
            for source, mask in sources.items():
                _draw_contour(axes, mask[index, rows, columns], task, source)
    figure.suptitle(_title(study, masks), fontsize=10)
    figure.legend(
        handles=_legend(masks), loc="outside lower center", ncols=2, fontsize=8
    )
    return figure


def _heart_region(
    study: Study, masks: Mapping[str, Mapping[str, np.ndarray]]
) -> tuple[slice, slice]:
    """Rows and columns around all masks, reference too: for display only."""
    height, width = study.pixels.shape[1:]
    every = [
        mask.any(axis=0) for sources in masks.values() for mask in sources.values()
    ]
    heart = np.any(every, axis=0)
    if not heart.any():
        return slice(0, height), slice(0, width)
    box = bounding_box(heart)
    rows, columns = (
        _widened(side, math.ceil(MARGIN_MM / step_mm), size)
        for side, step_mm, size in zip(
            box, study.spacing_mm, (height, width), strict=True
        )
    )
    return rows, columns


def _widened(side: slice, margin: int, size: int) -> slice:
    return slice(max(0, side.start - margin), min(size, side.stop + margin))


def _panel_grid(count: int, height_by_width: float) -> tuple[Figure, list[Axes]]:
    columns = min(count, 4)
    rows = math.ceil(count / columns)
    height = rows * (PANEL_INCHES * height_by_width + 0.2) + 0.8
    size = (PANEL_INCHES * max(columns, 2), height)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    return figure, list(grid[:count])


def _draw_contour(axes: Axes, mask: np.ndarray, task: str, source: str) -> None:
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


def _slice_title(study: Study, index: int, tasks: Iterable[str]) -> str:
    missing = [task for task in tasks if task not in study.labelled[index]]
    return f"slice {index}" + (f", no {' or '.join(missing)} label" if missing else "")


def _title(study: Study, masks: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    parts = [f"patient {study.patient_key}"]
    for task, sources in masks.items():
        labelled = [
            index for index, tasks in enumerate(study.labelled) if task in tasks
        ]
        counts = overlap_counts(
            sources["reference"][labelled], sources["prediction"][labelled]
        )
        parts.append(f"{task} Dice {_dice_text(counts)}")
    return "   ".join(parts)


def _dice_text(counts: OverlapCounts) -> str:
    return "undefined (both empty)" if math.isnan(counts.dice) else f"{counts.dice:.2f}"


def _legend(tasks: Iterable[str]) -> list[Line2D]:
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
    known = [np.asarray(v, float)[~np.isnan(v)] for v in dice.values()]
    labels = [f"{label}\nn = {len(v)}" for label, v in zip(dice, known, strict=True)]
    figure = Figure(figsize=(1.6 + 1.3 * len(dice), 4), layout="constrained")
    axes = figure.subplots()
    median = {"color": VERMILION, "linewidth": 1.5}
    axes.boxplot(
        known, tick_labels=labels, widths=0.5, showfliers=False, medianprops=median
    )
    jitter = np.random.default_rng(0)
    for place, values in enumerate(known, start=1):
        x = place + jitter.uniform(-0.15, 0.15, len(values))
        axes.scatter(x, values, s=16, color=BLUE, alpha=0.6, linewidths=0, zorder=3)
    axes.set(ylim=(-0.03, 1.03), ylabel="Dice")
    axes.grid(axis="y", alpha=0.3)
    return figure


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
