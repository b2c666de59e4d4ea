"""A record set grows beside the one it replaces, and takes its place at the end."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfrecords_tools import files
from tfrecords_tools.manifest import MANIFEST_NAME
from tfrecords_tools.shards import SHARD_NAME

STAGE_NAME = ".tmp-build"
"""Folder inside the record set where the new one grows until it is complete."""


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """An empty folder to build in; what a killed build left goes first."""
    stage = out / STAGE_NAME
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def publish(stage: Path, out: Path) -> None:
    """Moves the finished set to its place, the manifest last.

    A record set that was there goes aside first, manifest first, and comes back if
    a step fails. A kill in between leaves a folder without a manifest.
    """
    retired = stage / "retired"
    retired.mkdir()
    moves = [(out / name, retired / name) for name in reversed(_record_files(out))]
    moves += [(stage / name, out / name) for name in _record_files(stage)]
    done = []
    try:
        for old, new in moves:
            os.replace(old, new)
            done.append((old, new))
        files.sync(out)
    except BaseException:
        for old, new in reversed(done):
            os.replace(new, old)
        raise


def _record_files(folder: Path) -> list[str]:
    """Names of the shards, then the manifest if there is one."""
    names = sorted(path.name for path in folder.iterdir())
    found = [name for name in names if SHARD_NAME.fullmatch(name)]
    return found + [name for name in names if name == MANIFEST_NAME]
