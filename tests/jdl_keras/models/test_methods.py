"""The four methods: their outputs, their wiring, and where their gradients go."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.config import Config, GridConfig, MessageConfig, ModelConfig
from jdl_keras.losses import SegmentationLoss
from jdl_keras.models.methods import (
    METHODS,
    build_network,
    foreground,
    parts,
    training_network,
)

pytestmark = pytest.mark.slow

TASKS = ("myocardium", "scar")
PARTS = {
    "direct": {"scar_network"},
    "two_step": {"myocardium_network", "scar_network"},
    "multi_task": {"encoder", "myocardium_decoder", "scar_decoder"},
    "jdl": {"myocardium_network", "scar_network"},
}
IMAGE = np.random.default_rng(0).random((2, 32, 48, 1)).astype("float32")


def tiny(method, **changes):
    return Config(
        method=method, grid=GridConfig((32, 48)), model=ModelConfig("tiny", **changes)
    )


def maps(network, image=IMAGE):
    """The outputs as arrays; called eagerly, which spares the tracing of a graph."""
    return tf.nest.map_structure(np.asarray, network(image, training=False))


def assert_same_bits(one, other):
    tf.nest.map_structure(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def networks():
    """The smallest real networks by method."""
    keras.utils.set_random_seed(1)
    return {method: build_network(tiny(method)) for method in METHODS}


@pytest.fixture(scope="module", params=METHODS)
def network(request, networks):
    return networks[request.param]


@pytest.fixture(scope="module")
def outputs(network):
    return maps(network)


def assert_probability_maps(outputs, tasks):
    assert set(outputs) == set(tasks)
    for values in outputs.values():
        assert values.shape == (2, 32, 48, 1)
        assert values.dtype == np.float32
        assert 0 <= values.min() < values.max() <= 1


# Every method, as real networks


def test_outputs_are_probability_maps_by_task(network, outputs):
    assert_probability_maps(outputs, TASKS[network.name == "direct" :])


def test_parts_hold_all_weights_once(network):
    found = parts(network)
    assert set(found) == PARTS[network.name]
    held = [id(v) for part in found.values() for v in part.trainable_variables]
    assert sorted(held) == sorted(id(v) for v in network.trainable_variables)


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / f"{network.name}.keras"
    network.save(path)
    return path


def test_keras_file_gives_the_same_bits(file, outputs):
    assert_same_bits(maps(keras.models.load_model(file)), outputs)


def test_weights_fit_a_network_that_our_code_builds(network, file, outputs):
    built = build_network(tiny(network.name, dropout=0.2))
    rates = {
        layer.get_config()["dropout_rate"]
        for part in parts(built).values()
        for layer in part.layers
        if layer.name == "transformer"
    }
    assert rates == {0.2}
    built.load_weights(file)
    assert_same_bits(maps(built), outputs)


def largest_gradients(network, task):
    """For each part the largest gradient of one task's loss; None without any."""
    reference = tf.cast(IMAGE > 0.7, tf.float32)
    train = training_network(network)
    with tf.GradientTape() as tape:
        probability = train([tf.constant(IMAGE), reference])[task]
        loss = tf.reduce_sum(SegmentationLoss()(reference, probability, tf.ones([2])))
    variables = {
        name: part.trainable_variables for name, part in parts(network).items()
    }
    return {
        name: [None if g is None else float(tf.reduce_max(tf.abs(g))) for g in values]
        for name, values in tape.gradient(loss, variables).items()
    }


REACHED = {
    # method: for each task the parts that its loss reaches in training
    "direct": {"scar": {"scar_network"}},
    "two_step": {"myocardium": {"myocardium_network"}, "scar": {"scar_network"}},
    "multi_task": {task: {"encoder", f"{task}_decoder"} for task in TASKS},
    "jdl": {"myocardium": {"myocardium_network"}, "scar": PARTS["jdl"]},
}


def test_each_loss_reaches_the_parts_that_the_method_says(network):
    for task, reached in REACHED[network.name].items():
        for part, largest in largest_gradients(network, task).items():
            if part not in reached:
                assert set(largest) == {None}, (task, part)
                continue
            assert None not in largest, (task, part)
            # A softmax ignores what all its inputs share, and so do the biases of the
            # keys; everything else moves.
            assert np.mean(np.array(largest) > 0) > 0.95, (task, part)


def test_networks_start_from_different_weights(networks):
    built = parts(networks["jdl"])
    stems = [built[f"{task}_network"].get_layer("conv_root") for task in TASKS]
    first, second = (layer.get_weights()[0] for layer in stems)
    assert not np.array_equal(first, second)


