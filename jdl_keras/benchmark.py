"""Measures speed against this machine's best: `python -m jdl_keras.benchmark`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

from tfrecords_tools.errors import RefusedError, run_command

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from jdl_keras.benchmarking.rows import Row


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return run_command(lambda: _benchmark(argv))


def _benchmark(argv: Sequence[str] | None) -> None:
    from jdl_keras.backend import choose_backend, load_backend
    from tfrecords_tools.command_line import parse

    arguments = parse(_parser(), argv)
    choose_backend(arguments.get("backend"))
    _check(arguments)
    load_backend()
    rows = _rows(arguments)

    import keras
    from rich.console import Console

    from jdl_keras.benchmarking.rows import table, write_rows

    # A file is as wide as the table.
    Console(width=None if sys.stdout.isatty() else 120).print(table(rows))
    if arguments.json:
        write_rows(rows, keras.config.backend(), arguments.json)
        print(f"wrote {arguments.json}")


def _parser() -> "ArgumentParser":
    from jdl_keras.backend import add_backend_option
    from jdl_keras.config import Config, ModelConfig, TrainingConfig
    from tfrecords_tools.command_line import make_parser

    parser = make_parser(
        "jdl_keras.benchmark",
        "Measures networks, input pipeline and exported models; networks as a share of "
        "the float32 matrix products that this machine does between their batches.",
    )
    presets = get_type_hints(ModelConfig)["preset"]
    sizes = "sizes of networks; without a name after it none (default: small)"
    parser.add_argument(
        "--presets", nargs="*", type=presets, default=["small"], help=sizes
    )
    methods = get_type_hints(Config)["method"]
    wiring = "how the networks of the tasks are wired"
    parser.add_argument("--method", type=methods, default="jdl", help=wiring)
    slices = "slices of a batch (default: 8; 4 for r50_vit_b16)"
    parser.add_argument("--batch_size", type=int, default=0, help=slices)
    policies = get_type_hints(TrainingConfig)["mixed_precision"]
    parser.add_argument(
        "--mixed_precision", type=policies, default="float32", help="dtype policy"
    )
    forward = "leave the train step out: it needs several times the memory"
    parser.add_argument("--forward_only", action="store_true", help=forward)
    records = "record set, to measure the input pipeline"
    parser.add_argument("--records", type=Path | None, help=records)
    model = "exported model, to measure its latency"
    parser.add_argument("--model", type=Path | None, help=model)
    seconds = "how long each measurement goes on, at least"
    parser.add_argument("--seconds", type=float, default=5.0, help=seconds)
    parser.add_argument("--json", type=Path | None, help="also write the rows here")
    add_backend_option(parser)
    return parser


def _check(arguments: "Namespace") -> None:
    """Refuses, before anything is loaded, what cannot be measured."""
    from jdl_keras.backend import DEFAULT, active_backend

    if arguments.batch_size < 0:
        reason = f"expected 1 or more, or 0 for the usual, got {arguments.batch_size}"
        raise RefusedError("batch_size", "CONFIG", reason)
    for name in ("records", "model"):
        path = arguments[name]
        if path is None:
            continue
        if active_backend() != DEFAULT:
            reason = f"is measured under {DEFAULT} only; leave it out"
            raise RefusedError(name, "CONFIG", reason)
        if not path.is_dir():
            raise RefusedError(path, "NOT_FOUND", f"no such folder (--{name})")


def _rows(arguments: "Namespace") -> "list[Row]":
    from jdl_keras.benchmarking.networks import Request, network_rows

    request = Request(
        presets=tuple(arguments.presets),
        method=arguments.method,
        batch_size=arguments.batch_size,
        mixed_precision=arguments.mixed_precision,
        seconds=arguments.seconds,
        train=not arguments.forward_only,
    )
    rows = network_rows(request)
    if arguments.records:
        from jdl_keras.benchmarking.pipeline import pipeline_rows

        rows += pipeline_rows(arguments.records, arguments.seconds)
    if arguments.model:
        from jdl_keras.benchmarking.served import served_rows

        rows += served_rows(arguments.model, arguments.seconds)
    return rows


if __name__ == "__main__":
    sys.exit(main())
