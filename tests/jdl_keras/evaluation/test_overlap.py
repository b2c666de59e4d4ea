import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import distance

from jdl_keras.evaluation.overlap import OverlapCounts, overlap_counts

masks = arrays(bool, (2, 3, 4))
counts = st.builds(OverlapCounts, *[st.integers(0, 1000)] * 3)


def test_counts_and_ratios_by_hand():
    reference = np.array([[1, 1, 1, 0, 0]], bool)
    prediction = np.array([[0, 1, 1, 1, 1]], bool)
    found = overlap_counts(reference, prediction)
    assert found == OverlapCounts(true_positive=2, false_positive=2, false_negative=1)
    assert (found.reference, found.prediction) == (3, 4)
    assert found.dice == 2 * 2 / (3 + 4)
    assert found.precision == 2 / 4
    assert found.recall == 2 / 3


@pytest.mark.parametrize(
    ("name", "found", "dice", "precision", "recall"),
    [
        ("both empty", OverlapCounts(0, 0, 0), math.nan, math.nan, math.nan),
        ("false alarm", OverlapCounts(0, 5, 0), 0, 0, math.nan),
        ("miss", OverlapCounts(0, 0, 5), 0, math.nan, 0),
        ("no overlap", OverlapCounts(0, 2, 5), 0, 0, 0),
        ("perfect", OverlapCounts(5, 0, 0), 1, 1, 1),
    ],
)
def test_empty_rule(name, found, dice, precision, recall):
    ratios = [found.dice, found.precision, found.recall]
    np.testing.assert_array_equal(ratios, [dice, precision, recall], err_msg=name)


def test_counts_first_ratios_last():
    # Slices of 1 and 99 voxels, Dice 0 and 1: the stack has 2 * 99 / (100 + 99),
    # not the mean of the slices, 0.5.
    total = OverlapCounts(0, 0, 1) + OverlapCounts(99, 0, 0)
    assert total.dice == 198 / 199


@given(masks, masks)
def test_dice_is_symmetric_and_agrees_with_scipy(reference, prediction):
    dice = overlap_counts(reference, prediction).dice
    np.testing.assert_equal(dice, overlap_counts(prediction, reference).dice)
    if reference.any() or prediction.any():
        dissimilarity = distance.dice(reference.ravel(), prediction.ravel())
        # Two orders of the same few float operations.
        assert dice == pytest.approx(1 - dissimilarity, abs=1e-12)


@given(masks, masks)
def test_counts_of_slices_add_up_to_the_stack(reference, prediction):
    slices = [overlap_counts(r, p) for r, p in zip(reference, prediction, strict=True)]
    assert sum(slices, OverlapCounts()) == overlap_counts(reference, prediction)


@given(counts)
def test_dice_is_the_harmonic_mean_of_precision_and_recall(found):
    p, r = found.precision, found.recall
    if found.true_positive:
        # Rounding of a handful of float operations.
        assert found.dice == pytest.approx(2 * p * r / (p + r), rel=1e-12)


def test_a_probability_map_or_another_grid_is_an_error():
    mask = np.ones((4, 4), bool)
    with pytest.raises(ValueError, match="boolean prediction mask, got float32"):
        overlap_counts(mask, np.ones((4, 4), np.float32))
    with pytest.raises(ValueError, match="boolean reference mask, got uint8"):
        overlap_counts(np.ones((4, 4), np.uint8), mask)
    with pytest.raises(ValueError, match=r"grid \(4, 4\), got \(4, 1\)"):
        overlap_counts(mask, mask[:, :1])
