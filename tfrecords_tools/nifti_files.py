"""Reading a NIfTI-1 file that may be damaged, hostile or far too large.

nibabel checks neither the gzip checksum nor that the pixels are all there, so the
stream is read to its end, within a bound, before nibabel sees a byte.
"""

import dataclasses
import math
import zlib
from pathlib import Path

import nibabel
import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import read_bounded, read_head

MAX_FILE_BYTES = 192 * 2**20
"""Twenty times a usual LGE stack, so that a bomb does not fill the memory."""

MAX_VOXELS = 2**24
"""512 x 512 x 64; a voxel takes up to 30 bytes on its way to a study."""

_HEADER_BYTES = nibabel.Nifti1Header.sizeof_hdr
_ZIPPED_HEADER_BYTES = 4096
"""Far more than it takes: deflate makes nothing larger by over 0.1 %."""

_UNITS_MM_OR_UNKNOWN = (0, 2)
"""`xyzt_units` of NIfTI-1, lowest three bits."""


@dataclasses.dataclass(frozen=True, eq=False)
class Placed:
    """Where the voxels of a NIfTI file lie, as its header says.

    Attributes:
        shape: (x, y, slice).
        affine: (4, 4) to RAS as the file says; may lack the voxel size.
        voxel_size_mm: (3,) `pixdim` of the header.
        qform: (4, 4) if the file states it beside the sform, which `affine` is then.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    voxel_size_mm: np.ndarray
    qform: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Volume(Placed):
    """The content of a NIfTI file.

    Attributes:
        voxels: (x, y, slice), scaled as the header says.
    """

    voxels: np.ndarray = dataclasses.field(kw_only=True)


def read_place(path: Path) -> Placed:
    """Reads the header only, so that thousands of files are listed in seconds.

    Raises:
        RefusedError: as `read_volume`, but for what only the voxels show.
    """
    head = read_head(path, _HEADER_BYTES)
    if head[:2] == b"\x1f\x8b":
        head = gunzip(path, read_head(path, _ZIPPED_HEADER_BYTES), _HEADER_BYTES)
    return _header(path, head)[0]


def read_volume(path: Path) -> Volume:
    """Reads a `.nii` or `.nii.gz` file of three dimensions; more of size 1 may follow.

    Raises:
        RefusedError: `NOT_A_FILE`, `TOO_LARGE`, `TRUNCATED`, `CORRUPT`, `NOT_NIFTI`,
            `BAD_HEADER`, `BAD_GEOMETRY`, `UNSUPPORTED` or `PIXEL_LENGTH`.
    """
    content = _read_bounded(path)
    placed, header = _header(path, content)
    dtype, offset = header.get_data_dtype(), float(header["vox_offset"])
    declared = offset + math.prod(placed.shape) * dtype.itemsize
    if not (offset >= _HEADER_BYTES and declared == len(content)):
        reason = (
            f"the header declares {declared:.0f} bytes, the file holds {len(content)}"
        )
        raise RefusedError(path, "PIXEL_LENGTH", reason)
    voxels = np.frombuffer(content, dtype, offset=int(offset))
    voxels = voxels.reshape(placed.shape, order="F")
    slope, intercept = header.get_slope_inter()
    if slope is not None:
        voxels = voxels.astype(np.float64)
        with np.errstate(all="ignore"):  # infinities are refused by Study
            voxels *= slope
            voxels += intercept
    return Volume(**vars(placed), voxels=voxels)


def _header(path: Path, content: bytes) -> tuple[Placed, nibabel.Nifti1Header]:
    """What the first bytes of a file say, checked before anything is allocated."""
    if len(content) < _HEADER_BYTES or content[344:348] != b"n+1\0":
        raise RefusedError(path, "NOT_NIFTI", "no NIfTI-1 header at the start")
    # Damaged headers raise many kinds of exceptions in nibabel and NumPy. Its own
    # check stays off: it would repair a voxel size of zero instead of refusing it.
    try:
        header = nibabel.Nifti1Header(content[:_HEADER_BYTES], check=False)
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        header.get_slope_inter()
        both = header["sform_code"] > 0 and header["qform_code"] > 0
        with np.errstate(all="ignore"):
            affine = np.array(header.get_best_affine(), np.float64)
            qform = header.get_qform() if both else None
            sizes = np.array(header.get_zooms()[:3], np.float64)
    except Exception as error:
        reason = f"not a valid header ({type(error).__name__})"
        raise RefusedError(path, "BAD_HEADER", reason) from None
    if len(shape) > 3 and set(shape[3:]) == {1}:
        shape = shape[:3]
    _check_header(path, shape, sizes, dtype, int(header["xyzt_units"]))
    return Placed(shape, affine, sizes, qform), header


def _read_bounded(path: Path) -> bytes:
    content = read_bounded(path, MAX_FILE_BYTES)
    if content[:2] == b"\x1f\x8b":
        content = gunzip(path, content)
    if len(content) > MAX_FILE_BYTES:
        raise RefusedError(path, "TOO_LARGE", f"over {MAX_FILE_BYTES} bytes")
    return content


def gunzip(path: Path, compressed: bytes, limit: int = MAX_FILE_BYTES) -> bytes:
    """The content of a gzip stream, read to its checksum.

    Raises:
        RefusedError: `CORRUPT`, `TRUNCATED`; more than `limit` bytes come as one more.
    """
    # zlib checks CRC and length only when it reaches the end of the stream.
    stream = zlib.decompressobj(wbits=31)
    try:
        content = stream.decompress(compressed, limit + 1)
    except zlib.error as error:
        raise RefusedError(path, "CORRUPT", f"gzip: {error}") from None
    if len(content) <= limit and not stream.eof:
        raise RefusedError(path, "TRUNCATED", "the gzip stream has no end")
    if stream.unused_data:
        raise RefusedError(path, "CORRUPT", "data after the end of the gzip stream")
    return content


def _check_header(
    path: Path,
    shape: tuple[int, ...],
    sizes_mm: np.ndarray,
    dtype: np.dtype,
    units: int,
) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise RefusedError(path, "UNSUPPORTED", f"expected 3 dimensions, got {shape}")
    if math.prod(shape) > MAX_VOXELS:
        raise RefusedError(path, "TOO_LARGE", f"{shape} is over {MAX_VOXELS} voxels")
    if not (np.isfinite(sizes_mm) & (sizes_mm > 0)).all():
        raise RefusedError(path, "BAD_GEOMETRY", f"voxel size {sizes_mm} mm in pixdim")
    if dtype.kind not in "iuf":
        raise RefusedError(path, "UNSUPPORTED", f"voxels of type {dtype}")
    if units % 8 not in _UNITS_MM_OR_UNKNOWN:
        raise RefusedError(path, "UNSUPPORTED", "lengths must be in millimetres")
