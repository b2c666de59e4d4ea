"""Reading one DICOM file that may be damaged, hostile or far too large.

Bytes are bounded, the transfer syntax is known and deflated content is inflated within
a bound before pydicom sees the data set. What pydicom warns of or raises may quote
values, which may identify somebody: it becomes a code, and its text is dropped.
"""

import io
import logging
import stat
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom import uid
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import Tag

from tfrecords_tools.errors import RefusedError

MAX_FILE_BYTES = 192 * 2**20
"""Twenty times an enhanced LGE stack, so that a bomb does not fill the memory."""

MAX_HEADER_BYTES = 8 * 2**20
"""Before the pixels: twice what a scanner writes for a stack of 25 slices. Filled with
empty elements, the worst of its size, it takes pydicom 6 s and 400 MB."""

MAX_SEQUENCE_ITEMS = 100_000
"""pydicom needs over a kilobyte for each; a stack of 25 slices has about 1000."""

_PIXELS = (
    *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_PIXEL_DATA = Tag("PixelData")
_PREFIX = slice(128, 132)
_PIXEL_TAGS = (b"\xe0\x7f", b"\x7f\xe0")
_ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""As they stand in little and big endian files."""

for _name in ("pydicom", "pylibjpeg", "openjpeg", "libjpeg", "rle"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False


_TOLD_BY_KIND = (
    (RecursionError, "NESTING", "sequences nest too deep"),
    (MemoryError, "TOO_LARGE", "needs too much memory"),
    (EOFError, "TRUNCATED", "the file ends too early"),
)


@contextmanager
def guarded(
    path: Path, code: str = "CORRUPT", reason: str = "not valid DICOM"
) -> Iterator[None]:
    """Turns whatever is raised into a refusal, by default with `code` and `reason`.

    pydicom converts values when they are asked for, so this stands around their use;
    its messages and warnings quote values and are dropped.

    Raises:
        RefusedError: for every exception but an `OSError` of the system.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except RefusedError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's; pydicom's own have no number
            for kind, *told in _TOLD_BY_KIND:
                if isinstance(error, kind):
                    raise RefusedError(path, *told) from None
            what = f"{reason} ({type(error).__name__})"
            raise RefusedError(path, code, what) from None


def read_header(path: Path, tags: list[str]) -> pydicom.Dataset:
    """The elements `tags` (keywords) of a file, and nothing of its pixels.

    Returns:
        the data set; its `file_meta` is there too.

    Raises:
        RefusedError: `NOT_A_FILE`, `NOT_DICOM`, `TRUNCATED`, `CORRUPT`, `TOO_LARGE`,
            `NESTING`, `BAD_HEADER`, `NO_PIXELS` (of an image) or `UNSUPPORTED_TS`.
    """
    content = _plain(path, _read(path, MAX_HEADER_BYTES), MAX_HEADER_BYTES)
    return _header(path, content, tags)


def read_image(path: Path, tags: list[str]) -> pydicom.Dataset:
    """The elements `tags` of a file and its pixels, within bounds.

    Raises:
        RefusedError: as `read_header`.
    """
    content = _read(path, MAX_FILE_BYTES + 1)
    content = _plain(path, content, MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise RefusedError(path, "TOO_LARGE", f"over {MAX_FILE_BYTES} bytes")
    _header(path, content[:MAX_HEADER_BYTES], tags)
    stream, wanted = io.BytesIO(content), [Tag(name) for name in (*tags, *_PIXELS)]
    with guarded(path, "BAD_HEADER", "no valid data set"):
        dataset = pydicom.filereader.read_partial(
            stream, lambda tag, *_: tag > _PIXEL_DATA, specific_tags=[*wanted]
        )
        if _is_short(dataset) or stream.tell() > len(content):
            raise RefusedError(path, "TRUNCATED", "the file ends inside an element")
    return dataset


def _header(path: Path, content: bytes, tags: list[str]) -> pydicom.Dataset:
    _check_items(path, content)
    stream = io.BytesIO(content)
    with guarded(path, "BAD_HEADER", "no valid data set"):
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=tags)
        _check_end(path, dataset, content, stream.tell())
    return dataset


def read_identity(path: Path) -> tuple[str, str]:
    """UIDs of study and series as far as a damaged file says them, else empty."""
    last = Tag("SeriesInstanceUID")
    try:
        content = _plain(path, _read(path, MAX_HEADER_BYTES), MAX_HEADER_BYTES)
        _check_items(path, content)
        with guarded(path, "BAD_HEADER", "no identity"):
            dataset = pydicom.filereader.read_partial(
                io.BytesIO(content), lambda tag, *_: tag > last
            )
            return ("", "") if _is_short(dataset) else identity_of(path, dataset)
    except RefusedError:
        return "", ""


def identity_of(path: Path, dataset: pydicom.Dataset) -> tuple[str, str]:
    """UIDs of the study and the series that a file belongs to; empty if not given.

    Raises:
        RefusedError: `BAD_HEADER`.
    """
    with guarded(path, "BAD_HEADER", "its UIDs cannot be read"):
        study, series = (
            str(dataset.get(keyword) or "").strip()
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID")
        )
    return study, series


def _read(path: Path, limit: int) -> bytes:
    try:
        # Asked before it is opened: a pipe would wait for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise RefusedError(path, "NOT_A_FILE", "no regular file")
        with path.open("rb") as file:
            content = file.read(limit)
    except OSError as error:
        raise RefusedError(path, "NOT_A_FILE", f"{error.strerror}") from None
    if content[_PREFIX] != b"DICM":
        raise RefusedError(path, "NOT_DICOM", "no DICM at byte 128")
    return content


def _plain(path: Path, content: bytes, limit: int) -> bytes:
    """The content with a known transfer syntax, inflated if it was deflated."""
    stream = io.BytesIO(content)
    with guarded(path, "BAD_HEADER", "no valid file meta information"):
        stream.seek(_PREFIX.stop)
        meta = pydicom.filereader._read_file_meta_info(stream)
        syntax = uid.UID(str(meta.get("TransferSyntaxUID", "")))
    if not (syntax.is_transfer_syntax and not syntax.is_private):
        reason = "no standard transfer syntax; convert it with a DICOM tool"
        raise RefusedError(path, "UNSUPPORTED_TS", reason)
    if syntax != uid.DeflatedExplicitVRLittleEndian:
        return content
    with guarded(path, "CORRUPT", "the deflated data set is damaged"):
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated = inflater.decompress(content[stream.tell() :], limit)
        if len(inflated) < limit and not inflater.eof:
            raise RefusedError(path, "TRUNCATED", "the deflated data set has no end")
        meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        plain = DicomBytesIO()
        plain.write(content[: _PREFIX.stop])
        write_file_meta_info(plain, meta, enforce_standard=False)
        plain.write(inflated)
    return plain.getvalue()


def _check_items(path: Path, content: bytes) -> None:
    """A small file may hold more sequence items than the memory can."""
    if max(content.count(tag) for tag in _ITEM_TAGS) > MAX_SEQUENCE_ITEMS:
        reason = f"over {MAX_SEQUENCE_ITEMS} sequence items"
        raise RefusedError(path, "TOO_LARGE", reason)


def _check_end(path: Path, dataset: pydicom.Dataset, content: bytes, end: int) -> None:
    """The header must end at the pixels, or with the file if it has none."""
    if content[end : end + 2] in _PIXEL_TAGS:
        return
    if len(content) >= MAX_HEADER_BYTES:
        raise RefusedError(path, "TOO_LARGE", f"header over {MAX_HEADER_BYTES} bytes")
    if end > len(content) or _is_short(dataset):
        raise RefusedError(path, "TRUNCATED", "the file ends inside an element")
    if "Rows" in dataset:
        raise RefusedError(path, "NO_PIXELS", "the file ends before the pixel data")


def _is_short(dataset: pydicom.Dataset) -> bool:
    """Whether the file ended inside a value: pydicom takes what there is."""
    values = (dataset.get_item(tag) for tag in dataset.keys())  # noqa: SIM118
    return any(
        isinstance(raw, pydicom.dataelem.RawDataElement)
        and isinstance(raw.value, bytes)
        and raw.length not in (len(raw.value), 0xFFFFFFFF)
        for raw in values
    )
