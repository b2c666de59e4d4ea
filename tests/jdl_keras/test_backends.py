"""Networks, losses and metrics under another Keras backend: the same numbers."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from jdl_keras.models import build_transunet
from jdl_keras.models.presets import PRESETS
from jdl_keras.models.pretrained import published_name

ROOT = Path(__file__).parents[2]
SIZE = (32, 48)
TOLERANCE = {"tiny": 1e-5, "small": 1e-4}
"""Measured: rounding every weight once, by 6e-8 of it, moves TensorFlow's own scar map
by up to 4e-7 in `tiny` and 3e-5 in `small`. Another order of summation cannot agree
better than that."""

SCRIPT = """
import sys
import keras
import numpy as np
from jdl_keras.losses import SegmentationLoss
from jdl_keras.metrics import PatientDice
from jdl_keras.models import load_npz
from jdl_keras.config import Config, GridConfig, ModelConfig
from jdl_keras.models.methods import build_network

folder, preset, expected_backend = sys.argv[1:]
assert keras.backend.backend() == expected_backend
case = np.load(f"{folder}/case.npz")
grid = GridConfig(size=case["image"].shape[1:3])
network = build_network(Config(grid=grid, model=ModelConfig(preset=preset)))
for task in ("myocardium", "scar"):
    load_npz(network.get_layer(f"{task}_network"), f"{folder}/{task}.npz")
outputs = dict(network(case["image"], training=False))
labelled = keras.ops.convert_to_tensor(case["labelled"])
reference = keras.ops.convert_to_tensor(case["reference"])
for over in ("sample", "batch"):
    loss = SegmentationLoss(dice_over=over)
    outputs[f"loss_{over}"] = loss(reference, outputs["scar"], labelled)
metric = PatientDice(2, threshold=0.4)
metric.update_state(reference, outputs["scar"], np.array([0, 1, 1]), labelled)
outputs["dice"] = metric.result()
np.savez(
    f"{folder}/outputs.npz",
    **{name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()},
)
"""


@pytest.fixture(scope="module", params=["tiny", "small"])
def preset(request):
    """`tiny` decodes with BatchNorm, `small` with GroupNorm."""
    return request.param


@pytest.fixture(scope="module")
def case(preset, tmp_path_factory):
    """Weights of both networks, images, references; in files that any backend reads."""
    folder = tmp_path_factory.mktemp("backends")
    random = np.random.default_rng(0)
    for number, task in enumerate(("myocardium", "scar")):
        keras.utils.set_random_seed(number + 1)
        network = build_transunet(preset, SIZE)
        arrays = {
            published_name(variable.path): keras.ops.convert_to_numpy(variable)
            for variable in network.weights
            if "seed_generator" not in variable.path
        }
        # A file's positions are those of a square grid; 9 tokens and the class token.
        name = "Transformer/posembed_input/pos_embedding"
        arrays[name] = random.normal(
            0, 0.1, (1, 10, PRESETS[preset].token_width)
        ).astype("float32")
        np.savez(folder / f"{task}.npz", **arrays)
    np.savez(
        folder / "case.npz",
        image=random.random((3, *SIZE, 1)).astype("float32"),
        reference=(random.random((3, *SIZE, 1)) < 0.3).astype("float32"),
        labelled=np.float32([1, 1, 0]),
    )
    return folder


def run(folder, preset, backend):
    script = folder / "script.py"
    script.write_text(SCRIPT)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(script), str(folder), preset, backend],
        env=os.environ
        | {
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "outputs.npz") as outputs:
        return dict(outputs)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_numbers_are_those_of_tensorflow(case, preset, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    expected = run(case, preset, "tensorflow")
    assert set(expected) == {"myocardium", "scar", "loss_sample", "loss_batch", "dice"}
    assert expected["dice"] > 0
    for name, value in run(case, preset, backend).items():
        np.testing.assert_allclose(
            value, expected[name], atol=TOLERANCE[preset], err_msg=name
        )
