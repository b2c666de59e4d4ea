"""Reading an NRRD file (.nrrd, .seg.nrrd of 3D Slicer) that may be damaged or hostile.

Only what segmentations are: data in the same file, raw or gzip, whole numbers. Format:
teem.sourceforge.net/nrrd/format.html; segments: SegmentN_... keys of 3D Slicer.
"""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import read_bounded, read_head
from tfrecords_tools.nifti_files import MAX_FILE_BYTES, MAX_VOXELS, gunzip

_MAX_HEADER_BYTES = 2**20

_TYPES = {
    name: dtype
    for dtype, names in {
        "i1": "signed char,int8,int8_t",
        "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,int16,int16_t",
        "u2": "ushort,unsigned short,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t",
        "u4": "uint,unsigned int,uint32,uint32_t",
    }.items()
    for name in names.split(",")
}

_TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}


@dataclasses.dataclass(frozen=True, eq=False)
class NrrdVolume:
    """The content of an NRRD file.

    Attributes:
        layers: (layers, a, b, c) whole numbers; one layer but for overlapping segments.
        affine: (4, 4) from (a, b, c) to LPS.
        keys: the key:=value lines.
    """

    layers: np.ndarray
    affine: np.ndarray
    keys: dict[str, str]


def read_nrrd(path: Path) -> NrrdVolume:
    """Reads a label volume of three dimensions, or of layers of them.

    Raises:
        RefusedError: `NOT_A_FILE`, `TOO_LARGE`, `BAD_HEADER`, `UNSUPPORTED`,
            `TRUNCATED`, `CORRUPT`, `PIXEL_LENGTH` or `BAD_GEOMETRY`.
    """
    content = read_bounded(path, MAX_FILE_BYTES)
    head = _header(path, content)
    if head.fields.get("endian", "little").lower() == "big":
        head = dataclasses.replace(head, dtype=head.dtype.newbyteorder(">"))
    data = _data(path, head.fields, content[head.end :])
    if len(data) != math.prod(head.sizes) * head.dtype.itemsize:
        reason = (
            f"the header declares {head.sizes} voxels, the file holds {len(data)} bytes"
        )
        raise RefusedError(path, "PIXEL_LENGTH", reason)
    voxels = np.frombuffer(data, head.dtype).reshape(head.sizes, order="F")
    layers = voxels if len(head.sizes) > 3 else voxels[None]
    return NrrdVolume(layers, head.affine, head.keys)


def read_place(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Reads the header only: the shape (a, b, c), and the affine (4, 4) to LPS.

    Raises:
        RefusedError: as `read_nrrd`, but for what only the voxels show.
    """
    head = _header(path, read_head(path, _MAX_HEADER_BYTES))
    return head.sizes[-3:], head.affine


@dataclasses.dataclass(frozen=True, eq=False)
class _Header:
    sizes: tuple[int, ...]
    dtype: np.dtype
    affine: np.ndarray
    fields: dict[str, str]
    keys: dict[str, str]
    end: int


def _header(path: Path, content: bytes) -> _Header:
    """What the first bytes of a file say, checked before anything is allocated."""
    head = re.search(rb"\r?\n\r?\n", content[:_MAX_HEADER_BYTES])
    if not content.startswith(b"NRRD000") or head is None:
        raise RefusedError(path, "BAD_HEADER", "no NRRD header at the start")
    fields, keys = _parse(content[: head.start()].decode("utf-8", "replace"))
    try:
        sizes = tuple(int(size) for size in fields["sizes"].split())
        dtype = np.dtype("<" + _TYPES[fields["type"].lower()])
        affine, has_layers = _affine(fields)
    except (KeyError, ValueError, IndexError):
        reason = "sizes, type, space or its directions missing or not known"
        raise RefusedError(path, "BAD_HEADER", reason) from None
    if len(sizes) != 3 + has_layers or min(sizes) < 1:
        reason = f"expected 3 dimensions, or layers of 3, got {sizes}"
        raise RefusedError(path, "UNSUPPORTED", reason)
    if math.prod(sizes) > MAX_VOXELS:
        raise RefusedError(path, "TOO_LARGE", f"{sizes} is over {MAX_VOXELS} voxels")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-9:
        raise RefusedError(path, "BAD_GEOMETRY", "space directions that span no space")
    return _Header(sizes, dtype, affine, fields, keys, head.end())


def _parse(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """The fields and the keys of a header."""
    fields, keys = dict[str, str](), dict[str, str]()
    for line in text.splitlines()[1:]:
        if not line.startswith("#"):
            name, _, value = line.partition(":")
            where = keys if value.startswith("=") else fields
            where[name.strip()] = value.removeprefix("=").strip()
    return {name.lower(): value for name, value in fields.items()}, keys


def _affine(fields: dict[str, str]) -> tuple[np.ndarray, bool]:
    """To LPS, and whether the first axis is one of layers."""
    signs = np.diag(_TO_LPS[fields["space"].lower()])
    directions = re.findall(r"none|\([^()]*\)", fields["space directions"])
    has_layers = directions[0] == "none"
    affine = np.eye(4)
    affine[:3, :3] = signs @ np.transpose([_vector(d) for d in directions[has_layers:]])
    affine[:3, 3] = signs @ _vector(fields["space origin"])
    return affine, has_layers


def _vector(text: str) -> list[float]:
    return [float(part) for part in text.strip("()").split(",")]


def _data(path: Path, fields: dict[str, str], content: bytes) -> bytes:
    skips = {"data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip"}
    if any(fields.get(name, "0") != "0" for name in skips):
        reason = "data in another file, or not right after the header; save it as one"
        raise RefusedError(path, "UNSUPPORTED", reason)
    encoding = fields.get("encoding", "").lower()
    if encoding in ("gzip", "gz"):
        content = gunzip(path, content)
    elif encoding != "raw":
        raise RefusedError(path, "UNSUPPORTED", "encoding that is not raw or gzip")
    return content
