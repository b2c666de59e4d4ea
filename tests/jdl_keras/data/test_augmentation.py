"""Random affine and intensity changes, worked from the numbers drawn.

An affine maps output to input, in millimetres (x, y, 1) around the centre.
"""

import dataclasses

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
RANDOM = np.random.default_rng(0)
AFFINE_DRAWS = RANDOM.uniform(-1, 1, (50, 5)).astype("float32")
INTENSITY_DRAWS = RANDOM.random((50, 2), "float32")
IMAGES = RANDOM.random((50, 4, 5, 1), "float32")
NOISE = RANDOM.standard_normal(IMAGES.shape, "float32")


def affine(*u, **ranges):
    """The affine of these ranges alone."""
    return random_affine(tf.constant(u), dataclasses.replace(NOTHING, **ranges)).numpy()


def intensity(image, u, noise=0.0, **ranges):
    image = tf.constant(image)
    config = dataclasses.replace(NOTHING, **ranges)
    return random_intensity(image, tf.constant(u), noise * tf.ones_like(image), config)


def test_rotation_of_90_degrees():
    matrix = affine(0.0, 0.5, 0.0, 0.0, 0.0, rotation_degrees=180.0)
    # Half of 180 degrees: x = 1, y = 0 of the output is read at x = 0, y = 1.
    expected = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    # cos(90 degrees) is 4e-8 in float32.
    np.testing.assert_allclose(matrix, expected, atol=1e-7)


def test_translation():
    matrix = affine(0.0, 0.0, 0.0, 0.5, -1.0, translation_mm=10.0)
    # 0.5 * 10 mm along the columns, -1 * 10 mm along the rows.
    np.testing.assert_array_equal(matrix, [[1, 0, 5], [0, 1, -10], [0, 0, 1]])


@pytest.mark.parametrize(("u", "magnification"), [(1.0, 1.25), (-1.0, 0.8), (0.0, 1.0)])
def test_scale_magnifies(u, magnification):
    matrix = affine(u, 0.0, 0.0, 0.0, 0.0, scale=(0.8, 1.25))
    # Magnified by 1.25, 1 mm of the output is read at 1 / 1.25 = 0.8 mm. The middle of
    # 0.8 and 1.25 is 1, because scales are drawn on a logarithmic axis.
    expected = np.diag([1 / magnification, 1 / magnification, 1.0])
    np.testing.assert_allclose(matrix, expected, atol=1e-6)


def test_shear():
    matrix = affine(0.0, 0.0, 1.0, 0.0, 0.0, shear_degrees=45.0)
    # Columns move by tan(45 degrees) = 1 mm for each mm along the rows.
    np.testing.assert_allclose(matrix, [[1, 1, 0], [0, 1, 0], [0, 0, 1]], atol=1e-6)


def test_order_is_scale_shear_rotation_translation():
    ranges = {"scale": (0.5, 2.0), "rotation_degrees": 180.0, "shear_degrees": 45.0}
    matrix = affine(1.0, 0.5, 1.0, 1.0, 0.0, **ranges, translation_mm=3.0)
    # (0, 1) * 0.5 = (0, 0.5); sheared (0.5, 0.5); rotated by 90 degrees (-0.5, 0.5);
    # moved by (3, 0).
    np.testing.assert_allclose(matrix @ [0, 1, 1], [2.5, 0.5, 1], atol=1e-6)


def test_ranges_of_nothing_give_the_identity():
    matrices = random_affine(tf.constant(AFFINE_DRAWS), NOTHING)
    np.testing.assert_array_equal(matrices, np.tile(np.eye(3), (50, 1, 1)))
    output = random_intensity(IMAGES, tf.constant(INTENSITY_DRAWS), NOISE, NOTHING)
    # exp(log(x)) in float32 differs from x by a few roundings.
    np.testing.assert_allclose(output, IMAGES, atol=1e-6)


