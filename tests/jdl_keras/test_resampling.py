"""Sampling between pixels, by hand; and that every backend's road is the same."""

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from jdl_keras.resampling import _gathered, sample

ROADS = {"operation of TensorFlow": sample, "every other backend": _gathered}
IMAGE = np.float32([[10, 20, 30], [40, 50, 60]])[None, ..., None]


@pytest.fixture(params=ROADS)
def road(request):
    return ROADS[request.param]


def shifted(road, image, x, y, size, interpolation, fill):
    """One image, sampled at (column + x, row + y)."""
    transform = tf.constant([[[1.0, 0, x], [0, 1.0, y], [0, 0, 1.0]]])
    return np.array(road(image, transform, size, interpolation, fill))[0, ..., 0]


def test_bilinear_weighs_by_distance(road):
    # At column 0.25, row 0.5: the rows are 12.5 and 42.5, their middle 27.5; one
    # column on 22.5 and 52.5, so 37.5.
    found = shifted(road, IMAGE, 0.25, 0.5, (1, 2), "BILINEAR", "NEAREST")
    np.testing.assert_allclose(found, [[27.5, 37.5]], atol=1e-5)


def test_edge_is_repeated_or_fades_to_0(road):
    # Columns -0.75, 0.25, 1.25, 2.25 of the first row.
    found = shifted(road, IMAGE, -0.75, 0.0, (1, 4), "BILINEAR", "NEAREST")
    np.testing.assert_allclose(found, [[10, 12.5, 22.5, 30]], atol=1e-5)
    found = shifted(road, IMAGE, -0.75, 0.0, (1, 4), "BILINEAR", "CONSTANT")
    # A quarter of 10, three quarters of 30.
    np.testing.assert_allclose(found, [[2.5, 12.5, 22.5, 22.5]], atol=1e-5)
    found = shifted(road, IMAGE, -2.0, -2.0, (5, 7), "BILINEAR", "CONSTANT")
    np.testing.assert_array_equal(found, np.pad(IMAGE[0, ..., 0], ((2, 1), (2, 2))))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_nearest_takes_of_two_the_one_farther_from_zero(road, dtype):
    image = IMAGE.astype(dtype)
    # Columns -0.5, 0.5, 1.5, 2.5 are rounded to -1, 1, 2, 3, of which 0..2 exist.
    found = shifted(road, image, -0.5, 0.0, (1, 4), "NEAREST", "CONSTANT")
    np.testing.assert_array_equal(found, [[0, 20, 30, 0]])
    assert found.dtype == dtype
    # The edge is repeated before rounding: columns 0, 0.5, 1.5, 2.
    found = shifted(road, image, -0.5, 0.0, (1, 4), "NEAREST", "NEAREST")
    np.testing.assert_array_equal(found, [[10, 20, 30, 30]])


COEFFICIENT = st.floats(-3, 3, width=32)


@settings(max_examples=40, deadline=None)
@given(
    linear=st.lists(COEFFICIENT, min_size=8, max_size=8),
    shift=st.lists(st.floats(-20, 20, width=32), min_size=4, max_size=4),
    interpolation=st.sampled_from(["BILINEAR", "NEAREST"]),
    fill=st.sampled_from(["NEAREST", "CONSTANT"]),
)
def test_both_roads_are_the_same_to_the_bit(linear, shift, interpolation, fill):
    # The same operations on float32 in the same order.
    images = np.random.default_rng(0).random((2, 7, 9, 1), np.float32)
    linear, shift = np.reshape(linear, (2, 2, 2)), np.reshape(shift, (2, 2, 1))
    last = np.tile([[[0, 0, 1]]], (2, 1, 1))
    maps = np.concatenate([np.concatenate([linear, shift], axis=2), last], axis=1)
    arguments = (images, tf.constant(maps, tf.float32), (8, 5), interpolation, fill)
    np.testing.assert_array_equal(_gathered(*arguments), sample(*arguments))


def test_positions_beyond_every_integer_are_outside(road):
    transform = tf.constant([[[1e30, 0, 1.0], [0, -1e30, 0.0], [0, 0, 1.0]]])
    found = road(IMAGE, transform, (2, 2), "NEAREST", "CONSTANT")
    # Only the first output pixel is read inside, at column 1 of row 0.
    np.testing.assert_array_equal(found[0, ..., 0], [[20, 0], [0, 0]])
