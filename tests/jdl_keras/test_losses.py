"""Losses on masks of 2 x 2 pixels, worked by hand."""

import math

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from jdl_keras.losses import SegmentationLoss, cross_entropy, dice_loss, l2


def masks(*samples):
    """(B, 2, 2, 1) of rows written out."""
    return np.float32(samples).reshape(-1, 2, 2, 1)


REFERENCE = masks([1, 1, 0, 0])
PROBABILITY = masks([0.8, 0.5, 0.5, 0.2])
ENTROPY = -(2 * math.log(0.8) + 2 * math.log(0.5)) / 4
"""Logarithms of the probability given to the right class: 0.8, 0.5, 0.5, 0.8."""
DICE = 1 - 2 * 1.3 / (2 + 2)
"""Intersection 0.8 + 0.5 = 1.3, reference 2, probability 2."""


def loss(reference, probability, labelled=None, weight=1.0, **settings):
    labelled = np.ones(len(reference), "float32") if labelled is None else labelled
    values = SegmentationLoss(**settings)(
        keras.ops.convert_to_tensor(reference),
        keras.ops.convert_to_tensor(probability),
        keras.ops.convert_to_tensor(np.float32(labelled)),
        weight=keras.ops.convert_to_tensor(np.float32(weight)),
    )
    return keras.ops.convert_to_numpy(values)


def test_cross_entropy_by_hand():
    values = cross_entropy(REFERENCE, keras.ops.convert_to_tensor(PROBABILITY))
    np.testing.assert_allclose(values, [ENTROPY], rtol=1e-6)


def test_cross_entropy_is_finite_at_its_worst():
    # Every pixel wrong with certainty: log(1e-7) = -16.1; 1 - 1e-7 is 2^-23 off 1 in
    # float32, whose logarithm is -15.9.
    values = cross_entropy(REFERENCE, keras.ops.convert_to_tensor(1 - REFERENCE))
    assert float(values[0]) == pytest.approx(16.0, abs=0.15)


def test_pixels_count_by_their_weight_in_the_cross_entropy():
    weight = masks([3, 1, 2, 0])
    # 3 log 0.8, 1 log 0.5, 2 log 0.5 and nothing, over 4 pixels, not over the weights
    expected = -(3 * math.log(0.8) + 3 * math.log(0.5)) / 4
    values = cross_entropy(REFERENCE, keras.ops.convert_to_tensor(PROBABILITY), weight)
    np.testing.assert_allclose(values, [expected], rtol=1e-6)


@pytest.mark.parametrize("dice_over", ["sample", "batch"])
def test_weight_leaves_the_dice_term_alone(dice_over):
    weighted = loss(REFERENCE, PROBABILITY, weight=3.0, dice_over=dice_over)
    np.testing.assert_allclose(weighted, [3 * ENTROPY + DICE], rtol=1e-6)


def test_dice_by_hand():
    assert float(dice_loss(1.3, 2.0, 2.0, 0.0)) == pytest.approx(DICE)


def test_empties_of_dice():
    # Nothing where nothing is: 1 - epsilon / epsilon = 0.
    assert dice_loss(0.0, 0.0, 0.0, 1e-6) == 0
    # A false alarm of 3 pixels: 1 - 1e-6 / 3.
    assert dice_loss(0.0, 0.0, 3.0, 1e-6) == pytest.approx(1.0)
    # A miss of 3 pixels costs the same.
    assert dice_loss(0.0, 3.0, 0.0, 1e-6) == pytest.approx(1.0)


def test_loss_is_cross_entropy_plus_weighted_dice():
    np.testing.assert_allclose(
        loss(REFERENCE, PROBABILITY, dice_weight=0.5), [ENTROPY + 0.5 * DICE], rtol=1e-6
    )


def test_perfect_and_empty_is_0():
    # The floor of 1e-7 in the logarithm leaves about 1e-7.
    values = loss(masks([1, 0, 0, 1], [0] * 4), masks([1, 0, 0, 1], [0] * 4))
    np.testing.assert_allclose(values, [0.0, 0.0], atol=1e-6)


def test_loss_of_a_sample_does_not_depend_on_the_others():
    references = np.concatenate([REFERENCE, masks([0, 0, 0, 1])])
    probabilities = np.concatenate([PROBABILITY, masks([0.1, 0.9, 0.3, 0.7])])
    together = loss(references, probabilities)
    np.testing.assert_allclose(together[:1], loss(REFERENCE, PROBABILITY), rtol=1e-6)


@pytest.mark.parametrize("dice_over", ["sample", "batch"])
def test_sample_without_reference_adds_exactly_0(dice_over):
    references = np.concatenate([REFERENCE, masks([7, -3, 1, 1])])
    probabilities = np.concatenate([PROBABILITY, masks([0.9, 0.1, 0.4, 0.6])])
    both = loss(references, probabilities, [1, 0], dice_over=dice_over)
    assert both[1] == 0
    np.testing.assert_array_equal(
        both[:1], loss(REFERENCE, PROBABILITY, dice_over=dice_over)
    )
    assert (loss(references, probabilities, [0, 0], dice_over=dice_over) == 0).all()


def test_dice_over_the_batch_by_hand():
    references = np.concatenate([REFERENCE, masks([0, 0, 0, 0])])
    probabilities = np.concatenate([PROBABILITY, masks([0.5, 0, 0, 0.5])])
    # Intersection 1.3, reference 2 + 0, probability 2 + 1: 1 - 2.6 / 5 = 0.48 for both.
    expected = [ENTROPY + 0.48, -2 * math.log(0.5) / 4 + 0.48]
    values = loss(references, probabilities, dice_over="batch")
    np.testing.assert_allclose(values, expected, rtol=1e-5)


PROBABILITIES = arrays("float32", (3, 2, 2, 1), elements=st.floats(0, 1, width=32))
MASKS = arrays("float32", (3, 2, 2, 1), elements=st.sampled_from([0.0, 1.0]))


@settings(max_examples=30, deadline=None)
@given(reference=MASKS, probability=PROBABILITIES)
def test_loss_is_finite_and_not_negative(reference, probability):
    for dice_over in ("sample", "batch"):
        values = loss(reference, probability, dice_over=dice_over)
        assert np.isfinite(values).all()
        # Dice may go below 0 by a rounding of 1e-7.
        assert values.min() >= -1e-6


@settings(max_examples=30, deadline=None)
@given(reference=MASKS, probability=PROBABILITIES)
def test_dice_of_samples_that_are_alike_is_the_same_over_the_batch(
    reference, probability
):
    reference, probability = (
        np.repeat(a[:1], 3, axis=0) for a in (reference, probability)
    )
    # At smoothing 1e-6 both are the same but for an empty reference against a
    # probability as small as the smoothing itself; at a sum of 0.01 it is 1e-4 of it.
    probability = np.maximum(probability, np.float32(0.01))
    np.testing.assert_allclose(
        loss(reference, probability, dice_over="batch"),
        loss(reference, probability, dice_over="sample"),
        atol=2e-4,
    )


def test_l2_is_the_sum_of_squares():
    variables = [keras.Variable([[1.0, 2.0]]), keras.Variable([3.0])]
    assert float(l2(variables)) == 14.0  # 1 + 4 + 9
