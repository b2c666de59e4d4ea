"""Predicts studies and reports their scar: `python -m jdl_keras.predict`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrecords_tools.errors import DONE, REFUSED, RefusedError, run_command

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from jdl_keras.inference.calibration import Calibration
    from jdl_keras.inference.study_results import Output


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit code is 2 also if only some studies were refused."""
    refused: list[int] = []
    code = run_command(lambda: refused.append(_predict(argv)))
    return REFUSED if code == DONE and any(refused) else code


def _predict(argv: Sequence[str] | None) -> int:
    """How many studies were refused."""
    from jdl_keras.backend import choose_backend, load_backend
    from jdl_keras.inference.input_arguments import open_input
    from jdl_keras.run_folder import RunFolder
    from tfrecords_tools.command_line import parse

    arguments = parse(_parser(), argv)
    choose_backend(arguments.get("backend"))
    runs = [arguments.model, *arguments.ensemble]
    for run in runs:
        RunFolder(run).load_config()  # a wrong folder is told before all else
    studies = open_input(arguments)
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
    from jdl_keras.inference.input_arguments import add_input_options, add_places
    from tfrecords_tools.command_line import make_parser

    parser = make_parser(
        "jdl_keras.predict",
        "Predicts studies: masks, DICOM SEG and SR, measurements, a report.",
        config=True,
    )
    parser.add_argument("model", type=Path, help="folder of a trained run")
    add_places(parser)
    runs = "further runs, whose maps are averaged with those of MODEL"
    parser.add_argument("--ensemble", type=list[Path], default=[], help=runs)
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
    add_input_options(parser)
    add_backend_option(parser)
    return parser


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
