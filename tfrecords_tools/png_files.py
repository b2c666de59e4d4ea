"""Reading a grey PNG that may be damaged, hostile or far too large.

Every chunk's checksum and the length of the pixels are compared, and the declared size
is bounded, before anything is decoded.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import read_bounded

MAX_FILE_BYTES = 2**25
MAX_PIXELS = 2**22
"""2048 x 2048, four times the finest LGE."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY = 0


def read_grey(path: Path) -> np.ndarray:
    """Pixels (H, W), uint8 or uint16, of a grey PNG file.

    Raises:
        RefusedError: `NOT_A_FILE`, `TOO_LARGE`, `NOT_PNG`, `TRUNCATED`, `CORRUPT`,
            `BAD_HEADER`, `UNSUPPORTED`, `PIXEL_LENGTH` or `DECODE`.
    """
    content = read_bounded(path, MAX_FILE_BYTES)
    if not content.startswith(_SIGNATURE):
        raise RefusedError(path, "NOT_PNG", "no PNG signature at the start")
    (kind, header), *others = _chunks(path, content)
    declared = _declared_bytes(path, kind, header)
    # All else is dropped: texts, profiles, animations, a second header.
    parts = [chunk for kind, chunk in others if kind in (b"IDAT", b"IEND")]
    _check_length(path, b"".join(part[8:-4] for part in parts), declared)
    picture = io.BytesIO(b"".join([_SIGNATURE, header, *parts]))
    try:
        with Image.open(picture, formats=["PNG"]) as image:
            return np.asarray(image)
    except Exception as error:  # Pillow raises many kinds
        reason = f"the pixels cannot be decoded ({type(error).__name__})"
        raise RefusedError(path, "DECODE", reason) from None


def _chunks(path: Path, content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kinds and bytes of the chunks up to IEND, each with the right checksum."""
    place, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        if len(content) < place + 12:
            raise RefusedError(path, "TRUNCATED", "no IEND chunk")
        length, kind = struct.unpack_from(">I4s", content, place)
        chunk = content[place : place + 12 + length]
        if len(chunk) < 12 + length:
            raise RefusedError(path, "TRUNCATED", "a chunk is cut")
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:]):
            raise RefusedError(path, "CORRUPT", "a chunk's checksum is wrong")
        yield kind, chunk
        place += len(chunk)
    if place != len(content):
        raise RefusedError(path, "CORRUPT", "data after the IEND chunk")


def _declared_bytes(path: Path, kind: bytes, chunk: bytes) -> int:
    """How many bytes the pixels of a header must inflate to."""
    if kind != b"IHDR" or len(chunk) != 12 + 13:
        raise RefusedError(path, "BAD_HEADER", "no IHDR chunk at the start")
    width, height, depth, colour, *_, interlaced = struct.unpack_from(
        ">IIBBBBB", chunk, 8
    )
    if not 0 < width * height <= MAX_PIXELS:
        reason = f"{width} x {height} pixels, expected 1 to {MAX_PIXELS}"
        raise RefusedError(path, "TOO_LARGE", reason)
    if colour != _GREY or depth not in (8, 16) or interlaced:
        reason = "expected grey of 8 or 16 bits, no alpha, not interlaced; save it so"
        raise RefusedError(path, "UNSUPPORTED", reason)
    return height * (1 + width * depth // 8)  # each row begins with its filter


def _check_length(path: Path, compressed: bytes, declared: int) -> None:
    """Pillow fills missing pixels with 0 and inflates what stands behind the last."""
    stream = zlib.decompressobj()
    try:
        found = len(stream.decompress(compressed, declared + 1))
    except zlib.error as error:
        raise RefusedError(path, "CORRUPT", f"pixels: {error}") from None
    if found != declared or not stream.eof or stream.unused_data:
        reason = (
            f"the header declares {declared} bytes of pixels, there are not as many"
        )
        raise RefusedError(path, "PIXEL_LENGTH", reason)
