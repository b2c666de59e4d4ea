"""A record gives back exactly the slice that went in, on every road."""

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_array_equal

from tfrecords_tools import schema
from tfrecords_tools.errors import RefusedError

AFFINE = np.array(
    [[0.0, 1.25, 0.1, -3], [1.5, 0.0, 0.0, 7], [0.0, 0.0, -8.0, 1e-7], [0, 0, 0, 1]]
)


@pytest.fixture
def slice_(make_study):
    labelled = (frozenset({"scar"}), frozenset(), frozenset({"myocardium", "scar"}))
    study = make_study(1, labelled=labelled, affine=AFFINE)
    return list(study.slices())[2]


def assert_same_slice(found, expected):
    for name in ("patient_key", "study_key", "source", "labelled", "slice_count"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.index == expected.index
    for name in ("pixels", "label_map", "affine"):
        assert getattr(found, name).dtype == getattr(expected, name).dtype
        assert_array_equal(getattr(found, name), getattr(expected, name))


def test_decode_gives_back_every_bit(slice_):
    assert_same_slice(schema.decode(schema.encode(slice_)), slice_)


def test_same_slice_gives_same_bytes(slice_):
    assert schema.encode(slice_) == schema.encode(slice_)


def _parse_in_dataset(serialized):
    dataset = tf.data.Dataset.from_tensors(serialized).map(schema.parse)
    return next(iter(dataset))


@pytest.mark.parametrize("parse", [schema.parse, _parse_in_dataset])
def test_parse_eagerly_and_in_a_dataset(slice_, parse):
    record = parse(schema.encode(slice_))
    assert set(record) == set(schema.FEATURES) - {"shape"}
    assert_array_equal(record["pixels"], slice_.pixels)
    assert record["pixels"].dtype == tf.float32
    assert_array_equal(record["label_map"], slice_.label_map)
    assert record["label_map"].dtype == tf.uint8
    assert_array_equal(record["affine"], AFFINE)
    # Row step (0, 1.5, 0), column step (1.25, 0, 0): both exact in float32. The slice
    # step (0.1, 0, -8) lies 8 along the normal, its 0.1 in the plane does not count.
    assert_array_equal(record["spacing_mm"], np.float32([1.5, 1.25]))
    assert record["slice_spacing_mm"] == np.float32(8.0)
    assert_array_equal(record["labelled"], [True, True])
    assert record["slice_index"] == 2
    assert record["slice_count"] == 3
    assert record["patient_key"] == b"patient-01"


def test_labelled_follows_the_order_of_the_tasks(make_study):
    study = make_study(0, slices=1, labelled=(frozenset({"scar"}),))
    record = schema.parse(schema.encode(next(study.slices())))
    assert_array_equal(record["labelled"], [False, True])  # myocardium, scar


@pytest.mark.parametrize("damage", ["empty", "text", "short pixels"])
def test_bytes_that_are_no_slice_are_refused(slice_, damage):
    example = tf.train.Example.FromString(schema.encode(slice_))
    pixels = example.features.feature["pixels"].bytes_list
    pixels.value[0] = pixels.value[0][:-4]
    serialized = {
        "empty": b"",
        "text": b"not a record",
        "short pixels": example.SerializeToString(),
    }[damage]
    with pytest.raises(RefusedError, match="CORRUPT"):
        schema.decode(serialized)
