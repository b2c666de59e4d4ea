"""Dumps a record set to one file: `python -m tfrecords_tools.dump RECORDS FILE`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tfrecords_tools.errors import RefusedError, run_command
from tfrecords_tools.npz_set import check_target, write_npz
from tfrecords_tools.quiet_tensorflow import load_tensorflow
from tfrecords_tools.record_set import RecordSet, open_record_set


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(lambda: _dump(argv))


def _dump(argv: Sequence[str] | None) -> None:
    from tfrecords_tools import command_line

    parser = command_line.make_parser(
        "tfrecords_tools.dump",
        "Writes a record set to one .npz, for machines without TensorFlow.",
    )
    parser.add_argument("records", type=Path, help="folder of the record set")
    parser.add_argument("file", type=Path, help="the .npz to write")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what is there"
    )
    arguments = command_line.parse(parser, argv)
    check_target(arguments.file, arguments.overwrite)
    record_set = open_record_set(arguments.records)
    if not isinstance(record_set, RecordSet):
        raise RefusedError(record_set.path, "CONFIG", "is a dump already; copy it")
    load_tensorflow()
    write_npz(record_set, arguments.file)
    patients, megabytes = len(record_set.members), arguments.file.stat().st_size / 1e6
    print(f"{arguments.file}: {patients} patients, {megabytes:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
