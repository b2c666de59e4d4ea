"""Views: other splits and missing references, the same from folder and file."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from tfrecords_tools import schema
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import SCAR, TASKS, Tissue, region_mask
from tfrecords_tools.npz_set import write_npz
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.splits import SPLITS, fold_splits

PATIENTS = [f"patient-{n:02}" for n in range(8)]


@pytest.fixture
def record_set(records):
    return open_record_set(records)


@pytest.fixture(params=["folder", "file"])
def study_set(record_set, request, tmp_path):
    if request.param == "folder":
        return record_set
    write_npz(record_set, tmp_path / "set.npz")
    return open_record_set(tmp_path / "set.npz")


def keys_of(slices):
    return [(s.patient_key, s.study_key, s.index) for s in slices]


def parsed(record_set, split):
    return list(record_set.examples(split).map(record_set.parse).as_numpy_iterator())


def test_set_as_stored_is_its_manifest(study_set, records):
    assert study_set.view == {}
    assert study_set.source == "handmade"
    for split in SPLITS:
        assert study_set.totals(split) == study_set.manifest.totals[split]
        assert study_set.entries(split) == study_set.manifest.of_split(split)
    # HALF of conftest: 4, 2 and 2 of 8 patients, odd ones with scar, 3 slices each
    expected = {"patients": 4, "studies": 4, "slices": 12, "with_scar": 2}
    assert study_set.totals("train") == expected
    assert study_set.has_scar == {key: key[-1] in "1357" for key in PATIENTS}


def test_assignment_of_the_manifest_is_no_view(study_set):
    same = study_set.with_splits(study_set.assignment)
    assert same.view == {}
    assert keys_of(same.slices("train")) == keys_of(study_set.slices("train"))


def test_records_as_stored_are_the_shards_unchanged(record_set, records):
    import tensorflow as tf

    paths = sorted(map(str, records.glob("train-*")))
    expected = list(tf.data.TFRecordDataset(paths).as_numpy_iterator())
    assert list(record_set.examples("train").as_numpy_iterator()) == expected
    for record in expected:
        for name, value in record_set.parse(record).items():
            np.testing.assert_array_equal(value, schema.parse(record)[name])


def test_other_splits_move_slices_and_leave_out_who_is_not_named(study_set):
    assignment = dict.fromkeys(PATIENTS[:5], "test") | {PATIENTS[6]: "train"}
    view = study_set.with_splits(assignment)
    assert view.patients("test") == PATIENTS[:5]
    assert view.patients("train") == [PATIENTS[6]]
    assert view.patients("validation") == []
    assert list(view.studies("validation")) == []
    # 0 to 4 hold scar in 1 and 3: 2 of 5 patients, 5 x 3 = 15 slices
    expected = {"patients": 5, "studies": 5, "slices": 15, "with_scar": 2}
    assert view.totals("test") == expected
    found = Counter(study.patient_key for study in view.studies("test"))
    assert found == Counter(PATIENTS[:5])
    assert len(list(view.slices("test"))) == 15
    assert view.assignment == assignment
    assert view.sha256 == study_set.sha256
    assert view.manifest is study_set.manifest


def test_examples_follow_the_view_with_their_count(record_set):
    view = record_set.with_splits(dict.fromkeys(PATIENTS[1:4], "train"))
    examples = view.examples("train")
    assert examples.cardinality() == 9  # 3 patients x 3 slices
    # Iterated to the end, where a wrong cardinality would raise.
    found = [
        (r["patient_key"].decode(), r["study_key"].decode(), int(r["slice_index"]))
        for r in parsed(view, "train")
    ]
    assert found == keys_of(view.slices("train"))
    assert {key for key, *_ in found} == set(PATIENTS[1:4])
    assert list(view.examples("test").as_numpy_iterator()) == []


def test_only_shards_that_hold_patients_are_read(record_set):
    moved = record_set.patients("validation")
    view = record_set.with_splits(dict.fromkeys(moved, "train"))
    assert view.shard_paths("train") == record_set.shard_paths("validation")
    assert view.shard_paths("validation") == []


def test_folds_test_every_slice_once(study_set):
    has_scar = study_set.has_scar
    views = [study_set.with_splits(fold_splits(has_scar, 4, k, 0)) for k in range(4)]
    tested = [key for view in views for key in keys_of(view.slices("test"))]
    stored = [key for split in SPLITS for key in keys_of(study_set.slices(split))]
    assert sorted(tested) == sorted(stored)
    assert len({view.view["splits"] for view in views}) == 4


def test_folder_and_file_give_the_same_slices(record_set, tmp_path):
    write_npz(record_set, tmp_path / "set.npz")
    file_set = open_record_set(tmp_path / "set.npz")
    assignment = fold_splits(record_set.has_scar, 3, 1, 5)
    views = [
        one.with_splits(assignment).without_labels("scar", PATIENTS[::3])
        for one in (record_set, file_set)
    ]
    assert views[0].view == views[1].view != {}
    for split in SPLITS:
        for one, other in zip(*(v.slices(split) for v in views), strict=True):
            for field in dataclasses.fields(one):
                np.testing.assert_array_equal(
                    getattr(one, field.name), getattr(other, field.name)
                )


def test_missing_scar_reference_shows_nowhere(study_set):
    view = study_set.without_labels("scar", PATIENTS[:4])
    for split in SPLITS:
        whole = {s.study_key: s for s in study_set.studies(split)}
        for study in view.studies(split):
            stored = whole[study.study_key]
            hidden = study.patient_key in PATIENTS[:4]
            expected = {"myocardium"} if hidden else set(TASKS)
            assert set(study.labelled) == {frozenset(expected)}
            np.testing.assert_array_equal(study.pixels, stored.pixels)
            scar = region_mask(stored.label_map, SCAR)
            np.testing.assert_array_equal(
                study.label_map,
                np.where(scar & hidden, Tissue.HEALTHY_MYOCARDIUM, stored.label_map),
            )
    # 1, 3, 5 and 7 have scar, 1 and 3 no longer show it
    shown = {key for key, has_scar in view.has_scar.items() if has_scar}
    assert shown == {PATIENTS[5], PATIENTS[7]}
    assert sum(view.totals(split)["with_scar"] for split in SPLITS) == 2
    assert view.members[0].labelled == {"myocardium": 3, "scar": 0}
    assert [*view.view] == ["without scar"]
    assert view.view["without scar"].startswith("4 patients, ")


@pytest.mark.parametrize("tasks", [["scar"], ["myocardium"], ["scar", "myocardium"]])
def test_parse_shows_what_slices_show(record_set, tasks):
    view = record_set
    for task in tasks:
        view = view.without_labels(task, PATIENTS[1::2])
    labelled = set()
    for split in SPLITS:
        for record, slice_ in zip(parsed(view, split), view.slices(split), strict=True):
            np.testing.assert_array_equal(record["label_map"], slice_.label_map)
            flags = dict(zip(TASKS, record["labelled"], strict=True))
            assert {t for t in TASKS if flags[t]} == slice_.labelled
            assert record["label_map"].dtype == np.uint8
            labelled.add(slice_.labelled)
    assert labelled == {frozenset(TASKS), frozenset(TASKS) - {*tasks}}


def test_views_add_up(study_set):
    view = study_set.with_splits(dict.fromkeys(PATIENTS[:4], "train"))
    view = view.without_labels("scar", PATIENTS[:1])
    view = view.without_labels("scar", PATIENTS[1:2])
    view = view.with_splits(dict.fromkeys(PATIENTS[:3], "test"))
    assert [s.patient_key for s in view.studies("test")] == PATIENTS[:3]
    labelled = [study.labelled[0] for study in view.studies("test")]
    assert labelled == [{"myocardium"}, {"myocardium"}, {"myocardium", "scar"}]
    assert sorted(view.view) == ["splits", "without scar"]


def test_view_names_what_it_shows(study_set):
    views = [
        study_set.without_labels("scar", PATIENTS[:2]),
        study_set.without_labels("scar", PATIENTS[1:3]),
        study_set.without_labels("myocardium", PATIENTS[:2]),
        study_set.with_splits(dict.fromkeys(PATIENTS, "train")),
        study_set.with_splits(dict.fromkeys(PATIENTS[1:], "train")),
    ]
    assert len({str(view.view) for view in views}) == len(views)
    again = study_set.without_labels("scar", PATIENTS[1::-1])
    assert again.view == views[0].view


def test_nobody_loses_a_reference_that_was_not_there(tmp_path, build, make_study):
    only_wall = (frozenset({"myocardium"}),) * 3
    studies = [make_study(n, labelled=only_wall, scar=False) for n in range(4)]
    build(tmp_path / "out", studies)
    view = open_record_set(tmp_path / "out").without_labels("scar", PATIENTS[:4])
    assert view.view == {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.with_splits({"stranger": "test"}), "1 patients are not here"),
        (lambda s: s.with_splits({PATIENTS[0]: "dev"}), "split: CONFIG"),
        (lambda s: s.without_labels("scar", ["stranger"]), "'stranger'"),
        (lambda s: s.without_labels("blood", PATIENTS[:1]), "task: CONFIG"),
        (
            lambda s: s.with_splits({PATIENTS[0]: "test"}).with_splits(
                {PATIENTS[1]: "test"}
            ),
            "'patient-01'",
        ),
        (lambda s: s.totals("dev"), "split: CONFIG"),
        (lambda s: list(s.slices("dev")), "split: CONFIG"),
    ],
)
def test_impossible_views_are_refused(study_set, change, named):
    with pytest.raises(RefusedError, match=named):
        change(study_set)
