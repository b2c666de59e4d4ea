"""Opening DICOM files of references that may be damaged, hostile or far too large."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tfrecords_tools.dicom.files import guarded
from tfrecords_tools.errors import RefusedError

if TYPE_CHECKING:
    from pydicom import Dataset

SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"

_MAX_FILE_BYTES = 64 * 2**20
_MAX_ITEMS = 50_000
"""Of sequences; each takes about a kilobyte of memory."""

_ITEM_TAG = b"\xfe\xff\x00\xe0"

_TRANSFER_SYNTAXES = {
    "1.2.840.10008.1.2": "implicit little endian",
    "1.2.840.10008.1.2.1": "explicit little endian",
    "1.2.840.10008.1.2.5": "RLE",
}
"""Nothing that inflates, so that the size of a file bounds what it holds."""


@contextlib.contextmanager
def guard(path: Path) -> Iterator[None]:
    """As `guarded`; what these files must have and do not is a missing tag."""
    with guarded(path):
        try:
            yield
        except (AttributeError, KeyError, IndexError):
            reason = "an attribute or item that it must have is missing"
            raise RefusedError(path, "MISSING_TAG", reason) from None


def class_of(path: Path) -> str:
    """SOPClassUID as the file's head states it; empty if it cannot be told."""
    from pydicom.filereader import read_file_meta_info

    try:
        with guard(path):
            return str(read_file_meta_info(path).MediaStorageSOPClassUID)
    except RefusedError:
        return ""


def read_dataset(path: Path, pixels: bool = True) -> "Dataset":
    """The content of a SEG or RTSTRUCT file; call it inside `guard`.

    Raises:
        RefusedError: `NOT_A_FILE`, `TOO_LARGE`, `UNSUPPORTED_TS`.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    if not path.is_file():
        raise RefusedError(path, "NOT_A_FILE", "no such regular file")
    syntax = str(read_file_meta_info(path).TransferSyntaxUID)
    if syntax not in _TRANSFER_SYNTAXES:
        known = ", ".join(_TRANSFER_SYNTAXES.values())
        raise RefusedError(path, "UNSUPPORTED_TS", f"expected one of: {known}")
    with path.open("rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES or content.count(_ITEM_TAG) > _MAX_ITEMS:
        reason = f"over {_MAX_FILE_BYTES} bytes or {_MAX_ITEMS} items"
        raise RefusedError(path, "TOO_LARGE", reason)
    return dcmread(io.BytesIO(content), stop_before_pixels=not pixels)


def instances(items: "list[Dataset]") -> set[str]:
    """The SOPInstanceUIDs that the items of a sequence refer to."""
    return {str(item.ReferencedSOPInstanceUID) for item in items}
