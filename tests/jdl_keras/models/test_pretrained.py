"""Weight files: all of the weights, or a refusal and none."""

import zipfile

import keras
import numpy as np
import pytest

from jdl_keras.models import build_transunet, load_npz
from jdl_keras.models.pretrained import published_name, resize_position_embedding
from tfrecords_tools.errors import RefusedError

pytestmark = pytest.mark.slow

IMAGE = np.random.default_rng(0).random((1, 32, 32, 1)).astype("float32")
CONV2 = "block2/unit1/conv2/kernel"


def arrays_of(network):
    return {
        published_name(variable.path): keras.ops.convert_to_numpy(variable)
        for variable in network.weights
        if "seed_generator" not in variable.path
    }


@pytest.fixture(scope="module")
def donor():
    keras.utils.set_random_seed(1)
    return build_transunet("tiny", 32)


@pytest.fixture
def network():
    keras.utils.set_random_seed(2)
    return build_transunet("tiny", 32)


@pytest.fixture
def head():
    """The last layer alone: a network of two small weights."""
    return keras.Sequential(
        [keras.Input((32, 32, 1)), keras.layers.Conv2D(2, 3, name="head")]
    )


def assert_refused(network, path, code, words):
    before = network.get_weights()
    with pytest.raises(RefusedError, match=words) as refusal:
        load_npz(network, path)
    assert refusal.value.code == code
    assert refusal.value.subject == str(path)
    for now, then in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_all_weights_are_loaded(donor, network, tmp_path):
    arrays = arrays_of(donor)
    np.savez(tmp_path / "w.npz", **arrays)
    assert sorted(load_npz(network, tmp_path / "w.npz")) == sorted(arrays)
    np.testing.assert_array_equal(
        network.predict(IMAGE, verbose=0), donor.predict(IMAGE, verbose=0)
    )


def test_names_in_the_file_are_those_of_the_publication(donor):
    block = "Transformer/encoderblock_1/"
    assert {
        "conv_root/kernel",
        "gn_root/scale",
        "block1/unit1/gn_proj/bias",
        "embedding/kernel",
        "Transformer/posembed_input/pos_embedding",
        block + "LayerNorm_0/scale",
        block + "MultiHeadDotProductAttention_1/query/kernel",
        block + "MultiHeadDotProductAttention_1/out/bias",
        block + "MlpBlock_3/Dense_1/kernel",
        "Transformer/encoder_norm/bias",
    } <= set(arrays_of(donor))


# Refusals that come after the whole network has been compared


def test_missing_name(donor, network, tmp_path):
    arrays = arrays_of(donor)
    del arrays[CONV2]
    np.savez(tmp_path / "w.npz", **arrays)
    assert_refused(network, tmp_path / "w.npz", "SHAPE_MISMATCH", f"lacks '{CONV2}'")


def test_value_that_is_not_finite(donor, network, tmp_path):
    arrays = arrays_of(donor)
    # In the last weight, when every other has been read.
    arrays["segmentation_head/bias"] = np.float32([0.0, np.nan])
    np.savez(tmp_path / "w.npz", **arrays)
    words = "segmentation_head/bias: has non-finite values"
    assert_refused(network, tmp_path / "w.npz", "SHAPE_MISMATCH", words)


def test_file_of_another_architecture(network, tmp_path):
    other = build_transunet("small", 32)
    np.savez(tmp_path / "w.npz", **arrays_of(other))
    # The root convolution has 32 channels here and 24 there.
    words = r"conv_root/kernel: expected \(7, 7, 3, 32\), got \(7, 7, 3, 24\)"
    assert_refused(network, tmp_path / "w.npz", "SHAPE_MISMATCH", words)


def test_positions_that_are_no_square(donor, network, tmp_path):
    arrays = arrays_of(donor)
    name = "Transformer/posembed_input/pos_embedding"
    arrays[name] = np.zeros((1, 7, 64), "float32")
    np.savez(tmp_path / "w.npz", **arrays)
    words = "7 rows are not a square grid"
    assert_refused(network, tmp_path / "w.npz", "SHAPE_MISMATCH", words)


def test_head_of_another_number_of_classes(donor, tmp_path):
    np.savez(tmp_path / "w.npz", **arrays_of(donor))
    network = build_transunet("tiny", 32, classes=4)
    words = "segmentation_head/kernel: expected .* 4.*, got .* 2"
    assert_refused(network, tmp_path / "w.npz", "SHAPE_MISMATCH", words)


# Files that are damaged, or something else


def test_no_file(head, tmp_path):
    assert_refused(head, tmp_path / "none.npz", "NOT_A_FILE", "no such weight file")


def _pickled(path):
    np.savez(path, **{"segmentation_head/bias": np.array([{}], dtype=object)})


def _npy(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("a page that says 404"),
        lambda path: path.write_bytes(b""),
        lambda path: path.mkdir(),
        lambda path: np.savez(path, **{"segmentation_head/bias": np.array("text")}),
        _pickled,
        _npy,
    ],
    ids=["text", "empty", "folder", "words", "pickle", "npy"],
)
def test_file_of_another_kind(head, tmp_path, write):
    write(tmp_path / "w.npz")
    assert_refused(head, tmp_path / "w.npz", "CORRUPT", "not a readable npz")


def test_declared_size_beyond_memory(head, tmp_path):
    _npy(tmp_path / "real.npy")
    # 10^13 values are 80 TB; the header says so, the content does not follow.
    content = (tmp_path / "real.npy").read_bytes()
    claim = content.replace(b"(3,), } " + b" " * 12, b"(10000000000000,), } ")[:128]
    assert b"10000000000000" in claim
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("segmentation_head/bias.npy", claim)
    assert_refused(head, tmp_path / "w.npz", "CORRUPT", "not a readable npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_cut_is_refused(head, tmp_path, save):
    save(tmp_path / "whole.npz", **arrays_of(head))
    content = (tmp_path / "whole.npz").read_bytes()
    load_npz(head, tmp_path / "whole.npz")
    for length in range(0, len(content), 7):
        (tmp_path / "w.npz").write_bytes(content[:length])
        assert_refused(head, tmp_path / "w.npz", "CORRUPT", "not a readable npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bit_is_refused_or_harmless(head, tmp_path, save):
    """The archive has a checksum of every array; other bits may not matter."""
    arrays = arrays_of(head)
    save(tmp_path / "whole.npz", **arrays)
    content = (tmp_path / "whole.npz").read_bytes()
    refused = 0
    for place in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "w.npz").write_bytes(damaged)
        try:
            load_npz(head, tmp_path / "w.npz")
        except RefusedError:
            refused += 1
        for name, value in arrays_of(head).items():
            np.testing.assert_array_equal(value, arrays[name])
    assert refused > len(content) / 5 / 2


# Position embeddings


def test_positions_of_the_same_grid_stay():
    rows = np.arange(8.0).reshape(4, 2)
    np.testing.assert_array_equal(resize_position_embedding(rows, (2, 2)), rows)


def test_class_token_is_dropped():
    rows = np.arange(10.0).reshape(5, 2)
    np.testing.assert_array_equal(resize_position_embedding(rows, (2, 2)), rows[1:])


def test_positions_are_interpolated_between_corners():
    # Two by two to two by three: the new middle column is the mean of its neighbours.
    rows = np.array([[0.0], [4.0], [10.0], [20.0]])
    expected = [[0.0], [2.0], [4.0], [10.0], [15.0], [20.0]]
    np.testing.assert_allclose(resize_position_embedding(rows, (2, 3)), expected)
