"""Folding changes how a network computes, not what."""

import dataclasses

import keras
import numpy as np
import pytest

from jdl_keras.models.normalization import StandardizedConv2D
from jdl_keras.models.presets import PRESETS
from jdl_keras.models.transunet import build_transunet
from jdl_keras.serving.lean import every_layer, lean

pytestmark = pytest.mark.slow

FOLDED = (StandardizedConv2D, keras.layers.BatchNormalization)


def count(network):
    return sum(isinstance(layer, FOLDED) for layer in every_layer(network))


def test_folded_network_is_the_same_function():
    keras.utils.set_random_seed(0)
    preset = dataclasses.replace(PRESETS["tiny"], decoder_norm="batch")
    inner = build_transunet(preset, 32)
    random = np.random.default_rng(0)
    for variable in inner.variables:
        # Biases, scales and moving statistics are 0 or 1 at the start: of no effect.
        change = random.uniform(0.5, 1.5, variable.shape)
        variable.assign(variable * change + 0.01 * change)
    image = keras.Input((32, 32, 1))
    network = keras.Model(
        image, {"scar": keras.layers.Softmax()(inner(image))[..., 1:]}
    )
    before = [variable.numpy() for variable in network.variables]
    folded = lean(network)
    assert count(network) > 16
    assert count(folded) == 0
    images = random.random((3, 32, 32, 1), np.float32)
    found, expected = (n(images, training=False)["scar"] for n in (folded, network))
    assert np.ptp(expected) > 0.01
    # Some 60 layers, each off by a rounding of 1e-7.
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # What it was made of is as it was.
    for variable, value in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
