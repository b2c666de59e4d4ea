"""Random affine and intensity changes; the drawn numbers are set where sums are worked.

An affine maps output to input, in millimetres (x, y, 1) around the centre.
"""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.config import AugmentationConfig
from jdl_keras.data.augmentation import random_affine, random_intensity

NOTHING = AugmentationConfig(
    scale=(1.0, 1.0),
    rotation_degrees=0.0,
    translation_mm=0.0,
    shear_degrees=0.0,
    gamma=(1.0, 1.0),
    noise_sd=0.0,
)
SEEDS = [tf.constant([3, index]) for index in range(50)]


@pytest.fixture
def drawn(monkeypatch):
    """Sets the uniform numbers that are drawn next."""

    def set_drawn(*values):
        def drawn(shape, *_):
            assert shape == [len(values)]
            return tf.constant(values)

        monkeypatch.setattr(tf.random, "stateless_uniform", drawn)

    return set_drawn


def affine(**ranges):
    """The affine of these ranges alone."""
    return random_affine(SEEDS[0], dataclasses.replace(NOTHING, **ranges)).numpy()


def test_rotation_of_90_degrees(drawn):
    drawn(0.0, 0.5, 0.0, 0.0, 0.0)
    # Half of 180 degrees: x = 1, y = 0 of the output is read at x = 0, y = 1.
    expected = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    # cos(90 degrees) is 4e-8 in float32.
    np.testing.assert_allclose(affine(rotation_degrees=180.0), expected, atol=1e-7)


def test_translation(drawn):
    drawn(0.0, 0.0, 0.0, 0.5, -1.0)
    # 0.5 * 10 mm along the columns, -1 * 10 mm along the rows.
    expected = [[1, 0, 5], [0, 1, -10], [0, 0, 1]]
    np.testing.assert_array_equal(affine(translation_mm=10.0), expected)


@pytest.mark.parametrize(("u", "magnification"), [(1.0, 1.25), (-1.0, 0.8), (0.0, 1.0)])
def test_scale_magnifies(drawn, u, magnification):
    drawn(u, 0.0, 0.0, 0.0, 0.0)
    # Magnified by 1.25, 1 mm of the output is read at 1 / 1.25 = 0.8 mm. The middle of
    # 0.8 and 1.25 is 1, because scales are drawn on a logarithmic axis.
    expected = np.diag([1 / magnification, 1 / magnification, 1.0])
    np.testing.assert_allclose(affine(scale=(0.8, 1.25)), expected, atol=1e-6)


def test_shear(drawn):
    drawn(0.0, 0.0, 1.0, 0.0, 0.0)
    # Columns move by tan(45 degrees) = 1 mm for each mm along the rows.
    expected = [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(affine(shear_degrees=45.0), expected, atol=1e-6)


def test_order_is_scale_shear_rotation_translation(drawn):
    drawn(1.0, 0.5, 1.0, 1.0, 0.0)
    matrix = affine(
        scale=(0.5, 2.0), rotation_degrees=180.0, shear_degrees=45.0, translation_mm=3.0
    )
    # (0, 1) * 0.5 = (0, 0.5); sheared (0.5, 0.5); rotated by 90 degrees (-0.5, 0.5);
    # moved by (3, 0).
    np.testing.assert_allclose(matrix @ [0, 1, 1], [2.5, 0.5, 1], atol=1e-6)


def test_ranges_of_nothing_give_the_identity():
    image = tf.random.stateless_uniform([4, 5, 1], [0, 1])
    for seed in SEEDS:
        np.testing.assert_array_equal(random_affine(seed, NOTHING), np.eye(3))
        # exp(log(x)) in float32 differs from x by a few roundings.
        np.testing.assert_allclose(
            random_intensity(image, seed, NOTHING), image, atol=1e-6
        )


def test_values_fill_their_ranges_and_stay_in_them():
    config = dataclasses.replace(
        NOTHING, scale=(0.8, 1.25), rotation_degrees=180.0, translation_mm=10.0
    )
    matrices = np.stack([random_affine(seed, config) for seed in SEEDS])
    # A rotation leaves the determinant, so it is the squared inverse magnification.
    scales = np.linalg.det(matrices[:, :2, :2]) ** -0.5
    angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    shifts = matrices[:, :2, 2]
    for values, low, high in (
        (scales, 0.8, 1.25),
        (angles, -180.0, 180.0),
        (shifts, -10.0, 10.0),
    ):
        assert low - 1e-5 <= values.min() < values.max() <= high + 1e-5
        # 50 draws miss the outer tenth at an end with probability 0.9^50 = 0.5 %; the
        # seeds are fixed, so this passes always or never.
        assert values.min() < low + 0.1 * (high - low)
        assert values.max() > high - 0.1 * (high - low)


@pytest.mark.parametrize("change", ["affine", "intensity"])
def test_eager_equals_dataset(change):
    config = AugmentationConfig()
    image = tf.random.stateless_uniform([8, 8, 1], [0, 1])

    def apply(index):
        seed = tf.random.fold_in([7, 0], index)
        if change == "affine":
            return random_affine(seed, config)
        return random_intensity(image, seed, config)

    dataset = tf.data.Dataset.range(5).map(apply, num_parallel_calls=2)
    results = list(dataset.as_numpy_iterator())
    for index, in_dataset in enumerate(results):
        # The graph compiler may fuse a multiplication with an addition.
        np.testing.assert_allclose(
            in_dataset, apply(tf.constant(index, tf.int64)), atol=1e-6
        )
    assert not np.allclose(results[0], results[1])


def test_gamma_is_the_exponent(drawn):
    drawn(0.0, 0.0)
    image = tf.constant([0.0, 0.25, 1.0])
    config = AugmentationConfig(gamma=(0.5, 2.0), noise_sd=0.0)
    # The lowest draw gives the smallest exponent: 0.25 ^ 0.5 = 0.5.
    output = random_intensity(image, SEEDS[0], config)
    np.testing.assert_allclose(output, [0.0, 0.5, 1.0], atol=1e-6)


def test_noise_has_the_drawn_deviation(drawn):
    drawn(0.5, 0.5)
    image = tf.fill([100, 100], 0.5)
    config = AugmentationConfig(gamma=(1.0, 1.0), noise_sd=0.1)
    noise = random_intensity(image, SEEDS[0], config).numpy() - 0.5
    # 0.5 * 0.1 = 0.05; of 10,000 draws the deviation is known to
    # 0.05 / sqrt(20,000) = 0.00035, the mean to 0.0005: five of each.
    assert noise.std() == pytest.approx(0.05, abs=0.0018)
    assert noise.mean() == pytest.approx(0.0, abs=0.0025)


def test_intensities_stay_in_0_to_1():
    image = tf.constant([0.0, 0.5, 1.0] * 10)
    config = AugmentationConfig(noise_sd=1.0)
    for seed in SEEDS[:10]:
        output = random_intensity(image, seed, config).numpy()
        assert output.min() >= 0
        assert output.max() <= 1


def test_gamma_and_noise_are_drawn_apart():
    # Were they one draw, a small exponent would always come with little noise.
    image = tf.fill([1000], 0.5)
    config = AugmentationConfig(gamma=(0.5, 2.0), noise_sd=0.05)
    outputs = np.stack([random_intensity(image, seed, config) for seed in SEEDS])
    exponents = np.log(np.median(outputs, axis=1)) / math.log(0.5)
    correlation = np.corrcoef(np.log(exponents), outputs.std(axis=1))[0, 1]
    # 50 independent draws correlate by less than 3 / sqrt(50) = 0.42.
    assert abs(correlation) < 0.42
