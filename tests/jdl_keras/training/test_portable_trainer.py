"""The portable trainer takes the steps of the TensorFlow one, on every backend."""

import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.config import Config, LossConfig, MessageConfig
from jdl_keras.training.joint_trainer import JointTrainer
from jdl_keras.training.portable_trainer import (
    MOST_SKIPPED,
    EpochFrame,
    PortableTrainer,
    skipping,
)

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("portable_step.py")
ROOT = Path(__file__).parents[3]
METHODS = ("two_step", "multi_task", "jdl")
STEP = runpy.run_path(str(SCRIPT))


def make_case(method):
    """Weights of a toy; ten samples, every third of which has no scar reference."""
    keras.utils.set_random_seed(1)
    network = STEP["build_toy"](STEP["SIZE"], method=method, norm="group")
    image = np.random.default_rng(0).random((10, *STEP["SIZE"], 1), np.float32)
    return {
        "method": method,
        "image": image,
        "myocardium": np.float32(image > 0.4),
        "scar": np.float32(image > 0.8),
        "myocardium_labelled": np.ones(10, np.float32),
        "scar_labelled": np.float32(np.arange(10) % 3 > 0),
        "patient": np.arange(10, dtype=np.int32) // 4,
        **{f"{i}": w for i, w in enumerate(network.get_weights())},
    }


@pytest.fixture(scope="module", params=METHODS)
def case(request):
    return make_case(request.param)


@pytest.fixture(scope="module")
def trained(case):
    return STEP["train"](case)


def assert_close(weights, expected, tolerance):
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, rtol=0, atol=tolerance)


def test_steps_are_those_of_the_joint_trainer(case, trained):
    logs, weights = trained
    network = STEP["network_of"](case)
    trainer = JointTrainer(
        network, STEP["LOSS"], STEP["BATCH"], clip_norm=STEP["CLIP_NORM"], patients=3
    )
    trainer.compile(optimizer=keras.optimizers.SGD(STEP["RATE"]))
    trainer.optimizer.build(network.trainable_variables)
    batches = [STEP["tensors"](batch) for batch in STEP["batches_of"](case)]
    for batch in batches:
        expected = trainer.train_step(batch)
    moved = max(np.abs(w - case[name]).max() for name, w in weights.items())
    assert moved > 1e-4
    after = {f"{i}": w for i, w in enumerate(network.get_weights())}
    # Two steps move weights by 1e-4 and more; float32 sums in another order by 1e-8.
    assert_close(weights, after, 1e-6)
    for name in ("loss", "myocardium_loss", "scar_loss"):
        assert logs[name] == pytest.approx(float(expected[name]), rel=1e-5)
    trainer.reset_metrics()
    for batch in batches:
        validation = trainer.test_step(batch)
    for name in ("myocardium_dice", "scar_dice", "myocardium_loss", "scar_loss"):
        expected_score = float(validation[name])
        assert logs[f"val_{name}"] == pytest.approx(expected_score, rel=1e-5), name
    assert logs["skipped_updates"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_steps_are_those_of_tensorflow(case, trained, backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    np.savez(tmp_path / "case.npz", **case)
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), tmp_path / "case.npz", tmp_path / "out.npz"],
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    logs, weights = trained
    with np.load(tmp_path / "out.npz") as found:
        # Convolutions of other libraries sum in other orders.
        assert_close(found, weights, 1e-5)
        for name, value in logs.items():
            assert float(found[name]) == pytest.approx(value, rel=1e-4), name


@pytest.fixture
def trainer():
    network = STEP["network_of"](make_case("jdl"))
    trainer = PortableTrainer(network, LossConfig(), STEP["BATCH"])
    trainer.compile(optimizer=skipping(keras.optimizers.Adam(0.01)))
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


@pytest.fixture
def batch():
    return STEP["tensors"](next(STEP["batches_of"](make_case("jdl"))))


def spoilt(batch):
    image = batch["image"].numpy()
    image[2, 3, 4] = np.nan
    return {**batch, "image": tf.constant(image)}


def test_update_that_is_not_finite_is_left_out(trainer, batch):
    frame = EpochFrame(Config(), [batch], 3, steps=2)
    frame.set_model(trainer)
    frame.on_epoch_begin(0)
    before = [np.array(w) for w in trainer.network.get_weights()]
    trainer.train_step((spoilt(batch),))
    for one, other in zip(before, trainer.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    logs = {k: float(v) for k, v in trainer.train_step((batch,)).items()}
    assert all(np.isfinite(list(logs.values())))
    frame.on_epoch_end(0, logs)
    assert logs["skipped_updates"] == 0.5  # 1 of 2
    frame.on_epoch_begin(1)
    assert float(trainer.optimizer.dynamic_scale) == 1.0


def test_more_skipped_updates_than_the_scale_bears_are_a_divergence(trainer, batch):
    frame = EpochFrame(Config(), [batch], 3, steps=1000)
    frame.set_model(trainer)
    for skipped, share in ((MOST_SKIPPED, 0.064), (MOST_SKIPPED + 1, 1.0)):
        frame.on_epoch_begin(0)
        trainer.optimizer.iterations.assign_add(1000 - skipped)
        logs = {}
        frame.on_epoch_end(0, logs)
        assert logs["skipped_updates"] == pytest.approx(share)


def test_in_the_warm_up_the_scar_network_keeps_its_weights(batch):
    network = STEP["network_of"](make_case("jdl"))
    trainer = PortableTrainer(network, LossConfig(l2_scar=0.0), STEP["BATCH"])
    trainer.compile(optimizer=skipping(keras.optimizers.SGD(0.01)))
    config = Config(message=MessageConfig(warmup_epochs=1))
    frame = EpochFrame(config, [batch], 3, steps=1)
    frame.set_model(trainer)
    trainer.optimizer.build(trainer.trainable_variables)
    for epoch, moves in ((0, False), (1, True)):
        before = network.get_layer("scar_network").get_weights()
        frame.on_epoch_begin(epoch)
        trainer.train_step((batch,))
        after = network.get_layer("scar_network").get_weights()
        changed = any((a != b).any() for a, b in zip(before, after, strict=True))
        assert changed == moves
