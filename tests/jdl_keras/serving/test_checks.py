"""What a served model refuses, whatever it was sent: the input is named, and why."""

import re

import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.serving.checks import (
    MOST_PIXELS,
    checked_images,
    checked_records,
    checked_rotation,
    checked_spacing,
)

# No shape is declared: the checks see what a server hands on.
ANY = tf.TensorSpec(None, tf.float32)


@tf.function(input_signature=[ANY])
def images_of(images):
    return checked_images(images, "BHW")


@tf.function(input_signature=[ANY])
def studies_of(images):
    return checked_images(images, "BSHW")


@tf.function(input_signature=[ANY, tf.TensorSpec([], tf.int32)])
def spacing_of(spacing_mm, count):
    return checked_spacing(spacing_mm, count)


@tf.function(input_signature=[ANY, tf.TensorSpec([], tf.int32)])
def rotation_of(rotation_degrees, count):
    return checked_rotation(rotation_degrees, count)


@tf.function(
    input_signature=[
        tf.TensorSpec([None], tf.string),
        tf.TensorSpec([None, 2], tf.int64),
        tf.TensorSpec([None], tf.int32),
    ]
)
def size_of(examples, sizes, lengths):
    return checked_records(examples, sizes, lengths)


GOOD = np.random.default_rng(0).random((3, 4, 5), np.float32)


def changed(value, where=(1, 2, 3)):
    images = GOOD.copy()
    images[where] = value
    return images


def test_good_input_comes_back_as_it_is():
    np.testing.assert_array_equal(images_of(GOOD), GOOD)
    np.testing.assert_array_equal(studies_of(GOOD[None]), GOOD[None])
    edges = np.float32([[0.1, 10.0], [1.25, 1.4]])
    np.testing.assert_array_equal(spacing_of(edges, 2), edges)
    turns = np.float32([0, -400])
    np.testing.assert_array_equal(rotation_of(turns, 2), turns)
    # 4 x 5 pixels of 4 bytes
    np.testing.assert_array_equal(size_of(["a", "b"], [[4, 5]] * 2, [80, 80]), [4, 5])
    huge = changed(3e38)  # finite, and so are the differences inside
    np.testing.assert_array_equal(images_of(huge), huge)


def refusal(function, *inputs):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        function(*(tf.constant(one) for one in inputs))
    (line,) = (x for x in str(caught.value).splitlines() if "assertion" in x)
    return line


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (GOOD[0], r"images: SHAPE_MISMATCH: expected \(B, H, W\), got shape\] \[4 5\]"),
        (GOOD[None], r"images: SHAPE_MISMATCH.* \[1 3 4 5\]"),
        (np.float32(1), r"images: SHAPE_MISMATCH.* \[\]"),
        (GOOD[:0], r"images: EMPTY.* \[0 4 5\]"),
        (GOOD[:, :, :0], r"images: EMPTY.* \[3 4 0\]"),
        (changed(np.nan), r"images: NOT_FINITE.* \[1\]"),
        (changed(-np.inf, (2, 0, 0)), r"images: NOT_FINITE.* \[2\]"),
        (changed(7, 1), r"images: CONSTANT.* \[1\]"),
        (GOOD[:, :1, :1], r"images: CONSTANT.* \[0\]"),
        (np.zeros((1, 1, MOST_PIXELS + 1), np.float32), "images: TOO_LARGE"),
    ],
)
def test_images_that_are_none(images, said):
    assert re.search(said, refusal(images_of, images))


@pytest.mark.parametrize(
    ("spacing_mm", "said"),
    [
        ([1.0, 1.0], "SHAPE_MISMATCH"),
        ([[1.0, 1.0]], "SHAPE_MISMATCH"),
        ([[1.0, 1.0, 8.0]] * 2, "SHAPE_MISMATCH"),
        ([[1.0, 1.0], [1.0, 0.0]], "BAD_GEOMETRY"),
        ([[1.0, 1.0], [-1.0, 1.0]], "BAD_GEOMETRY"),
        ([[1.0, 1.0], [0.09, 1.0]], "BAD_GEOMETRY"),
        ([[1.0, 10.1], [1.0, 1.0]], "BAD_GEOMETRY"),
        ([[1.0, np.nan], [1.0, 1.0]], "BAD_GEOMETRY"),
        ([[1.0, np.inf], [1.0, 1.0]], "BAD_GEOMETRY"),
    ],
)
def test_spacings_that_are_none(spacing_mm, said):
    line = refusal(spacing_of, np.float32(spacing_mm), 2)
    assert f"[spacing_mm: {said}: " in line


@pytest.mark.parametrize(
    ("rotation_degrees", "said"),
    [
        (3.0, "SHAPE_MISMATCH"),
        ([3.0], "SHAPE_MISMATCH"),
        ([[3.0, 4.0]], "SHAPE_MISMATCH"),
        ([3.0, np.nan], "NOT_FINITE"),
    ],
)
def test_rotations_that_are_none(rotation_degrees, said):
    line = refusal(rotation_of, np.float32(rotation_degrees), 2)
    assert f"[rotation_degrees: {said}: " in line


@pytest.mark.parametrize(
    ("sizes", "lengths", "said"),
    [
        ([[4, 5], [5, 4]], [80, 80], "SHAPE_MISMATCH"),
        ([[4, 5], [4, 5]], [80, 76], "PIXEL_LENGTH"),
        ([[-4, -5], [-4, -5]], [80, 80], "BAD_HEADER"),
        # 4 x 2^62 x 8 is 0 in 64 bits
        ([[2**62, 8], [2**62, 8]], [0, 0], "BAD_HEADER"),
    ],
)
def test_records_that_are_none(sizes, lengths, said):
    line = refusal(size_of, ["a", "b"], np.int64(sizes), lengths)
    assert f"[examples: {said}: " in line


def test_no_records():
    none = tf.constant([], tf.string), np.empty((0, 2), np.int64), np.empty(0, np.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="examples: EMPTY"):
        size_of(*none)
