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

TINY = PRESETS["tiny"]
FOLDED = (StandardizedConv2D, keras.layers.BatchNormalization)


def count(network):
    return sum(isinstance(layer, FOLDED) for layer in every_layer(network))


def build(precision):
    """The same network in any precision, with weights that are all of effect."""
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(0)
    inner = build_transunet(dataclasses.replace(TINY, decoder_norm="batch"), 32)
    random = np.random.default_rng(0)
    for variable in inner.variables:
        # Biases, scales and moving statistics are 0 or 1 at the start.
        change = random.uniform(0.5, 1.5, variable.shape)
        variable.assign(variable * change + 0.01 * change)
    image = keras.Input((32, 32, 1))
    network = keras.Model(image, inner(image))
    keras.config.set_dtype_policy("float32")
    return network


def seen(network):
    images = np.random.default_rng(1).random((3, 32, 32, 1), np.float32)
    return np.asarray(network(images, training=False), np.float32)


def test_folded_network_is_the_same_function():
    network = build("float32")
    before = [variable.numpy() for variable in network.variables]
    folded = lean(network)
    assert count(network) > 16
    assert count(folded) == 0
    expected = seen(network)
    # Some 60 layers, each off by a rounding of 1e-7.
    np.testing.assert_allclose(seen(folded), expected, atol=1e-5 * np.ptp(expected))
    # What it was made of is as it was.
    for variable, value in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_folded_network_of_bfloat16_is_near():
    expected = seen(build("float32"))
    found = seen(lean(build("mixed_bfloat16")))
    largest = np.abs(found - expected).max() / np.ptp(expected)
    # Some 60 layers, each off by a rounding of 2^-9 either way; float32 is nearer.
    assert 1e-5 < largest < np.sqrt(60) * 2**-9