@pytest.fixture
def mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_outputs_are_float32_under_mixed_precision(mixed_precision):
    built = build_network(tiny("jdl"))
    stem = parts(built)["scar_network"].get_layer("conv_root")
    assert stem.compute_dtype == "bfloat16"
    assert_probability_maps(maps(built), TASKS)


def test_gate_of_1_changes_nothing_and_of_0_hides_the_image(networks):
    config = dataclasses.replace(tiny("jdl"), message=MessageConfig(form="features"))
    gated = parts(build_network(config))["scar_network"]
    plain = parts(networks["jdl"])["scar_network"]
    gated.set_weights(plain.get_weights())
    ones, zeros = np.ones_like(IMAGE), np.zeros_like(IMAGE)
    # The means of ones over 2 x 2 to 16 x 16 pixels are 1 without a rounding.
    np.testing.assert_array_equal(maps(gated, [IMAGE, ones]), maps(plain))
    assert np.ptp(maps(plain) - maps(plain, 1 - IMAGE)) > 0
    assert_same_bits(maps(gated, [IMAGE, zeros]), maps(gated, [1 - IMAGE, zeros]))


# The wiring by hand: every network is one 1 x 1 convolution, logits (0, w x + b)


def pointwise(config, name, channels=1, with_gate=False):
    """In place of `methods.transunet`; a gate counts as one more channel."""
    size = config.grid.size
    inputs = [keras.Input((*size, channels), name="image")]
    if with_gate:
        inputs.append(keras.Input((*size, 1), name="gate"))
    seen = keras.layers.Concatenate()(inputs) if with_gate else inputs[0]
    head = keras.layers.Conv2D(2, 1, dtype="float32", name="head")
    return keras.Model(inputs if with_gate else inputs[0], head(seen), name=name)


@pytest.fixture
def wired(monkeypatch):
    """Builds a method of such convolutions, for an image (1, H, W, 1)."""
    monkeypatch.setattr("jdl_keras.models.methods.transunet", pointwise)

    def wired(
        size=(1, 3), method="jdl", spacing_mm=(1.5, 1.5), shared=False, **message
    ):
        config = Config(
            method=method,
            grid=GridConfig(size, spacing_mm),
            model=ModelConfig(share_weights=shared),
            message=MessageConfig(**message),
        )
        return build_network(config)

    return wired


def set_logits(network, task, weights, bias=0.0):
    """Logits (0, `weights` x channels + `bias`) of a task's network."""
    kernel = np.zeros((1, 1, len(weights), 2))
    kernel[0, 0, :, 1] = weights
    head = parts(network)[f"{task}_network"].get_layer("head")
    head.set_weights([kernel, np.array([0.0, bias])])


def logit(probability):
    return np.log(probability / (1 - probability))


LOG3 = np.log(3.0)
PIXELS = np.float32([LOG3, -LOG3, 0.0]).reshape(1, 1, 3, 1)
"""With weight 1 the sigmoid of these is 3/4, 1/4, 1/2."""


def seen(network, image=PIXELS, channels=1):
    """What the scar network sees, (rows, columns, channels): its logits, if its weight
    is 1 for one channel and 0 for the others."""
    found = []
    for one_hot in np.eye(channels):
        set_logits(network, "scar", one_hot)
        found.append(logit(maps(network, image)["scar"][0, ..., 0]))
    return np.stack(found, axis=-1)


def assert_seen(network, *expected, image=PIXELS):
    found = seen(network, image, channels=len(expected))
    for channel, values in enumerate(expected):
        # float32 probabilities between 0.1 and 0.9
        np.testing.assert_allclose(found[0, :, channel], values, atol=1e-5)


def test_foreground_is_the_second_class():
    # softmax(0, log 3) = 1/4, 3/4
    logits = np.float32([0.0, np.log(3.0)]).reshape(1, 1, 1, 2)
    probability = foreground(keras.ops.convert_to_tensor(logits), "scar")
    np.testing.assert_allclose(probability, [[[[0.75]]]], rtol=1e-6)


def test_direct_sees_the_image(wired):
    network = wired(method="direct")
    assert_seen(network, [LOG3, -LOG3, 0])


@pytest.mark.parametrize("stop_gradient", [False, True])
def test_product_is_image_times_probability(wired, stop_gradient):
    network = wired(stop_gradient=stop_gradient)
    set_logits(network, "myocardium", [1])
    assert_seen(network, [0.75 * LOG3, -0.25 * LOG3, 0])


