"""The custom layers, each against its definition, and the shapes of the network."""

import inspect

import keras
import numpy as np
import pytest
from scipy import ndimage

from jdl_keras.models import build_transunet
from jdl_keras.models.cascaded_upsampler import (
    AlignedUpsampling2D,
    aligned_weights,
    cascaded_upsampler,
)
from jdl_keras.models.normalization import GroupNormalization, StandardizedConv2D
from jdl_keras.models.presets import PRESETS

RANDOM = np.random.default_rng(0)
EXAMPLES = {
    "AlignedUpsampling2D": lambda: AlignedUpsampling2D(name="up"),
    "GroupNormalization": lambda: GroupNormalization(groups=2, epsilon=1e-4),
    "StandardizedConv2D": lambda: StandardizedConv2D(
        4, (3, 1), strides=2, use_bias=False, padding="same"
    ),
}


def ours():
    """The layers of this project that Keras can reload."""
    registered = keras.saving.get_custom_objects()
    return {
        kind.__name__: kind
        for name, kind in registered.items()
        if name.startswith("jdl_keras>") and issubclass(kind, keras.layers.Layer)
    }


def parameters_of(kind):
    return set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs"}


def test_every_layer_has_an_example():
    assert set(ours()) == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_config_is_what_the_constructor_takes(name):
    layer = EXAMPLES[name]()
    common = {"name", "trainable", "dtype"}
    assert set(layer.get_config()) - common == parameters_of(type(layer)) - common
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("name", EXAMPLES)
def test_layer_survives_serialization(name):
    layer = EXAMPLES[name]()
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert type(again) is ours()[name]
    image = RANDOM.normal(size=(2, 6, 8, 4)).astype("float32")
    expected = layer(image)
    again(image)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(image), expected)


# GroupNormalization


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_group_norm_is_that_of_keras(groups):
    lean = GroupNormalization(groups, epsilon=1e-5)
    stock = keras.layers.GroupNormalization(groups, epsilon=1e-5)
    image = RANDOM.normal(3.0, 2.0, size=(2, 7, 5, 8)).astype("float32")
    lean.build(image.shape)
    stock.build(image.shape)
    weights = [RANDOM.normal(size=8), RANDOM.normal(size=8)]
    lean.set_weights(weights)
    stock.set_weights(weights)
    # Values of order 5 in float32: a few roundings of 5e-7.
    np.testing.assert_allclose(lean(image), stock(image), atol=5e-6)


def test_group_norm_keeps_its_digits_beside_a_large_mean():
    image = RANDOM.normal(size=(1, 16, 16, 4))
    offset = 1000.0
    layer = GroupNormalization(2, epsilon=1e-6)
    output = keras.ops.convert_to_numpy(layer((image + offset).astype("float32")))
    # In float64, by the definition: mean and deviation over a group of two channels.
    grouped = image.reshape(1, 256, 2, 2)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    expected = (grouped - mean) / grouped.std(axis=(1, 3), keepdims=True)
    # The input itself is rounded by 1000 * 6e-8 = 6e-5; mean squares in place of
    # squared deviations would lose 1e6 * 6e-8 = 0.06 of a variance of 1.
    np.testing.assert_allclose(output, expected.reshape(output.shape), atol=5e-4)


def test_group_norm_of_different_channel_means():
    # The channels 0 and 2 form a group of mean 1 and, without a spread of their own,
    # variance ((0 - 1)^2 + (2 - 1)^2) / 2 = 1.
    image = np.zeros((1, 3, 3, 2), "float32")
    image[..., 1] = 2.0
    output = GroupNormalization(1, epsilon=0.0)(image)
    np.testing.assert_allclose(output[0, 0, 0], [-1.0, 1.0], atol=1e-6)


def test_group_norm_counts_in_float32_under_mixed_precision():
    layer = GroupNormalization(1, dtype="mixed_bfloat16")
    image = 300.0 + RANDOM.choice([-2.0, 2.0], size=(1, 8, 8, 2))
    output = layer(keras.ops.cast(image, "bfloat16"))
    assert output.dtype == "bfloat16"
    # 298 and 302 are exact in bfloat16 and 2 deviations apart; a mean of 300 counted in
    # bfloat16 would be off by up to 1, half a deviation.
    expected = (image - image.mean()) / image.std()
    found = keras.ops.convert_to_numpy(keras.ops.cast(output, "float32"))
    np.testing.assert_allclose(found, expected, atol=0.01)


# StandardizedConv2D


