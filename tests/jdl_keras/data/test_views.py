"""Who is trained and tested on, and whose scar reference is used."""

import numpy as np
import pytest

from jdl_keras.config import (
    AugmentationConfig,
    Config,
    GridConfig,
    SplitConfig,
    TrainingConfig,
)
from jdl_keras.data.centring import slice_centres
from jdl_keras.data.pipeline import training_batches, validation_batches
from jdl_keras.data.views import configured_view, open_records
from jdl_keras.run_folder import RunFolder
from jdl_keras.training.loop import check_splits
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS, Tissue
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.splits import SPLITS, SplitFractions


@pytest.fixture(scope="module")
def record_set(build, make_study, tmp_path_factory):
    """Twelve patients, those with odd numbers have scar: 8 to train on, 2 and 2."""
    folder = tmp_path_factory.mktemp("views") / "records"
    build(folder, map(make_study, range(12)), fractions=SplitFractions(8, 2, 2))
    return open_record_set(folder)


def view(record_set, **split):
    return configured_view(record_set, SplitConfig(**split))


def labelled(record_set, split, task):
    """The patients of a split whose slices all have the reference; others have none."""
    found = {}
    for one in record_set.slices(split):
        found.setdefault(one.patient_key, set()).add(task in one.labelled)
    assert all(len(answers) == 1 for answers in found.values())
    return {key for key, answers in found.items() if answers == {True}}


def test_without_settings_the_splits_are_those_of_the_manifest(record_set):
    same = view(record_set)
    assert same.assignment == record_set.assignment
    assert same.view == {}


def test_over_all_folds_every_patient_is_tested_once(record_set):
    folds = [view(record_set, folds=3, fold=fold, seed=5) for fold in range(3)]
    tested = [key for fold in folds for key in fold.patients("test")]
    assert sorted(tested) == sorted(record_set.assignment)
    for fold in folds:
        # 12 / 3 patients, half of them with scar
        assert fold.totals("test")["patients"] == 4
        assert fold.totals("test")["with_scar"] == 2
        everyone = [key for split in SPLITS for key in fold.patients(split)]
        assert sorted(everyone) == sorted(record_set.assignment)
    assert len({fold.view["splits"] for fold in folds}) == 3


def test_patients_without_any_reference_are_in_no_fold(record_set):
    hidden = record_set.without_labels("scar", ["patient-03", "patient-04"])
    hidden = hidden.without_labels("myocardium", ["patient-03", "patient-05"])
    assert hidden.without_reference == {"patient-03"}
    fold = view(hidden, folds=3, fold=0, seed=5)
    assert set(record_set.assignment) - set(fold.assignment) == {"patient-03"}


def test_split_without_any_reference_cannot_be_measured(record_set):
    tested = record_set.patients("test")
    without = record_set.without_labels("scar", tested)
    assert without.can_measure("test")
    without = without.without_labels("myocardium", tested)
    assert not without.can_measure("test")
    assert without.can_measure("validation")
    with pytest.raises(RefusedError, match="SPLIT: the test split has no patients"):
        check_splits(Config(), without)


def test_seed_of_the_split_draws_other_folds(record_set):
    first, other = (view(record_set, folds=3, seed=seed) for seed in (0, 1))
    assert first.patients("test") != other.patients("test")


def test_fewer_patients_are_trained_on_and_as_many_tested(record_set):
    few = view(record_set, train_patients=4)
    assert set(few.patients("train")) < set(record_set.patients("train"))
    # The share with scar stays: 4 of 8, so 2 of 4.
    expected = {"patients": 4, "studies": 4, "slices": 12, "with_scar": 2}
    assert few.totals("train") == expected
    for split in ("validation", "test"):
        assert few.patients(split) == record_set.patients(split)
    # A smaller count keeps a part of what a larger one keeps.
    assert set(view(record_set, train_patients=2).patients("train")) < set(
        few.patients("train")
    )


def test_scar_reference_of_some_training_patients(record_set):
    some = view(record_set, scar_patients=2)
    assert some.assignment == record_set.assignment
    kept = labelled(some, "train", "scar")
    assert len(kept) == 2
    assert some.totals("train")["with_scar"] == 1
    assert labelled(some, "train", "myocardium") == set(some.patients("train"))
    for one in some.slices("train"):
        if one.patient_key not in kept:
            # Scar is wall, and not shown as scar.
            assert Tissue.SCAR not in one.label_map
            assert Tissue.HEALTHY_MYOCARDIUM in one.label_map
    # Nothing is taken from what is measured.
    for split in ("validation", "test"):
        assert labelled(some, split, "scar") == set(record_set.patients(split))


