"""The printed report: one page A4, its text selectable, its letters inside.

Drawn by ReportLab, which comes by `pip` alone and writes the same bytes every time.
"""

import functools
import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from reportlab import rl_config
from reportlab.lib.colors import Color, black, white
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Image, Paragraph, Spacer, Table

from jdl_keras.inference.report_content import (
    BULLSEYES,
    COMPARISON,
    COMPARISON_COLUMNS,
    QUALITY,
    RESEARCH_USE_ONLY,
    TITLE,
    USE_AFTER_REVIEW,
    ReportContent,
)
from jdl_keras.inference.report_figures import LEGEND

MARGIN_MM = 10.0
WIDTH_MM = A4[0] / mm - 2 * MARGIN_MM
HEIGHT_MM = A4[1] / mm - 2 * MARGIN_MM
LEAST_SLICES_MM = 60.0
"""Where the text leaves less to the slices, the whole page is drawn smaller."""

BULLSEYES_MM = 112.0
FONT, BOLD = "DejaVuSans", "DejaVuSans-Bold"
"""Matplotlib brings them; they know Greek, Cyrillic and Arabic, not Chinese."""

GREY = Color(0.33, 0.33, 0.33)

rl_config.useA85 = 0
"""Pictures as bytes, not as letters: smaller, and Python is slow to spell them."""


def pdf(
    content: ReportContent,
    slices: Callable[[float], bytes],
    bullseyes: bytes | None,
) -> bytes:
    """The report as the content of a PDF file.

    Args:
        content: its text.
        slices: the picture (PNG) of the slices, for the height in mm that is left.
        bullseyes: picture (PNG); None where segments are not assessed.
    """
    _load_fonts()
    above, below = _above(content), _below(content, bullseyes)
    text_mm = sum(_height(one) for one in (*above, *below)) / mm
    free_mm = max(LEAST_SLICES_MM, HEIGHT_MM - text_mm)
    picture = _picture(slices(free_mm), WIDTH_MM * mm)
    return _page(content, [*above, picture, *below])


@functools.cache
def _load_fonts() -> None:
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    for name in (FONT, BOLD):
        pdfmetrics.registerFont(TTFont(name, folder / f"{name}.ttf"))
    pdfmetrics.registerFontFamily(FONT, FONT, BOLD, FONT, BOLD)


def _page(content: ReportContent, parts: Sequence[Flowable]) -> bytes:
    """One page of the parts, drawn smaller if they are too high for it."""
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=A4, invariant=1, lang="en")
    canvas.setTitle(f"{TITLE}: {content.verdict}, {content.key}")
    canvas.setSubject(RESEARCH_USE_ONLY)
    canvas.setCreator("jdl_keras")
    hashes = [f"{name} sha256 {full}" for name, _, full in content.made_by if full]
    canvas.setKeywords("; ".join(hashes))
    total = sum(_height(one) for one in parts)
    scale = min(1.0, HEIGHT_MM * mm / total)
    canvas.translate(MARGIN_MM * mm, A4[1] - MARGIN_MM * mm)
    canvas.scale(scale, scale)
    below = 0.0
    for one in parts:
        below -= _height(one)
        one.drawOn(canvas, 0, below)
    canvas.showPage()
    canvas.save()
    return file.getvalue()


def _height(part: Flowable) -> float:
    return part.wrap(WIDTH_MM * mm, HEIGHT_MM * mm)[1]


# Parts


def _above(content: ReportContent) -> list[Flowable]:
    return [_head(content), _space(1.5), _verdict(content), _space(2), _found(content)]


def _below(content: ReportContent, bullseyes: bytes | None) -> list[Flowable]:
    legend = LEGEND if bullseyes is None else f"{LEGEND} {BULLSEYES}"
    parts = [_text(legend, 6.3), _space(1.5)]
    warnings = _warnings(content)
    if bullseyes is None:
        parts += [_text(f"<b>{_safe(content.segments_not_assessed)}</b>", 7), *warnings]
    else:
        picture = _picture(bullseyes, BULLSEYES_MM * mm)
        parts.append(_columns([picture, warnings], [BULLSEYES_MM, 0]))
    return [*parts, _space(1.5), *_foot(content)]


def _head(content: ReportContent) -> Flowable:
    who = [f"Study <b>{_safe(content.key)}</b>"]
    who += [f"{_safe(a)} <b>{_safe(b)}</b>" for a, b in content.identifiers]
    left = [
        _text(f"<b>{TITLE}</b>", 14),
        _text("&nbsp;&nbsp; ".join(who), 8),
        _text(_safe(content.stack), 7),
    ]
    badge = Table([[_text(f"<b>{RESEARCH_USE_ONLY}</b>", 8)]], colWidths=[69 * mm])
    badge.setStyle([("BOX", (0, 0), (-1, -1), 1, black)])
    return _columns([left, badge], [WIDTH_MM - 70, 70])


