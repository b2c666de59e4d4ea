"""Every kind of damage is refused by its own name; a whole set reads as written."""

import shutil

import numpy as np
import pytest

from tfrecords_tools import files, schema
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.manifest import load_manifest
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.splits import SPLITS

FIRST, SECOND = "train-00000-of-00002.tfrecord", "train-00001-of-00002.tfrecord"
OTHER_SIZE = "test-00000-of-00002.tfrecord"


def _swap(folder, one, other):
    aside = folder / "aside"
    (folder / one).rename(aside)
    (folder / other).rename(folder / one)
    aside.rename(folder / other)


def _cut(folder, keep):
    content = (folder / FIRST).read_bytes()
    (folder / FIRST).write_bytes(content[: keep(len(content))])


def _flip(folder, place):
    content = bytearray((folder / FIRST).read_bytes())
    content[place] ^= 1
    (folder / FIRST).write_bytes(content)


# The first shard holds two studies of three slices: six records of equal length.
DAMAGES = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "NOT_A_RECORD_SET"),
    "no folder": (lambda f: shutil.rmtree(f), "NOT_A_RECORD_SET"),
    "missing": (lambda f: (f / FIRST).unlink(), "MISSING_SHARD"),
    "a folder instead": (
        lambda f: ((f / FIRST).unlink(), (f / FIRST).mkdir()),
        "MISSING_SHARD",
    ),
    "empty": (lambda f: (f / FIRST).write_bytes(b""), "EMPTY_SHARD"),
    "cut in a header": (lambda f: _cut(f, lambda n: 5), "TRUNCATED"),
    "cut in a record": (lambda f: _cut(f, lambda n: n // 2 + 9), "TRUNCATED"),
    "cut by a byte": (lambda f: _cut(f, lambda n: n - 1), "TRUNCATED"),
    "cut at a record": (lambda f: _cut(f, lambda n: n // 6 * 5), "TRUNCATED"),
    "extra": (
        lambda f: shutil.copy(f / FIRST, f / "train-00002-of-00003.tfrecord"),
        "EXTRA_SHARD",
    ),
    "extra of any name": (
        lambda f: shutil.copy(f / FIRST, f / "more.tfrecord"),
        "EXTRA_SHARD",
    ),
    "swapped": (lambda f: _swap(f, FIRST, SECOND), "SWAPPED_SHARD"),
    "swapped, other size": (lambda f: _swap(f, FIRST, OTHER_SIZE), "SWAPPED_SHARD"),
    "duplicated": (lambda f: shutil.copy(f / SECOND, f / FIRST), "DUPLICATED_SHARD"),
    "flipped pixel": (lambda f: _flip(f, 400), "CORRUPT"),
    "flipped length": (lambda f: _flip(f, 0), "CORRUPT"),
    "longer": (
        lambda f: (f / FIRST).write_bytes((f / FIRST).read_bytes() + b"x"),
        "CORRUPT",
    ),
    "records twice": (
        lambda f: (f / FIRST).write_bytes((f / FIRST).read_bytes() * 2),
        "CORRUPT",
    ),
}
ONLY_SEEN_BY_SHA256 = {"swapped", "duplicated", "flipped pixel"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_by_name(records, damage):
    inflict, code = DAMAGES[damage]
    inflict(records)
    with pytest.raises(RefusedError) as refused:
        open_record_set(records)
    assert refused.value.code == code
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("damage", sorted(set(DAMAGES) - ONLY_SEEN_BY_SHA256))
def test_quick_opening_sees_sizes_and_counts(records, damage):
    inflict, code = DAMAGES[damage]
    inflict(records)
    with pytest.raises(RefusedError) as refused:
        open_record_set(records, full=False)
    assert refused.value.code == code


def test_damage_after_a_quick_opening_is_found_on_reading(records):
    record_set = open_record_set(records, full=False)
    _flip(records, 400)
    with pytest.raises(RefusedError, match="CORRUPT"):
        list(record_set.slices("train"))


def test_cut_says_how_many_are_left(records):
    _cut(records, lambda size: size // 6 * 5)
    with pytest.raises(RefusedError, match="5 of 6 records are left"):
        open_record_set(records)


def test_studies_come_back_as_written(records, make_study):
    record_set = open_record_set(records)
    found = {s.study_key: s for split in SPLITS for s in record_set.studies(split)}
    assert sorted(found) == [f"study-{n:02}" for n in range(8)]
    for number in range(8):
        written, read = make_study(number), found[f"study-{number:02}"]
        np.testing.assert_array_equal(read.pixels, written.pixels)
        np.testing.assert_array_equal(read.label_map, written.label_map)
        np.testing.assert_array_equal(read.affine, written.affine)
        assert read.labelled == written.labelled
        assert read.patient_key == written.patient_key


def test_splits_share_no_patient_and_leave_none_out(records):
    record_set = open_record_set(records)
    by_split = [record_set.patients(split) for split in SPLITS]
    assert sorted(sum(by_split, [])) == [f"patient-{n:02}" for n in range(8)]
    for split, listed in zip(SPLITS, by_split, strict=True):
        assert listed == sorted(listed)
        assert {s.patient_key for s in record_set.slices(split)} == set(listed)


def test_examples_are_all_there_in_order_every_time(records):
    record_set = open_record_set(records)
    examples = record_set.examples("train")
    # 4 patients x 1 study x 3 slices = 12
    assert examples.cardinality() == 12
    parsed = [
        (record["patient_key"].decode(), int(record["slice_index"]))
        for record in examples.map(schema.parse).as_numpy_iterator()
    ]
    patients = record_set.patients("train")
    assert parsed == [(key, index) for key in patients for index in range(3)]
    assert list(examples.as_numpy_iterator()) == list(examples.as_numpy_iterator())


def test_split_without_patients_is_empty(tmp_path, build):
    from tfrecords_tools.splits import SplitFractions

    build(tmp_path / "out", fractions=SplitFractions(0.75, 0, 0.25))
    record_set = open_record_set(tmp_path / "out")
    assert record_set.patients("validation") == []
    assert list(record_set.studies("validation")) == []
    assert list(record_set.examples("validation")) == []


def test_unknown_split_is_refused(records):
    with pytest.raises(RefusedError, match="split: CONFIG"):
        open_record_set(records).patients("dev")


def test_checksum_is_that_of_the_manifest(records):
    record_set = open_record_set(records)
    assert record_set.sha256 == files.sha256(records / "manifest.json")
    assert record_set.manifest == load_manifest(records)
