"""Pictures of a report: all slices, each without and with its contours, and bullseyes.

Readable in black and white: the wall is outlined solid, scar broken and hatched; what
is to be looked at first has a black title and a thick frame.
"""

import dataclasses
import math
from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from scipy import ndimage

from jdl_keras.evaluation.figures import MARGIN_MM, ORANGE, WINDOW_PERCENTILES
from jdl_keras.inference.report_numbers import amount
from jdl_keras.quantification.aha17 import Segment
from jdl_keras.quantification.bullseye import draw_bullseye
from jdl_keras.quantification.masks import WallMasks
from jdl_keras.quantification.measurement import Measurements, SliceRow
from tfrecords_tools.geometry import bounding_box

MM_PER_INCH = 25.4
RESOLUTION_DPI = 220
"""On paper; a pixel of the image becomes two to four of the picture."""

TITLE_MM, GAP_MM, TITLE_POINTS = 4.4, 1.8, 6.5
LEGEND = (
    "Each slice twice: the image alone, and with the contours that were measured. "
    "Solid line: LV wall; broken line and hatching: scar, its share is of the wall of "
    "that slice. Black title and frame: look first. Each slice has its own grey window."
)
HATCH_MM = 1.1
"""Between the lines that mark scar."""

ROOM_FOR_COLUMNS = 0.9
"""Pictures may be so much smaller than they could be, to stand in fewer rows."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """How pairs of pictures are laid out; millimetres on paper.

    Attributes:
        columns: pairs beside each other.
        rows: pairs below each other.
        tile_mm: height and width of one picture.
    """

    columns: int
    rows: int
    tile_mm: tuple[float, float]

    @property
    def height_mm(self) -> float:
        """Of the whole."""
        return self.rows * (self.tile_mm[0] + TITLE_MM + GAP_MM)


def grid_of(
    count: int, height_by_width: float, width_mm: float, height_mm: float
) -> Grid:
    """The layout with the largest pictures that fit, or nearly so, in fewest rows."""

    def laid(columns: int) -> Grid:
        rows = math.ceil(count / columns)
        wide = (width_mm / columns - GAP_MM) / 2
        high = (height_mm / rows - TITLE_MM - GAP_MM) / height_by_width
        tile = max(1.0, min(wide, high))
        return Grid(columns, rows, (tile * height_by_width, tile))

    every = [laid(columns) for columns in range(1, count + 1)]
    least = ROOM_FOR_COLUMNS * max(one.tile_mm[1] for one in every)
    return next(one for one in reversed(every) if one.tile_mm[1] >= least)


def heart_region(masks: WallMasks) -> tuple[slice, slice]:
    """Rows and columns around the wall of all slices, wherever it was found."""
    box = bounding_box(np.asarray(masks.myocardium.any(axis=0)))
    assert box is not None  # masks without wall cannot be built
    size = masks.label_map.shape[1:]
    rows, columns = (
        slice(max(0, first - margin), min(whole, last + 1 + margin))
        for first, last, margin, whole in zip(
            *box.tolist(),
            [math.ceil(MARGIN_MM / step_mm) for step_mm in masks.spacing_mm],
            size,
            strict=True,
        )
    )
    return rows, columns


def slices_figure(
    pixels: np.ndarray,
    found: Measurements,
    look_first: Collection[int],
    width_mm: float,
    height_mm: float,
) -> Figure:
    """All slices, each without and with contours.

    Args:
        pixels: (S, H, W) intensities.
        found: the masks that were measured, and the numbers of each slice.
        look_first: slices that are marked.
        width_mm: of the figure on paper.
        height_mm: it may have at most.
    """
    rows, columns = heart_region(found.masks)
    shown = pixels[:, rows, columns]
    steps_mm = found.masks.spacing_mm
    extent_mm = shown.shape[1] * steps_mm[0], shown.shape[2] * steps_mm[1]
    grid = grid_of(len(pixels), extent_mm[0] / extent_mm[1], width_mm, height_mm)
    figure, axes = _paper(width_mm, grid.height_mm)
    walls = found.masks.myocardium[:, rows, columns]
    for index, image in enumerate(shown):
        window = grey_window(image, walls[index])
        corner = _corner(grid, index, width_mm)
        for turn in range(2):
            left = corner[0] + turn * grid.tile_mm[1]
            _draw_image(axes, image, (left, corner[1]), grid.tile_mm, window)
        place = (corner[0] + grid.tile_mm[1], corner[1])
        scar = found.masks.scar[index, rows, columns]
        _draw_wall(axes, walls[index], place, grid.tile_mm)
        _draw_scar(axes, scar, place, grid.tile_mm)
        title = slice_title(found.slices[index], len(shown))
        _draw_title(axes, title, corner, grid.tile_mm, index in look_first)
    return figure


def grey_window(image: np.ndarray, wall: np.ndarray) -> np.ndarray:
    """Darkest and brightest intensity shown: those of wall and cavity.

    Fat and lung would leave little grey to tell scar from wall. Of each slice alone:
    their brightness differs, and one window would wash some of them out.

    Args:
        image: (H, W) intensities.
        wall: (H, W) boolean; without any the whole image counts.
    """
    heart = ndimage.binary_fill_holes(wall)
    return np.percentile(image[heart] if wall.any() else image, WINDOW_PERCENTILES)


def slice_title(row: SliceRow, count: int) -> str:
    """Such as `0 base: scar 12 %`."""
    ends = {0: " base", count - 1: " apex"} if count > 1 else {}
    if row.kind == "no wall":
        text = "no wall found"
    elif not row.burden.scar_ml:
        text = "no scar found"
    else:
        text = f"scar {amount(row.burden.burden_percent, '%')}"
    ring = f", {row.kind}" if row.kind in ("open ring", "no cavity") else ""
    return f"{row.index}{ends.get(row.index, '')}: {text}{ring}"


def _paper(width_mm: float, height_mm: float) -> tuple[Figure, Axes]:
    """A figure with one unit a millimetre, from the upper left."""
    figure = Figure(figsize=(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width_mm), ylim=(height_mm, 0))
    axes.set_axis_off()
    return figure, axes


def _corner(grid: Grid, index: int, width_mm: float) -> tuple[float, float]:
    """Left and upper side of the first picture of a pair."""
    row, column = divmod(index, grid.columns)
    pair_mm = width_mm / grid.columns
    left = column * pair_mm + (pair_mm - 2 * grid.tile_mm[1]) / 2
    return left, row * (grid.tile_mm[0] + TITLE_MM + GAP_MM) + TITLE_MM


def _draw_image(
    axes: Axes,
    image: np.ndarray,
    corner: tuple[float, float],
    tile_mm: tuple[float, float],
    window: np.ndarray,
) -> None:
    (left, top), (high, wide) = corner, tile_mm
    axes.imshow(
        image,
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        extent=(left, left + wide, top + high, top),
        aspect="auto",
        interpolation="bilinear",
    )


def _places(
    mask: np.ndarray, corner: tuple[float, float], tile_mm: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the pixels' centres lie on paper, and the mask, with a rim around both.

    The rim closes the line where a mask reaches the edge of the picture.
    """
    x, y = (
        start + (np.arange(-1, size + 1) + 0.5) / size * side
        for start, size, side in zip(
            corner, mask.shape[::-1], tile_mm[::-1], strict=True
        )
    )
    return x, y, np.pad(mask.astype(float), 1)


