"""Predictions lie on the native grid and do not depend on how slices are batched."""

import dataclasses

import keras
import numpy as np
import pytest

from jdl_keras.config import Config, GridConfig
from jdl_keras.inference.predictor import Predictor
from jdl_keras.models.methods import METHODS, build_network
from jdl_keras.preprocessing import Grid
from jdl_keras.run_folder import RunFolder
from tfrecords_tools.labels import TASKS
from tfrecords_tools.study import Study

GRID = Grid(size=(32, 48), spacing_mm=(2.0, 2.0), percentiles=(0.0, 100.0))


def make_study(shape=(3, 40, 50), spacing_mm=(1.5, 1.25), pixels=None):
    random = np.random.default_rng(0)
    pixels = random.random(shape, np.float32) if pixels is None else pixels
    return Study(
        patient_key="aa",
        study_key="01",
        source="test",
        pixels=pixels,
        label_map=np.zeros(pixels.shape, np.uint8),
        labelled=(frozenset(TASKS),) * len(pixels),
        affine=np.diag([*spacing_mm, 10.0, 1.0]),
    )


def one_slice(study, index):
    return make_study(
        spacing_mm=study.spacing_mm, pixels=study.pixels[index : index + 1]
    )


@pytest.fixture
def toy(build_toy):
    keras.utils.set_random_seed(0)
    return Predictor(build_toy(None, GRID.size), GRID)


@pytest.fixture
def mirror():
    """What its network sees is what it finds."""
    image = keras.Input((*GRID.size, 1))
    seen = keras.layers.Identity()(image)
    return Predictor(keras.Model(image, {"scar": seen}), GRID)


@pytest.mark.parametrize("shape", [(3, 40, 50), (1, 17, 90), (2, 64, 20)])
def test_maps_are_probabilities_on_the_native_grid(toy, shape):
    maps = toy.probability_maps(make_study(shape))
    assert [*maps] == ["myocardium", "scar"]
    for values in maps.values():
        assert values.shape == shape
        assert values.dtype == np.float32
        assert values.min() >= 0
        assert values.max() <= 1


def test_slices_one_by_one_give_what_the_stack_gives(toy):
    study = make_study()
    together = toy.probability_maps(study)
    for index in range(3):
        alone = toy.probability_maps(one_slice(study, index))
        for task, values in alone.items():
            # the order of float32 sums may change with the batch, by some 1e-7
            np.testing.assert_allclose(values[0], together[task][index], atol=1e-6)


def test_bright_spot_is_found_where_it_is(mirror):
    # rows 10-13 and columns 30-33 of 40 x 50: neither central nor symmetric
    pixels = np.random.default_rng(0).random((1, 40, 50), np.float32) * 0.01
    pixels[0, 10:14, 30:34] = 1
    found = np.argwhere(mirror.masks(make_study(pixels=pixels), 0.5)["scar"][0])
    # Half a pixel of the coarser grid is 1 mm: 0.67 rows or 0.8 columns.
    assert np.abs(found.mean(axis=0) - (11.5, 31.5)).max() <= 0.8
    # 4 x 4 pixels = 6 x 5 mm; each edge may move by half a grid pixel, 1 mm:
    # from 4 x 3 mm = 6.4 pixels to 8 x 7 mm = 29.9 pixels of 1.5 x 1.25 mm
    assert 6 <= len(found) <= 30


def test_nothing_is_found_where_the_grid_does_not_reach(mirror):
    # The grid spans 32 x 2 = 64 mm of 100 rows of 1.5 mm: rows 28.3 to 70.7.
    maps = mirror.probability_maps(make_study((1, 100, 50)))["scar"][0]
    assert not maps[:28].any()
    assert not maps[72:].any()
    assert maps[30:70].all(axis=1).any()


def test_mask_starts_at_the_threshold(toy):
    study = make_study()
    maps = toy.probability_maps(study)
    for task, values in maps.items():
        threshold = float(values[1, 20, 25])
        mask = toy.masks(study, threshold)[task]
        assert mask.dtype == bool
        assert mask[1, 20, 25]
        np.testing.assert_array_equal(mask, values >= threshold)


def test_saved_and_reloaded_network_predicts_the_same_bits(
    tmp_path, monkeypatch, build_toy
):
    monkeypatch.setitem(METHODS, "jdl", build_toy)
    folder = RunFolder(tmp_path)
    config = Config(grid=GridConfig(**dataclasses.asdict(GRID)))
    folder.describe(config, "ab12")
    network = build_network(config)
    folder.save_network(network)
    study = make_study()
    before = Predictor(network, GRID).probability_maps(study)
    grid = Grid.from_config(folder.load_config().grid)
    after = Predictor(folder.load_network(), grid).probability_maps(study)
    for task, values in before.items():
        assert values.tobytes() == after[task].tobytes()
