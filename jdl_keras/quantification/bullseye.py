"""Bullseye plots of the 17 segments; numbers in them, so that black and white will do.

The basal ring is outside, anterior on top and the septum on the left, as one looks from
the apex. Each function returns a `Figure` of its own; pyplot is not used.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Wedge

from jdl_keras.quantification.aha17 import TERRITORIES, Segment

COLOURS = LinearSegmentedColormap.from_list(
    "scar", ["white", *matplotlib.colormaps["Oranges"](np.linspace(0.15, 1, 9))]
)
"""White is no scar, dark is all scar: the order survives in grey."""

FULL_PERCENT = 100.0
DARK_PERCENT = 65.0
"""From here on the number in a segment is white."""

_LEVELS = ((1.0, 6, 1), (0.75, 6, 7), (0.5, 4, 13))
"""Outer radius, segments and first segment of each ring."""
_RING, _CAP = 0.25, 0.25
_ARTERY = {number: name for name, own in TERRITORIES.items() for number in own}
_ARTERY_PLACES = {"LAD": (-0.78, 0.9), "RCA": (-0.78, -0.9), "LCX": (0.9, -0.78)}
_CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}
_SIDES = {
    "anterior": (0.0, 1.09),
    "septal": (-1.07, 0.0),
    "inferior": (0.0, -1.09),
    "lateral": (1.07, 0.0),
}


def bullseye_figures(segments: Sequence[Segment]) -> dict[str, Figure]:
    """The plots of measured segments by file name: area fraction and transmurality."""
    area = {one.number: one.area_fraction_percent for one in segments}
    depth = {one.number: one.transmurality_percent for one in segments}
    return {
        "bullseye-area.png": bullseye(
            area, "Scar area fraction, % of the segment's area"
        ),
        "bullseye-transmurality.png": bullseye(
            depth, "Scar transmurality, % of wall thickness, segment mean"
        ),
    }


def bullseye(values_percent: Mapping[int, float | None], title: str) -> Figure:
    """A bullseye plot.

    Args:
        values_percent: segment (1 to 17) to its value; what is None or absent is
            hatched as not assessed.
        title: above the plot.
    """
    figure = Figure(figsize=(5.2, 5.6), layout="constrained")
    axes = figure.subplots()
    draw_bullseye(axes, values_percent)
    axes.set_title(title, fontsize=12)
    scale = ScalarMappable(Normalize(0, FULL_PERCENT), COLOURS)
    bar = figure.colorbar(scale, ax=axes, orientation="horizontal", shrink=0.6)
    bar.set_ticks([0, 25, 50, 75, 100])
    bar.set_label(
        "%   (bold: value, small: AHA segment; hatched: not assessed;\n"
        "thick lines: usual territories of the arteries; seen from the apex)",
        fontsize=8,
    )
    return figure


def draw_bullseye(axes: Axes, values_percent: Mapping[int, float | None]) -> None:
    """Draws the segments on `axes`; see `bullseye`."""
    for number, wedge in _wedges():
        _fill(axes, wedge, values_percent.get(number))
        _write(axes, number, _middle(number), values_percent.get(number))
    _draw_territories(axes)
    for text, place in _SIDES.items():
        turn = 90 * (text == "septal") - 90 * (text == "lateral")
        axes.text(*place, text, fontsize=9, rotation=turn, **_CENTRED)
    axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
    axes.set_axis_off()


def _borders(number: int) -> tuple[float, float, float, float]:
    """First and last angle (degrees, 0 right, counter-clockwise), inner, outer."""
    outer, count, first = next(ring for ring in reversed(_LEVELS) if number >= ring[2])
    width = 360 / count
    start = 90 - width / 2 + (number - first) * width
    return start, start + width, outer - _RING, outer


def _wedges() -> Iterator[tuple[int, Wedge | Circle]]:
    for number in range(1, 17):
        start, end, inner, outer = _borders(number)
        yield number, Wedge((0, 0), outer, start, end, width=outer - inner)
    yield 17, Circle((0, 0), _CAP)


def _middle(number: int) -> tuple[float, float]:
    if number == 17:
        return 0.0, 0.0
    start, end, inner, outer = _borders(number)
    angle, radius = np.deg2rad((start + end) / 2), (inner + outer) / 2
    return float(radius * np.cos(angle)), float(radius * np.sin(angle))


def _fill(axes: Axes, patch: Wedge | Circle, value: float | None) -> None:
    patch.set(edgecolor="0.35", linewidth=0.8)
    if value is None:
        patch.set(facecolor="white", hatch="////")
    else:
        patch.set_facecolor(COLOURS(value / FULL_PERCENT))
    axes.add_patch(patch)


def _write(
    axes: Axes, number: int, place: tuple[float, float], value: float | None
) -> None:
    dark = value is not None and value >= DARK_PERCENT
    style = _CENTRED | {"color": "white" if dark else "black"}
    (x, y), text = place, "n/a" if value is None else f"{value:.0f}"
    if value is None:  # readable over the hatching
        style["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.text(x, y + 0.03, text, fontsize=12, weight="bold", **style)
    axes.text(x, y - 0.065, str(number), fontsize=7, **style)


def _draw_territories(axes: Axes) -> None:
    """Thick lines where two neighbours belong to different arteries, and their names.

    Along the rings and across them, one degree at a time.
    """
    degrees = np.arange(360)
    inner_artery = np.full(360, _ARTERY[17])
    for outer, count, first in reversed(_LEVELS):
        start = _borders(first)[0]
        places = ((degrees + 0.5 - start) % 360 // (360 / count)).astype(int)
        artery = np.array([_ARTERY[first + int(place)] for place in places])
        for degree in np.flatnonzero(artery != np.roll(artery, 1)).tolist():
            _thick_line(axes, (degree, degree), (outer - _RING, outer))
        for degree in np.flatnonzero(artery != inner_artery).tolist():
            _thick_line(axes, (degree, degree + 1), (outer - _RING,) * 2)
        inner_artery = artery
    for name, place in _ARTERY_PLACES.items():
        axes.text(*place, name, fontsize=10, weight="bold", **_CENTRED)


def _thick_line(axes: Axes, degrees: Sequence[float], radii: Sequence[float]) -> None:
    angles = np.deg2rad(degrees)
    places = radii * np.cos(angles), radii * np.sin(angles)
    axes.plot(*places, "k", linewidth=2.2, solid_capstyle="round")