def test_scar_patients_are_among_the_training_patients(record_set):
    both = view(record_set, folds=3, fold=1, train_patients=4, scar_patients=2)
    assert both.totals("train")["patients"] == 4
    assert len(labelled(both, "train", "scar")) == 2
    assert len(labelled(both, "train", "myocardium")) == 4
    assert both.totals("test")["patients"] == 4
    assert labelled(both, "test", "scar") == set(both.patients("test"))
    # The same folds with and without.
    plain = view(record_set, folds=3, fold=1)
    for split in ("validation", "test"):
        assert both.patients(split) == plain.patients(split)


@pytest.mark.parametrize("key", ["train_patients", "scar_patients"])
def test_more_patients_than_there_are_is_refused(record_set, key):
    with pytest.raises(RefusedError, match="1 to 8 patients of train, got 9"):
        view(record_set, **{key: 9})


def test_record_set_of_a_configuration(record_set):
    config = Config(records=str(record_set.path), split=SplitConfig(folds=3, fold=2))
    opened = open_records(config)
    assert opened.assignment == view(record_set, folds=3, fold=2).assignment


# The grid lies around the centre


GRID = GridConfig(size=(32, 32), spacing_mm=(1.0, 1.0))


@pytest.fixture(scope="module")
def off_centre(build, make_study, tmp_path_factory):
    """Hearts of 8 x 6 mm in the corners of fields of 40 x 36 mm, at 1 mm."""
    studies = []
    for number in range(6):
        row, column = [(2, 3), (28, 26), (20, 4)][number % 3]
        label_map = np.zeros((2, 40, 36), np.uint8)
        wall = slice(row, row + 8), slice(column, column + 6)
        label_map[:, *wall] = Tissue.HEALTHY_MYOCARDIUM
        if number % 2:
            label_map[0, row, column] = Tissue.SCAR
        affine = np.diag([1.0, 1.0, 8.0, 1.0])
        pixels = np.float32(label_map > 0)
        study = make_study(
            number,
            pixels=pixels,
            label_map=label_map,
            affine=affine,
            labelled=(frozenset(TASKS),) * 2,
        )
        studies.append(study)
    folder = tmp_path_factory.mktemp("off_centre") / "records"
    build(folder, studies, fractions=SplitFractions(2, 2, 2))
    return open_record_set(folder)


def box_middle(image):
    """(row, column) in the middle of what is not background."""
    rows, columns = np.nonzero(image > 0.5)
    return (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2


@pytest.mark.parametrize(
    ("centre", "in_the_middle"), [("reference", True), ("image", False)]
)
def test_centre_of_the_configuration_is_that_of_the_grid(
    off_centre, tmp_path, centre, in_the_middle
):
    locate = RunFolder(tmp_path).locate(centre)
    centres = slice_centres(off_centre.studies("validation"), locate)
    config = Config(grid=GRID, training=TrainingConfig(batch_size=3))
    samples = [*validation_batches(off_centre, config, centres).unbatch()]
    assert len(samples) == 4
    for sample in samples:
        for name in ("image", "myocardium"):
            middle = box_middle(sample[name].numpy()[..., 0])
            # 1 mm on 1 mm: pixels fall onto pixels or between two, half a pixel off.
            near = np.allclose(middle, (15.5, 15.5), atol=0.5)
            assert near == in_the_middle


def test_each_slice_has_the_centre_of_its_own_study(off_centre, tmp_path):
    locate = RunFolder(tmp_path).locate("reference")
    for split in SPLITS:
        centres = slice_centres(off_centre.studies(split), locate)
        assert centres.shape == (4, 2)
        for one, centre in zip(off_centre.slices(split), centres, strict=True):
            assert tuple(centre) == box_middle(one.label_map)


def test_training_sees_the_centre_too(off_centre, tmp_path):
    nothing = AugmentationConfig((1.0, 1.0), 0.0, 0.0, 0.0, (1.0, 1.0), 0.0)
    config = Config(
        grid=GRID,
        augmentation=nothing,
        training=TrainingConfig(epochs=1, batch_size=3),
    )
    locate = RunFolder(tmp_path).locate("reference")
    centres = slice_centres(off_centre.studies("train"), locate)
    for shift in ((0.0, 0.0), (4.0, -3.0)):
        moved = training_batches(off_centre, config, centres + np.array(shift))
        for sample in moved.unbatch():
            middle = box_middle(sample["myocardium"].numpy()[..., 0])
            # The grid moves with the centre, and the heart on it the other way.
            expected = 15.5 - shift[0], 15.5 - shift[1]
            np.testing.assert_allclose(middle, expected, atol=0.5)
