"""The private table of a build: which files stand behind a study's key.

It lies beside the key file, never in a record set, and only its owner can read it.
"""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from tfrecords_tools import files
from tfrecords_tools.sources.source import Item

HEADER = ("study_key", "path")

_STEERS_A_SPREADSHEET = ("=", "+", "-", "@", "\t", "\r")


def table_path(key_file: Path) -> Path:
    """Where the table of the builds with a key lies."""
    return key_file.with_name(key_file.name + ".studies.csv")


def add_to_table(path: Path, items: Iterable[Item]) -> None:
    """Adds a row for each file of each item; what is there stays."""
    rows = {(item.key, _cell(file.absolute())) for item in items for file in item.files}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as table:
            rows |= {(row[0], row[1]) for row in csv.reader(table) if len(row) == 2}
    text = io.StringIO()
    csv.writer(text).writerows([HEADER, *sorted(rows - {HEADER})])
    files.write_text(path, text.getvalue(), private=True)


def _cell(path: Path) -> str:
    """A path that no spreadsheet takes for a formula."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return f"'{text}" if text.startswith(_STEERS_A_SPREADSHEET) else text
