"""Measures masks of any origin: `python -m jdl_keras.quantify MASKS OUT`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrecords_tools.errors import DONE, REFUSED, RefusedError, run_command

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from rich.table import Table

    from jdl_keras.quantification.config import QuantifyConfig
    from jdl_keras.quantification.files import MaskFiles
    from jdl_keras.quantification.measurement import Measurements

MYOCARDIUM, SCAR = "-myocardium.nii.gz", "-scar.nii.gz"
"""Ends of the names of masks as an evaluation writes them."""

_ALONE = ("scar", "mvo", "image", "remote", "rv")
"""Options that name a file of one study."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit code is 2 also if only some studies were refused."""
    refused: list[bool] = []
    code = run_command(lambda: refused.append(_quantify(argv)))
    return REFUSED if code == DONE and any(refused) else code


def _quantify(argv: Sequence[str] | None) -> bool:
    """Whether some of the studies were refused."""
    from jdl_keras.quantification.config import QuantifyConfig
    from tfrecords_tools.command_line import make_parser, parse, settings_of

    parser = make_parser(
        "jdl_keras.quantify",
        "Measures scar in masks: masses, burden, transmurality, segments.",
        config=True,
    )
    masks = f"label map; mask of the wall; or a folder of *{MYOCARDIUM} and *{SCAR}"
    parser.add_argument("masks", type=Path, help=masks)
    parser.add_argument("out", type=Path, help="folder for the measurements")
    for name, text in (
        ("scar", "mask of the scar, where MASKS is one of the wall"),
        ("mvo", "mask of the MVO, beside --scar"),
        ("image", "LGE image on the grid of the masks, for threshold methods"),
        ("remote", "mask of wall without enhancement, for threshold methods"),
        ("rv", "mask of the right ventricle's cavity, for the AHA segments"),
    ):
        parser.add_argument(f"--{name}", type=Path | None, help=text)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace measurements that are there"
    )
    parser.add_class_arguments(QuantifyConfig, None)
    arguments = parse(parser, argv)
    config = settings_of(QuantifyConfig, arguments)
    if arguments.masks.is_dir():
        return _measure_folder(arguments, config)
    _measure_one(arguments, config)
    return False


def _measure_one(arguments: "Namespace", config: "QuantifyConfig") -> None:
    from rich.console import Console

    from jdl_keras.quantification.files import MaskFiles

    files = MaskFiles(arguments.masks, *(arguments.get(name) for name in _ALONE))
    found = _measure(files, arguments.out, config, arguments.overwrite)
    Console().print(_table(found))
    for line in (*found.warnings, found.segments_not_assessed):
        if line:
            print(line)
    print(f"measurements: {arguments.out}")


def _measure(
    files: "MaskFiles", out: Path, config: "QuantifyConfig", overwrite: bool
) -> "Measurements":
    from jdl_keras.quantification.files import (
        check_folder,
        measure_files,
        write_measurements,
    )

    check_folder(out, overwrite)
    found = measure_files(files, config)
    write_measurements(found, out)
    return found


def _measure_folder(arguments: "Namespace", config: "QuantifyConfig") -> bool:
    """Measures every pair of a folder; what one lacks does not stop the others."""
    from jdl_keras.quantification.files import MaskFiles
    from jdl_keras.quantification.tables import SUMMARY_COLUMNS, summary_row
    from tfrecords_tools.csv_text import csv_text
    from tfrecords_tools.files import write_text

    _check_settings_of_many(arguments, config)
    rows, refused = [], False
    for name, (wall, scar) in _pairs(arguments.masks).items():
        out = arguments.out / name
        try:
            found = _measure(MaskFiles(wall, scar), out, config, arguments.overwrite)
            rows.append((name, *summary_row(found)))
        except RefusedError as error:
            print(error, file=sys.stderr)
            refused = True
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = csv_text(("study", *SUMMARY_COLUMNS), rows)
    write_text(arguments.out / "summary.csv", table)
    print(f"measured {len(rows)} studies: {arguments.out}")
    return refused


def _check_settings_of_many(arguments: "Namespace", config: "QuantifyConfig") -> None:
    given = [name for name in _ALONE if arguments.get(name)]
    points = ("insertions_mm", "insertion_voxels")
    given += [name for name in points if getattr(config, name)]
    if given:
        reason = "is of one study, and MASKS is a folder; measure the study by itself"
        raise RefusedError(given[0], "CONFIG", reason)


def _pairs(folder: Path) -> Mapping[str, tuple[Path, Path]]:
    walls = sorted(folder.glob(f"*{MYOCARDIUM}"))
    pairs = {
        wall.name.removesuffix(MYOCARDIUM): (
            wall,
            wall.with_name(wall.name.removesuffix(MYOCARDIUM) + SCAR),
        )
        for wall in walls
    }
    if not pairs:
        reason = f"no *{MYOCARDIUM} with its *{SCAR} here"
        raise RefusedError(folder, "NO_STUDIES", reason)
    return pairs


def _table(found: "Measurements") -> "Table":
    from rich import box
    from rich.table import Table

    from jdl_keras.quantification.tables import RESEARCH_USE_ONLY, measurement_rows

    rows = measurement_rows(found)
    rules = list(dict.fromkeys(rule for *_, rule in rows))
    notes = "\n".join(f"{i}: {rule}" for i, rule in enumerate(rules, start=1))
    caption = f"{RESEARCH_USE_ONLY}\n{notes}"
    grid = Table(box=box.SIMPLE, caption=caption, caption_justify="left")
    grid.add_column("measurement")
    for column in ("value", "unit", "rule"):
        grid.add_column(column, justify="right" if column == "value" else "left")
    for name, value, unit, rule in rows:
        text = "-" if value is None else f"{value:.4g}"
        grid.add_row(str(name), text, str(unit), str(rules.index(rule) + 1))
    return grid


if __name__ == "__main__":
    sys.exit(main())
