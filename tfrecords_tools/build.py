"""Builds a record set: `python -m tfrecords_tools.build SOURCE ... OUT`."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tfrecords_tools.errors import DONE, REFUSED, RefusedError, run_command
from tfrecords_tools.manifest import Manifest
from tfrecords_tools.record_set_writer import build_record_set, check_request
from tfrecords_tools.sources.source import Item, Source
from tfrecords_tools.study_import import Engine
from tfrecords_tools.workers import Outcomes, Work, cores, in_processes

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from tfrecords_tools.sources.table import SourceCommand

MAX_WORKERS = 256

_SHARED = ("unlabelled", "workers")
"""Settings of sources that every build has."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit code is 2 also if only some studies were refused."""
    manifests: list[Manifest] = []
    code = run_command(lambda: manifests.append(_build(argv)))
    if code == DONE and manifests[0].skipped:
        return REFUSED
    return code


def _build(argv: Sequence[str] | None) -> Manifest:
    from tfrecords_tools import build_reports, command_line
    from tfrecords_tools.npz_set import check_target, write_npz
    from tfrecords_tools.record_set import unchecked_record_set
    from tfrecords_tools.sources.table import SOURCES

    arguments = command_line.parse(_parser(), argv)
    chosen = arguments[arguments.source]
    _check_places(chosen)
    if chosen.npz:
        check_target(chosen.npz, chosen.overwrite)
    check_request(chosen.out, chosen.shards, chosen.overwrite)
    source = _open(SOURCES[arguments.source], chosen)
    build_reports.print_found(source)
    with _told_where(source, chosen):
        manifest = build_record_set(
            source,
            chosen.out,
            split_seed=chosen.split_seed,
            fractions=chosen.fractions,
            shards=chosen.shards,
            overwrite=chosen.overwrite,
            unlabelled=chosen.unlabelled,
            strict=chosen.strict,
            fix=chosen.fix,
            engine=_engine(chosen),
        )
    if chosen.npz:
        write_npz(unchecked_record_set(chosen.out, manifest), chosen.npz)
    build_reports.print_summary(manifest)
    return manifest


def _check_places(chosen: "Namespace") -> None:
    """Refuses to write into the input, or around it: the next build would read that.

    Raises:
        RefusedError: `CONFIG`.
    """
    if chosen.get("input") is None:
        return
    source = chosen.input.resolve()
    written = {"record set": chosen.out, "npz": chosen.npz, "key": chosen.get("key")}
    for what, path in written.items():
        if path is None:
            continue
        if path.resolve().is_relative_to(source):
            reason = f"the {what} would lie in the input; choose a place beside it"
            raise RefusedError(path, "CONFIG", reason)
    if source.is_relative_to(chosen.out.resolve()):
        reason = "the input lies in the folder of the record set; choose another one"
        raise RefusedError(chosen.out, "CONFIG", reason)


@contextlib.contextmanager
def _told_where(source: Source, chosen: "Namespace") -> Iterator[None]:
    """Keeps for the user which study is which, where messages may not tell it."""
    from tfrecords_tools.study_table import add_to_table, table_path

    if not source.private:
        yield
        return
    table = table_path(_key_path(chosen))
    add_to_table(table, source.items)
    try:
        yield
    finally:
        print(f"which study is which: {table}")


def _parser() -> "ArgumentParser":
    from tfrecords_tools.command_line import make_parser
    from tfrecords_tools.sources.table import SOURCES

    program = "tfrecords_tools.build"
    parser = make_parser(program, "Turns studies into a record set.")
    sources = parser.add_subcommands(dest="source", required=True)
    for name, command in SOURCES.items():
        source = make_parser(program, command.help, config=True)
        if command.input:
            source.add_argument("input", type=Path, help=command.input)
        if dataclasses.fields(command.config):
            source.add_class_arguments(command.config, None, skip={*_SHARED})
        with_options = _with_options(source, command)
        sources.add_subcommand(name, with_options, help=command.help)
    return parser