def test_hard_mask_is_0_or_1(wired):
    network = wired(hard=True)
    # Probabilities 3/4, 1/4 and 1/2: from 1/2 on a pixel is in the mask.
    set_logits(network, "myocardium", [1])
    assert_seen(network, [LOG3, 0, 0])
    set_logits(network, "myocardium", [-1])
    assert_seen(network, [0, -LOG3, 0])


def test_channels_are_image_map_and_product(wired):
    network = wired(form="channels")
    set_logits(network, "myocardium", [1])
    image, probability = [LOG3, -LOG3, 0], [0.75, 0.25, 0.5]
    assert_seen(network, image, probability, [0.75 * LOG3, -0.25 * LOG3, 0])


def test_features_take_image_and_map_as_gate(wired):
    network = wired(form="features")
    set_logits(network, "myocardium", [1])
    assert_seen(network, [LOG3, -LOG3, 0], [0.75, 0.25, 0.5])


def test_conditional_scar_is_multiplied_by_the_mask(wired):
    network = wired(conditional=True)
    set_logits(network, "myocardium", [1])
    set_logits(network, "scar", [0], bias=LOG3)
    # 3/4 everywhere, of the wall's 3/4, 1/4 and 1/2
    found = maps(network, PIXELS)["scar"].ravel()
    np.testing.assert_allclose(found, [9 / 16, 3 / 16, 3 / 8], rtol=1e-6)


def test_conditional_scar_is_float32_under_mixed_precision(wired, mixed_precision):
    assert maps(wired(conditional=True), PIXELS)["scar"].dtype == np.float32


def test_standardised_product_is_in_deviations_from_the_remote_wall(wired):
    network = wired(size=(1, 5), form="standardised", hard=True)
    set_logits(network, "myocardium", [1], bias=-0.15)  # the wall: from 0.15 on
    pixels = [0.2, 0.3, 0.4, 0.9, 0.0]
    # The wall's mean is 1.8 / 4 = 0.45; below it 0.2, 0.3, 0.4: mean 0.3, variance
    # 0.02 / 3, of which the deviation with a floor of 0.02 is
    deviation = np.sqrt(0.02 / 3 + 0.02**2)
    expected = np.tanh((np.array(pixels) - 0.3) / (5 * deviation))
    expected[4] = 0  # not in the wall
    image = np.float32(pixels).reshape(1, 1, 5, 1)
    assert_seen(network, pixels, [1, 1, 1, 1, 0], expected, image=image)


def test_standardised_product_without_a_wall_is_0(wired):
    network = wired(form="standardised", hard=True)
    set_logits(network, "myocardium", [0], bias=-1)
    assert_seen(network, [LOG3, -LOG3, 0], [0, 0, 0], [0, 0, 0])


def test_one_network_for_both_tasks(wired):
    network = wired(shared=True)
    assert set(parts(network)) == {"shared_network"}
    head = parts(network)["shared_network"].get_layer("head")
    head.set_weights([np.float32([0, 1]).reshape(1, 1, 1, 2), np.zeros(2)])
    found = maps(network, PIXELS)
    # The sigmoids of log 3, -log 3 and 0, and of these times their own sigmoids.
    np.testing.assert_allclose(
        found["myocardium"].ravel(), [0.75, 0.25, 0.5], rtol=1e-6
    )
    product = [0.75 * LOG3, -0.25 * LOG3, 0]
    np.testing.assert_allclose(logit(found["scar"].ravel()), product, atol=1e-5)


@pytest.mark.parametrize(
    ("widen_mm", "rows", "columns"),
    [
        # 1.5 mm a row and 3 mm a column: 2 rows and 1 column up to 3 mm
        (3.0, (1, 6), (2, 5)),
        # 3.1 mm: the third row, and the second column, are partly within it
        (3.1, (0, 7), (1, 6)),
        (0.0, (3, 4), (3, 4)),
    ],
)
@pytest.mark.parametrize("hard", [False, True])
def test_map_is_widened_by_millimetres(wired, widen_mm, rows, columns, hard):
    network = wired(
        (7, 7), spacing_mm=(1.5, 3.0), form="channels", widen_mm=widen_mm, hard=hard
    )
    set_logits(network, "myocardium", [2 * LOG3], bias=-LOG3)
    image = np.zeros((1, 7, 7, 1), np.float32)
    image[0, 3, 3] = 1
    # Sigmoids of log 3 in the middle and of -log 3 around it; hardened 1 and 0.
    inside, outside = (1, 0) if hard else (0.75, 0.25)
    expected = np.full((7, 7), float(outside))
    expected[slice(*rows), slice(*columns)] = inside
    found = seen(network, image, channels=3)
    np.testing.assert_allclose(found[..., 1], expected, atol=1e-5)
    # The own map of the task is not widened.
    myocardium = maps(network, image)["myocardium"]
    assert np.count_nonzero(myocardium > 0.5) == 1


