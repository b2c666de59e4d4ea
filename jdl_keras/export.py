"""Exports a trained run for servers: `python -m jdl_keras.export RUN OUT`."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tfrecords_tools.errors import RefusedError, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return run_command(lambda: _export(argv))


def _export(argv: Sequence[str] | None) -> None:
    from jdl_keras.backend import choose_backend, load_backend
    from jdl_keras.run_folder import RunFolder
    from tfrecords_tools.command_line import make_parser, parse

    parser = make_parser(
        "jdl_keras.export", "Exports a trained run as a SavedModel for servers."
    )
    parser.add_argument("run", type=Path, help="folder that train wrote")
    out = "folder of the model; the version becomes a folder in it, named by its number"
    parser.add_argument("out", type=Path, help=out)
    number = "of the version (default: the next free one)"
    parser.add_argument("--version", type=int | None, help=number)
    precision = "of the networks; bfloat16 is faster where processors have it"
    parser.add_argument(
        "--precision",
        type=Literal["float32", "mixed_bfloat16"],
        default="float32",
        help=precision,
    )
    onnx = "also write networks.onnx: the networks on their grid, without resampling"
    parser.add_argument("--onnx", action="store_true", help=onnx)
    arguments = parse(parser, argv)
    if arguments.version is not None and arguments.version < 1:
        reason = f"expected 1 or more, got {arguments.version}"
        raise RefusedError("version", "CONFIG", reason)
    if arguments.onnx:
        _check_onnx(arguments.precision)
    RunFolder(arguments.run).load_config()  # a wrong folder is told before all else
    choose_backend("tensorflow")  # a SavedModel is TensorFlow's
    load_backend()

    from jdl_keras.serving.export import export_run

    names = ("run", "out", "version", "precision", "onnx")
    version = export_run(*(arguments[name] for name in names))
    print(f"exported {version}")


def _check_onnx(precision: str) -> None:
    """Refuses what cannot be converted, or not here."""
    if precision != "float32":
        reason = (
            f"ONNX is written in float32; leave out --onnx or --precision {precision}"
        )
        raise RefusedError("onnx", "CONFIG", reason)
    if importlib.util.find_spec("tf2onnx") is None:
        reason = "needs tf2onnx: pip install 'jdl-keras[onnx]'"
        raise RefusedError("onnx", "CONFIG", reason)


if __name__ == "__main__":
    sys.exit(main())
