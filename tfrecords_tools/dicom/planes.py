"""Planes of pictures in the patient, and the way from base to apex."""

import math
from collections.abc import Sequence

import numpy as np

from tfrecords_tools.dicom.frames import Frame, Vector

TOWARDS_APEX = np.array([1.0, -1.0, -1.0]) / math.sqrt(3)
"""Left, anterior and inferior in LPS: the usual way from the base to the apex."""

SAME_DIRECTION = 2e-3
"""Difference of direction cosines, 0.1 degree: half a pixel at a far corner."""

SAME_POSITION_MM = 0.1
"""Slices are millimetres apart; scanners round positions to micrometres."""


def directions(orientation: Vector | None) -> np.ndarray | None:
    """Unit vectors (2, 3) along a row and along a column.

    Returns:
        None unless the two are of length 1 and at a right angle, within 1 percent.
    """
    if orientation is None:
        return None
    vectors = np.reshape(orientation, (2, 3))
    if not np.allclose(vectors @ vectors.T, np.eye(2), atol=0.01):
        return None
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def position(frame: Frame) -> np.ndarray:
    """Centre (3,) of the first pixel, of a frame that is known to have one."""
    assert frame.position_mm is not None, "parallel() leaves out what has none"
    return np.array(frame.position_mm)


def normal_to_apex(axes: np.ndarray) -> np.ndarray:
    """The unit normal (3,) of a plane, on the side where the apex usually lies."""
    normal = np.cross(*axes)
    return normal if normal @ TOWARDS_APEX >= 0 else -normal


def tilt_degrees(axes: np.ndarray) -> float:
    """Angle between a plane's normal and the usual long axis of hearts.

    Long-axis planes hold that axis, so they are near 90; the planes of the body are
    at 54.7.
    """
    cosine = min(float(normal_to_apex(axes) @ TOWARDS_APEX), 1.0)
    return math.degrees(math.acos(cosine))


def parallel(frames: Sequence[Frame]) -> list[Frame]:
    """The largest share of frames with one orientation; of equal ones the first."""
    groups: list[tuple[np.ndarray, list[Frame]]] = []
    for frame in frames:
        axes = directions(frame.orientation)
        if axes is None or frame.position_mm is None:
            continue
        for known, group in groups:
            if np.abs(known - axes).max() < SAME_DIRECTION:
                group.append(frame)
                break
        else:
            groups.append((axes, [frame]))
    return max((group for _, group in groups), key=len, default=[])


def by_position(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Parallel frames of one place together, from base to apex."""
    if not frames:
        return []
    axes = directions(frames[0].orientation)
    assert axes is not None, "parallel() leaves out what has no orientation"
    normal = normal_to_apex(axes)
    heights = np.array([normal @ position(frame) for frame in frames])
    order = np.argsort(heights, kind="stable")
    places: list[list[Frame]] = []
    last = -math.inf
    for index in order:
        if heights[index] - last > SAME_POSITION_MM:
            places.append([])
        places[-1].append(frames[index])
        last = heights[index]
    return places
