"""report.html of a comparison: one file without script and without outside address.

Whatever comes with the data (keys, settings, paths) is escaped by the template engine.
"""

import base64
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from jdl_keras.evaluation import report_tables
from jdl_keras.evaluation.html import png, rendered
from jdl_keras.evaluation.report_tables import ReportTable
from tfrecords_tools.files import write_text

SYNTHETIC_SOURCES = ("phantom",)
RESOLUTION_DPI = 140

CAPTIONS = {
    "dice": (
        "Figure 2. Scar Dice",
        "One point per patient with scar, averaged over seeds. Box: quartiles and "
        "median; whiskers: the last point within 1.5 box lengths.",
    ),
    "panels": (
        "Figure 3. Examples chosen by a rule",
        "The patients nearest to the quartiles of {candidate}'s scar Dice among the "
        "patients with scar; of each the slice with the most reference scar, of each "
        "method the run with the lowest seed. Dice is that run's, over the whole "
        "stack. Cropped around the reference for display only.",
    ),
    "precision_recall": (
        "Figure 4. Scar precision and recall",
        "One point per patient with scar, averaged over seeds. A patient without any "
        "predicted scar has no precision.",
    ),
    "false_positives": (
        "False-positive scar in patients without scar",
        "One point per patient, averaged over seeds; the line is the mean.",
    ),
    "curves": (
        "Training curves",
        "Scar Dice on the validation split, one line per run; no test patient.",
    ),
}
"""Heading and caption of the figures of `comparison_figures.draw_figures`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportContext:
    """What the numbers do not say by themselves.

    Attributes:
        command: the command line that made the comparison.
        source: source module of the record set; a phantom is marked as synthetic.
        totals: split to its counts, `totals` of the manifest.
        record_set_sha256: checksum of the manifest.
        settings: configuration keys that differ from their defaults, with the value.
        versions: packages, device: what else decides the numbers.
        tables: further tables, such as the gap to an oracle crop.
        notes: further lines of conditions.
    """

    command: str
    source: str
    totals: Mapping[str, Mapping[str, int]]
    record_set_sha256: str = ""
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tables: Sequence[ReportTable] = ()
    notes: Sequence[str] = ()
    title: str = "Comparison of methods for myocardial scar"

    @property
    def is_synthetic(self) -> bool:
        """Whether the record set shows no person."""
        return self.source in SYNTHETIC_SOURCES


def write_report(
    path: Path,
    comparison: Mapping,
    figures: Mapping[str, Figure],
    context: ReportContext,
) -> None:
    """Writes the report, whole or not at all.

    Args:
        path: of the HTML file.
        comparison: see `comparison.write_comparison`.
        figures: by name, in the order shown; see `CAPTIONS`.
        context: conditions and command.
    """
    html = rendered(
        "jdl_keras.evaluation",
        "comparison.html",
        comparison=comparison,
        context=context,
        headline=report_tables.headline(comparison),
        tables=[
            report_tables.main_table(comparison),
            report_tables.paired_table(comparison),
            *([report_tables.crop_table(comparison)] if comparison["crops"] else []),
        ],
        figures=[*_embedded(figures, comparison["candidate"])],
        costs=report_tables.cost_table(comparison),
    )
    write_text(path, html)


def _embedded(
    figures: Mapping[str, Figure], candidate: str
) -> Iterable[dict[str, str]]:
    for name, figure in figures.items():
        heading, caption = CAPTIONS.get(name, (name, ""))
        content = png(figure, RESOLUTION_DPI)
        yield {
            "heading": heading,
            "caption": caption.format(candidate=candidate),
            # In its own size, so that letters are as large in all figures.
            "width": f"{figure.get_size_inches()[0]:.1f}in",
            "png": base64.b64encode(content).decode("ascii"),
        }
