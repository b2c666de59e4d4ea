"""The arguments by which a command is told what to predict, and where results go."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from jdl_keras.inference.input_config import InputConfig
from tfrecords_tools.command_line import settings_of
from tfrecords_tools.errors import RefusedError

if TYPE_CHECKING:
    from jdl_keras.inference.inputs import Input


def add_places(parser: ArgumentParser) -> None:
    """Adds INPUT and OUT."""
    what = "folder of studies (DICOM, NIfTI), one NIfTI file, or a record set"
    parser.add_argument("input", type=Path, help=what)
    parser.add_argument("out", type=Path, help="folder for the results")


def add_input_options(parser: ArgumentParser) -> None:
    """Adds `--key`, `--overwrite` and how the input is read."""
    key = "key file of the pseudonyms, made if need be (default: OUT.key)"
    parser.add_argument("--key", type=Path | None, help=key)
    parser.add_argument(
        "--overwrite", action="store_true", help="predict again what is there"
    )
    parser.add_class_arguments(InputConfig, None)


def open_input(arguments: Namespace) -> "Input":
    """The input; for files a key is made, and the table of which study is which.

    Raises:
        RefusedError: `NO_STUDIES`, and what the sources refuse.
    """
    from jdl_keras.inference.inputs import (
        is_records,
        open_files_input,
        open_records_input,
    )
    from tfrecords_tools.build_reports import print_found
    from tfrecords_tools.pseudonyms import load_key
    from tfrecords_tools.study_table import add_to_table, table_path

    config = settings_of(InputConfig, arguments)
    if not arguments.input.exists():
        raise RefusedError(arguments.input, "NO_STUDIES", "no such file or folder")
    if is_records(arguments.input):
        return open_records_input(arguments.input, config)
    out = arguments.out.resolve()
    path = arguments.key or out.with_name(out.name + ".key")
    studies = open_files_input(arguments.input, config, load_key(path))
    assert studies.source is not None
    print_found(studies.source)
    if not studies.count:
        reason = "no study that can be predicted; what was left out, and why, is above"
        raise RefusedError(arguments.input, "NO_STUDIES", reason)
    add_to_table(table_path(path), studies.source.items)
    print(f"which study is which: {table_path(path)}")
    return studies
