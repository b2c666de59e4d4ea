"""Batches: deterministic under a seed, new in every epoch, complete."""

import dataclasses
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.config import AugmentationConfig, Config, GridConfig, TrainingConfig
from jdl_keras.data.centring import image_middle, slice_centres
from jdl_keras.data.pipeline import training_batches, validation_batches
from jdl_keras.data.shares import WHOLE, Share
from jdl_keras.preprocessing import Grid, image_centre, preprocess
from tfrecords_tools.labels import TASKS, Tissue, region_mask
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.splits import SplitFractions

GRID = GridConfig(size=(32, 32), spacing_mm=(0.6, 0.6))
"""19.2 mm: the 12 x 10 native pixels of 1.5 x 1.25 mm, which are 18 x 12.5 mm."""

CONFIG = Config(grid=GRID, seed=3, training=TrainingConfig(epochs=3, batch_size=5))
NOTHING = AugmentationConfig((1.0, 1.0), 0.0, 0.0, 0.0, (1.0, 1.0), 0.0)


@pytest.fixture(autouse=True)
def _global_seed():
    # As training does: the order of tf.data depends on this seed, too.
    keras.utils.set_random_seed(1)


def training(record_set, config, first_epoch=0, locate=image_middle, share=WHOLE):
    centres = slice_centres(record_set.studies("train"), locate)
    return training_batches(record_set, config, centres, first_epoch, share)


def validation(record_set, config, locate=image_middle):
    centres = slice_centres(record_set.studies("validation"), locate)
    return validation_batches(record_set, config, centres)


@pytest.fixture(scope="module")
def record_set(build, tmp_path_factory):
    """4 patients of 3 slices to train on, 2 to validate on."""
    folder = tmp_path_factory.mktemp("pipeline") / "records"
    build(folder)
    return open_record_set(folder)


@pytest.fixture
def blob_set(make_study, build, tmp_path):
    """One training patient, whose pixels are the mask of its healthy myocardium.

    A bar of 14 x 6 pixels of 1 mm, 5 mm below and 5 mm left of the centre.
    """
    label_map = np.zeros((2, 48, 48), np.uint8)
    label_map[:, 22:36, 16:22] = Tissue.HEALTHY_MYOCARDIUM
    study = make_study(
        0,
        slices=2,
        pixels=np.float32(label_map == Tissue.HEALTHY_MYOCARDIUM),
        label_map=label_map,
        affine=np.diag([1.0, 1.0, 8.0, 1.0]),
    )
    others = [make_study(number) for number in (1, 2)]
    for split_seed in range(20):
        manifest = build(
            tmp_path / "blob",
            [study, *others],
            fractions=SplitFractions(1, 1, 1),
            split_seed=split_seed,
            overwrite=True,
        )
        if manifest.of_split("train")[0].patient_key == study.patient_key:
            return open_record_set(tmp_path / "blob")
    raise AssertionError("no seed puts the bar into the training split")


