"""Native grid to the networks' grid and back; positions worked by hand."""

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, example, given, settings

from jdl_keras.config import GridConfig
from jdl_keras.preprocessing import (
    Grid,
    finite,
    grid_to_native,
    image_centre,
    intensity_range,
    preprocess,
    sample,
    scale_intensities,
    to_native,
)

EVERYTHING = (0.0, 100.0)
"""Percentiles that map the smallest pixel to 0 and the largest to 1."""


def run(images, spacing_mm, grid, centre=None):
    images = tf.constant(images, tf.float32)
    centre = image_centre(images) if centre is None else tf.constant(centre)
    return preprocess(images, tf.constant(spacing_mm), grid, centre).numpy()


def test_grid_from_config():
    config = GridConfig((64, 96), (1.5, 1.25), (2.0, 98.0))
    assert Grid.from_config(config) == Grid((64, 96), (1.5, 1.25), (2.0, 98.0))


def test_centre_lies_between_the_middle_pixels():
    # Rows 0..4 have their middle at 2, columns 0..7 at 3.5.
    centre = image_centre(tf.zeros([2, 5, 8]))
    np.testing.assert_array_equal(centre, [[2.0, 3.5], [2.0, 3.5]])


def test_bright_pixel_lands_where_its_millimetres_say():
    # Native 20 x 30 at 2 x 1 mm, crop centre off the middle, at (8, 12). The pixel
    # (10, 17) lies (10 - 8) * 2 = 4 mm below and (17 - 12) * 1 = 5 mm right of it.
    image = np.zeros((1, 20, 30))
    image[0, 10, 17] = 7.0
    # The grid's centre is pixel (16, 24); it has 1 x 0.5 mm: 16 + 4 / 1, 24 + 5 / 0.5.
    grid = Grid((33, 49), (1.0, 0.5), EVERYTHING)
    output = run(image, [[2.0, 1.0]], grid, [[8.0, 12.0]])[0, ..., 0]
    assert np.unravel_index(output.argmax(), output.shape) == (20, 34)
    # Bilinear: one grid row is half a native row, so is one grid column.
    # Tolerance: a few roundings of float32 at positions below 50.
    np.testing.assert_allclose(output[19:22, 34], [0.5, 1.0, 0.5], atol=1e-5)
    np.testing.assert_allclose(output[20, 33:36], [0.5, 1.0, 0.5], atol=1e-5)
    # Two triangles of height 1 and half-width 2: sums of 2 each way.
    assert output.sum() == pytest.approx(4.0, abs=1e-4)


def test_turned_grid_reads_where_its_rotation_says():
    # Native 2 x 1 mm around (8, 12), grid 0.5 x 0.25 mm around its pixel (16, 24).
    grid = Grid((33, 49), (0.5, 0.25))
    arguments = grid, tf.constant([[2.0, 1.0]]), tf.constant([[8.0, 12.0]])
    turned = grid_to_native(*arguments, rotation_degrees=90.0)[0].numpy()
    # (column, row) = (32, 24) lies 2 mm right of and 4 mm below the centre. Turned from
    # the columns towards the rows by 90 degrees, right becomes below and below left:
    # 2 mm below, 8 + 2 / 2 = row 9; 4 mm left, 12 - 4 / 1 = column 8.
    # Tolerance: cos(90 degrees) is 4e-8 in float32, sums are below 50.
    np.testing.assert_allclose(turned @ [32, 24, 1], [8, 9, 1], atol=1e-5)
    np.testing.assert_allclose(turned @ [24, 16, 1], [12, 8, 1], atol=1e-5)


def test_no_rotation_is_0_degrees_and_a_number_is_a_tensor():
    grid = Grid((32, 48), (0.9, 0.8))
    arguments = tf.constant([[2.0, 1.25]]), grid, tf.constant([[5.5, 14.0]])
    image = tf.random.stateless_uniform([1, 17, 23], [0, 1])
    for degrees in (0.0, 40.0):
        tensor = tf.constant(degrees)
        given_number = preprocess(image, *arguments, degrees)
        np.testing.assert_array_equal(
            preprocess(image, *arguments, tensor), given_number
        )
        back = to_native(given_number, *arguments, (17, 23), degrees)
        again = to_native(given_number, *arguments, (17, 23), tensor)
        np.testing.assert_array_equal(again, back)
    np.testing.assert_array_equal(
        preprocess(image, *arguments), preprocess(image, *arguments, 0.0)
    )


def test_edge_is_repeated_beyond_the_image():
    image = np.arange(6.0).reshape(1, 2, 3)
    output = run(image, [[1.0, 1.0]], Grid((4, 5), (1.0, 1.0), EVERYTHING))[0, ..., 0]
    # One row and one column of margin on every side; 5 becomes 1.
    np.testing.assert_allclose(output, np.pad(image[0], 1, "edge") / 5, atol=1e-6)


