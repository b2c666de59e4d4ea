"""Predicts studies and reports their scar: `python -m jdl_keras.predict`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrecords_tools.errors import DONE, REFUSED, RefusedError, run_command

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from jdl_keras.inference.study_predictor import Member
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
    from tfrecords_tools.command_line import parse

    arguments = parse(_parser(), argv)
    choose_backend(arguments.get("backend"))
    models = [arguments.model, *arguments.ensemble]
    for model in models:
        _check(model)  # a wrong folder is told before all else
    studies = open_input(arguments)
    output = _output(arguments, studies.count)
    load_backend()

    from jdl_keras.inference.predict_studies import predict_studies
    from jdl_keras.inference.study_predictor import StudyPredictor

    predictor = StudyPredictor([_member(model) for model in models])
    done, refused = predict_studies(predictor, studies, output)
    print(f"predicted {done}, refused {refused}: {output.folder / 'studies.csv'}")
    return refused


def _check(model: Path) -> None:
    """Refuses what is neither a run nor an exported model."""
    from jdl_keras.backend import DEFAULT, active_backend
    from jdl_keras.run_folder import RunFolder
    from jdl_keras.serving.model_card import newest_version, read_card

    version = newest_version(model)
    if version is None:
        RunFolder(model).load_config()
        return
    read_card(version)
    if active_backend() != DEFAULT:
        reason = f"an exported model computes on {DEFAULT}, not on {active_backend()}"
        raise RefusedError(model, "CONFIG", reason)


def _member(model: Path) -> "Member":
    from jdl_keras.inference.study_predictor import member_of_run
    from jdl_keras.serving.model_card import newest_version

    version = newest_version(model)
    if version is None:
        return member_of_run(model)
    from jdl_keras.serving.exported_model import member_of_export

    return member_of_export(version)


def _parser() -> "ArgumentParser":
    from jdl_keras.backend import add_backend_option
    from jdl_keras.inference.input_arguments import add_input_options, add_places
    from tfrecords_tools.command_line import make_parser

    parser = make_parser(
        "jdl_keras.predict",
        "Predicts studies: masks, DICOM SEG and SR, measurements, a report.",
        config=True,
    )
    what = "folder of a trained run, or of an exported model (its newest version)"
    parser.add_argument("model", type=Path, help=what)
    add_places(parser)
    more = "further ones, whose maps are averaged with those of MODEL"
    parser.add_argument("--ensemble", type=list[Path], default=[], help=more)
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
