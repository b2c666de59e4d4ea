"""One picture of a study: every slice, with the outlines of its reference."""

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib.figure
import matplotlib.lines
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tfrecords_tools import files
from tfrecords_tools.labels import MYOCARDIUM, SCAR, Tissue, region_mask
from tfrecords_tools.study import Slice, Study

OUTLINES = {
    "myocardium": (MYOCARDIUM, "#35d0ff"),
    "scar": (SCAR, "#ff4d4d"),
    "MVO": (frozenset({Tissue.MVO}), "#ffe14d"),
}
"""Region and colour of each outline, drawn in this order."""

MARGIN_MM = 25.0
"""Surroundings of the heart that are shown."""

MAX_COLUMNS = 5
PANEL_INCHES = 2.4


Window = tuple[slice, slice]
"""Rows and columns of the image that a panel shows."""


def write_contact_sheet(
    study: Study,
    path: Path,
    title: str,
    annotate: Callable[[Axes, Slice, Window], None] | None = None,
) -> None:
    """Writes the slices of a study, base first, as one PNG.

    The panels show the labelled heart with a margin, the whole slice if nothing is
    labelled, in true proportions and the grey range of 1 % to 99.5 % of the study.

    Args:
        study: the study.
        path: of the PNG.
        title: stands above, in one line.
        annotate: draws more into the panel of a slice, in pixels of the window.
    """
    rows = math.ceil(len(study.pixels) / MAX_COLUMNS)
    columns = math.ceil(len(study.pixels) / rows)
    figure = matplotlib.figure.Figure(
        figsize=(columns * PANEL_INCHES, rows * PANEL_INCHES + 0.6), facecolor="black"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    window = _window(study)
    grey_range = np.percentile(study.pixels[:, *window], (1.0, 99.5))
    for slice_, panel in zip(study.slices(), panels, strict=False):
        _draw_slice(panel, slice_, window, grey_range)
        if annotate:
            annotate(panel, slice_, window)
    for panel in panels[len(study.pixels) :]:
        panel.set_visible(False)
    _add_legend(figure, title)
    with files.whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _window(study: Study) -> Window:
    """Rows and columns around everything that is labelled, else all of them."""
    labelled = (study.label_map != Tissue.BACKGROUND).any(axis=0)
    if not labelled.any():
        return slice(None), slice(None)
    ranges = []
    for axis, spacing_mm in enumerate(study.spacing_mm):
        places = np.flatnonzero(labelled.any(axis=1 - axis))
        margin = math.ceil(MARGIN_MM / spacing_mm)
        ranges.append(slice(max(places[0] - margin, 0), places[-1] + margin + 1))
    return ranges[0], ranges[1]


def _draw_slice(
    panel: Axes,
    slice_: Slice,
    window: Window,
    grey_range: np.ndarray,
) -> None:
    row_mm, column_mm = slice_.spacing_mm
    panel.imshow(
        slice_.pixels[window],
        cmap="gray",
        vmin=grey_range[0],
        vmax=grey_range[1],
        aspect=row_mm / column_mm,
        interpolation="bicubic",
    )
    for region, colour in OUTLINES.values():
        mask = region_mask(slice_.label_map[window], region)
        if mask.any():
            panel.contour(mask, levels=[0.5], colors=[colour], linewidths=0.9)
    panel.set_axis_off()
    ends = {0: " (base)", slice_.slice_count - 1: " (apex)"}
    end = ends.get(slice_.index, "") if slice_.slice_count > 1 else ""
    title = f"{slice_.index + 1} of {slice_.slice_count}{end}"
    panel.set_title(title, color="white", fontsize=8, pad=2)


def _add_legend(figure: matplotlib.figure.Figure, title: str) -> None:
    handles = [
        matplotlib.lines.Line2D([], [], color=colour, label=name)
        for name, (_, colour) in OUTLINES.items()
    ]
    height = figure.get_figheight()
    top = 1 - 0.7 / height
    figure.subplots_adjust(0.01, 0.01, 0.99, top, wspace=0.03, hspace=0.12)
    figure.suptitle(
        title, x=0.01, y=1 - 0.05 / height, ha="left", color="white", fontsize=10
    )
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 1 - 0.2 / height),
        ncols=len(handles),
        frameon=False,
        labelcolor="white",
        fontsize=8,
    )