def test_batch_of_different_spacings_equals_one_by_one():
    images = np.random.default_rng(0).normal(size=(3, 17, 23)).astype("float32")
    spacing_mm = np.float32([[1.0, 1.0], [2.0, 1.25], [0.7, 1.9]])
    centre = np.float32([[8.0, 11.0], [5.5, 14.0], [9.0, 9.0]])
    grid = Grid((32, 48), (0.9, 0.8))
    together = run(images, spacing_mm, grid, centre)
    for i in range(3):
        alone = run(images[i : i + 1], spacing_mm[i : i + 1], grid, centre[i : i + 1])
        np.testing.assert_array_equal(together[i], alone[0])


def test_graph_of_unknown_size_equals_eager():
    grid = Grid((32, 32), (1.5, 1.5))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None]),
            tf.TensorSpec([None, 2]),
        ]
    )
    def there_and_back(images, spacing_mm):
        centre = image_centre(images)
        maps = preprocess(images, spacing_mm, grid, centre)
        size = tf.shape(images)[1:3]
        return maps, to_native(maps, spacing_mm, grid, centre, size)

    images = tf.random.stateless_normal([2, 21, 34], [1, 2])
    spacing_mm = tf.constant([[1.5, 2.0], [1.0, 1.0]])
    in_graph = there_and_back(images, spacing_mm)
    eager = there_and_back.python_function(images, spacing_mm)
    for a, b in zip(in_graph, eager, strict=True):
        np.testing.assert_array_equal(a, b)


# The way back


def disc(size, spacing_mm, radius_mm):
    rows, columns = (
        (np.arange(n) - (n - 1) / 2) * mm
        for n, mm in zip(size, spacing_mm, strict=True)
    )
    return np.float32(np.hypot(rows[:, None], columns[None, :]) <= radius_mm)


def dice(a, b):
    return 2 * np.sum(a & b) / (np.sum(a) + np.sum(b))


def test_mask_comes_back_from_a_coarser_grid():
    native, spacing_mm = (64, 80), (1.25, 1.0)
    mask = disc(native, spacing_mm, 20.0)[None]
    grid = Grid((48, 48), (1.75, 1.75), EVERYTHING)
    maps = run(mask, [spacing_mm], grid)
    centre = image_centre(tf.constant(mask))
    back = to_native(maps, tf.constant([spacing_mm]), grid, centre, native)
    # The edge moves by at most half a grid pixel, 0.875 mm, along 2 pi 20 mm of an
    # area of pi 20^2: at worst 2 * 0.875 / 20 of the pixels, 1 - 0.044 in Dice. The
    # shifts to either side cancel in part; the mean is well below the worst.
    assert dice(back.numpy() >= 0.5, mask >= 0.5) >= 0.98


def test_mask_comes_back_unchanged_from_the_same_grid():
    random = np.random.default_rng(1)
    mask = np.float32(random.random((1, 32, 48)) < 0.5)
    grid = Grid((32, 48), (1.75, 1.2), EVERYTHING)
    maps = run(mask, [[1.75, 1.2]], grid)
    centre = image_centre(tf.constant(mask))
    back = to_native(maps, tf.constant([[1.75, 1.2]]), grid, centre, (32, 48))
    np.testing.assert_array_equal(back.numpy() >= 0.5, mask >= 0.5)


def test_nothing_comes_back_from_beyond_the_grid():
    # The grid spans 4 x 4 of 8 x 8 native pixels, rows and columns 2..5.
    grid = Grid((4, 4), (1.0, 1.0))
    back = to_native(
        tf.ones([1, 4, 4, 1]),
        tf.constant([[1.0, 1.0]]),
        grid,
        tf.constant([[3.5, 3.5]]),
        (8, 8),
    )
    np.testing.assert_array_equal(back[0], np.pad(np.ones((4, 4)), 2))


SPACINGS = st.floats(0.5, 3.0, width=32)


