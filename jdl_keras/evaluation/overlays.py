"""Overlays: the slices of a study with the contours of reference and prediction."""

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jdl_keras.evaluation.figures import (
    MARGIN_MM,
    WINDOW_PERCENTILES,
    contour_legend,
    draw_contour,
)
from jdl_keras.evaluation.overlap import OverlapCounts, overlap_counts
from jdl_keras.evaluation.per_patient import reference_mask
from jdl_keras.evaluation.surface import bounding_box
from tfrecords_tools.study import Study

PANEL_INCHES = 2.7


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
                draw_contour(axes, mask[index, rows, columns], task, source)
    figure.suptitle(_title(study, masks), fontsize=10)
    figure.legend(
        handles=contour_legend(masks), loc="outside lower center", ncols=2, fontsize=8
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
