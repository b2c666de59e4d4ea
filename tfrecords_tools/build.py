"""Builds a record set: `python -m tfrecords_tools.build SOURCE ... OUT`."""

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrecords_tools.errors import DONE, REFUSED, RefusedError, run_command
from tfrecords_tools.manifest import Manifest
from tfrecords_tools.npz_set import check_target, write_npz
from tfrecords_tools.quiet_tensorflow import load_tensorflow
from tfrecords_tools.record_set import unchecked_record_set
from tfrecords_tools.record_set_writer import build_record_set
from tfrecords_tools.sources import emidec, phantom
from tfrecords_tools.study import Study

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

Incoming = Iterable[Study | RefusedError]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit code is 2 also if only some studies were refused."""
    manifests: list[Manifest] = []
    code = run_command(lambda: manifests.append(_build(argv)))
    if code == DONE and manifests[0].skipped:
        return REFUSED
    return code


def _build(argv: Sequence[str] | None) -> Manifest:
    from tfrecords_tools import command_line

    arguments = command_line.parse(_parser(), argv)
    load_tensorflow()
    chosen = arguments[arguments.source]
    if chosen.npz:
        check_target(chosen.npz, chosen.overwrite)
    open_source = {"phantom": _phantom, "emidec": _emidec}[arguments.source]
    studies, total, settings = open_source(chosen)
    manifest = build_record_set(
        _with_progress(studies, total),
        chosen.out,
        source=arguments.source,
        settings=settings,
        split_seed=chosen.split_seed,
        fractions=chosen.fractions,
        shards=chosen.shards,
        overwrite=chosen.overwrite,
    )
    if chosen.npz:
        write_npz(unchecked_record_set(chosen.out, manifest), chosen.npz)
    _print_summary(manifest)
    return manifest


def _parser() -> "ArgumentParser":
    from tfrecords_tools.command_line import make_parser

    program = "tfrecords_tools.build"
    parser = make_parser(program, "Turns studies into a record set.")
    sources = parser.add_subcommands(dest="source", required=True)
    source = make_parser(program, "Studies with known truth, drawn.", config=True)
    source.add_class_arguments(phantom.PhantomConfig, None)
    sources.add_subcommand("phantom", _with_options(source))
    source = make_parser(program, "The EMIDEC data set.", config=True)
    source.add_argument("input", type=Path, help="folder that holds Case_X/Images/...")
    sources.add_subcommand("emidec", _with_options(source))
    return parser


def _with_options(parser: "ArgumentParser") -> "ArgumentParser":
    """Adds what every source takes: the output folder, splits and shards."""
    parser.add_argument("out", type=Path, help="folder of the record set")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what is there"
    )
    npz = "also write the set to this .npz, for machines without TensorFlow"
    parser.add_argument("--npz", type=Path | None, help=npz)
    not_options: set[str | int] = {"studies", "out", "source", "settings", "overwrite"}
    parser.add_function_arguments(build_record_set, None, skip=not_options)
    return parser


def _phantom(chosen: "Namespace") -> tuple[Incoming, int, dict[str, str | int | float]]:
    names = [field.name for field in dataclasses.fields(phantom.PhantomConfig)]
    config = phantom.PhantomConfig(**{name: chosen[name] for name in names})
    return phantom.studies(config), config.patients, dataclasses.asdict(config)


def _emidec(chosen: "Namespace") -> tuple[Incoming, int, dict[str, str | int | float]]:
    return emidec.studies(chosen.input), len(emidec.case_names(chosen.input)), {}


def _with_progress(studies: Incoming, total: int) -> Iterator[Study | RefusedError]:
    """The studies, with a bar and an estimate on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(
        track(
            studies,
            "importing",
            total=total,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
    )


def _print_summary(manifest: Manifest) -> None:
    for split, total in manifest.totals.items():
        counts = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in total.items()
        )
        print(f"{split}: {counts}")
    imported = sum(total["studies"] for total in manifest.totals.values())
    print(f"imported {imported}, skipped {len(manifest.skipped)}")


if __name__ == "__main__":
    sys.exit(main())
