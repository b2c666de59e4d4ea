"""Checks the labels of a record set: `python -m tfrecords_tools.check RECORDS`."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrecords_tools.csv_text import csv_text
from tfrecords_tools.errors import run_command
from tfrecords_tools.files import safe_name, write_text
from tfrecords_tools.findings import CODES, Finding
from tfrecords_tools.quiet_tensorflow import load_tensorflow
from tfrecords_tools.record_set import RecordSet, open_record_set
from tfrecords_tools.splits import SPLITS
from tfrecords_tools.study import Study
from tfrecords_tools.study_set import StudySet

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = (
    *("patient_key", "study_key", "split", "code"),
    *("slice_index", "value", "unit", "text"),
)
"""Columns of findings.csv; slice_index is 0 at the base, empty for the study."""

Found = tuple[str, Study, list[Finding]]
"""A split, a study of it and what was found in its labels."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; findings are for a reader to judge and no error."""
    return run_command(lambda: _check(argv))


def _check(argv: Sequence[str] | None) -> None:
    from rich.console import Console

    from tfrecords_tools import command_line

    parser = command_line.make_parser(
        "tfrecords_tools.check", "Looks for what is odd about the labels."
    )
    parser.add_argument("records", type=Path, help="folder or .npz of the record set")
    out = "folder for findings.csv and a picture of every study with findings"
    parser.add_argument("--out", type=Path | None, help=out)
    arguments = command_line.parse(parser, argv)
    record_set = open_record_set(arguments.records)
    if isinstance(record_set, RecordSet):
        load_tensorflow()
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
    studies = 0
    rows: list[tuple[str, ...]] = []
    for split, study, findings in _findings(record_set):
        studies += 1
        rows.extend(_row(split, study, finding) for finding in findings)
        if findings and arguments.out:
            _draw(study, findings, arguments.out)
    if rows:
        Console().print(_table(rows))
    if arguments.out:
        write_text(arguments.out / "findings.csv", csv_text(COLUMNS, rows))
    print(_summary(studies, rows))


def _findings(record_set: StudySet) -> Iterator[Found]:
    from tfrecords_tools.label_checks import check_labels

    for split in SPLITS:
        for study in record_set.studies(split):
            yield split, study, check_labels(study)


def _row(split: str, study: Study, finding: Finding) -> tuple[str, ...]:
    place = "" if finding.index is None else str(finding.index)
    return (
        *(study.patient_key, study.study_key, split, finding.code),
        *(place, f"{finding.value:.4g}", finding.unit, finding.text),
    )


def _draw(study: Study, findings: list[Finding], folder: Path) -> None:
    from tfrecords_tools.finding_sheet import write_finding_sheet

    name = safe_name(f"{study.patient_key}-{study.study_key}")
    write_finding_sheet(study, findings, folder / f"{name}.png", study.study_key)


def _table(rows: Sequence[Sequence[str]]) -> "Table":
    from rich.table import Table

    table = Table("patient", "study", "split", "finding", "slice", "")
    for patient, study, split, code, index, _, _, text in rows:
        place = str(int(index) + 1) if index else "all"
        table.add_row(patient, study, split, code, place, text)
    return table


def _summary(studies: int, rows: Sequence[Sequence[str]]) -> str:
    """Such as: 80 studies checked, 2 with findings (SHIFTED 1, HOLE 3)."""
    counts = Counter(row[COLUMNS.index("code")] for row in rows)
    kinds = ", ".join(f"{code} {counts[code]}" for code in CODES if counts[code])
    faulty = len({row[:2] for row in rows})
    return f"{studies} studies checked, {faulty} with findings" + (
        f" ({kinds})" if kinds else ""
    )


if __name__ == "__main__":
    sys.exit(main())
