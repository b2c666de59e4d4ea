"""A record set grows beside the one it replaces, and takes its place at the end."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tfrecords_tools import files
from tfrecords_tools.manifest import MANIFEST_NAME
from tfrecords_tools.shards import SHARD_NAME

STAGE_NAME = ".tmp-build"
"""Folder inside the record set where the new one grows until it is complete."""


@contextmanager
def staged(out: Path, spool_name: str) -> Iterator[Path]:
    """A folder to build in; all it holds is what is in its folder `spool_name`.

    There a build that was killed, interrupted or refused, or that found the disk full,
    leaves the studies which it has read, for the next one. Success empties the stage.
    """
    stage = out / STAGE_NAME
    spool = stage / spool_name
    _tidy(stage, spool)
    spool.mkdir(parents=True, exist_ok=True)
    try:
        yield stage
    except Exception:
        with suppress(OSError):
            _tidy(stage, spool)
        if not any(spool.glob("*")):
            shutil.rmtree(stage, ignore_errors=True)
        raise
    shutil.rmtree(stage, ignore_errors=True)


def _tidy(stage: Path, spool: Path) -> None:
    """Leaves nothing but whole files in the spool."""
    for path in stage.iterdir() if stage.exists() else ():
        if path != spool:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    for path in spool.glob(".tmp-*"):
        path.unlink(missing_ok=True)


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
