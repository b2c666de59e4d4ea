"""Preprocessing, augmentation and prediction under another Keras backend.

The numbers are those of TensorFlow.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
BACKENDS = ("jax", "torch")

TOLERANCE = 1e-5
"""Positions up to 60 pixels carry errors of 4e-6, a rounding of float32, where a
compiler fuses a multiplication with an addition; an image in [0, 1] rises by up to 1 a
pixel."""

SCRIPT = """
import sys
from types import SimpleNamespace

import keras
import numpy as np
from keras import ops

from jdl_keras import preprocessing as p
from jdl_keras.config import AugmentationConfig
from jdl_keras.data.augmentation import random_affine, random_intensity
from jdl_keras.inference.predictor import Predictor
from jdl_keras.run_folder import _devices, versions

out, backend = sys.argv[1:]
assert keras.backend.backend() == backend
random = np.random.default_rng(0)


def tensor(values):
    return ops.convert_to_tensor(np.float32(values))


def uniform(*shape):
    return random.random(shape, np.float32)


images = uniform(3, 41, 57)
spoiled = images.copy()
spoiled[0, 3, 4], spoiled[1, 5:9], spoiled[2] = np.nan, np.inf, -np.inf
spacing_mm = tensor([[1.5, 1.25], [1.0, 1.0], [0.7, 1.9]])
centre = tensor([[18.0, 31.0], [20.0, 28.0], [9.5, 44.0]])
grid = p.Grid((32, 48), (1.1, 0.9))
maps = tensor(uniform(3, 32, 48, 1))
outputs = {
    "image_centre": p.image_centre(tensor(images)),
    "finite": p.finite(tensor(spoiled)),
    "intensity_range": p.intensity_range(tensor(images), (1.0, 99.0)),
    "constant": p.scale_intensities(tensor(np.ones((1, 2, 2, 1))), tensor([[1, 1]])),
}
for degrees in (0.0, 40.0):
    transform = p.grid_to_native(grid, spacing_mm, centre, degrees)
    outputs |= {
        f"transform_{degrees}": transform,
        f"seen_{degrees}": p.preprocess(
            tensor(spoiled), spacing_mm, grid, centre, degrees
        ),
        f"native_{degrees}": p.to_native(
            maps, spacing_mm, grid, centre, (41, 57), degrees
        ),
    }
labels = ops.convert_to_tensor(random.integers(0, 5, (3, 41, 57, 1)).astype("uint8"))
outputs["labels"] = p.sample(labels, transform, (32, 48), "NEAREST", "CONSTANT")

config = AugmentationConfig()
outputs["affine"] = random_affine(tensor(2 * uniform(3, 5) - 1), config)
noise = tensor(random.standard_normal(maps.shape))
outputs["intensity"] = random_intensity(maps, tensor(uniform(3, 2)), noise, config)

image = keras.Input((32, 48, 1))
network = keras.Model(image, {
    task: keras.layers.Conv2D(1, 5, padding="same", activation="sigmoid")(image)
    for task in ("myocardium", "scar")
})
network.set_weights([uniform(*w.shape) - 0.5 for w in network.get_weights()])
study = SimpleNamespace(pixels=uniform(18, 41, 57), spacing_mm=(1.5, 1.25))
for rotations in (1, 3):
    predictor = Predictor(network, grid, lambda _: (18.0, 31.0), rotations)
    for task, values in predictor.probability_maps(study).items():
        outputs[f"{task}_{rotations}"] = values
network.set_weights([-w for w in network.get_weights()])
outputs["other weights"] = predictor.probability_maps(study)["scar"]

found = versions()
assert found["keras_backend"] == backend
assert {"tensorflow", "jax", "torch"} & set(found) == {backend}
assert _devices()
np.savez(out, **{name: ops.convert_to_numpy(x) for name, x in outputs.items()})
"""


def run(folder, backend):
    script, out = folder / "script.py", folder / f"{backend}.npz"
    script.write_text(SCRIPT)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(script), str(out), backend],
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
    with np.load(out) as outputs:
        return dict(outputs)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return run(tmp_path_factory.mktemp("tensorflow"), "tensorflow")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_are_those_of_tensorflow(request, backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    expected = request.getfixturevalue("expected")
    found = run(tmp_path, backend)
    assert found.keys() == expected.keys()
    assert expected["scar_1"].shape == (18, 41, 57)
    for name, value in found.items():
        assert value.dtype == expected[name].dtype, name
        # Of numbers above 1 the rounding errors are relative.
        np.testing.assert_allclose(
            value, expected[name], rtol=1e-6, atol=TOLERANCE, err_msg=name
        )