def gradient_of_scar_logit(network, pixel, image=PIXELS):
    """Of the scar's probability at one pixel, to the bias of each network's logit."""
    biases = {t: parts(network)[f"{t}_network"].get_layer("head").bias for t in TASKS}
    with tf.GradientTape() as tape:
        probability = network(image)["scar"][0, 0, pixel, 0]
        value = tf.math.log(probability / (1 - probability))
    gradients = tape.gradient(value, {task: b.value for task, b in biases.items()})
    return {t: None if g is None else float(g[1]) for t, g in gradients.items()}


def test_gradient_through_the_product_by_hand(wired):
    network = wired()
    set_logits(network, "myocardium", [1])
    set_logits(network, "scar", [2])
    found = gradient_of_scar_logit(network, pixel=0)
    # Logit 2 x p + b_scar, p = sigmoid(x + b_myocardium) = 3/4, dp/db = 3/4 x 1/4.
    assert found["scar"] == pytest.approx(1, rel=1e-5)
    assert found["myocardium"] == pytest.approx(2 * LOG3 * 3 / 16, rel=1e-5)


@pytest.mark.parametrize("form", ["product", "channels", "standardised", "features"])
@pytest.mark.parametrize("closed", ["hard", "stop_gradient", None])
def test_message_that_is_hard_or_stopped_carries_no_gradient(wired, form, closed):
    network = wired(form=form, **({closed: True} if closed else {}))
    channels = {"product": 1, "features": 2}.get(form, 3)
    set_logits(network, "myocardium", [1])
    set_logits(network, "scar", [1] * channels)
    found = gradient_of_scar_logit(network, pixel=0)
    assert found["scar"] == pytest.approx(1, rel=1e-5)
    if closed:
        assert found["myocardium"] is None
    else:
        assert abs(found["myocardium"]) > 0.1


def test_two_step_predicts_with_its_own_thresholded_map(wired):
    network = wired(method="two_step")
    set_logits(network, "myocardium", [1])  # 3/4, 1/4, 1/2
    assert_seen(network, [LOG3, 0, 0])
    set_logits(network, "myocardium", [-1])  # 1/4, 3/4, 1/2
    assert_seen(network, [0, -LOG3, 0])


def test_two_step_trains_its_scar_network_on_the_reference(wired):
    network = wired(method="two_step")
    train = training_network(network)
    set_logits(network, "myocardium", [1])
    set_logits(network, "scar", [1])
    reference = np.float32([0, 1, 1]).reshape(1, 1, 3, 1)
    found = maps(train, [PIXELS, reference])
    np.testing.assert_allclose(
        found["myocardium"].ravel(), [0.75, 0.25, 0.5], rtol=1e-6
    )
    np.testing.assert_allclose(logit(found["scar"].ravel()), [0, -LOG3, 0], atol=1e-5)
    # The same weights, and no others.
    assert {id(v) for v in train.variables} == {id(v) for v in network.variables}


@pytest.mark.parametrize("method", ["direct", "multi_task", "jdl"])
def test_other_methods_train_what_they_predict_with(networks, method):
    train = training_network(networks[method])
    # Whatever the reference holds.
    assert_same_bits(maps(train, [IMAGE, IMAGE > 0.7]), maps(networks[method]))


MESSAGES = [
    {"form": "product", "widen_mm": 3.0},
    {"form": "product", "conditional": True},
    {"form": "channels", "hard": True},
    {"form": "features", "stop_gradient": True},
    {"form": "standardised", "widen_mm": 1.0},
    {"shared": True},
    {"method": "two_step"},
]


@pytest.mark.parametrize("options", MESSAGES, ids=str)
def test_every_message_comes_back_from_a_keras_file(wired, tmp_path, options):
    network = wired((5, 7), **options)
    image = np.random.default_rng(2).random((2, 5, 7, 1), np.float32)
    expected = maps(network, image)
    path = tmp_path / "network.keras"
    network.save(path)
    assert_same_bits(maps(keras.models.load_model(path), image), expected)
    built = wired((5, 7), **options)
    built.load_weights(path)
    assert_same_bits(maps(built, image), expected)