def epochs_of(record_set, config, first_epoch=0):
    """The batches as nested dicts of arrays, one list an epoch."""
    batches = list(training(record_set, config, first_epoch).as_numpy_iterator())
    slices = record_set.totals("train")["slices"]
    steps = -(-slices // config.training.batch_size)
    assert len(batches) == steps * (config.training.epochs - first_epoch)
    return [batches[i : i + steps] for i in range(0, len(batches), steps)]


def assert_equal(a, b):
    tf.nest.map_structure(np.testing.assert_array_equal, a, b)


def changed(**changes):
    """`CONFIG` with changes of its training part."""
    training = dataclasses.replace(CONFIG.training, **changes)
    return dataclasses.replace(CONFIG, training=training)


def fingerprints(batches):
    """How often each pair of patient and image comes."""
    return Counter(
        (int(patient), image.tobytes())
        for batch in batches
        for patient, image in zip(batch["patient"], batch["image"], strict=True)
    )


# Order and randomness


@pytest.fixture(scope="module")
def whole_run(record_set):
    keras.utils.set_random_seed(1)
    return epochs_of(record_set, CONFIG)


def test_same_seed_gives_the_same_bits(record_set, whole_run):
    assert_equal(epochs_of(record_set, CONFIG), whole_run)


def test_another_seed_gives_other_batches(record_set, whole_run):
    other = epochs_of(record_set, dataclasses.replace(CONFIG, seed=4))
    assert not fingerprints(other[0]) & fingerprints(whole_run[0])


def test_no_image_comes_twice_in_a_run(whole_run):
    seen = Counter()
    for epoch in whole_run:
        seen += fingerprints(epoch)
    # 3 epochs x 12 slices
    assert len(seen) == sum(seen.values()) == 36


def test_order_differs_between_epochs(whole_run):
    orders = {
        tuple(np.concatenate([batch["patient"] for batch in epoch]))
        for epoch in whole_run
    }
    # 12! / 3!^4 = 369,600 orders of four patients: three equal ones are no chance.
    assert len(orders) == 3


@pytest.mark.parametrize("first_epoch", [1, 2])
def test_run_that_continues_sees_what_it_would_have_seen(
    record_set, whole_run, first_epoch
):
    assert_equal(epochs_of(record_set, CONFIG, first_epoch), whole_run[first_epoch:])


def test_cache_changes_nothing(record_set, whole_run):
    assert_equal(epochs_of(record_set, changed(cache=False)), whole_run)


def test_sample_does_not_depend_on_the_batch_size(record_set, whole_run):
    other = epochs_of(record_set, changed(batch_size=4))
    assert fingerprints(other[1]) == fingerprints(whole_run[1])


# Completeness


def test_every_slice_once_an_epoch_and_the_rest_in_the_last_batch(
    record_set, whole_run
):
    patients = record_set.patients("train")
    for epoch in whole_run:
        # 12 slices in batches of 5
        assert [len(batch["image"]) for batch in epoch] == [5, 5, 2]
        counts = Counter(int(p) for batch in epoch for p in batch["patient"])
        listed = {p.patient_key: p.slices for p in record_set.manifest.patients}
        assert counts == {i: listed[key] for i, key in enumerate(patients)}


def test_shapes_and_types(whole_run):
    batch = whole_run[0][0]
    assert set(batch) == {"image", *TASKS, "labelled", "patient"}
    for name in ("image", *TASKS):
        assert batch[name].shape == (5, 32, 32, 1)
        assert batch[name].dtype == np.float32
        assert 0 <= batch[name].min() <= batch[name].max() <= 1
    for task in TASKS:
        assert set(np.unique(batch[task])) <= {0.0, 1.0}
        assert batch["labelled"][task].shape == (5,)


def test_scar_lies_in_the_myocardium(whole_run):
    scar = np.concatenate([b["scar"] for epoch in whole_run for b in epoch])
    myocardium = np.concatenate([b["myocardium"] for epoch in whole_run for b in epoch])
    assert scar.any()
    assert (scar <= myocardium).all()


# Validation: the samples as they are


def one_by_one(batches):
    return list(batches.unbatch().as_numpy_iterator())


def test_validation_keeps_the_order_of_the_record_set(record_set):
    samples = one_by_one(validation(record_set, CONFIG))
    slices = list(record_set.slices("validation"))
    patients = record_set.patients("validation")
    keys = [patients[sample["patient"]] for sample in samples]
    assert keys == [slice_.patient_key for slice_ in slices]
    assert len(set(keys)) == 2


def test_validation_images_are_what_the_predictor_sees(record_set):
    samples = one_by_one(validation(record_set, CONFIG))
    for sample, slice_ in zip(samples, record_set.slices("validation"), strict=True):
        pixels = tf.constant(slice_.pixels[None])
        spacing_mm = tf.constant([slice_.spacing_mm], tf.float32)
        expected = preprocess(
            pixels, spacing_mm, Grid.from_config(GRID), image_centre(pixels)
        )
        # The same operations, once in a dataset and once eagerly.
        np.testing.assert_allclose(sample["image"], expected[0], atol=1e-6)


def test_masks_are_the_regions_of_the_label_map(record_set):
    # On a grid of the native spacing and an even margin every pixel is a native one.
    native = GridConfig(size=(32, 32), spacing_mm=(1.5, 1.25))
    samples = one_by_one(
        validation(record_set, dataclasses.replace(CONFIG, grid=native))
    )
    for sample, slice_ in zip(samples, record_set.slices("validation"), strict=True):
        for task, region in TASKS.items():
            # (32 - 12) / 2 = 10 rows and (32 - 10) / 2 = 11 columns of margin
            expected = np.pad(region_mask(slice_.label_map, region), ((10,), (11,)))
            np.testing.assert_array_equal(sample[task][..., 0], expected)


def test_missing_labels_become_weights_of_0(make_study, build, tmp_path):
    wall_only, nothing = frozenset({"myocardium"}), frozenset()
    studies = [
        make_study(number, labelled=(frozenset(TASKS), wall_only, nothing))
        for number in range(8)
    ]
    build(tmp_path / "partly", studies)
    partly = open_record_set(tmp_path / "partly")
    for batches in (
        validation(partly, CONFIG),
        training(partly, CONFIG),
    ):
        labelled = [sample["labelled"] for sample in one_by_one(batches)]
        for task, share in (("myocardium", 2 / 3), ("scar", 1 / 3)):
            weights = [float(weight[task]) for weight in labelled]
            assert set(weights) == {0.0, 1.0}
            assert np.mean(weights) == pytest.approx(share)
    samples = one_by_one(validation(partly, CONFIG))
    for sample, slice_ in zip(samples, partly.slices("validation"), strict=True):
        for task in TASKS:
            assert sample["labelled"][task] == (task in slice_.labelled)


# Image and masks move together


def bars(blob_set, **augmentation):
    config = Config(
        grid=GridConfig((64, 64), (0.75, 0.75), (0.0, 100.0)),
        augmentation=dataclasses.replace(NOTHING, **augmentation),
        training=TrainingConfig(epochs=6, batch_size=2),
    )
    return one_by_one(training(blob_set, config))


def centroid(values):
    values = values[..., 0]
    places = np.indices(values.shape)
    return (places * values).sum(axis=(1, 2)) / values.sum()


def test_image_equal_to_its_mask_stays_equal(blob_set):
    samples = bars(
        blob_set,
        scale=(0.8, 1.25),
        rotation_degrees=180.0,
        translation_mm=4.0,
        shear_degrees=10.0,
    )
    assert len({sample["image"].tobytes() for sample in samples}) == 12
    for sample in samples:
        image, mask = sample["image"], sample["myocardium"]
        # Nearest interpolation moves each edge of the bar by up to half a pixel; if one
        # end grows and the other shrinks, so does the centroid. Drawn apart, image and
        # mask would lie pixels apart.
        shift = centroid(image) - centroid(mask)
        assert np.abs(shift).max() <= 0.5
        overlap = 2 * np.sum((image >= 0.5) * mask)
        # About 100 pixels of edge, a few of which are ties, among 150 to 350 of bar.
        assert overlap / (np.sum(image >= 0.5) + mask.sum()) > 0.98


def test_ranges_of_nothing_leave_the_sample_as_validation_sees_it(blob_set):
    for sample in bars(blob_set):
        # Bar rows 22..35 and columns 16..21 of 48: centre (28.5, 18.5), off the middle
        # 23.5 by 5 and -5 mm; 5 / 0.75 = 6.67 pixels off 31.5 on the grid.
        expected = [31.5 + 5 / 0.75, 31.5 - 5 / 0.75]
        # Whole pixels: half a pixel at either edge. Linear edges: a tenth of that.
        np.testing.assert_allclose(centroid(sample["myocardium"]), expected, atol=0.5)
        np.testing.assert_allclose(centroid(sample["image"]), expected, atol=0.1)


def test_scale_of_125_percent_magnifies(blob_set):
    before = bars(blob_set)[0]["image"].sum()
    for sample in bars(blob_set, scale=(1.25, 1.25)):
        # 1.25^2 = 1.5625 times the area; the edges are cut into whole pixels.
        assert sample["image"].sum() / before == pytest.approx(1.5625, rel=0.02)
        # Away from the centre by the same factor: 1.25 * 5 / 0.75 = 8.33 pixels.
        expected = [31.5 + 1.25 * 5 / 0.75, 31.5 - 1.25 * 5 / 0.75]
        np.testing.assert_allclose(centroid(sample["image"]), expected, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [5, 11])
def test_workers_share_the_batches_of_one_process(record_set, batch_size):
    # 12 slices: batches of 5, 5 and 2; or of 11 and 1, which leaves worker 1 nothing
    changed = dataclasses.replace(CONFIG.training, batch_size=batch_size)
    config = dataclasses.replace(CONFIG, training=changed)
    whole = [*training(record_set, config).as_numpy_iterator()]
    shares = [
        [*training(record_set, config, share=Share(i, 2)).as_numpy_iterator()]
        for i in range(2)
    ]
    assert len(whole) == len(shares[0]) == len(shares[1])
    for batch, *parts in zip(whole, *shares, strict=True):
        for index, part in enumerate(parts):
            for name in ("image", "scar", "patient"):
                np.testing.assert_array_equal(part[name], batch[name][index::2])
