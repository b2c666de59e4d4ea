"""A contact sheet on which the findings of a check are marked."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from scipy import ndimage

from tfrecords_tools.contact_sheet import Window, write_contact_sheet
from tfrecords_tools.findings import Finding
from tfrecords_tools.study import Slice, Study

MARK = "#ffa726"
"""Colour of frames, outlines and words of findings; no tissue has it."""

KEY = "(dashed: what was found; of a shift, where the other slices place the contour)"

MARGIN_PIXELS = 2


def write_finding_sheet(
    study: Study, findings: Sequence[Finding], path: Path, title: str
) -> None:
    """Writes all slices of a study as one PNG, those with findings framed.

    Args:
        study: the study.
        findings: what was found in it.
        path: of the PNG.
        title: stands above, before what was found in the study as a whole.
    """

    def annotate(panel: Axes, slice_: Slice, window: Window) -> None:
        here = [finding for finding in findings if finding.index == slice_.index]
        if here:
            _mark(panel, here, window)

    of_study = [f"{f.code}: {f.text}" for f in findings if f.index is None]
    write_contact_sheet(study, path, "   ".join([title, KEY, *of_study]), annotate)


def _mark(panel: Axes, findings: Sequence[Finding], window: Window) -> None:
    frame = Rectangle((0, 0), 1, 1, transform=panel.transAxes, fill=False)
    frame.set(edgecolor=MARK, linewidth=3)
    panel.add_patch(frame)
    for finding in findings:
        if finding.place.any():
            _outline(panel, finding, window)
    lines = [f"{f.code} {f.value:.0f} {f.unit}" for f in findings]
    places = [finding.place[window] for finding in findings]
    # Words in the upper left would hide what was found there.
    is_above = any(place[: len(place) // 3].any() for place in places)
    panel.text(
        *(0.03, 0.03 if is_above else 0.97, "\n".join(lines)),
        transform=panel.transAxes,
        color=MARK,
        fontsize=7,
        verticalalignment="bottom" if is_above else "top",
        bbox={"facecolor": "black", "alpha": 0.5, "linewidth": 0, "pad": 2},
    )


def _outline(panel: Axes, finding: Finding, window: Window) -> None:
    """Around the labels at fault, not over them; a shift is drawn where it belongs."""
    place = finding.place
    if finding.code != "SHIFTED":
        place = ndimage.binary_dilation(place, iterations=MARGIN_PIXELS)
    panel.contour(
        place[window],
        levels=[0.5],
        colors=[MARK],
        linewidths=1.5,
        linestyles="dashed",
    )
