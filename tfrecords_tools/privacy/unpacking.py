"""What stands in a file, also inside gzip, zip, bzip2, xz and PNG."""

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, cast

DEEPEST = 4
"""Packages in packages are opened so far."""

LARGEST_PNG_TEXT = 2**20

PNG = b"\x89PNG\r\n\x1a\n"

BROKEN = (
    *(OSError, EOFError, ValueError, RuntimeError, NotImplementedError, struct.error),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile),
)
"""What the readers of damaged, encrypted or unknown packages raise."""


def contents(file: IO[bytes], depth: int = 0) -> Iterator[IO[bytes]]:
    """A file as it is, then everything that is packed in it, one after the other.

    Args:
        file: at its beginning; whoever takes a stream may read it to the end.
        depth: in how many packages the file lies.

    Raises:
        one of `BROKEN`: if something cannot be unpacked.
    """
    start = file.read(len(PNG))
    file.seek(0)
    yield file
    file.seek(0)
    if depth == DEEPEST:
        return
    if start[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=file, mode="rb") as plain:
            yield from contents(cast(IO[bytes], plain), depth + 1)
    elif start[:3] == b"BZh":
        with bz2.BZ2File(file) as plain:
            yield from contents(plain, depth + 1)
    elif start[:6] == b"\xfd7zXZ\0":
        with lzma.LZMAFile(file) as plain:
            yield from contents(plain, depth + 1)
    elif start[:4] == b"PK\3\4":
        yield from _zip_members(file, depth)
    elif start == PNG:
        yield from _png_texts(file)


def _zip_members(file: IO[bytes], depth: int) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                with archive.open(member) as plain:
                    yield from contents(plain, depth + 1)


def _png_texts(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """The compressed texts of a PNG; the others stand in the file as they are."""
    file.seek(len(PNG))
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind in (b"zTXt", b"iTXt"):
            text = file.read(length)
            # A keyword that ends in 0, a byte or more, then a zlib stream.
            begin = text.find(b"\x78", text.find(b"\0"))
            if begin >= 0:
                yield io.BytesIO(_inflated(text[begin:]))
            length = 0
        file.seek(length + 4, io.SEEK_CUR)


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, LARGEST_PNG_TEXT)
    except zlib.error:
        return b""
