"""Filling drawn contours.

The rule: a pixel belongs to a contour if its centre lies inside it or on its line.
Coordinates are (row, column), whole numbers at pixel centres. Several contours of one
structure on one slice are its borders: one inside another is a hole.
"""

from collections.abc import Sequence

import numpy as np

from tfrecords_tools.errors import RefusedError

MAX_POINTS = 20_000
"""Of one contour; tools draw a few hundred."""

_MAX_CROSSINGS = 1_000_000
"""Of a contour with the rows or columns of the image; bounds time and memory."""

_MAX_CONTOURS = 64
"""Of one structure on one slice."""

_ON_LINE = 1e-3
"""Pixels within which a centre lies on a contour: rounding of stored coordinates."""

_LEAST_AREA = 0.01
"""Square pixels."""

_OPEN_PIXELS, _OPEN_FACTOR = 5.0, 3.0
"""A contour is open if its ends are farther apart than both this and so many times
its longest step: tools that store no type of contour draw in small steps."""


def check(
    subject: object,
    points: np.ndarray,
    shape: tuple[int, int],
    dense: bool = False,
) -> None:
    """Refuses a contour that cannot be filled.

    Args:
        subject: the file at fault.
        points: (N, 2) of (row, column), the last one joined to the first.
        shape: (H, W) of the image.
        dense: drawn in small steps, so that a wide gap means an open contour.

    Raises:
        RefusedError: `CONTOUR`.
    """
    if not 3 <= len(points) <= MAX_POINTS:
        found = f"a contour of {len(points)} points; expected 3 to {MAX_POINTS}"
        raise RefusedError(subject, "CONTOUR", found)
    if not np.isfinite(points).all():
        raise RefusedError(subject, "CONTOUR", "NaN or infinity in a contour")
    if (points < -1).any() or (points > shape).any():
        raise RefusedError(subject, "CONTOUR", "a contour leaves the image")
    row, column = points.T
    next_row, next_column = np.roll(points, -1, axis=0).T
    if abs(row @ next_column - column @ next_row) / 2 < _LEAST_AREA:
        raise RefusedError(subject, "CONTOUR", "a contour encloses nothing")
    crossings = np.abs(next_row - row).sum(), np.abs(next_column - column).sum()
    if max(crossings) > _MAX_CROSSINGS:
        raise RefusedError(subject, "CONTOUR", "a contour is too tangled to fill")
    steps = np.hypot(next_row - row, next_column - column)
    if dense and steps[-1] > max(_OPEN_PIXELS, _OPEN_FACTOR * steps[:-1].max()):
        reason = f"a contour is open: its ends are {steps[-1]:.0f} pixels apart"
        raise RefusedError(subject, "CONTOUR", reason)


def fill(
    subject: object, contours: Sequence[np.ndarray], shape: tuple[int, int]
) -> np.ndarray:
    """The region between `contours`, by the rule of this module.

    Args:
        subject: the file at fault.
        contours: each (N, 2) of (row, column), checked.
        shape: (H, W) of the image.

    Returns:
        (H, W) boolean.

    Raises:
        RefusedError: `CONTOUR`, if two of them cross or are the same.
    """
    if len(contours) > _MAX_CONTOURS:
        reason = f"over {_MAX_CONTOURS} contours of one structure on one slice"
        raise RefusedError(subject, "CONTOUR", reason)
    region, lines = np.zeros(shape, bool), np.zeros(shape, bool)
    inside_before: list[tuple[np.ndarray, np.ndarray]] = []
    for points in contours:
        line = _on_line(points, shape)
        inside = _inside(points, shape) & ~line
        for other_inside, other_line in inside_before:
            _check_pair(subject, inside, line, other_inside, other_line)
        inside_before.append((inside, line))
        region, lines = region ^ inside, lines | line
    return region | lines


def _check_pair(subject: object, *regions: np.ndarray) -> None:
    inside, line, other_inside, other_line = regions
    closed, other_closed = inside | line, other_inside | other_line
    apart = not ((inside & other_closed).any() or (other_inside & closed).any())
    nested = not (closed & ~other_closed).any() or not (other_closed & ~closed).any()
    if not (apart or nested) or (closed.any() and np.array_equal(closed, other_closed)):
        reason = "two contours of one structure on one slice cross or are the same"
        raise RefusedError(subject, "CONTOUR", reason)


def _inside(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Even-odd rule along each row; centres on the line itself are left to chance."""
    low, high = _limits(points, 0)
    first, last = np.ceil(low), np.ceil(high) - 1
    row, column = _crossings(points, 0, first, last)
    turns = np.zeros((shape[0], shape[1] + 1), np.uint8)
    seen = (row >= 0) & (row < shape[0])
    start = np.clip(np.ceil(column[seen]), 0, shape[1]).astype(int)
    np.add.at(turns, (row[seen], start), 1)
    return (np.cumsum(turns[:, :-1], axis=1, dtype=np.uint8) & 1).astype(bool)


def _on_line(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre the contour runs through."""
    mask = np.zeros(shape, bool)
    for axis in (0, 1):
        low, high = _limits(points, axis)
        first, last = np.ceil(low - _ON_LINE), np.floor(high + _ON_LINE)
        last = np.where(high - low <= _ON_LINE, first - 1, last)
        line, place = _crossings(points, axis, first, last)
        nearest = np.rint(place).astype(int)
        found = np.stack([line, nearest] if axis == 0 else [nearest, line])
        seen = np.abs(place - nearest) <= _ON_LINE
        seen &= ((found >= 0) & (found < np.array(shape)[:, None])).all(axis=0)
        mask[tuple(found[:, seen])] = True
    return mask


def _limits(points: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest coordinate of each edge."""
    start, end = points[:, axis], np.roll(points[:, axis], -1)
    return np.minimum(start, end), np.maximum(start, end)


def _crossings(
    points: np.ndarray, axis: int, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where each edge meets the whole numbers `first` to `last` of `axis`.

    Returns:
        The whole numbers, and the places on the other axis.
    """
    counts = np.clip(last - first + 1, 0, None).astype(int)
    edge = np.repeat(np.arange(len(points)), counts)
    begin = np.repeat(np.cumsum(counts) - counts, counts)
    line = first.astype(int)[edge] + np.arange(len(edge)) - begin
    start, step = points[edge], (np.roll(points, -1, axis=0) - points)[edge]
    share = np.clip((line - start[:, axis]) / step[:, axis], 0, 1)
    return line, start[:, 1 - axis] + share * step[:, 1 - axis]
