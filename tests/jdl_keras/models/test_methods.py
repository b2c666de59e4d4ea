"""The joint network: its outputs, its wiring and where its gradients go."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.config import Config, GridConfig, ModelConfig
from jdl_keras.losses import SegmentationLoss
from jdl_keras.models.message_passing import pass_message
from jdl_keras.models.methods import METHODS, build_network, foreground

TINY = Config(grid=GridConfig((32, 48)), model=ModelConfig("tiny"))
IMAGE = np.random.default_rng(0).random((2, 32, 48, 1)).astype("float32")


def maps(network, image=IMAGE):
    """The outputs as arrays; called eagerly, which spares the tracing of a graph."""
    return tf.nest.map_structure(np.asarray, network(image, training=False))


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(1)
    return build_network(TINY)


@pytest.fixture(scope="module")
def outputs(network):
    return maps(network)


def assert_probability_maps(outputs):
    assert set(outputs) == {"myocardium", "scar"}
    for values in outputs.values():
        assert values.shape == (2, 32, 48, 1)
        assert values.dtype == np.float32
        assert 0 <= values.min() < values.max() <= 1


def test_outputs_are_probability_maps_by_task(outputs):
    assert_probability_maps(outputs)


def test_outputs_are_float32_under_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build_network(TINY)
        assert mixed.get_layer("scar_network").get_layer("conv_root").compute_dtype == (
            "bfloat16"
        )
        assert_probability_maps(maps(mixed))
    finally:
        keras.config.set_dtype_policy(before)


def test_foreground_is_the_second_class():
    # softmax(0, log 3) = 1/4, 3/4
    logits = np.float32([0.0, np.log(3.0)]).reshape(1, 1, 1, 2)
    probability = foreground(keras.ops.convert_to_tensor(logits), "scar")
    np.testing.assert_allclose(probability, [[[[0.75]]]], rtol=1e-6)


def test_message_is_image_times_probability():
    image = np.float32([0.5, 0.8]).reshape(1, 1, 2, 1)
    probability = np.float32([0.1, 1.0]).reshape(1, 1, 2, 1)
    message = np.ravel(pass_message(image, probability))
    np.testing.assert_allclose(message, [0.05, 0.8], rtol=1e-6)


def test_scar_network_sees_the_message_and_nothing_else(network, outputs):
    message = keras.Model(network.input, network.get_layer("message").output)
    seen = maps(message)
    np.testing.assert_array_equal(seen, IMAGE * outputs["myocardium"])
    logits = maps(network.get_layer("scar_network"), seen)
    expected = np.exp(logits[..., 1:]) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(outputs["scar"], expected, atol=1e-6)


def largest_gradients(network, task):
    """For each sub-network the largest gradient of one task's loss; None without."""
    reference = tf.cast(IMAGE > 0.7, tf.float32)
    with tf.GradientTape() as tape:
        probability = network(IMAGE, training=False)[task]
        loss = tf.reduce_sum(SegmentationLoss()(reference, probability, tf.ones([2])))
    names = ("myocardium_network", "scar_network")
    variables = {name: network.get_layer(name).trainable_variables for name in names}
    gradients = tape.gradient(loss, variables)
    assert sum(map(len, variables.values())) == len(network.trainable_variables)
    return {
        name: [None if g is None else float(tf.reduce_max(tf.abs(g))) for g in values]
        for name, values in gradients.items()
    }


def test_scar_loss_reaches_both_networks(network):
    for name, largest in largest_gradients(network, "scar").items():
        assert None not in largest, name
        # A softmax ignores what all its inputs share, and so do the biases of the keys;
        # everything else moves.
        assert np.mean(np.array(largest) > 0) > 0.95, name


def test_myocardium_loss_stays_in_its_network(network):
    largest = largest_gradients(network, "myocardium")
    assert set(largest["scar_network"]) == {None}
    assert np.mean(np.array(largest["myocardium_network"]) > 0) > 0.95


def test_networks_share_no_weight(network):
    parts = [network.get_layer(f"{task}_network") for task in ("myocardium", "scar")]
    first, second = ({id(v) for v in part.variables} for part in parts)
    assert not first & second
    assert len(first | second) == len({id(v) for v in network.variables})


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "jdl.keras"
    network.save(path)
    return path


def test_keras_file_gives_the_same_bits(file, outputs):
    tf.nest.map_structure(
        np.testing.assert_array_equal, maps(keras.models.load_model(file)), outputs
    )


def test_weights_fit_a_network_that_our_code_builds(file, outputs):
    config = Config(grid=GridConfig((32, 48)), model=ModelConfig("tiny", dropout=0.2))
    built = build_network(config)
    built.load_weights(file)
    tf.nest.map_structure(np.testing.assert_array_equal, maps(built), outputs)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_built_from_its_configuration(method):
    config = Config(
        method=method, grid=GridConfig((64, 32)), model=ModelConfig("small", 0.3)
    )
    built = build_network(config)
    assert built.input_shape == (None, 64, 32, 1)
    assert built.output["scar"].shape == (None, 64, 32, 1)
    for task in ("myocardium", "scar"):
        transformer = built.get_layer(f"{task}_network").get_layer("transformer")
        assert transformer.get_config()["dropout_rate"] == 0.3
