"""The anterior insertion from a drawn cavity beside a round wall.

In the pictures of `conftest.py`, seen from the apex, the way to front and head points
to 238 degrees (0 to the right, counter-clockwise): there UP is (0.41, 0.84, -0.37) in
LPS, RIGHT is (-0.67, 0, -0.74), and (0, -1, 1) / sqrt(2) has -0.85 of UP and -0.52 of
RIGHT.
"""

import numpy as np
import pytest

from jdl_keras.quantification import aha17
from jdl_keras.quantification.insertion import insertions_of_cavity
from jdl_keras.quantification.masks import WallMasks, base_first
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.sources.volume_study import flipped_affine

OUTER_MM = 30.0


def draw_cavity(masks, first, last, inner_mm=OUTER_MM + 1.5, outer_mm=OUTER_MM + 15):
    """A crescent beside the wall, from one direction to another as seen."""
    size = masks.label_map.shape[1]
    x = (np.arange(size) - (size - 1) / 2 + 0.2) * 0.5
    y = -(np.arange(size) - (size - 1) / 2 - 0.3)[:, None] * 0.5
    degrees = np.degrees(np.arctan2(y, x)) % 360
    radius = np.hypot(x, y)
    within = (degrees - first) % 360 < last - first
    one = within & (radius >= inner_mm) & (radius < outer_mm)
    return np.tile(one, (len(masks.label_map), 1, 1))


@pytest.mark.parametrize(
    ("first", "last", "anterior"),
    [
        (100, 196, 196),  # 42 degrees from the way to front and head, not 138
        (280, 376, 280),
        (300, 400, 300),  # across the zero of the angles
    ],
)
def test_anterior_end_of_the_arc(heart, place_mm, first, last, anterior):
    masks = heart()
    cavity = draw_cavity(masks, first, last)
    points = insertions_of_cavity(masks, cavity)
    assert points.shape == (3, 3)
    # 5 mm from the wall lie pixels of the crescent's straight end: its corner is met to
    # within the pixels' half diagonal and the 5 mm that count as contact.
    expected = [place_mm(masks, anterior, OUTER_MM + 3, index) for index in range(3)]
    assert np.linalg.norm(points - expected, axis=1).max() < 3
    direction = place_mm(masks, anterior, 1) - place_mm(masks, anterior, 0)
    # cos(1.5 degrees): the angle is what segments are counted from.
    assert (aha17.anchors(masks, points) @ direction).min() > 0.9996


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_pixel_grid_changes_nothing(heart, axis):
    masks = heart()
    cavity = draw_cavity(masks, 100, 196)
    points = insertions_of_cavity(masks, cavity)
    column = {0: 2, 1: 0, 2: 1}[axis]  # of the affine: rows, columns, slices
    affine = flipped_affine(masks.affine, column, cavity.shape[axis])
    labels, turned = np.flip(masks.label_map, axis), np.flip(cavity, axis)
    again = WallMasks(base_first(labels, affine)[0], base_first(labels, affine)[1])
    found = insertions_of_cavity(again, base_first(turned, affine)[0])
    # The same pixel centres by another sum.
    np.testing.assert_allclose(found, points, atol=1e-9)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (100, 115),  # too short for a septum
        (0, 300),  # all round
        (190, 286),  # its ends lie level: 190 and 286 are 48 degrees from 238 both
    ],
)
def test_what_tells_no_insertion_is_refused(heart, first, last):
    masks = heart()
    with pytest.raises(RefusedError, match="rv: LABELS") as error:
        insertions_of_cavity(masks, draw_cavity(masks, first, last))
    assert "right ventricle" in error.value.reason


def test_cavity_far_from_the_wall_or_absent_is_refused(heart):
    masks = heart()
    far = draw_cavity(masks, 100, 196, OUTER_MM + 6, OUTER_MM + 15)
    for cavity in (far & False, far):
        with pytest.raises(RefusedError, match="rv: LABELS"):
            insertions_of_cavity(masks, cavity)
    with pytest.raises(RefusedError, match="SHAPE_MISMATCH"):
        insertions_of_cavity(masks, far[:2])


def test_slices_without_the_arc_are_left_to_the_others(heart):
    masks = heart()
    cavity = draw_cavity(masks, 100, 196)
    cavity[0] = False
    assert len(insertions_of_cavity(masks, cavity)) == 2
