"""Files and folders that are there whole or not at all."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfrecords_tools.errors import RefusedError


@contextmanager
def whole_file(path: Path, suffix: str = "", private: bool = False) -> Iterator[Path]:
    """A temporary name to write to; on success it becomes `path`, durably.

    Args:
        path: of the file.
        suffix: end of the temporary name, for writers that insist on one.
        private: only we can read it, from its first byte on.
    """
    temporary = path.with_name(f".tmp-{path.name}{suffix}")
    try:
        if private:
            temporary.touch()
            temporary.chmod(0o600)
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write to; on success it becomes `path`, durably.

    What a kill leaves has the name `.tmp-*`, and the next writer takes it away.

    Args:
        path: of the folder, which does not exist yet.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for one in (*temporary.rglob("*"), temporary):
            sync(one)
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync(path.parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes that ask for it out of `folder`; a kill lets go.

    Raises:
        BlockingIOError: if another process holds the folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        reason = "another process works in this folder; wait for it or end it"
        raise BlockingIOError(errno.EAGAIN, reason, str(folder)) from None


def write_text(path: Path, text: str, private: bool = False) -> None:
    """Replaces the file `path` by `text` in UTF-8; a private one only we can read."""
    with whole_file(path, private=private) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a file, so that one of absurd size does not fill the memory.

    Args:
        path: of the file.
        limit: bytes that are still read.

    Raises:
        RefusedError: `NOT_A_FILE`, `TOO_LARGE`.
    """
    content = read_head(path, limit + 1)
    if len(content) > limit:
        raise RefusedError(path, "TOO_LARGE", f"over {limit} bytes")
    return content


def read_head(path: Path, size: int) -> bytes:
    """The first bytes of a file, fewer if it is shorter.

    Raises:
        RefusedError: `NOT_A_FILE`.
    """
    # Asked before it is opened: a pipe would wait for a writer.
    if not path.is_file():
        raise RefusedError(path, "NOT_A_FILE", "no such regular file")
    with path.open("rb") as file:
        return file.read(size)


def safe_name(name: str) -> str:
    """`name`, checked to stay in its folder: data must not steer paths.

    Raises:
        ValueError: unless it is of letters, digits, - and _ only.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"expected letters, digits, - or _ in a name, got {name!r}")
    return name


def sync(path: Path) -> None:
    """Forces a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
