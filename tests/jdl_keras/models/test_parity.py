"""The TransUNet against outputs of the original PyTorch code.

`golden/` holds the original's outputs for weights and an image that the functions
below rebuild; the same recipe was used there.
"""

import json
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest

from jdl_keras.models import build_transunet, load_npz
from jdl_keras.models.transunet import STRIDE

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
SPECIFICATION = json.loads((GOLDEN / "transunet_golden.json").read_text())
OUTPUTS = np.load(GOLDEN / "transunet_golden.npz")
TOLERANCE = 1e-5
"""For logits in float32: the order of summation alone gives 1e-6 to 3e-6."""
TOKEN_TOLERANCE = {"tiny": 3e-5, "base": 3e-4}
"""Tokens have unit variance, logits a hundredth of it; base is five times deeper."""


def golden_value(name: str, shape: list[int]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(f"jdl:{name}".encode()))
    array = rng.standard_normal(shape)
    last = name.rsplit("/", 1)[-1]
    if last == "scale":
        array = 1 + 0.1 * array
    elif last == "moving_variance":
        array = 1 + 0.1 * np.abs(array)
    elif last in ("bias", "moving_mean", "pos_embedding"):
        array = 0.1 * array
    else:
        is_projection = "MultiHeadDotProductAttention" in name and "/out/" not in name
        fan_in = shape[0] if is_projection else np.prod(shape[:-1])
        array = array / np.sqrt(fan_in)
    return array.astype(np.float32)


def golden_image(size: int) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(b"jdl:image"))
    return rng.random((1, size, size, 1)).astype(np.float32)


def golden_npz(size: str, folder: Path, parts=("encoder", "decoder")) -> Path:
    path = folder / f"{size}.npz"
    shapes = {k: v for part in parts for k, v in SPECIFICATION[size][part].items()}
    np.savez(path, **{k: golden_value(k, v) for k, v in shapes.items()})
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    network = build_transunet("tiny", image_size=64)
    load_npz(network, golden_npz("tiny", tmp_path_factory.mktemp("golden")))
    return network


def outputs_of(network: keras.Model, size: int):
    """Logits and tokens (after the last layer norm) of the golden image."""
    grid = network.get_layer("feature_map").output  # (B, H/16, W/16, D)
    taps = keras.Model(network.input, {"logits": network.output, "tokens": grid})
    outputs = taps.predict(golden_image(size), verbose=0)
    tokens = outputs["tokens"]
    outputs["tokens"] = tokens.reshape(len(tokens), -1, tokens.shape[-1])
    return outputs


def assert_golden(size: str, tokens: np.ndarray, logits: np.ndarray):
    difference = np.abs(logits - OUTPUTS[f"{size}_logits"]).max()
    assert difference <= TOLERANCE
    difference = np.abs(tokens - OUTPUTS[f"{size}_tokens"]).max()
    assert difference <= TOKEN_TOLERANCE[size]


def test_tiny_is_the_original(tiny):
    outputs = outputs_of(tiny, 64)
    assert_golden("tiny", outputs["tokens"], outputs["logits"])


@pytest.mark.slow
def test_base_is_the_original(tmp_path):
    network = build_transunet("r50_vit_b16", image_size=224, classes=2)
    assert sum(np.prod(w.shape) for w in network.trainable_weights) == 105_276_066
    load_npz(network, golden_npz("base", tmp_path))
    outputs = outputs_of(network, 224)
    tokens, logits = outputs["tokens"][:, ::7, ::16], outputs["logits"][:, ::8, ::8]
    assert_golden("base", tokens, logits)


def test_keras_file_gives_the_same_bits(tiny, tmp_path):
    tiny.save(tmp_path / "tiny.keras")
    loaded = keras.models.load_model(tmp_path / "tiny.keras")
    image = golden_image(64)
    np.testing.assert_array_equal(
        tiny.predict(image, verbose=0), loaded.predict(image, verbose=0)
    )


def test_published_file_has_no_decoder(tmp_path):
    network = build_transunet("tiny", image_size=64)
    head = network.get_layer("head").get_weights()[0].copy()
    names = load_npz(network, golden_npz("tiny", tmp_path, parts=("encoder",)))
    assert len(names) == len(SPECIFICATION["tiny"]["encoder"])
    np.testing.assert_array_equal(network.get_layer("head").get_weights()[0], head)


def test_position_embeddings_resize_to_a_grid_that_is_not_square(tmp_path):
    network = build_transunet("tiny", image_size=(64, 96))
    load_npz(network, golden_npz("tiny", tmp_path))
    layer = network.get_layer("transformer").get_layer("vit_patching_and_embedding")
    (embedding,) = (w for w in layer.weights if "position" in w.path)
    name = "Transformer/posembed_input/pos_embedding"
    stored = golden_value(name, SPECIFICATION["tiny"]["encoder"][name])[0, 1:]
    rows, columns = 64 // STRIDE, 96 // STRIDE
    resized = keras.ops.convert_to_numpy(embedding).reshape(rows, columns, -1)
    # Linear interpolation between corner tokens keeps the corners themselves.
    np.testing.assert_allclose(resized[0, 0], stored[0], atol=1e-6)
    np.testing.assert_allclose(resized[-1, -1], stored[-1], atol=1e-6)
    # Column 1 of 6 lies at 1 * 3 / 5 = 0.6 between columns 0 and 1 of 4.
    expected = 0.4 * stored[0] + 0.6 * stored[1]
    np.testing.assert_allclose(resized[0, 1], expected, atol=1e-6)