def _verdict(content: ReportContent) -> Flowable:
    review = content.concerns
    colour = white if review else black
    name = [_text(QUALITY, 7, colour), _text(f"<b>{content.verdict}</b>", 17, colour)]
    text = [_text(f"<b>{_safe(content.verdict_text)}</b>", 8)]
    text += [_text(f"• {_safe(one)}", 7.5) for one in content.concerns]
    band = Table([[name, text]], colWidths=[34 * mm, (WIDTH_MM - 34) * mm])
    band.setStyle(
        [
            ("BOX", (0, 0), (-1, -1), 2.5 if review else 0.8, black),
            ("BACKGROUND", (0, 0), (0, 0), black if review else white),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            ("TOPPADDING", (0, 0), (-1, -1), 3),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
        ]
    )
    return band


def _found(content: ReportContent) -> Flowable:
    burden = [
        _text("Scar burden, % of LV wall mass", 7.5),
        _text(f"<b>{_safe(content.burden)}</b>", 22),
        _text(f"<b>{_safe(content.interval)}</b>", 8.5),
        _text(_safe(content.interval_note), 6.3),
    ]
    if content.concerns:
        burden.append(_inverse(USE_AFTER_REVIEW))
    rows = [
        [
            _text(_safe(one.name), 7.2),
            _text(f"<b>{_safe(one.value)}</b>", 7.5),
            _text(_safe(one.note), 6.3),
        ]
        for one in content.numbers
    ]
    numbers = _table(rows, [32, 24, 24])
    return _columns([burden, numbers, _thresholds(content)], [44, 81, 0])


def _thresholds(content: ReportContent) -> list[Flowable]:
    own = ("this report", content.burden, content.numbers[1].value, "")
    cells = [
        (COMPARISON_COLUMNS, 6.3),
        (tuple(f"<b>{_safe(one)}</b>" for one in own), 7),
    ]
    cells += [(tuple(map(_safe, one)), 6.8) for one in content.thresholds]
    rows = [[_text(cell, size) for cell in row] for row, size in cells]
    title = _text(f"<b>{COMPARISON}</b>", 7)
    return [title, _table(rows, [19, 13, 11, 21], thin=True)]


def _warnings(content: ReportContent) -> list[Flowable]:
    lines = [f"• {_safe(one)}" for one in content.warnings] or ["none"]
    return [_text("<b>Warnings</b>", 7), *[_text(line, 6.5) for line in lines]]


def _foot(content: ReportContent) -> list[Flowable]:
    made = " · ".join(f"{_safe(a)} <b>{_safe(b)}</b>" for a, b, _ in content.made_by)
    return [_text(f"Made by: {made}", 6.5), _text(_safe(content.rules), 5.8)]


# Pieces


def _safe(text: str) -> str:
    """Text from outside, of which ReportLab would take `<...>` for its markup."""
    return html.escape(text)


def _text(markup: str, size: float, colour: Color = black) -> Paragraph:
    style = ParagraphStyle(
        "", fontName=FONT, fontSize=size, leading=1.22 * size, textColor=colour
    )
    # Long words break too: keys have no spaces.
    style.splitLongWords = True
    return Paragraph(markup, style)


def _inverse(text: str) -> Flowable:
    """White on black."""
    cell = Table([[_text(f"<b>{text}</b>", 7, white)]], colWidths=[42 * mm])
    cell.setStyle([("BACKGROUND", (0, 0), (-1, -1), black)])
    return cell


def _space(height_mm: float) -> Flowable:
    return Spacer(1, height_mm * mm)


def _picture(content: bytes, width: float) -> Flowable:
    columns, rows = ImageReader(io.BytesIO(content)).getSize()
    return Image(io.BytesIO(content), width, width * rows / columns)


def _table(rows: list, widths_mm: Sequence[float], thin: bool = False) -> Table:
    table = Table(rows, colWidths=[one * mm for one in widths_mm])
    pad = 0.6 if thin else 1
    table.setStyle(
        [
            ("LINEBELOW", (0, 0), (-1, -1), 0.25, GREY),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            ("LEFTPADDING", (0, 0), (-1, -1), 1),
            ("RIGHTPADDING", (0, 0), (-1, -1), 1),
            ("TOPPADDING", (0, 0), (-1, -1), pad),
            ("BOTTOMPADDING", (0, 0), (-1, -1), pad + 1),
        ]
    )
    return table


def _columns(cells: list, widths_mm: Sequence[float]) -> Table:
    """Parts beside each other; the width 0 is what the others leave."""
    rest = WIDTH_MM - sum(widths_mm)
    widths = [(one or rest) * mm for one in widths_mm]
    table = Table([cells], colWidths=widths)
    table.setStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 3),
            ("TOPPADDING", (0, 0), (-1, -1), 0),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
        ]
    )
    return table
