import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jdl_keras.evaluation.statistics import (
    absolute_agreement,
    bland_altman,
    concordance,
    describe,
    number,
)

NAN = math.nan
ROUNDING = 1e-12
"""Relative tolerance where only float rounding differs."""

REFERENCE, PREDICTION = [10, 20, 30, 40], [12, 21, 33, 42]


def test_describe_by_hand():
    found = describe([1, 2, 3, 6])
    # mean 12/4 = 3; sd sqrt((4 + 1 + 0 + 9) / 3); median (2 + 3) / 2
    assert found["mean"] == 3
    assert found["sd"] == pytest.approx(math.sqrt(14 / 3), rel=ROUNDING)
    assert found["median"] == 2.5
    assert found["patients"] == 4


def test_bootstrap_interval_by_hand():
    # Nine 0 and one 1: a resample's mean is Binomial(10, 0.1) / 10. P(0) = 0.349 puts
    # the 2.5 % quantile at 0; P(<= 2) = 0.930 and P(<= 3) = 0.987 the 97.5 % one at 0.3
    # (2000 resamples: standard error 0.0035, more than 3 of them from either).
    assert describe([0] * 9 + [1])["ci95"] == pytest.approx([0, 0.3], rel=ROUNDING)


def test_the_same_patients_give_the_same_interval():
    values = np.random.default_rng(5).random(12)
    assert describe(values) == describe(values)


def test_undefined_patients_are_left_out_and_counted():
    assert describe([NAN, 1, 2, 3, 6, NAN]) == describe([1, 2, 3, 6])


@pytest.mark.parametrize(
    ("values", "mean", "patients"), [([], None, 0), ([NAN, NAN], None, 0), ([4], 4, 1)]
)
def test_describe_small_numbers(values, mean, patients):
    expected = {"mean": mean, "sd": None, "median": mean, "ci95": [None, None]}
    assert describe(values) == {**expected, "patients": patients}


def test_one_value_for_everyone_has_no_spread():
    found = describe([0.5, 0.5, 0.5])
    assert (found["sd"], found["ci95"]) == (0, [0.5, 0.5])


def test_bland_altman_by_hand():
    found = bland_altman(REFERENCE, PREDICTION)
    # Differences 2, 1, 3, 2: bias 2, sd sqrt(2/3) = 0.816497.
    assert found["bias"] == 2
    # 1.959964 x 0.816497 = 1.600304. Hand sums have 6 digits.
    limits = [2 - 1.600304, 2 + 1.600304]
    assert found["limits_of_agreement"] == pytest.approx(limits, abs=1e-5)
    # t(0.975; 3) = 3.182446; x 0.816497 / sqrt(4) = 1.299228
    assert found["bias_ci95"] == pytest.approx([0.700772, 3.299228], abs=1e-5)
    # 3.182446 x 0.816497 x sqrt(1/4 + 3.841459 / 6) = 2.598457 x 0.943527 = 2.451714
    for interval, limit in zip(found["limits_of_agreement_ci95"], limits, strict=True):
        assert interval == pytest.approx([limit - 2.451714, limit + 2.451714], abs=1e-5)
    assert found["patients"] == 4


# Peak flow by two meters: Bland and Altman, Lancet 1986;i:307-310.
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267]
LARGE += [478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260]
MINI += [477, 259, 350, 451]


def test_bland_altman_of_the_published_example():
    found = bland_altman(MINI, LARGE)
    # Published: mean difference -2.1 l/min with 95 % interval -22.0 to 17.8, sd 38.8;
    # its limits are at 2 sd, ours at 1.96: -2.118 -+ 1.96 x 38.77 = -78.1 and 73.9.
    assert found["bias"] == pytest.approx(-2.1, abs=0.05)
    assert found["bias_ci95"] == pytest.approx([-22.0, 17.8], abs=0.06)
    assert found["limits_of_agreement"] == pytest.approx([-78.1, 73.9], abs=0.06)


