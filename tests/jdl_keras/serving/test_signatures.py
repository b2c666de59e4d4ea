"""Every method is served as it is wired."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.config import Config, GridConfig, MessageConfig, ModelConfig
from jdl_keras.inference.predictor import predict
from jdl_keras.models.methods import METHODS, build_network
from jdl_keras.preprocessing import Grid, image_centre
from jdl_keras.serving.export import save
from jdl_keras.serving.lean import lean
from jdl_keras.serving.signatures import IMAGES, SPACING, ServedFunctions

pytestmark = pytest.mark.slow

GRID = GridConfig((32, 48), (2.0, 2.0))
FEATURES = MessageConfig("features", conditional=True, widen_mm=3.0)


def config(method, message=None):
    message = message or MessageConfig()
    model = ModelConfig("tiny")
    return Config(method=method, message=message, grid=GRID, model=model)


@pytest.mark.parametrize("method", [*METHODS, "features"])
def test_served_network_is_the_network(tmp_path, toy_method, method):
    keras.utils.set_random_seed(0)
    # Toys are wired as the methods are, and traced in a tenth of the time.
    wired = {name: lambda: toy_method(config(method)) for name in METHODS}
    wired["features"] = lambda: build_network(config("jdl", FEATURES))
    network, grid = wired[method](), Grid.from_config(GRID)
    served = ServedFunctions(lean(network), grid, None, 1).of_slices
    function = tf.function(served, input_signature=[IMAGES, SPACING])
    save({"serving_default": function.get_concrete_function()}, tmp_path)
    model = tf.saved_model.load(str(tmp_path))
    images = np.random.default_rng(0).random((2, 40, 50), np.float32)
    inputs = tf.constant(images), tf.constant([[1.5, 1.25], [2.5, 1.0]])
    found = model.signatures["serving_default"](images=inputs[0], spacing_mm=inputs[1])
    expected = predict(network, grid, *inputs, image_centre(images))
    assert set(found) == set(expected)
    assert ("myocardium" in found) == (method != "direct")
    for task, values in expected.items():
        # 1e-5 is the promise of the served model
        np.testing.assert_allclose(found[task], values, atol=1e-5)
