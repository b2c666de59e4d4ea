"""Identifiers of a whole source: of its files, and of their names."""

import gzip
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.privacy.dicom_identifiers import dicom_identifiers, is_dicom
from tfrecords_tools.privacy.identifiers import Identifier, from_name, texts_in

NIFTI_FIELDS = {
    348: {
        "data_type": (4, 10),
        "db_name": (14, 18),
        "descrip": (148, 80),
        "aux_file": (228, 24),
        "intent_name": (328, 16),
    },
    540: {"descrip": (240, 80), "aux_file": (320, 24), "intent_name": (508, 16)},
}
"""For NIfTI-1 and NIfTI-2, told apart by the size of the header: the texts in it, each
with its place and length in bytes."""

NIFTI_HEAD_BYTES = 2**20
"""So much of a NIfTI file is read: header and extensions."""


def regular_files(folder: Path) -> Iterator[Path]:
    """All files below a folder, sorted; no links, pipes or devices.

    Raises:
        RefusedError: if there is no such folder or file.
    """
    if folder.is_file():
        yield folder
        return
    if not folder.is_dir():
        raise RefusedError(folder, "NOT_A_FILE", "no such file or folder")
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def source_identifiers(source: Path) -> Iterator[Identifier]:
    """What the headers, the files' names and the folders' names of a source tell.

    The name of `source` itself is no identifier: whoever gave it knows it.
    """
    seen = set()
    for path in regular_files(source):
        parts = path.relative_to(source).parts or (path.name,)
        names = [("folder name", part) for part in parts[:-1]]
        for kind, name in (*names, ("file name", parts[-1])):
            if name not in seen:
                seen.add(name)
                yield from from_name(kind, name)
        yield from _of_content(path)


def _of_content(path: Path) -> Iterator[Identifier]:
    with path.open("rb") as file:
        head = file.read(NIFTI_HEAD_BYTES)
    if is_dicom(head):
        yield from dicom_identifiers(path)
    elif path.name.lower().endswith((".nii", ".nii.gz", ".hdr", ".hdr.gz")):
        yield from _of_nifti(_unpacked(path) if head[:2] == b"\x1f\x8b" else head)


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(NIFTI_HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def _of_nifti(head: bytes) -> Iterator[Identifier]:
    sizes = [*struct.unpack("<i", head[:4]), *struct.unpack(">i", head[:4])]
    for size in set(sizes) & set(NIFTI_FIELDS):
        for name, (start, length) in NIFTI_FIELDS[size].items():
            content = head[start : start + length].split(b"\0")[0]
            yield Identifier(f"NIfTI {name}", content.decode("utf-8", "replace"))
        order = "<" if sizes[0] == size else ">"
        for content in _extensions(head, size + 4, order):
            for text in texts_in(content):
                yield Identifier("NIfTI extension", text)


def _extensions(head: bytes, start: int, order: str) -> Iterator[bytes]:
    """The contents of the extensions, each after its length and code."""
    if head[start - 4 : start - 3] != b"\1":
        return
    while start + 8 <= len(head):
        (length,) = struct.unpack(f"{order}i", head[start : start + 4])
        if length < 16 or length % 16:
            return
        yield head[start + 8 : start + length]
        start += length
