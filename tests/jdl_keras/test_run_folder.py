"""A run folder gives back the network and settings that were put in, or refuses."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.config import Config, GridConfig, ModelConfig, TrainingConfig
from jdl_keras.models.methods import METHODS, build_network
from jdl_keras.run_folder import RunFolder, checksum_file, versions
from tfrecords_tools.errors import RefusedError

CONFIG = Config(
    records="records",
    seed=3,
    grid=GridConfig(size=(32, 48), spacing_mm=(1.5, 2.5)),
    model=ModelConfig(preset="tiny", dropout=0.3),
)


@pytest.fixture
def saved(tmp_path, monkeypatch, toy_method):
    monkeypatch.setitem(METHODS, "jdl", toy_method)
    keras.utils.set_random_seed(0)
    folder, network = RunFolder(tmp_path), build_network(CONFIG)
    folder.describe(CONFIG, "ab12")
    folder.save_network(network)
    return folder, network


def test_names_are_those_of_the_contract(tmp_path):
    folder = RunFolder(tmp_path)
    found = (
        *(folder.config, folder.environment, folder.history, folder.checkpoints),
        *(folder.tensorboard, folder.model, folder.evaluation("test")),
    )
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        *("config.yaml", "environment.json", "history.csv", "checkpoints"),
        *("tensorboard", "model.keras", "evaluation/test"),
    ]


def test_config_comes_back(saved):
    folder, _ = saved
    assert folder.load_config() == CONFIG


def test_environment_names_what_decides_the_bits(saved):
    folder, _ = saved
    environment = json.loads(folder.environment.read_text())
    assert environment["record_set_sha256"] == "ab12"
    assert environment["keras"] == keras.__version__
    assert environment["numpy"] == np.__version__
    assert any("CPU" in device for device in environment["devices"])
    assert environment["keras_backend"] == "tensorflow"
    assert set(environment) >= {"tensorflow", "keras-hub", "python", "commit"}


def test_packages_that_are_not_installed_are_left_out(monkeypatch):
    monkeypatch.setattr("jdl_keras.run_folder.PACKAGES", ("numpy", "no-such-package"))
    assert versions() == {
        "keras_backend": "tensorflow",
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }


def test_only_the_active_backend_counts(monkeypatch):
    # A run that continues must not mind that another backend has been installed.
    monkeypatch.setattr("importlib.metadata.version", lambda package: "1.2.3")
    expected = {"keras_backend", "tensorflow", "keras", "keras-hub", "numpy"}
    assert set(versions()) == expected | {"jdl-keras"}
    monkeypatch.setattr("keras.config.backend", lambda: "torch")
    assert set(versions()) == expected - {"tensorflow"} | {"torch", "jdl-keras"}
    assert versions()["keras_backend"] == "torch"


def test_network_comes_back_bit_for_bit(saved):
    folder, network = saved
    image = np.random.default_rng(0).random((2, 32, 48, 1), np.float32)
    loaded = folder.load_network()
    for task, expected in network(image, training=False).items():
        found = loaded(image, training=False)[task]
        np.testing.assert_array_equal(found, expected)


def test_network_is_float32_whatever_it_was_trained_in(saved):
    folder, _ = saved
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        loaded = folder.load_network()
        assert {layer.compute_dtype for layer in loaded.layers} == {"float32"}
    finally:
        keras.config.set_dtype_policy("float32")


def test_later_network_replaces_the_earlier(saved):
    folder, network = saved
    network.set_weights([weight + 1 for weight in network.get_weights()])
    folder.save_network(network)
    for found, expected in zip(
        folder.load_network().get_weights(), network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert not list(folder.path.glob(".tmp*"))


def test_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(RefusedError, match="NOT_A_RUN"):
        RunFolder(tmp_path).load_config()


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped": (lambda f: _flip(f.model), "CORRUPT"),
    "cut": (lambda f: f.model.write_bytes(f.model.read_bytes()[:-1]), "CORRUPT"),
    "empty": (lambda f: f.model.write_bytes(b""), "CORRUPT"),
    "missing": (lambda f: f.model.unlink(), "NOT_A_FILE"),
    "other checksum": (lambda f: _flip(checksum_file(f.model)), "CORRUPT"),
    "empty checksum": (lambda f: checksum_file(f.model).write_bytes(b""), "CORRUPT"),
    "checksum in no encoding": (
        lambda f: checksum_file(f.model).write_bytes(b"\xff\xfe" * 40),
        "CORRUPT",
    ),
    "missing checksum": (lambda f: checksum_file(f.model).unlink(), "NOT_A_FILE"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_network_is_refused(saved, damage):
    folder, _ = saved
    inflict, code = DAMAGES[damage]
    inflict(folder)
    with pytest.raises(RefusedError) as refused:
        folder.load_network()
    assert refused.value.code == code
    assert len(str(refused.value).splitlines()) == 1


def test_network_of_other_settings_is_refused(saved, monkeypatch, toy_method):
    folder, _ = saved
    monkeypatch.setitem(METHODS, "jdl", lambda config: toy_method(config, channels=16))
    with pytest.raises(RefusedError, match="SHAPE_MISMATCH.* configuration"):
        folder.load_network()


def test_damaged_config_is_refused_by_its_key(saved):
    folder, _ = saved
    folder.describe(
        dataclasses.replace(CONFIG, training=TrainingConfig(epochs=-1)), "ab12"
    )
    with pytest.raises(RefusedError, match="training.epochs: CONFIG"):
        folder.load_network()
