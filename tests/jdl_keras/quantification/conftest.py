"""Round hearts with known geometry, on oblique stacks that run from base to apex."""

import math

import numpy as np
import pytest

from jdl_keras.quantification.masks import WallMasks
from tfrecords_tools.geometry import affine_from_positions
from tfrecords_tools.labels import Tissue

APEX = np.array([0.62, -0.55, -0.56]) / np.linalg.norm([0.62, -0.55, -0.56])
RIGHT = np.cross([0.0, 1.0, 0.0], APEX) / np.linalg.norm(np.cross([0, 1, 0], APEX))
UP = np.cross(APEX, RIGHT)
"""The picture as seen from the apex: right, up and towards the viewer."""


def affine_of(pixel_mm, slice_mm):
    """A picture whose rows run down, whose columns run to the right."""
    first_mm = np.array([12.0, -34.0, 56.0])
    spacing_mm = (pixel_mm, pixel_mm)
    return affine_from_positions(first_mm, -UP, RIGHT, spacing_mm, slice_mm * APEX)


def draw_heart(
    inner_mm=20.0,
    outer_mm=30.0,
    scars=(),
    pixel_mm=0.5,
    slice_mm=8.0,
    slices=3,
    off=(0.3, -0.2),
):
    """Label map and affine of a round wall.

    A scar is (first degree, last degree, inner depth, outer depth): counter-clockwise
    as seen, 0 to the right. `off` moves the centre from the middle, in pixels.
    """
    half = int(outer_mm / pixel_mm) + 5
    steps = np.arange(-half, half + 1)
    x, y = (steps - off[1]) * pixel_mm, -(steps[:, None] - off[0]) * pixel_mm
    radius, degrees = np.hypot(x, y), np.degrees(np.arctan2(y, x)) % 360
    depth = (radius - inner_mm) / (outer_mm - inner_mm)
    label_map = np.zeros(radius.shape, np.uint8)
    label_map[depth < 0] = Tissue.BLOOD_POOL
    label_map[(depth >= 0) & (depth < 1)] = Tissue.HEALTHY_MYOCARDIUM
    for first, last, low, high in scars:
        within = (degrees - first) % 360 < last - first
        label_map[within & (depth >= low) & (depth < high)] = Tissue.SCAR
    return np.tile(label_map, (slices, 1, 1)), affine_of(pixel_mm, slice_mm)


@pytest.fixture(scope="session")
def draw():
    return draw_heart


@pytest.fixture(scope="session")
def heart():
    """The masks of a drawn heart."""
    return lambda **options: WallMasks(*draw_heart(**options))


@pytest.fixture(scope="session")
def place_mm():
    """Where, in LPS, something lies as seen from the centre of slice `index`."""

    def place(masks, degrees, radius_mm, index=0):
        shape = masks.shapes[index]
        radians = math.radians(degrees)
        along = math.cos(radians) * RIGHT + math.sin(radians) * UP
        return masks.affine[:3] @ [*shape.centre, index, 1] + radius_mm * along

    return place