def _draw_wall(
    axes: Axes,
    mask: np.ndarray,
    corner: tuple[float, float],
    tile_mm: tuple[float, float],
) -> None:
    if mask.any():
        places = _places(mask, corner, tile_mm)
        lines = axes.contour(*places, levels=[0.5], colors="white", linewidths=0.6)
        # A dark rim keeps the line visible on bright scar and blood.
        lines.set_path_effects([Stroke(linewidth=1.2, foreground="black"), Normal()])


def _draw_scar(
    axes: Axes,
    mask: np.ndarray,
    corner: tuple[float, float],
    tile_mm: tuple[float, float],
) -> None:
    if not mask.any():
        return
    places = _places(mask, corner, tile_mm)
    area = axes.contourf(*places, levels=[0.5, 1.5], colors="none")
    (left, top), (high, wide) = corner, tile_mm
    starts = np.arange(left - high, left + wide, HATCH_MM)
    slanted = [[(x, top + high), (x + high, top)] for x in starts]
    hatching = LineCollection(slanted, colors=ORANGE, linewidths=0.35)
    # Beside each bright line a dark one: scar itself is bright in some slices.
    hatching.set_path_effects([Stroke(linewidth=0.9, foreground="black"), Normal()])
    axes.add_collection(hatching, autolim=False)
    hatching.set_clip_path(area.get_paths()[0], axes.transData)
    lines = axes.contour(*places, levels=[0.5], colors=ORANGE, linewidths=0.8)
    lines.set_linestyle([(0, (2.2, 1.1))])
    lines.set_path_effects([Stroke(linewidth=1.3, foreground="black"), Normal()])


def _draw_title(
    axes: Axes,
    text: str,
    corner: tuple[float, float],
    tile_mm: tuple[float, float],
    look_first: bool,
) -> None:
    (left, top), (high, wide) = corner, tile_mm
    bar_mm = TITLE_MM - 0.8
    if look_first:
        axes.add_patch(Rectangle((left, top - bar_mm), 2 * wide, bar_mm, color="black"))
        frame = Rectangle((left, top), 2 * wide, high, fill=False, linewidth=2.2)
        axes.add_patch(frame)
    text = f"LOOK  {text}" if look_first else text
    # So small that it ends before the next pair: a bold letter is 0.7 of its size.
    fitting = (2 * wide - 1) / (0.7 * len(text)) * 72 / MM_PER_INCH
    axes.text(
        left + 0.8,
        top - TITLE_MM / 2 + 0.4,
        text,
        fontsize=min(TITLE_POINTS, fitting),
        weight="bold" if look_first else "normal",
        color="white" if look_first else "black",
        va="center",
    )


def bullseyes_figure(segments: Sequence[Segment]) -> Figure:
    """Area fraction and transmurality side by side."""
    figure = Figure(figsize=(6.3, 3.35), layout="constrained")
    for axes, title, values in zip(
        figure.subplots(1, 2),
        ("scar area, % of segment area", "transmurality, % of wall thickness"),
        (
            {one.number: one.area_fraction_percent for one in segments},
            {one.number: one.transmurality_percent for one in segments},
        ),
        strict=True,
    ):
        draw_bullseye(axes, values)
        axes.set_title(title, fontsize=11, weight="bold")
    return figure
