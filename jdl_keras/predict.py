"""Predicts studies and reports their scar: `python -m jdl_keras.predict`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrecords_tools.errors import DONE, REFUSED, RefusedError, run_command

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from jdl_keras.inference.calibration import Calibration
    from jdl_keras.inference.inputs import Input
    from jdl_keras.inference.study_results import Output


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit code is 2 also if only some studies were refused."""
    refused: list[int] = []
    code = run_command(lambda: refused.append(_predict(argv)))
    return REFUSED if code == DONE and any(refused) else code


def _predict(argv: Sequence[str] | None) -> int:
    """How many studies were refused."""
    from jdl_keras.backend import choose_backend, load_backend
    from jdl_keras.run_folder import RunFolder
    from tfrecords_tools.command_line import parse

    arguments = parse(_parser(), argv)
    choose_backend(arguments.get("backend"))
    runs = [arguments.model, *arguments.ensemble]
    for run in runs:
        RunFolder(run).load_config()  # a wrong folder is told before all else
    studies = _open(arguments)
    output = _output(arguments, studies.count)
    load_backend()

    from jdl_keras.inference.predict_studies import predict_studies
    from jdl_keras.inference.study_predictor import StudyPredictor

    calibration = _calibration(runs)
    done, refused = predict_studies(StudyPredictor(runs), calibration, studies, output)
    print(f"predicted {done}, refused {refused}: {output.folder / 'studies.csv'}")
    return refused


def _calibration(runs: Sequence[Path]) -> "Calibration | None":
    """What is usual for a run; that of one run says nothing of several together."""
    from jdl_keras.inference.calibration import read_calibration
    from jdl_keras.run_folder import RunFolder

    path = RunFolder(runs[0]).calibration
    return read_calibration(path) if len(runs) == 1 and path.is_file() else None


def _parser() -> "ArgumentParser":
    from jdl_keras.backend import add_backend_option
    from jdl_keras.inference.input_config import InputConfig
    from tfrecords_tools.command_line import make_parser

    parser = make_parser(
        "jdl_keras.predict",
        "Predicts studies: masks, DICOM SEG and SR, measurements, a report.",
        config=True,
    )
    parser.add_argument("model", type=Path, help="folder of a trained run")
    what = "folder of studies (DICOM, NIfTI), one NIfTI file, or a record set"
    parser.add_argument("input", type=Path, help=what)
    parser.add_argument("out", type=Path, help="folder for the results")
    runs = "further runs, whose maps are averaged with those of MODEL"
    parser.add_argument("--ensemble", type=list[Path], default=[], help=runs)
    key = "key file of the pseudonyms, made if need be (default: OUT.key)"
    parser.add_argument("--key", type=Path | None, help=key)
    parser.add_argument(
        "--overwrite", action="store_true", help="predict again what is there"
    )
    no_dicom = "write no DICOM SEG and SR (they carry the identity of the images)"
    parser.add_argument("--no-dicom", action="store_true", help=no_dicom)
    shown = "name the patient in the report of a DICOM study"
    parser.add_argument("--include-identifiers", action="store_true", help=shown)
    points = "anterior RV insertion of a single study, LPS, for the AHA segments"
    parser.add_argument(
        "--insertions_mm",
        type=list[tuple[float, float, float]],
        default=[],
        help=points,
    )
    parser.add_class_arguments(InputConfig, None)
    add_backend_option(parser)
    return parser


def _open(arguments: "Namespace") -> "Input":
    """The input; for files a key is made, and the table of which study is which."""
    from jdl_keras.inference.input_config import InputConfig
    from jdl_keras.inference.inputs import (
        is_records,
        open_files_input,
        open_records_input,
    )
    from tfrecords_tools.build_reports import print_found
    from tfrecords_tools.pseudonyms import load_key
    from tfrecords_tools.study_table import add_to_table, table_path

    names = [field.name for field in dataclasses.fields(InputConfig)]
    config = InputConfig(**{name: arguments[name] for name in names})
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


def _output(arguments: "Namespace", studies: int) -> "Output":
    import numpy as np

    from jdl_keras.inference.study_results import Output

    if arguments.insertions_mm and studies > 1:
        reason = f"is of one study, and the input has {studies}; predict it by itself"
        raise RefusedError("insertions_mm", "CONFIG", reason)
    points = np.array(arguments.insertions_mm) if arguments.insertions_mm else None
    return Output(
        arguments.out,
        overwrite=arguments.overwrite,
        dicom=not arguments.no_dicom,
        include_identifiers=arguments.include_identifiers,
        insertions_mm=points,
    )


if __name__ == "__main__":
    sys.exit(main())
