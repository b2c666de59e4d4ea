"""Figure 3 of the paper: image, reference and every method, chosen by a rule.

Shown are the patients at the quartiles of the candidate's scar Dice among the patients
with scar, neither the best nor the worst; of each the slice with the most reference
scar; of each method the run with the lowest seed.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from jdl_keras.evaluation.comparison import patient_means
from jdl_keras.evaluation.figures import (
    MARGIN_MM,
    WINDOW_PERCENTILES,
    contour_legend,
    draw_contour,
)
from jdl_keras.evaluation.finished_runs import FinishedRun
from jdl_keras.evaluation.overlap import overlap_counts
from jdl_keras.evaluation.per_patient import reference_mask
from jdl_keras.evaluation.surface import bounding_box
from tfrecords_tools.labels import TASKS
from tfrecords_tools.study import Study

QUARTILES = (25, 50, 75)
PANEL_INCHES = 1.75
Masks = Mapping[str, np.ndarray]
Window = tuple[tuple[int, int], tuple[int, int]]
"""First and last + 1 of rows and of columns; may reach beyond the image."""


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One row of the figure.

    Attributes:
        title: which patient this is.
        study: the image and its reference.
        predictions: method to task to boolean (S, H, W) mask.
    """

    title: str
    study: Study
    predictions: Mapping[str, Masks]


def quartile_patients(table: pd.DataFrame, candidate: str) -> dict[int, str]:
    """Quartile in percent to the patient whose scar Dice lies nearest to it.

    Dice is the candidate's, averaged over seeds. Each patient is taken once; of two as
    near, the one with the smaller key. Fewer than three patients give fewer panels.
    """
    dice = patient_means(table, "dice")[candidate].dropna().sort_index()
    chosen: dict[int, str] = {}
    for percent in QUARTILES:
        left = dice.drop([*chosen.values()])
        if len(left):
            # Rounded, so that the last bits do not choose between two as near.
            distance = (left - np.percentile(dice, percent)).abs().round(9)
            chosen[percent] = str(distance.idxmin())
    return chosen


def read_panels(
    table: pd.DataFrame,
    runs: Sequence[FinishedRun],
    studies: Iterable[Study],
    candidate: str = "jdl",
) -> list[Panel]:
    """The rows of the figure, from lower to upper quartile.

    Args:
        table: see `comparison.compare_methods`.
        runs: the finished runs, with the masks that they predicted.
        studies: all studies of the compared split, one in memory at a time.
        candidate: the method whose Dice chooses the patients.

    Raises:
        RefusedError: if a mask cannot be read or is not on the study's grid.
    """
    chosen = {
        key: percent for percent, key in quartile_patients(table, candidate).items()
    }
    folds = dict(zip(table["patient_key"], table["fold"], strict=True))
    shown: dict[str, Study] = {}
    for study in studies:
        key = study.patient_key
        if key in chosen and (
            key not in shown or _largest_scar(study)[0] > _largest_scar(shown[key])[0]
        ):
            shown[key] = study
    return [
        Panel(
            f"{percent} % quartile",
            shown[key],
            _predictions(runs, folds[key], shown[key]),
        )
        for key, percent in sorted(chosen.items(), key=lambda item: item[1])
        if key in shown
    ]


def panel_figure(panels: Sequence[Panel]) -> Figure:
    """Rows are patients; columns are image, reference and every method."""
    methods = [*panels[0].predictions] if panels else []
    columns = 2 + len(methods)
    size = (PANEL_INCHES * max(columns, 3), PANEL_INCHES * len(panels) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    if not panels:
        figure.text(0.5, 0.5, "no patient with scar", ha="center", fontsize=10)
        return figure
    grid = figure.subplots(len(panels), columns, squeeze=False)
    for row, panel in zip(grid, panels, strict=True):
        _draw_row(row, panel)
    for axes, title in zip(grid[0], ["image", "reference", *methods], strict=True):
        axes.set_title(title, fontsize=11)
    figure.legend(
        handles=contour_legend(TASKS), loc="outside lower center", ncols=4, fontsize=9
    )
    return figure


def _largest_scar(study: Study) -> tuple[int, int]:
    """Pixels and index of the slice with the most reference scar."""
    areas = reference_mask(study, "scar").sum(axis=(1, 2))
    return int(areas.max()), int(areas.argmax())


def _predictions(
    runs: Sequence[FinishedRun], fold: int, study: Study
) -> dict[str, Masks]:
    seed = min(run.seed for run in runs)
    shown = [run for run in runs if (run.seed, run.fold) == (seed, fold)]
    return {run.method: run.masks(study) for run in shown}


def _draw_row(row: Sequence[Axes], panel: Panel) -> None:
    study = panel.study
    _, index = _largest_scar(study)
    references = {task: reference_mask(study, task) for task in TASKS}
    heart = references["myocardium"][index] | references["scar"][index]
    window = _heart_window(study, heart)
    for axes in row:
        _draw_image(axes, study, index, window)
    label = f"{panel.title}\n{study.patient_key[:8]}, slice {index}"
    # A key comes with the data and is no formula.
    row[0].set_ylabel(label, fontsize=9, parse_math=False)
    for task, mask in references.items():
        draw_contour(row[1], mask[index], task, "reference")
    for axes, masks in zip(row[2:], panel.predictions.values(), strict=True):
        for task, mask in masks.items():
            draw_contour(axes, mask[index], task, "prediction")
        outside = _reaches_outside(masks["scar"][index], window)
        _write(axes, _dice_text(study, masks["scar"]) + ", more outside" * outside)


def _heart_window(study: Study, heart: np.ndarray) -> Window:
    """A square in millimetres around the reference (H, W) of a slice.

    The reference decides what is shown, and nothing else.
    """
    sides = bounding_box(heart)
    steps_mm = study.spacing_mm
    extents_mm = [
        (side.stop - side.start) * step
        for side, step in zip(sides, steps_mm, strict=True)
    ]
    half_mm = max(extents_mm) / 2 + MARGIN_MM
    windows = []
    for side, step in zip(sides, steps_mm, strict=True):
        centre, half = (side.start + side.stop) / 2, half_mm / step
        windows.append((math.floor(centre - half), math.ceil(centre + half)))
    return windows[0], windows[1]


def _draw_image(axes: Axes, study: Study, index: int, window: Window) -> None:
    (top, bottom), (left, right) = window
    pixels = study.pixels[index]
    shown = pixels[_inside(window)]
    low, high = np.percentile(shown, WINDOW_PERCENTILES)
    aspect = study.spacing_mm[0] / study.spacing_mm[1]
    axes.imshow(pixels, cmap="gray", vmin=low, vmax=high, aspect=aspect)
    axes.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
    axes.set(xticks=[], yticks=[], facecolor="black")


def _inside(window: Window) -> tuple[slice, slice]:
    rows, columns = (slice(max(first, 0), stop) for first, stop in window)
    return rows, columns


def _reaches_outside(mask: np.ndarray, window: Window) -> bool:
    return bool(mask.sum() > mask[_inside(window)].sum())


def _dice_text(study: Study, prediction: np.ndarray) -> str:
    labelled = np.array(["scar" in tasks for tasks in study.labelled])
    reference = reference_mask(study, "scar")
    counts = overlap_counts(reference[labelled], prediction[labelled])
    return f"Dice {counts.dice:.2f}"


def _write(axes: Axes, text: str) -> None:
    axes.text(
        *(0.03, 0.03, text),
        transform=axes.transAxes,
        color="white",
        fontsize=9,
        path_effects=[Stroke(linewidth=2, foreground="black"), Normal()],
    )
