"""Frames as one stack: alike, in order, without gaps; and what is odd about them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from tfrecords_tools.dicom.files import read_image
from tfrecords_tools.dicom.frames import TAGS, Frame, frames_of
from tfrecords_tools.dicom.pixels import decode
from tfrecords_tools.dicom.planes import (
    SAME_DIRECTION,
    SAME_POSITION_MM,
    directions,
    normal_to_apex,
    position,
    tilt_degrees,
)
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.geometry import affine_from_positions
from tfrecords_tools.stack import Grid, Stack

Picture = tuple[Frame, np.ndarray]

MAX_STACK_PIXELS = 2**25
"""128 MiB of float32; a stack of 20 slices of 512 x 512 has 2**22.3."""

UNEVEN_SHARE, ODD_SHARE = 0.10, 0.01
"""Of a slice step: positions further off make a gap, or a warning. Scanners round
positions to micrometres; a tenth of 10 mm moves a slice by 1 mm."""

AMBIGUOUS_DEGREES = 60.0
"""Beyond, base and apex may be exchanged: hearts lie within 45 degrees."""


def read_stack(slices: Sequence[tuple[Path, int]]) -> tuple[Stack, tuple[str, ...]]:
    """Reads frames, given as files and numbers in them, as one stack.

    Returns:
        the stack, base to apex, and warnings.

    Raises:
        RefusedError: for anything wrong with a file, and `MISSING_TAG`,
            `SHAPE_MISMATCH`, `MIXED_SPACING`, `MIXED_ORIENTATION`, `MIXED_PATIENT`,
            `BAD_GEOMETRY`, `DUP_SOP`, `DUP_POSITION`, `GAP` or `TOO_LARGE`.
    """
    return stack_of(list(_pictures(slices)))


def _pictures(slices: Sequence[tuple[Path, int]]) -> Iterator[Picture]:
    """Reads each file once; one file is in memory at a time."""
    total = 0
    for path, places in groupby(sorted(slices), key=lambda place: place[0]):
        dataset = read_image(path, TAGS)
        frames = {frame.number: frame for frame in frames_of(path, dataset)}
        for _, number in places:
            if number not in frames:
                raise RefusedError(path, "BAD_HEADER", f"no frame {number}")
            total += frames[number].rows * frames[number].columns
            if total > MAX_STACK_PIXELS:
                reason = f"a stack of over {MAX_STACK_PIXELS} pixels"
                raise RefusedError(path, "TOO_LARGE", reason)
            yield frames[number], decode(frames[number], dataset)


def stack_of(pictures: Sequence[Picture]) -> tuple[Stack, tuple[str, ...]]:
    """Orders frames with their pictures, base to apex; errors as `read_stack`."""
    frames, grid, odd = placed([frame for frame, _ in pictures])
    picture_of = {(frame.sop_uid, frame.number): pixels for frame, pixels in pictures}
    stack = Stack(
        pixels=np.stack([picture_of[f.sop_uid, f.number] for f in frames]),
        affine=grid.affine,
        frames=tuple((frame.sop_uid, frame.number) for frame in frames),
        frame_of_reference_uid=_shared_frame_of_reference(frames),
        study_uid=frames[0].study_uid,
        instance_numbers=_instance_numbers(frames),
    )
    return stack, odd


def placed(
    frames: Sequence[Frame],
) -> tuple[list[Frame], Grid, tuple[str, ...]]:
    """Frames from base to apex, their grid, and what is odd about it.

    Raises:
        RefusedError: as `read_stack`, for what headers tell.
    """
    _check_alike(frames)
    normal = normal_to_apex(_grid(frames[0])[0])
    in_order = sorted(frames, key=lambda frame: float(normal @ position(frame)))
    positions = np.stack([position(frame) for frame in in_order])
    first = in_order[0]
    axes, spacing_mm = _grid(first)
    step, odd = _even_step(first.path, positions, normal, min(spacing_mm))
    affine = affine_from_positions(positions[0], axes[1], axes[0], spacing_mm, step)
    grid = Grid((first.rows, first.columns, len(in_order)), affine)
    return in_order, grid, (*odd, *_oddities(in_order, axes))


def _grid(frame: Frame) -> tuple[np.ndarray, tuple[float, float]]:
    """Directions (2, 3) along a row and a column, and spacing, of a checked frame."""
    axes, spacing_mm = directions(frame.orientation), frame.spacing_mm
    assert axes is not None, "_check_frame refuses it"
    assert spacing_mm is not None, "_check_frame refuses it"
    return axes, (spacing_mm[0], spacing_mm[1])


def _check_alike(frames: Sequence[Frame]) -> None:
    for frame in frames:
        _check_frame(frame)
    for code, what, same in _ALIKE:
        different = sum(not same(frames[0], frame) for frame in frames)
        if different:
            few = min(different, len(frames) - different)
            reason = f"{few} of {len(frames)} slices have another {what}"
            raise RefusedError(frames[0].path, code, reason)
    if len({(frame.sop_uid, frame.number) for frame in frames}) < len(frames):
        reason = "different slices have one SOPInstanceUID"
        raise RefusedError(frames[0].path, "DUP_SOP", reason)


def _check_frame(frame: Frame) -> None:
    for name in ("position_mm", "orientation", "spacing_mm"):
        if getattr(frame, name) is None:
            reason = f"a slice without {name.removesuffix('_mm')}"
            raise RefusedError(frame.path, "MISSING_TAG", reason)
    if min(frame.spacing_mm or (0.0,)) <= 0:
        reason = "pixel spacing that is not above zero"
        raise RefusedError(frame.path, "BAD_GEOMETRY", reason)
    if directions(frame.orientation) is None:
        reason = "directions of rows and columns are not at a right angle"
        raise RefusedError(frame.path, "BAD_GEOMETRY", reason)
    if frame.burned_in:
        reason = "text is burned into the pixels; it may name the patient"
        raise RefusedError(frame.path, "UNSUPPORTED", reason)


def _same_matrix(one: Frame, other: Frame) -> bool:
    return (one.rows, one.columns) == (other.rows, other.columns)


def _same_spacing(one: Frame, other: Frame) -> bool:
    return np.allclose(one.spacing_mm or 0, other.spacing_mm or 0, rtol=1e-3)


def _same_orientation(one: Frame, other: Frame) -> bool:
    change = np.subtract(one.orientation or 0, other.orientation or 0)
    return bool(np.abs(change).max() < SAME_DIRECTION)


def _same_patient(one: Frame, other: Frame) -> bool:
    return (one.patient_id, one.study_uid) == (other.patient_id, other.study_uid)


_Same = Callable[[Frame, Frame], bool]
_ALIKE: tuple[tuple[str, str, _Same], ...] = (
    ("SHAPE_MISMATCH", "matrix", _same_matrix),
    ("MIXED_SPACING", "pixel spacing", _same_spacing),
    ("MIXED_ORIENTATION", "orientation", _same_orientation),
    ("MIXED_PATIENT", "patient", _same_patient),
)


def _even_step(
    path: Path, positions: np.ndarray, normal: np.ndarray, pixel_mm: float
) -> tuple[np.ndarray, list[str]]:
    """The step (3,) from a slice to the next, and what is odd about the positions."""
    if len(positions) < 2:
        raise RefusedError(path, "GAP", "one slice has no distance to the next")
    steps = np.diff(positions @ normal)
    if steps.min() < SAME_POSITION_MM:
        place = int(np.argmin(steps))
        reason = f"slices {place + 1} and {place + 2} lie at the same place"
        raise RefusedError(path, "DUP_POSITION", reason)
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    off = positions - positions[0] - np.outer(np.arange(len(positions)), step)
    along = float(np.abs(off @ normal).max() / (step @ normal))
    across_mm = np.linalg.norm(off - np.outer(off @ normal, normal), axis=1)
    across = float(across_mm.max() / pixel_mm)
    if along > UNEVEN_SHARE:
        reason = f"slices are {steps.min():.2f} to {steps.max():.2f} mm apart"
        raise RefusedError(path, "GAP", f"{reason}; is one missing?")
    if across > 0.5:
        reason = f"slices are shifted against each other by {across:.1f} pixels"
        raise RefusedError(path, "BAD_GEOMETRY", reason)
    uneven = f"GAP: slice positions are uneven by {100 * along:.0f} % of their step"
    return step, [uneven] if along > ODD_SHARE else []


def _instance_numbers(frames: Sequence[Frame]) -> tuple[int, ...]:
    """One for each slice; empty if they do not tell the slices apart."""
    numbers = tuple(frame.instance_number for frame in frames)
    return numbers if len({*numbers, 0}) == len(numbers) + 1 else ()


def _shared_frame_of_reference(frames: Sequence[Frame]) -> str:
    uids = {frame.frame_of_reference_uid for frame in frames}
    return uids.pop() if len(uids) == 1 else ""


def _oddities(frames: Sequence[Frame], axes: np.ndarray) -> list[str]:
    odd = []
    if not _shared_frame_of_reference(frames):
        odd.append("BAD_GEOMETRY: the slices share no frame of reference")
    if tilt_degrees(axes) > AMBIGUOUS_DEGREES:
        odd.append("BAD_GEOMETRY: unusual orientation, base and apex may be exchanged")
    if any(frame.lossy for frame in frames):
        odd.append("DECODE: lossy compression changed the pixels before they came")
    return odd
