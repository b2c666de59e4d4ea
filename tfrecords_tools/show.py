"""Shows a record set: `python -m tfrecords_tools.show RECORDS [--png DIR]`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tfrecords_tools.errors import run_command
from tfrecords_tools.labels import SCAR, region_mask
from tfrecords_tools.quiet_tensorflow import load_tensorflow
from tfrecords_tools.record_set import RecordSet, open_record_set
from tfrecords_tools.splits import SPLITS
from tfrecords_tools.study_set import StudySet

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
    from rich.table import Table

ROWS = (
    "patients",
    "with scar",
    "studies",
    "slices",
    "slices with scar",
    "image rows",
    "image columns",
    "pixel spacing, mm",
    "slice spacing, mm",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(lambda: _show(argv))


def _parser() -> "ArgumentParser":
    from tfrecords_tools.command_line import make_parser

    parser = make_parser("tfrecords_tools.show", "Shows what a record set holds.")
    parser.add_argument("records", type=Path, help="folder or .npz of the record set")
    split = Literal[SPLITS] | None
    parser.add_argument("--split", type=split, help="only this split")
    png = "folder for one picture a study"
    parser.add_argument("--png", type=Path | None, help=png)
    return parser


def _show(argv: Sequence[str] | None) -> None:
    from rich.console import Console

    from tfrecords_tools import command_line

    arguments = command_line.parse(_parser(), argv)
    record_set = open_record_set(arguments.records)
    if isinstance(record_set, RecordSet):
        load_tensorflow()
    splits = [arguments.split] if arguments.split else SPLITS
    Console().print(_table(record_set, splits))
    if arguments.png:
        count = _write_sheets(record_set, splits, arguments.png)
        print(f"wrote {count} contact sheets to {arguments.png}")


def _table(record_set: StudySet, splits: Sequence[str]) -> "Table":
    from rich.table import Table

    table = Table("", title=f"source: {record_set.manifest.source}")
    for split in splits:
        table.add_column(split, justify="right")
    columns = [_column(record_set, split) for split in splits]
    for name, *cells in zip(ROWS, *columns, strict=True):
        table.add_row(name, *cells)
    return table


def _column(record_set: StudySet, split: str) -> list[str]:
    """The cells of `ROWS` for a split; ranges go over its slices."""
    total = record_set.totals(split)
    names = ("patients", "with_scar", "studies", "slices")
    scar_slices = 0
    sizes: list[tuple[int, ...]] = []
    spacings: list[float] = []
    slice_spacings: list[float] = []
    for slice_ in record_set.slices(split):
        scar_slices += bool(region_mask(slice_.label_map, SCAR).any())
        sizes.append(slice_.pixels.shape)
        spacings.extend(slice_.spacing_mm)
        slice_spacings.append(slice_.slice_spacing_mm)
    rows, columns = ([size[axis] for size in sizes] for axis in (0, 1))
    ranges = [_range(values) for values in (rows, columns, spacings, slice_spacings)]
    return [*(str(total[name]) for name in names), str(scar_slices), *ranges]


def _range(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} - {high}"


def _write_sheets(record_set: StudySet, splits: Sequence[str], folder: Path) -> int:
    """Writes `PATIENT.png`, or `PATIENT-STUDY.png` if a patient has several."""
    from tfrecords_tools.contact_sheet import write_contact_sheet

    folder.mkdir(parents=True, exist_ok=True)
    studies_of = {p.patient_key: p.studies for p in record_set.members}
    count = 0
    for split in splits:
        for study in record_set.studies(split):
            single = studies_of[study.patient_key] == 1
            keys = [study.patient_key, *([] if single else [study.study_key])]
            path = folder / ("-".join(keys) + ".png")
            write_contact_sheet(study, path, title=f"{' '.join(keys)} ({split})")
            count += 1
    return count


if __name__ == "__main__":
    sys.exit(main())