def test_kernel_has_mean_0_and_variance_1():
    layer = StandardizedConv2D(5, 3, use_bias=False)
    layer.build((None, 8, 8, 2))
    layer.set_weights([RANDOM.normal(4.0, 3.0, size=(3, 3, 2, 5))])
    # One pixel of 1 in the middle of zeros reads the kernel back, mirrored.
    image = np.zeros((2, 5, 5, 2), "float32")
    image[0, 2, 2, 0] = image[1, 2, 2, 1] = 1.0
    kernel = keras.ops.convert_to_numpy(layer(image))  # (in, rows, columns, out)
    for channel in np.moveaxis(kernel, -1, 0):
        # Epsilon 1e-5 against a variance of 9 leaves 1 - 1e-6; roundings of 1e-6.
        assert channel.mean() == pytest.approx(0.0, abs=1e-5)
        assert channel.std() == pytest.approx(1.0, abs=1e-5)


def test_convolution_by_hand():
    layer = StandardizedConv2D(1, (1, 2), use_bias=False)
    layer.build((None, 1, 3, 1))
    layer.set_weights([np.reshape([1.0, 5.0], (1, 2, 1, 1))])
    # Mean 3, variance 4: the kernel becomes -1, 1. Differences of neighbours: 3, 6.
    output = layer(np.reshape([1.0, 4.0, 10.0], (1, 1, 3, 1)).astype("float32"))
    np.testing.assert_allclose(np.ravel(output), [3.0, 6.0], rtol=1e-5)


# AlignedUpsampling2D


def test_aligned_weights_by_hand():
    # Four samples at 0, 1/3, 2/3, 1 of the way from the first to the second.
    expected = [[1, 0], [2 / 3, 1 / 3], [1 / 3, 2 / 3], [0, 1]]
    np.testing.assert_allclose(aligned_weights(2), expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 14])
def test_rows_of_weights_sum_to_1(size):
    assert aligned_weights(size).shape == (2 * size, size)
    np.testing.assert_allclose(aligned_weights(size).sum(axis=1), 1.0, atol=1e-6)


def test_one_row_is_interpolated_like_numpy():
    row = np.float32([0.0, 3.0, 1.0])
    output = AlignedUpsampling2D()(row.reshape(1, 1, 3, 1))
    # Six places between the first and the last: 0, 0.4, 0.8, 1.2, 1.6, 2.
    expected = np.interp([0, 0.4, 0.8, 1.2, 1.6, 2.0], [0, 1, 2], row)
    np.testing.assert_allclose(expected, [0, 1.2, 2.4, 2.6, 1.8, 1.0])
    np.testing.assert_allclose(output[0, :, :, 0], [expected] * 2, atol=1e-6)


def test_upsampling_is_that_of_scipy():
    image = RANDOM.normal(size=(2, 5, 7, 3)).astype("float32")
    output = AlignedUpsampling2D()(image)
    assert output.shape == (2, 10, 14, 3)
    # `zoom` of first order aligns the corners too.
    expected = ndimage.zoom(image, (1, 2, 2, 1), order=1)
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_upsampled_shape_is_known_without_data():
    assert AlignedUpsampling2D().compute_output_shape((None, 4, 6, 3)) == (
        None,
        8,
        12,
        3,
    )


# The network's shapes


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_image_that_is_not_square(preset):
    network = build_transunet(preset, image_size=(64, 96), classes=3)
    assert network.input_shape == (None, 64, 96, 1)
    assert network.output_shape == (None, 64, 96, 3)
    sizes = PRESETS[preset]
    for name, expected in {
        "relu_root": (32, 48, sizes.width),
        "pad_s4": (16, 24, 4 * sizes.width),
        "feature_map": (4, 6, sizes.token_width),
    }.items():
        assert network.get_layer(name).output.shape[1:] == expected


@pytest.mark.parametrize(
    ("size", "way_out"),
    [
        (225, "use 224x224"),
        ((96, 100), "use 96x96"),
        (16, "use 32x32"),
        ((0, 64), "use 32x64"),
    ],
)
def test_image_size_that_does_not_fit(size, way_out):
    with pytest.raises(ValueError, match=f"multiples of 16.*{way_out}"):
        build_transunet("tiny", image_size=size)


def test_unknown_preset():
    with pytest.raises(ValueError, match="unknown preset 'huge'; use one of.*'small'"):
        build_transunet("huge")


# The decoder's batch statistics


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="only TensorFlow has replicas"
)
def test_decoder_of_the_paper_shares_batch_statistics_between_replicas():
    width = {"s8": 512, "s4": 256, "s2": 64}
    skips = {
        name: keras.Input((32 // int(name[1:]), 32 // int(name[1:]), channels))
        for name, channels in width.items()
    }
    tokens = keras.Input((2, 2, 768))
    decoded = cascaded_upsampler(tokens, skips, PRESETS["r50_vit_b16"])
    layers = keras.Model([tokens, skips], decoded).layers
    norms = [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]
    # one after the transformer, two at each of the four steps
    assert len(norms) == 1 + 2 * 4
    assert all(norm.synchronized for norm in norms)
