"""Tables as CSV that no spreadsheet takes for formulas."""

import csv
import io
from collections.abc import Iterable, Sequence

Cell = str | int | float | None
"""None is an empty cell."""


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table with its header; text cells are made inert, numbers stay numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_inert(cell) for cell in row] for row in rows)
    return text.getvalue()


def _inert(cell: Cell) -> Cell:
    is_formula = isinstance(cell, str) and cell.startswith(
        ("=", "+", "-", "@", "\t", "\r")
    )
    return f"'{cell}" if is_formula else cell
