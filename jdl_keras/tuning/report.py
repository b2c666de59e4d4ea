"""report.html of a search: one file without script and without outside address."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from jdl_keras.evaluation.html import png, rendered
from jdl_keras.tuning.figures import draw_figures
from jdl_keras.tuning.results import FinishedTrial, ranked
from jdl_keras.tuning.search import Range
from jdl_keras.tuning.surrogate import effects
from tfrecords_tools.files import write_text

REPORT = "report.html"
RESOLUTION_DPI = 140
SHOWN = 10
"""Trials in the table on the console."""

CAPTIONS = {
    "progress": (
        "Trials",
        "The objective of each trial in the order of proposal; the line is the best so "
        "far. A stopped trial counts with its best score until then, a diverged one 0.",
    ),
    "settings": (
        "Settings",
        "One point a trial. Line: mean of a Gaussian process over all other settings "
        "(partial dependence); above, the share of its variance that this setting "
        "explains alone. With few trials this is a hint, not a finding.",
    ),
    "parallel": ("Parallel coordinates", "One line a trial; the best is bold."),
}


def write_report(
    out: Path,
    space: Mapping[str, Range],
    trials: Sequence[FinishedTrial],
    conditions: Mapping[str, object],
) -> None:
    """Writes the report, whole or not at all.

    Args:
        out: folder of the search.
        space: by dotted key.
        trials: those that are over, in order.
        conditions: command, record set and settings, by name.
    """
    figures = draw_figures(space, trials, effects(space, trials))
    html = rendered(
        "jdl_keras.tuning",
        "tuning.html",
        trials=len(trials),
        best=ranked(trials)[0],
        conditions=conditions,
        columns=["trial", *space, *COLUMNS],
        rows=[cells(trial) for trial in ranked(trials)],
        figures=[
            {
                "heading": CAPTIONS[name][0],
                "caption": CAPTIONS[name][1],
                "width": f"{figure.get_size_inches()[0]:.1f}in",
                "png": base64.b64encode(png(figure, RESOLUTION_DPI)).decode("ascii"),
            }
            for name, figure in figures.items()
        ],
    )
    write_text(out / REPORT, html)


COLUMNS = ("state", "scar Dice", "best epoch", "epochs", "seconds", "on native grid")


def cells(trial: FinishedTrial) -> list[str]:
    """A row of the table."""
    outcome = trial.outcome
    native = outcome.native_scar_dice
    return [
        str(trial.number),
        *(
            f"{v:.4g}" if isinstance(v, float) else str(v)
            for v in trial.values.values()
        ),
        outcome.state,
        f"{outcome.scar_dice:.3f}",
        str(outcome.best_epoch),
        str(outcome.epochs),
        "-" if outcome.seconds is None else f"{outcome.seconds:.0f}",
        "-" if native is None else f"{native:.3f}",
    ]


def console_table(space: Mapping[str, Range], trials: Sequence[FinishedTrial]) -> Table:
    """The best trials."""
    table = Table(title=f"the best {min(SHOWN, len(trials))} of {len(trials)} trials")
    for name in ("trial", "scar Dice", "state", *space):
        table.add_column(name.rpartition(".")[2], justify="right", no_wrap=True)
    for trial in ranked(trials)[:SHOWN]:
        number, *values = cells(trial)[: 1 + len(space)]
        score = f"{trial.outcome.scar_dice:.3f}"
        table.add_row(number, score, trial.outcome.state, *values)
    return table