def test_ends_of_the_draws_are_the_ends_of_the_ranges():
    ranges = {"rotation_degrees": 30.0, "scale": (0.8, 1.25), "translation_mm": 10.0}
    for u, magnification in ((-1.0, 0.8), (1.0, 1.25)):
        matrix = affine(u, u, 0.0, u, u, **ranges)
        # A rotation leaves the determinant: it is the squared inverse magnification.
        scale = np.linalg.det(matrix[:2, :2]) ** -0.5
        assert scale == pytest.approx(magnification, abs=1e-5)
        angle = np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
        assert angle == pytest.approx(u * 30, abs=1e-4)
        np.testing.assert_array_equal(matrix[:2, 2], [10 * u, 10 * u])


def test_gamma_is_the_exponent():
    # The lowest draw gives the smallest exponent: 0.25 ^ 0.5 = 0.5; the highest the
    # largest, 0.5 ^ 2 = 0.25; one half the geometric mean, here 1.
    for u, value, expected in ((0.0, 0.25, 0.5), (1.0, 0.5, 0.25), (0.5, 0.3, 0.3)):
        output = intensity([0.0, value, 1.0], [u, 0.0], gamma=(0.5, 2.0))
        np.testing.assert_allclose(output, [0.0, expected, 1.0], atol=1e-6)


def test_noise_has_the_drawn_deviation():
    # 0.6 ^ 1 + 2 sd * (0.25 * 0.1) = 0.65; the exponent does not depend on the second
    # draw, nor the noise on the first.
    for u in ([0.0, 0.25], [0.9, 0.25]):
        output = intensity([0.6], u, noise=2.0, noise_sd=0.1)
        assert output.numpy() == pytest.approx(0.65, abs=1e-6)
    output = intensity([0.25], [0.0, 0.5], noise=-1.0, gamma=(0.5, 2.0), noise_sd=0.1)
    # 0.25 ^ 0.5 - 1 sd * (0.5 * 0.1) = 0.45
    assert output.numpy() == pytest.approx(0.45, abs=1e-6)


def test_intensities_stay_in_0_to_1():
    config = AugmentationConfig(noise_sd=1.0)
    output = random_intensity(IMAGES, tf.constant(INTENSITY_DRAWS), NOISE, config)
    # Clipped at both ends, so the ends are met exactly.
    assert output.numpy().min() == 0
    assert output.numpy().max() == 1


def test_batch_equals_one_by_one():
    config, draws = AugmentationConfig(), tf.constant(AFFINE_DRAWS)
    amounts = tf.constant(INTENSITY_DRAWS)
    matrices = random_affine(draws, config)
    images = random_intensity(IMAGES, amounts, NOISE, config)
    assert matrices.shape == (50, 3, 3)
    assert images.shape == IMAGES.shape
    for i in range(50):
        # Vectorised and single exponentials may round differently, by 6e-8 of them;
        # the shifts, up to 10 mm, have no exponential.
        alone = random_affine(draws[i], config)
        np.testing.assert_allclose(matrices[i], alone, atol=1e-6)
        alone = random_intensity(IMAGES[i], amounts[i], NOISE[i], config)
        np.testing.assert_allclose(images[i], alone, atol=1e-6)


def test_eager_equals_dataset():
    config = AugmentationConfig()

    def change(u, amounts, image, noise):
        return random_affine(u, config), random_intensity(image, amounts, noise, config)

    arguments = (AFFINE_DRAWS, INTENSITY_DRAWS, IMAGES, NOISE)
    dataset = tf.data.Dataset.from_tensor_slices(arguments).map(change)
    assert [tuple(spec.shape) for spec in dataset.element_spec] == [(3, 3), (4, 5, 1)]
    for i, in_dataset in enumerate(dataset):
        # The graph compiler may fuse a multiplication with an addition.
        for found, expected in zip(
            in_dataset, change(*(tf.constant(a[i]) for a in arguments)), strict=True
        ):
            np.testing.assert_allclose(found, expected, atol=1e-6)
