"""What the scar network sees of the image and the myocardium's map, by hand."""

import keras
import numpy as np
import pytest

from jdl_keras.config import Config, GridConfig, MessageConfig, ModelConfig
from jdl_keras.models.message_passing import remote_deviations
from jdl_keras.models.methods import build_network, compose


def row(*values):
    return np.float32(values).reshape(1, 1, -1, 1)


def test_deviations_are_from_the_darker_part_of_the_wall():
    # Mean of the wall (0.1 + 0.2 + 0.3 + 0.9) / 4 = 0.375, so the first three are
    # remote: mean 0.2, variance (0.01 + 0 + 0.01) / 3, deviation with the floor
    # sqrt(0.02 / 3 + 0.02^2) = 0.08406. The last pixel is not of the wall.
    image, wall = row(0.1, 0.2, 0.3, 0.9, 1.0), row(1, 1, 1, 1, 0)
    expected = np.tanh((image - 0.2) / (5 * 0.08406))
    # Four digits of the deviation are given.
    np.testing.assert_allclose(remote_deviations(image, wall), expected, atol=1e-4)


def test_deviations_do_not_change_with_the_gain_of_the_image():
    random = np.random.default_rng(0)
    image = np.float32(random.uniform(0.2, 0.8, (2, 6, 5, 1)))
    wall = np.float32(random.random((2, 6, 5, 1)))
    before = np.asarray(remote_deviations(image, wall))
    # Halved and lifted; the floor of 0.02 is small against the deviation of about 0.1,
    # and weighs four times as much at half the gain: up to 0.06 of a value.
    after = np.asarray(remote_deviations(image / 2 + 0.3, wall))
    np.testing.assert_allclose(after, before, atol=0.06)
    assert before.std() > 0.3


def test_without_a_wall_nothing_is_divided_by_zero():
    image = row(0.1, 0.5, 0.9)
    assert np.isfinite(np.asarray(remote_deviations(image, 0 * image))).all()


@pytest.mark.parametrize("form", ["channels", "standardised"])
def test_three_channels_are_image_mask_and_product(form):
    image, mask = row(0.2, 0.4, 0.6), row(1.0, 0.5, 0.0)
    seen = np.asarray(compose(image, mask, form))
    np.testing.assert_array_equal(seen[..., :1], image)
    np.testing.assert_array_equal(seen[..., 1:2], mask)
    factor = image if form == "channels" else np.asarray(remote_deviations(image, mask))
    np.testing.assert_allclose(seen[..., 2:], factor * mask, rtol=1e-6)


@pytest.mark.slow
def test_conditional_scar_is_no_likelier_than_the_myocardium():
    keras.utils.set_random_seed(1)
    config = Config(
        grid=GridConfig((32, 32)),
        model=ModelConfig("tiny"),
        message=MessageConfig(conditional=True),
    )
    network = build_network(config)
    image = np.random.default_rng(0).random((2, 32, 32, 1), np.float32)
    maps = {t: np.asarray(v) for t, v in network(image, training=False).items()}
    given = keras.Model(network.input, network.get_layer("scar_in_myocardium").input[0])
    scar_given_myocardium = np.asarray(given(image, training=False))
    assert scar_given_myocardium.max() > maps["scar"].max()
    np.testing.assert_allclose(
        maps["scar"], maps["myocardium"] * scar_given_myocardium, rtol=1e-6
    )
