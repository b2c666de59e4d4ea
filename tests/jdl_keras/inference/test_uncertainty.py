"""The interval of the scar burden, on studies where a voxel is one percent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from predicted_rings import counted

from jdl_keras.inference.calibration import Calibration, burden_percent
from jdl_keras.inference.uncertainty import (
    NOT_CALIBRATED,
    burden_interval,
    conformal_quantile,
)

TENTHS = [number / 10 for number in range(1, 20)]
"""19 scores, 0.1 to 1.9."""


def calibration(scores=TENTHS, passes=3):
    return Calibration(passes, sorted(scores), {}, len(scores))


def bounds(interval):
    return interval.low_percent, interval.high_percent


def test_interval_by_hand():
    interval = burden_interval(counted(20, (18, 20, 22)), calibration())
    # Deviation of 18, 20, 22 is 2, spread 2 + 1; the ceil(20 x 0.9) = 18th score is
    # 1.8, half the width 1.8 x 3 = 5.4.
    assert bounds(interval) == pytest.approx((14.6, 25.4))
    assert interval.coverage_percent == 90
    assert "19 validation patients" in interval.rule


def test_passes_that_agree_still_leave_doubt():
    interval = burden_interval(counted(20, (20, 20, 20)), calibration())
    assert bounds(interval) == pytest.approx((18.2, 21.8))  # 1.8 x (0 + 1)


def test_one_pass_is_no_spread():
    interval = burden_interval(counted(20, (20,)), calibration(passes=1))
    assert bounds(interval) == pytest.approx((18.2, 21.8))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([3.0], (3.0, 50.0)),  # 1 of 2
        ([1.0, 2.0, 3.0, 4.0], (4.0, 80.0)),  # 4 of 5
        ([*range(1, 9)], (8, 100 * 8 / 9)),  # the 9th of 8 would be needed
        ([*range(1, 10)], (9, 90.0)),  # ceil(10 x 0.9) = 9
        ([*range(1, 12)], (11, 90.0)),  # ceil(12 x 0.9) = 11
        ([*range(1, 20)], (18, 90.0)),
    ],
)
def test_score_and_what_it_promises(scores, expected):
    assert conformal_quantile(scores) == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 5, 9, 10, 16, 29, 30])
def test_promise_is_kept_over_every_order(count):
    # Of patients that can be exchanged each is the new one equally often.
    scores = [*range(count + 1)]
    held = [
        new <= conformal_quantile([s for s in scores if s != new])[0] for new in scores
    ]
    promised = conformal_quantile(scores[:-1])[1]
    assert 100 * sum(held) / len(held) >= promised - 1e-9  # rounding of the promise
    # And no wider than needed: one patient less would break it.
    assert 100 * (sum(held) - 1) / len(held) < promised


def test_without_calibration_it_spans_passes_and_prediction():
    interval = burden_interval(counted(30, (18, 20, 22)), None)
    assert bounds(interval) == pytest.approx((18, 30))
    assert interval.coverage_percent is None
    assert interval.rule == NOT_CALIBRATED


@pytest.mark.parametrize("known", [calibration(passes=9), calibration([])])
def test_what_was_not_calibrated_promises_nothing(known):
    interval = burden_interval(counted(20, (18, 20, 22)), known)
    assert bounds(interval) == pytest.approx((18, 22))
    assert interval.coverage_percent is None
    assert interval.rule.startswith(NOT_CALIBRATED)


def test_without_wall_anything_is_possible():
    interval = burden_interval(counted(0, (0, 0, 0), wall=0), calibration())
    assert bounds(interval) == (0, 100)
    assert interval.coverage_percent is None


burdens = st.integers(0, 100)


@given(burdens, st.lists(burdens, min_size=3, max_size=3), st.booleans())
def test_interval_holds_the_prediction_and_is_a_share(scar, passes, known):
    prediction = counted(scar, passes)
    interval = burden_interval(prediction, calibration([50.0]) if known else None)
    estimate = burden_percent(prediction.wall)
    assert 0 <= interval.low_percent <= estimate <= interval.high_percent <= 100


@given(st.permutations([10, 20, 35, 36]))
def test_order_of_the_passes_is_nothing(passes):
    one = burden_interval(counted(20, passes), calibration(passes=4))
    other = burden_interval(counted(20, (10, 20, 35, 36)), calibration(passes=4))
    assert bounds(one) == pytest.approx(bounds(other))


@given(st.integers(0, 9))
def test_more_spread_is_a_wider_interval(apart):
    def width(far):
        passes = (50 - far, 50, 50 + far)
        low, high = bounds(burden_interval(counted(50, passes), calibration()))
        return high - low

    # Per voxel of spread 2 x 1.8.
    assert width(apart + 1) == pytest.approx(width(apart) + 3.6)
