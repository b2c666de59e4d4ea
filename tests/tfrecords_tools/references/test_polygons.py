import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.references.polygons import MAX_POINTS, check, fill

SHAPE = (8, 10)


def square(low, high):
    return np.array([(low, low), (low, high), (high, high), (high, low)], float)


def test_centres_inside_belong():
    # Rows and columns 2, 3, 4 have their centre between 1.5 and 4.5.
    mask = fill("x", [square(1.5, 4.5)], SHAPE)
    assert mask.sum() == 9
    assert mask[2:5, 2:5].all()


def test_centres_on_the_line_belong():
    # The corners lie on the centres 1 and 4: four rows of four.
    assert fill("x", [square(1, 4)], SHAPE).sum() == 16


def test_rounding_of_stored_coordinates_changes_nothing():
    noise = np.array([(1, -1), (-1, 1), (-1, -1), (1, 1)]) * 1e-5
    assert fill("x", [square(1, 4) + noise], SHAPE).sum() == 16


def test_triangle():
    # Right angle at (0, 0), legs of 4: 5 + 4 + 3 + 2 + 1 centres, hypotenuse included.
    assert fill("x", [np.array([(0.0, 0), (0, 4), (4, 0)])], SHAPE).sum() == 15


def test_one_inside_the_other_is_a_hole_whose_line_stays():
    # 6 x 6 = 36 centres, of which the hole takes 2 x 2 strictly inside its 4 x 4.
    mask = fill("x", [square(1, 6), square(2, 5)], SHAPE)
    assert mask.sum() == 36 - 4
    assert not mask[3:5, 3:5].any()


def test_two_apart_are_both_filled():
    far = np.array([(0.0, 6), (0, 8), (2, 8), (2, 6)])
    assert fill("x", [square(0, 2), far], SHAPE).sum() == 9 + 9


@pytest.mark.parametrize("second", [square(3, 6), square(1, 4)])
def test_crossing_or_equal_contours_are_refused(second):
    with pytest.raises(RefusedError, match=r"CONTOUR: two contours"):
        fill("x", [square(1, 4), second], SHAPE)


@given(
    centre=st.tuples(st.floats(2, 30), st.floats(2, 30)),
    radius=st.floats(1, 12),
    angle=st.floats(0, 1),
)
def test_a_polygon_is_what_matplotlib_says(centre, radius, angle):
    from matplotlib.path import Path

    angles = angle + np.linspace(0, 2 * np.pi, 13)[:-1]
    points = np.stack([np.sin(angles), np.cos(angles)], axis=1) * radius + centre
    grid = np.indices((40, 40)).reshape(2, -1).T
    # Centres within 0.01 pixels of the line are left to each one's own rule.
    outer = Path(centre + (points - centre) * (1 + 0.02 / radius)).contains_points(grid)
    inner = Path(centre + (points - centre) * (1 - 0.02 / radius)).contains_points(grid)
    mask = fill("x", [points], (40, 40)).ravel()
    assert not (inner & ~mask).any()
    assert not (mask & ~outer).any()


def test_large_fields_are_filled_within_bounds():
    angles = np.linspace(0, 2 * np.pi, MAX_POINTS)[:-1]
    circle = 1000 + 900 * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    area = fill("x", [circle], (2048, 2048)).sum()
    assert area == pytest.approx(np.pi * 900**2, rel=1e-3)  # Gauss' circle


def test_very_many_contours_are_refused():
    with pytest.raises(RefusedError, match="over 64 contours"):
        fill("x", [square(1, 4)] * 65, SHAPE)


def test_tangled_contour_is_refused():
    zigzag = np.zeros((MAX_POINTS, 2))
    zigzag[1::2, 0] = 2000
    zigzag[:, 1] = np.linspace(0, 2000, MAX_POINTS)
    zigzag[-1] = 0, 2000  # so that it closes along an edge and has an area
    with pytest.raises(RefusedError, match="tangled"):
        check("x", zigzag, (2048, 2048))


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([(1, 1), (2, 2)], "2 points"),
        ([], "0 points"),
        ([(1, 1), (2, np.nan), (3, 1)], "NaN"),
        ([(1, 1), (2, np.inf), (3, 1)], "NaN or infinity"),
        ([(1, 1), (2, 12), (3, 1)], "leaves the image"),
        ([(1, 1), (-3, 2), (3, 1)], "leaves the image"),
        ([(1, 1), (2, 2), (3, 3)], "encloses nothing"),
    ],
)
def test_what_cannot_be_filled_is_refused(points, reason):
    with pytest.raises(RefusedError, match=reason) as error:
        check("x", np.array(points, float).reshape(-1, 2), SHAPE)
    assert error.value.code == "CONTOUR"


def test_open_contour_is_refused_where_points_are_dense():
    angles = np.linspace(0, 1.5 * np.pi, 90)  # three quarters of a circle of radius 20
    points = 25 + 20 * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    # The ends are 20 * sqrt(2) = 28 pixels apart, the steps about 1.
    with pytest.raises(RefusedError, match=r"open: its ends are 28 pixels"):
        check("x", points, (60, 60), dense=True)
    check("x", points, (60, 60))
