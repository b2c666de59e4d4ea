"""The report of a study on one page: `report.html` and the same as `report.pdf`.

Whatever comes with the data (keys, identifiers, warnings) is escaped. The HTML file is
closed in itself: no script, no address, and its own style is the only one let in.
"""

import base64
import hashlib
import importlib.resources
from collections.abc import Mapping
from pathlib import Path

from jdl_keras.evaluation.html import png, rendered
from jdl_keras.inference import report_content as words
from jdl_keras.inference.report_content import ReportContent, report_content
from jdl_keras.inference.report_figures import (
    LEGEND,
    RESOLUTION_DPI,
    bullseyes_figure,
    slices_figure,
)
from jdl_keras.inference.report_pdf import WIDTH_MM, pdf
from jdl_keras.inference.study_prediction import (
    Interval,
    Provenance,
    StudyPrediction,
    Verdict,
)
from jdl_keras.quantification.measurement import Measurements
from tfrecords_tools.files import whole_file, write_text

HTML, PDF = "report.html", "report.pdf"


def write_report(
    folder: Path,
    prediction: StudyPrediction,
    measurements: Measurements,
    interval: Interval | None,
    verdict: Verdict,
    provenance: Provenance,
    identifiers: Mapping[str, str] | None = None,
) -> None:
    """Writes `report.html` and `report.pdf`, each whole or not at all.

    Only their owner can read them.

    Args:
        folder: to write to; it is there.
        prediction: the study; its key is all that names it.
        measurements: of `prediction.wall`.
        interval: of the scar burden, if there is one.
        verdict: of the quality gate.
        provenance: who made the prediction.
        identifiers: name and value, where the user asked for them.
    """
    content = report_content(
        prediction, measurements, interval, verdict, provenance, identifiers
    )
    drawn: list[bytes] = []

    def slices(height_mm: float) -> bytes:
        pixels = prediction.study.pixels
        place = WIDTH_MM, height_mm
        figure = slices_figure(pixels, measurements, verdict.slices, *place)
        drawn.append(png(figure, RESOLUTION_DPI))
        return drawn[-1]

    segments = measurements.segments
    bullseyes = png(bullseyes_figure(segments), RESOLUTION_DPI) if segments else None
    printed = pdf(content, slices, bullseyes)
    write_text(folder / HTML, _html(content, drawn[-1], bullseyes), private=True)
    with whole_file(folder / PDF, private=True) as temporary:
        temporary.write_bytes(printed)


def _html(content: ReportContent, slices: bytes, bullseyes: bytes | None) -> str:
    folder = importlib.resources.files("jdl_keras.inference").joinpath("templates")
    style = folder.joinpath("report.css").read_text("utf-8")
    return rendered(
        "jdl_keras.inference",
        "report.html",
        content=content,
        words=words,
        legend=LEGEND,
        style=style,
        style_hash=_base64(hashlib.sha256(style.encode()).digest()),
        slices=_base64(slices),
        bullseyes=None if bullseyes is None else _base64(bullseyes),
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
