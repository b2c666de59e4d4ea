"""Batches from memory hold what the TensorFlow pipeline makes of TFRecords."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.config import AugmentationConfig, Config, GridConfig, TrainingConfig
from jdl_keras.data import pipeline
from jdl_keras.data.centring import image_middle, slice_centres
from jdl_keras.data.portable_batches import (
    SlicesOnGrid,
    training_batches,
    validation_batches,
)
from tfrecords_tools.npz_set import open_npz, write_npz
from tfrecords_tools.record_set import open_record_set

GRID = GridConfig(size=(32, 32), spacing_mm=(0.6, 0.6))
CONFIG = Config(grid=GRID, seed=3, training=TrainingConfig(epochs=3, batch_size=5))
NOTHING = AugmentationConfig((1.0, 1.0), 0.0, 0.0, 0.0, (1.0, 1.0), 0.0)


def crop(study, rows, columns):
    return dataclasses.replace(
        study,
        pixels=study.pixels[:, :rows, :columns],
        label_map=study.label_map[:, :rows, :columns],
    )


@pytest.fixture(scope="module")
def folder_set(make_study, build, tmp_path_factory):
    """Eight studies of three sizes; some slices are labelled in part."""
    labels = (frozenset({"myocardium", "scar"}), frozenset({"myocardium"}), frozenset())
    sizes = ((12, 10), (11, 10), (12, 9))
    studies = [
        crop(make_study(number, labelled=labels), *sizes[number % 3])
        for number in range(8)
    ]
    folder = tmp_path_factory.mktemp("portable") / "records"
    build(folder, studies)
    return open_record_set(folder)


@pytest.fixture(scope="module")
def npz_set(folder_set, tmp_path_factory):
    path = tmp_path_factory.mktemp("dumped") / "set.npz"
    write_npz(folder_set, path)
    return open_npz(path)


def centres(record_set, split):
    return slice_centres(record_set.studies(split), image_middle)


def samples_of(batches):
    """The samples one by one, as nested dicts of arrays."""
    for batch in batches:
        for i in range(len(batch["image"])):
            yield tf.nest.map_structure(lambda t, i=i: np.asarray(t[i]), batch)


def test_samples_are_those_of_the_pipeline(folder_set, npz_set):
    places = centres(folder_set, "validation")
    expected = samples_of(
        pipeline.validation_batches(folder_set, CONFIG, places).as_numpy_iterator()
    )
    found = samples_of(validation_batches(npz_set, CONFIG, places))
    pairs = list(zip(found, expected, strict=True))
    assert len(pairs) == npz_set.totals("validation")["slices"]
    assert {one.pixels.shape for one in npz_set.slices("validation")} != {(12, 10)}
    for sample, other in pairs:
        assert sample.keys() == other.keys()
        # A repeated edge is interpolated with itself: 6e-8 of a rounding, scaled.
        np.testing.assert_allclose(sample.pop("image"), other.pop("image"), atol=1e-6)
        tf.nest.map_structure(np.testing.assert_array_equal, sample, other)


def test_sample_does_not_depend_on_its_batch(npz_set):
    slices = SlicesOnGrid(npz_set, "train", CONFIG, centres(npz_set, "train"))
    together = slices.augmented(np.arange(6), epoch=1)
    alone = slices.augmented(np.array([4]), epoch=1)
    np.testing.assert_allclose(together["image"][4], alone["image"][0], atol=1e-6)
    np.testing.assert_array_equal(together["scar"][4], alone["scar"][0])


def test_ranges_of_nothing_leave_the_sample_as_it_is(npz_set):
    config = dataclasses.replace(CONFIG, augmentation=NOTHING)
    slices = SlicesOnGrid(npz_set, "train", config, centres(npz_set, "train"))
    places = np.arange(5)
    changed, as_it_is = slices.augmented(places, 0), slices.batch(places)
    # Millimetres and back: positions differ by 1e-6 pixels of a noise image.
    np.testing.assert_allclose(changed["image"], as_it_is["image"], atol=1e-4)


@pytest.fixture(scope="module")
def epochs(npz_set):
    """Three epochs of 12 slices, in batches of 5, 5 and 2."""
    places = centres(npz_set, "train")
    batches = [batch for (batch,) in training_batches(npz_set, CONFIG, places)]
    assert [len(batch["image"]) for batch in batches] == [5, 5, 2] * 3
    return [batches[i : i + 3] for i in range(0, 9, 3)]


def test_every_slice_comes_once_an_epoch_and_never_the_same(npz_set, epochs):
    slices = [one.patient_key for one in npz_set.slices("train")]
    keys = npz_set.patients("train")
    for epoch in epochs:
        owners = np.concatenate([batch["patient"] for batch in epoch])
        assert sorted(keys[owner] for owner in owners) == sorted(slices)
    images = {s["image"].tobytes() for epoch in epochs for s in samples_of(epoch)}
    assert len(images) == 36
    orders = {tuple(np.concatenate([b["patient"] for b in e])) for e in epochs}
    assert len(orders) == 3


def test_run_that_continues_sees_what_it_would_have_seen(npz_set, epochs):
    batches = training_batches(npz_set, CONFIG, centres(npz_set, "train"), 2)
    for (batch,), expected in zip(batches, epochs[2], strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, batch, expected)


def test_another_seed_gives_other_images(npz_set, epochs):
    config = dataclasses.replace(CONFIG, seed=4)
    batches = training_batches(npz_set, config, centres(npz_set, "train"))
    seen = {s["image"].tobytes() for s in samples_of(epochs[0])}
    other = {s["image"].tobytes() for s in samples_of(b for (b,) in batches)}
    assert not seen & other