@settings(max_examples=40, deadline=None)
@given(
    native=st.tuples(SPACINGS, SPACINGS),
    spacing=st.tuples(SPACINGS, SPACINGS),
    shift=st.tuples(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32)),
    slope=st.tuples(st.floats(-1, 1, width=32), st.floats(-1, 1, width=32)),
    degrees=st.floats(-360, 360, width=32),
)
@example((1.0, 1.0), (1.0, 1.0), (0.0, 0.0), (1.0, 0.5), 90.0)
@example((2.0, 0.5), (0.75, 1.0), (1.0, 2.0), (0.5, -1.0), 40.0)
def test_the_way_back_is_the_inverse(native, spacing, shift, slope, degrees):
    """Linear interpolation keeps a ramp; so only a wrong map could change it."""
    size = (24, 20)
    grid = Grid((40, 36), spacing)
    rows, columns = np.mgrid[: size[0], : size[1]].astype("float32")
    ramp = slope[0] * rows + slope[1] * columns
    centre = tf.constant([[11.5 + shift[0], 9.5 + shift[1]]])
    native_mm = tf.constant([native])
    transform = grid_to_native(grid, native_mm, centre, degrees)
    maps = sample(ramp[None, ..., None], transform, grid.size, "BILINEAR", "NEAREST")
    back = to_native(maps, native_mm, grid, centre, size, degrees)[0].numpy()
    # Only pixels whose neighbours on the grid see the ramp, not the repeated edge.
    y, x = (
        (index - centre[0, axis].numpy()) * native[axis]
        for axis, index in enumerate((rows, columns))
    )
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    inside = np.ones(size, bool)
    for axis, off_mm in enumerate((cos * y - sin * x, cos * x + sin * y)):
        inside &= np.abs(off_mm) <= ((grid.size[axis] - 1) / 2 - 1) * spacing[axis]
    for axis, index in enumerate((rows, columns)):
        margin = np.hypot(*spacing) / native[axis]
        inside &= (index >= margin) & (index <= size[axis] - 1 - margin)
    assume(inside.any())
    # Positions up to 40 carry errors of 1e-5 pixels in float32, slopes are below 2.
    np.testing.assert_allclose(back[inside], ramp[inside], atol=2e-4)


# Intensities


def test_percentiles_become_0_and_1():
    # 101 pixels 0..100: the 10th percentile is 10, the 90th is 90.
    image = np.random.default_rng(2).permutation(101).reshape(1, 1, 101)
    grid = Grid((1, 101), (1.0, 1.0), (10.0, 90.0))
    output = run(image, [[1.0, 1.0]], grid).ravel()
    # 50 becomes (50 - 10) / 80 = 0.5; 4 and 96 are clipped.
    expected = np.clip((image.ravel() - 10) / 80, 0, 1)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    assert output[image.ravel() == 50] == pytest.approx(0.5, abs=1e-5)


def test_percentiles_are_those_of_the_grid_not_of_the_image():
    # A bright border beyond the 4 x 4 grid does not darken what is inside.
    image = np.pad(np.arange(16.0).reshape(4, 4), 2, constant_values=1000)[None]
    output = run(image, [[1.0, 1.0]], Grid((4, 4), (1.0, 1.0), EVERYTHING))
    np.testing.assert_allclose(output.ravel(), np.arange(16) / 15, atol=1e-6)


def test_intensity_range_is_the_nearest_rank_of_each_image():
    # 5 pixels, ranks 0..4: 30 % is rank 1.2, so 1; 70 % is rank 2.8, so 3.
    images = tf.constant([[[5.0, 1.0, 4.0, 2.0, 3.0]], [[50, 10, 40, 20, 30.0]]])
    limits = intensity_range(images, (30.0, 70.0))
    np.testing.assert_array_equal(limits, [[2.0, 4.0], [20.0, 40.0]])


def test_constant_slice_becomes_zeros():
    # At 1.3 mm every weight is rounded, so the constant comes out only nearly so.
    images = np.stack([np.full((6, 6), 812.3), np.arange(36.0).reshape(6, 6)])
    output = run(images, [[1.3, 1.3]] * 2, Grid((6, 6), (1.0, 1.0)))
    assert (output[0] == 0).all()
    assert output[1].max() == 1


def test_limits_that_coincide_give_zeros():
    images = tf.constant([-1.0, 0.0, 5.0])[None, :, None, None]
    scaled = scale_intensities(images, tf.constant([[0.0, 0.0]]))
    assert not np.any(scaled)


def test_non_finite_pixels_take_the_smallest_finite_value():
    images = tf.constant([[[np.nan, 4.0], [-2.0, np.inf]], [[-np.inf, 9.0], [8, 7.0]]])
    expected = [[[-2.0, 4.0], [-2.0, -2.0]], [[7.0, 9.0], [8.0, 7.0]]]
    np.testing.assert_array_equal(finite(images), expected)


def test_slice_without_a_finite_pixel_becomes_zeros():
    output = run(np.full((1, 6, 6), np.nan), [[1.0, 1.3]], Grid((8, 8), (1.0, 1.0)))
    assert (output == 0).all()


@settings(max_examples=30, deadline=None)
@given(
    pixels=st.lists(
        st.floats(width=32) | st.sampled_from([np.nan, np.inf, -np.inf]),
        min_size=12,
        max_size=12,
    )
)
@example(pixels=[3e38, -3e38] * 6)
def test_any_pixels_give_values_in_0_to_1(pixels):
    image = np.float32(pixels).reshape(1, 3, 4)
    output = run(image, [[1.0, 1.3]], Grid((5, 5), (0.7, 0.8), EVERYTHING))
    assert np.isfinite(output).all()
    assert output.min() >= 0
    assert output.max() <= 1
