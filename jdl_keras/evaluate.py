"""Measures a trained run on one split: `python -m jdl_keras.evaluate RUN`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tfrecords_tools.errors import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return run_command(lambda: _evaluate(argv))


def _evaluate(argv: Sequence[str] | None) -> None:
    from jdl_keras.backend import (
        add_backend_option,
        check_records,
        choose_backend,
        load_backend,
    )
    from jdl_keras.run_folder import RunFolder
    from tfrecords_tools.command_line import make_parser, parse

    parser = make_parser("jdl_keras.evaluate", "Measures a trained run on a split.")
    parser.add_argument("run", type=Path, help="folder that train wrote")
    parser.add_argument("--split", default="test", help="train, validation or test")
    parser.add_argument(
        "--records", type=Path | None, help="record set other than the run's"
    )
    parser.add_argument(
        "--protocol",
        type=Literal["emidec"] | None,
        help="numbers of this challenge beside ours",
    )
    add_backend_option(parser)
    arguments = parse(parser, argv)
    choose_backend(arguments.get("backend"))
    records = arguments.records or RunFolder(arguments.run).load_config().records
    check_records(records)
    load_backend()

    from jdl_keras.inference.evaluate_run import evaluate_run

    evaluate_run(arguments.run, arguments.split, arguments.records, arguments.protocol)


if __name__ == "__main__":
    sys.exit(main())