def test_bland_altman_small_numbers():
    nothing = {
        "bias": None,
        "bias_ci95": [None, None],
        "limits_of_agreement": [None, None],
        "limits_of_agreement_ci95": [[None, None], [None, None]],
        "patients": 0,
    }
    assert bland_altman([], []) == nothing
    assert bland_altman([1, NAN], [NAN, 2]) == nothing
    assert bland_altman([1], [3]) == {**nothing, "bias": 2, "patients": 1}


def test_concordance_by_hand():
    # means 25 and 27; variances 500/4 = 125 and 522/4 = 130.5; covariance 510/4 = 127.5
    expected = 2 * 127.5 / (125 + 130.5 + 2**2)
    assert concordance(REFERENCE, PREDICTION) == pytest.approx(expected, rel=ROUNDING)
    assert concordance([*REFERENCE, NAN], [*PREDICTION, 7]) == pytest.approx(expected)


def test_concordance_of_the_published_example():
    """0.943 for the two meters: Steichen and Cox, Stata Journal 2002;2:183-189."""
    assert concordance(LARGE, MINI) == pytest.approx(0.943, abs=0.0005)


def test_absolute_agreement_of_the_published_example():
    """Six subjects, four judges: Shrout and Fleiss, Psychol Bull 1979;86:420-428."""
    judged = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8]]
    judged += [[7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    # Published: mean squares 11.24, 32.49 and 1.02, ICC(2,1) = 0.29.
    # (11.24 - 1.02) / (11.24 + 3 x 1.02 + 4 (32.49 - 1.02) / 6) = 10.22 / 35.28
    assert absolute_agreement(judged) == pytest.approx(10.22 / 35.28, abs=0.0005)
    assert absolute_agreement([*judged, [1, NAN, 1, 1]]) == absolute_agreement(judged)


def test_absolute_agreement_where_it_is_known_or_undefined():
    assert absolute_agreement([[1, 1], [5, 5]]) == pytest.approx(1, rel=ROUNDING)
    # MSR 2 x 4.5 = 9, MSC 2 x 0.5 = 1, no rest: 9 / (9 + 2 x 1 / 2)
    assert absolute_agreement([[1, 2], [4, 5]]) == pytest.approx(0.9, rel=ROUNDING)
    assert absolute_agreement([[2, 2], [2, 2]]) is None
    assert absolute_agreement([[1, 2]]) is None
    assert absolute_agreement(np.zeros((0, 2))) is None


def test_concordance_where_it_is_known_or_undefined():
    assert concordance([1, 2, 3], [1, 2, 3]) == pytest.approx(1, rel=ROUNDING)
    assert concordance([1, 2, 3], [3, 2, 1]) == pytest.approx(-1, rel=ROUNDING)
    assert concordance([2, 2, 2], [5, 5, 5]) == 0
    assert concordance([2, 2, 2], [2, 2, 2]) is None
    assert concordance([1], [1]) is None
    assert concordance([], []) is None


# Hundredths: differences stay far from the smallest floats.
percents = st.lists(st.tuples(*[st.integers(0, 10000)] * 2), max_size=8)


@given(percents)
def test_agreement_laws_and_strict_json(pairs):
    x, y = [a / 100 for a, _ in pairs], [b / 100 for _, b in pairs]
    forward, backward = bland_altman(x, y), bland_altman(y, x)
    if forward["bias"] is not None:
        # Float rounding of values up to 100.
        assert forward["bias"] == pytest.approx(-backward["bias"], abs=1e-9)
    ccc = concordance(x, y)
    if ccc is not None:
        assert -1 - 1e-9 <= ccc <= 1 + 1e-9
        assert ccc == pytest.approx(concordance(y, x), abs=1e-9)
    json.dumps([forward, ccc], allow_nan=False)


def test_number_is_what_json_can_hold():
    assert [number(v) for v in (None, NAN, math.inf)] == [None] * 3
    assert type(number(np.float64(0.5))) is float
