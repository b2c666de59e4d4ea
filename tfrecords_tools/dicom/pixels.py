"""Pixels of a frame, checked before anything is allocated for them."""

import importlib.util
import struct

import numpy as np
import pydicom
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder
from pydicom.pixels.utils import _get_jpg_parameters

from tfrecords_tools.dicom.files import guarded
from tfrecords_tools.dicom.frames import Frame
from tfrecords_tools.errors import RefusedError

MAX_SIDE = 4096
"""Rows or columns; MR has up to 1024."""

_NATIVE = (
    *(uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian),
    # A deflated data set was inflated when it was read.
    uid.ExplicitVRBigEndian,
)
_JPEG = (
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000)
_PLUGINS = {
    **dict.fromkeys(_NATIVE, ("", "")),
    uid.RLELossless: ("pydicom", ""),
    **dict.fromkeys(_JPEG + _JPEG_LS, ("pylibjpeg", "libjpeg")),
    **dict.fromkeys(_JPEG_2000, ("pylibjpeg", "openjpeg")),
}
"""Transfer syntaxes that are read: pydicom's plugin, and the package it needs."""

_NEEDED = (
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    "PhotometricInterpretation",
)


def decode(frame: Frame, dataset: pydicom.Dataset) -> np.ndarray:
    """The picture of a frame.

    Args:
        frame: one of `frames_of` the data set.
        dataset: of `files.read_image`.

    Returns:
        (H, W) float32, by the rescale of the header; MONOCHROME1 turned round within
        the range of its stored bits.

    Raises:
        RefusedError: `NO_PIXELS`, `MISSING_TAG`, `UNSUPPORTED_TS`, `UNSUPPORTED`,
            `BAD_HEADER`, `TOO_LARGE`, `PIXEL_LENGTH`, `TRUNCATED` or `DECODE`.
    """
    with guarded(frame.path, "DECODE", "the pixels cannot be decoded"):
        return _decode(frame, dataset)


def _decode(frame: Frame, dataset: pydicom.Dataset) -> np.ndarray:
    syntax = uid.UID(dataset.file_meta.TransferSyntaxUID)
    if syntax not in _PLUGINS:
        reason = "pixels in a transfer syntax that is not read; decompress them first"
        raise RefusedError(frame.path, "UNSUPPORTED_TS", reason)
    with guarded(frame.path, "BAD_HEADER", "what describes the pixels is damaged"):
        _check_description(frame, dataset)
    plugin, package = _PLUGINS[syntax]
    if package and not importlib.util.find_spec(package):
        reason = "compressed pixels; run: pip install 'jdl-keras[dicom]'"
        raise RefusedError(frame.path, "UNSUPPORTED_TS", reason)
    if syntax.is_encapsulated:
        _check_compressed(frame, dataset, syntax)
    else:
        _check_length(frame, dataset)
    stored, _ = get_decoder(syntax).as_array(
        dataset, index=frame.number - 1, raw=True, decoding_plugin=plugin
    )
    if stored.shape != (frame.rows, frame.columns):
        raise RefusedError(frame.path, "DECODE", "decoded to another size")
    return _rescaled(frame, dataset, stored)


def _check_description(frame: Frame, dataset: pydicom.Dataset) -> None:
    if not dataset.get("PixelData"):
        raise RefusedError(frame.path, "NO_PIXELS", "no integer pixel data")
    for keyword in _NEEDED:
        if dataset.get(keyword) is None:
            raise RefusedError(frame.path, "MISSING_TAG", f"no {keyword}")
    if not (1 < frame.rows <= MAX_SIDE and 1 < frame.columns <= MAX_SIDE):
        reason = f"{frame.rows} x {frame.columns} pixels; expected 2 to {MAX_SIDE}"
        raise RefusedError(frame.path, "TOO_LARGE", reason)
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high, signed = int(dataset.HighBit), int(dataset.PixelRepresentation)
    usual = allocated in (8, 16, 32) and 1 < stored <= allocated
    if not usual or high != stored - 1 or signed not in (0, 1):
        reason = f"{stored} of {allocated} bits, the highest is {high}"
        raise RefusedError(frame.path, "UNSUPPORTED", reason)
    if dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise RefusedError(frame.path, "UNSUPPORTED", "no greyscale picture")


def _frame_bytes(frame: Frame, dataset: pydicom.Dataset) -> int:
    return frame.rows * frame.columns * dataset.BitsAllocated // 8


def _check_length(frame: Frame, dataset: pydicom.Dataset) -> None:
    expected = _frame_bytes(frame, dataset) * int(dataset.get("NumberOfFrames") or 1)
    found = len(dataset.PixelData)
    if found != expected + expected % 2 and found != expected:
        reason = f"the header declares {expected} bytes of pixels, there are {found}"
        raise RefusedError(frame.path, "PIXEL_LENGTH", reason)


def _check_compressed(frame: Frame, dataset: pydicom.Dataset, syntax: uid.UID) -> None:
    """A compressed picture says its size itself; a decoder would believe it."""
    count = int(dataset.get("NumberOfFrames") or 1)
    content = get_frame(dataset.PixelData, frame.number - 1, number_of_frames=count)
    if len(content) > 2 * _frame_bytes(frame, dataset) + 4096:
        raise RefusedError(frame.path, "PIXEL_LENGTH", "more than uncompressed")
    expected = (frame.rows, frame.columns, 1)
    if syntax != uid.RLELossless and _declared_size(content, syntax) != expected:
        reason = "the compressed picture is of another size than its header says"
        raise RefusedError(frame.path, "DECODE", reason)


def _declared_size(content: bytes, syntax: uid.UID) -> tuple[int, ...]:
    """Rows, columns and components of a compressed picture; empty if it has none."""
    if syntax not in _JPEG_2000:
        found = _get_jpg_parameters(content)
        return tuple(found.get(name, 0) for name in ("height", "width", "components"))
    # ISO 15444-1, A.5.1: markers SOC and SIZ, then extent and offset of the picture.
    if content[:4] != b"\xff\x4f\xff\x51":
        return ()
    x1, y1, x0, y0 = struct.unpack(">4I", content[8:24])
    (components,) = struct.unpack(">H", content[40:42])
    return y1 - y0, x1 - x0, components


def _rescaled(frame: Frame, dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray:
    values = stored.astype(np.float64)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        # The lowest stored value against the highest; signed ones run from -2^(n-1).
        highest = 2**dataset.BitsStored - 1
        values = (-1 if dataset.PixelRepresentation else highest) - values
    return (values * frame.slope + frame.intercept).astype(np.float32)
