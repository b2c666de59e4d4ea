"""Dice by patient on masks of 2 x 2 pixels, worked by hand."""

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from hypothesis import given, settings

from jdl_keras.metrics import PatientDice

FULL, HALF, ONE, NONE = [1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]


def update(metric, slices):
    """Adds slices, each (patient, reference, probability) and perhaps 0: unlabelled."""
    patients, references, probabilities = ([s[i] for s in slices] for i in range(3))
    labelled = [s[3] if len(s) > 3 else 1 for s in slices]
    metric.update_state(
        np.float32(references).reshape(-1, 2, 2, 1),
        keras.ops.convert_to_tensor(np.float32(probabilities).reshape(-1, 2, 2, 1)),
        keras.ops.convert_to_tensor(np.array(patients)),
        keras.ops.convert_to_tensor(np.float32(labelled)),
    )


def dice(slices, patients=3, **settings):
    metric = PatientDice(patients, **settings)
    update(metric, slices)
    return float(metric.result())


def test_counts_first_then_mean_over_patients():
    slices = [
        # Patient 0: overlap 4 + 0, reference 4 + 1, prediction 4 + 0: 8 / 9. The mean
        # of its slices would be (1 + 0) / 2.
        (0, FULL, FULL),
        (0, ONE, NONE),
        # Patient 1: overlap 2, reference 2, prediction 4: 4 / 6.
        (1, HALF, FULL),
    ]
    assert dice(slices) == pytest.approx((8 / 9 + 4 / 6) / 2)


def test_miss_counts_0():
    assert dice([(0, HALF, HALF), (1, HALF, NONE)]) == pytest.approx(0.5)


def test_patient_without_the_structure_is_not_counted():
    # Neither its true negative nor its false alarm enters the mean.
    assert dice([(0, HALF, HALF), (1, NONE, NONE), (2, NONE, FULL)]) == 1.0


def test_false_alarm_in_a_slice_of_a_patient_with_the_structure_counts():
    # Overlap 2, reference 2, prediction 2 + 4: 4 / 8.
    assert dice([(0, HALF, HALF), (0, NONE, FULL)]) == pytest.approx(0.5)


def test_slice_without_reference_is_not_counted():
    # Its label map would say: a miss of 4 pixels.
    assert dice([(0, HALF, HALF), (0, FULL, NONE, 0), (1, FULL, NONE, 0)]) == 1.0


def test_without_any_patient_the_value_is_0():
    assert dice([(0, NONE, FULL)]) == 0.0
    assert float(PatientDice(2).result()) == 0.0


def test_probability_equal_to_the_threshold_is_foreground():
    probability = [0.75, 0.75, 0.74, 0.0]
    assert dice([(0, HALF, probability)], threshold=0.75) == 1.0


def test_reset_forgets():
    metric = PatientDice(1)
    update(metric, [(0, FULL, NONE)])
    metric.reset_state()
    update(metric, [(0, FULL, FULL)])
    assert float(metric.result()) == 1.0


def test_config_is_what_the_constructor_takes():
    metric = PatientDice(5, threshold=0.3, name="scar_dice")
    config = metric.get_config()
    assert {"patients": 5, "threshold": 0.3, "name": "scar_dice"}.items() <= (
        config.items()
    )
    again = PatientDice.from_config(config)
    assert again.get_config() == config
    assert isinstance(
        keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(metric)
        ),
        PatientDice,
    )


@st.composite
def shuffled_and_cut(draw):
    """Slices, the same in another order, and the ends of the batches."""
    mask = st.lists(st.sampled_from([0, 1]), min_size=4, max_size=4)
    one = st.tuples(st.integers(0, 2), mask, mask, st.sampled_from([0, 1]))
    slices = draw(st.lists(one, min_size=1, max_size=8))
    ends = draw(st.sets(st.integers(1, len(slices))))
    return slices, draw(st.permutations(slices)), sorted(ends | {len(slices)})


@settings(max_examples=40, deadline=None)
@given(shuffled_and_cut())
def test_order_and_batches_change_nothing(case):
    slices, shuffled, ends = case
    metric = PatientDice(3)
    start = 0
    for end in ends:
        update(metric, shuffled[start:end])
        start = end
    # Counts are whole numbers, exact in float32; so is everything that follows.
    assert float(metric.result()) == dice(slices)


@settings(max_examples=20, deadline=None)
@given(shuffled_and_cut())
def test_value_is_the_mean_by_definition(case):
    slices = case[0]
    values = []
    for patient in range(3):
        own = [s for s in slices if s[0] == patient and s[3]]
        reference = np.ravel([s[1] for s in own])
        predicted = np.ravel([s[2] for s in own])
        if reference.any():
            both = (reference * predicted).sum()
            values.append(2 * both / (reference.sum() + predicted.sum()))
    assert dice(slices) == pytest.approx(np.mean(values) if values else 0.0)
