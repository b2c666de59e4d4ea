"""Inversion recovery, worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords_tools.sources.phantom.signal import (
    draw_contrast,
    inversion_recovery,
    null_time_ms,
)

ENDLESS_MS = 1e6
T1_MS = st.floats(200, 700)
TR_MS = st.floats(1400, 2200)


def test_myocardium_is_nulled_at_t1_ln_2():
    # 1 - 2 exp(-ln 2) = 1 - 2 / 2 = 0, up to the rounding of doubles.
    assert inversion_recovery(430, 430 * math.log(2), ENDLESS_MS) == pytest.approx(
        0, abs=1e-12
    )
    assert null_time_ms(430, ENDLESS_MS) == pytest.approx(298.053, abs=1e-3)


def test_signal_of_blood_at_a_ti_of_its_t1():
    # 1 - 2 / e + exp(-1500 / 300) = 1 - 0.735759 + 0.006738 = 0.270979
    assert inversion_recovery(300, 300, 1500) == pytest.approx(0.270979, abs=1e-6)


@given(T1_MS, TR_MS)
def test_null_time_nulls_whatever_the_repetition(t1_ms, repetition_ms):
    null_ms = null_time_ms(t1_ms, repetition_ms)
    # A TR that ends leaves less to recover from, so the null comes earlier.
    assert null_ms < t1_ms * math.log(2)
    # Rounding of doubles only.
    assert inversion_recovery(t1_ms, null_ms, repetition_ms) == pytest.approx(
        0, abs=1e-12
    )


@given(T1_MS, T1_MS, st.floats(200, 500), TR_MS)
def test_faster_tissue_is_never_darker(t1_ms, other_ms, inversion_ms, repetition_ms):
    fast, slow = sorted((t1_ms, other_ms))
    signals = inversion_recovery(np.array([fast, slow]), inversion_ms, repetition_ms)
    assert signals[0] >= signals[1]


def test_reader_finds_dark_wall_and_blood_nearly_as_bright_as_scar():
    signals = [draw_contrast(np.random.default_rng(s)).signal for s in range(500)]
    wall, blood, scar = (
        np.array([signal[tissue] for signal in signals])
        for tissue in ("myocardium", "blood", "scar")
    )
    # At a TI past its null, the wall is not below zero but for rounding.
    assert (wall >= -1e-9).all()
    assert (wall < 0.6 * blood).all()
    assert (scar > 0.95 * blood).all()
    # A scan near the null of blood itself leaves little of it, so there is a tail.
    assert 1.15 < np.median(scar / blood) < 1.35
    assert np.percentile(scar / blood, 95) < 1.8


def test_psir_is_scanned_later_than_magnitude():
    contrasts = [draw_contrast(np.random.default_rng(seed)) for seed in range(60)]
    times = {True: [], False: []}
    for contrast in contrasts:
        times[contrast.is_psir].append(contrast.inversion_time_ms)
    # 60 % are PSIR: 36 of 60, with a binomial deviation of 3.8; five of them allowed.
    assert 17 <= len(times[True]) <= 55
    assert np.mean(times[True]) > np.mean(times[False])