def _with_options(
    parser: "ArgumentParser", command: "SourceCommand"
) -> "ArgumentParser":
    """Adds what every source takes: the output folder, splits, and how to work."""
    from tfrecords_tools.label_fixes import FIXES

    parser.add_argument("out", type=Path, help="folder of the record set")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what is there"
    )
    npz = "also write the set to this .npz, for machines without TensorFlow"
    parser.add_argument("--npz", type=Path | None, help=npz)
    if command.private:
        key = "key file of the pseudonyms, made if need be (default: OUT.key)"
        parser.add_argument("--key", type=Path | None, help=key)
    unlabelled = "take studies without a reference too, into the test split"
    parser.add_argument("--unlabelled", action="store_true", help=unlabelled)
    strict = "stop at the first refused study"
    parser.add_argument("--strict", action="store_true", help=strict)
    fix = f"faults of labels that are mended, such as '[{', '.join(FIXES)}]'"
    parser.add_argument("--fix", type=list[Literal[tuple(FIXES)]], default=[], help=fix)
    workers = "processes that read studies (default: one a core)"
    parser.add_argument("--workers", type=int, default=0, help=workers)
    engine = "beam: read the studies in a pipeline of Apache Beam (extra [beam])"
    parser.add_argument(
        "--engine", type=Literal["local", "beam"], default="local", help=engine
    )
    runner = "of Beam; its workers must see OUT and the input under the same paths"
    parser.add_argument("--runner", type=str, default="DirectRunner", help=runner)
    options = "options of the runner, as one text"
    parser.add_argument("--runner_options", type=str, default="", help=options)
    given = {"source", "out", "overwrite", "unlabelled", "strict", "fix", "engine"}
    parser.add_function_arguments(build_record_set, None, skip={*given})
    return parser


def _open(command: "SourceCommand", chosen: "Namespace") -> Source:
    """The source as it is configured; a key is made only for an input that is there."""
    from tfrecords_tools.pseudonyms import PUBLIC_KEY, load_key

    if command.input and not chosen.input.exists():
        raise RefusedError(chosen.input, "NO_STUDIES", "no such file or folder")
    fields = [field.name for field in dataclasses.fields(command.config)]
    shared = {"unlabelled": chosen.unlabelled, "workers": _workers(chosen)}
    values = {name: shared.get(name, chosen.get(name)) for name in fields}
    config = command.config(**values)
    key = PUBLIC_KEY
    if command.private:
        path = _key_path(chosen)
        is_new = not path.exists()
        key = load_key(path)
        if is_new:
            print(f"made the key of the pseudonyms: {path}; keep it, and keep it apart")
    return command.open(chosen.get("input"), config, key)


def _key_path(chosen: "Namespace") -> Path:
    """Where the key is, or will be.

    Raises:
        RefusedError: if it would travel with the record set.
    """
    out = chosen.out.resolve()
    path = chosen.key or out.with_name(out.name + ".key")
    if path.resolve().is_relative_to(out):
        reason = f"lies inside the record set {chosen.out}; keep it elsewhere"
        raise RefusedError(path, "KEY", reason)
    return path


def _engine(chosen: "Namespace") -> Engine:
    local = functools.partial(_with_progress, workers=_workers(chosen))
    if chosen.engine == "local":
        return local
    from tfrecords_tools.beam_engine import beam_engine

    return beam_engine(chosen.runner, chosen.runner_options, local)


def _workers(chosen: "Namespace") -> int:
    if not 0 <= chosen.workers <= MAX_WORKERS:
        reason = f"expected 0 to {MAX_WORKERS}, got {chosen.workers}"
        raise RefusedError("workers", "CONFIG", reason)
    return chosen.workers or min(cores(), MAX_WORKERS)


def _with_progress(
    work: Work, items: Sequence[Item], _: Path, workers: int
) -> Outcomes:
    """The engine of processes, with a bar and an estimate on a terminal."""
    from tfrecords_tools.progress import shown

    yield from shown(in_processes(work, items, workers), "importing", len(items))


if __name__ == "__main__":
    sys.exit(main())
