import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jdl_keras.evaluation.paired_tests import (
    compare_pairs,
    holm,
    rank_biserial,
    wilcoxon_p,
)

NAN = math.nan
ROUNDING = 1e-12
"""Relative tolerance where only float rounding differs."""


def test_wilcoxon_and_effect_by_hand():
    # Ranks 1, 2, 3, 4; W- = 3, W+ = 7. Of the 16 choices of signs W- is at most 3 for
    # {}, {1}, {2}, {3}, {1, 2}: 5 / 16, two-sided 10 / 16.
    assert wilcoxon_p([1, 2, -3, 4]) == pytest.approx(0.625, rel=ROUNDING)
    assert rank_biserial([1, 2, -3, 4]) == pytest.approx((7 - 3) / 10, rel=ROUNDING)


def test_all_in_one_direction_by_hand():
    # Only {} of 2^6 choices has W- = 0: two-sided 2 / 64
    better = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert wilcoxon_p(better) == pytest.approx(2 / 64, rel=ROUNDING)
    assert rank_biserial(better) == 1
    assert rank_biserial(np.negative(better)) == -1


def test_ties_and_zeros_by_hand():
    # Ranks of 1, 2, 2, 2 are 1, 3, 3, 3; W- = 1, at most 1 for {} and {1}: 2 / 16
    for differences in ([2, 2, 2, -1], [0, 2, 2, 0, 2, -1]):
        assert wilcoxon_p(differences) == pytest.approx(4 / 16, rel=ROUNDING)
        assert rank_biserial(differences) == pytest.approx((9 - 1) / 10, rel=ROUNDING)


def test_last_bits_are_neither_a_difference_nor_a_rank():
    assert 0.1 + 0.2 - 0.3 != 0
    assert wilcoxon_p([0.1 + 0.2 - 0.3, 1, 2]) == wilcoxon_p([1, 2])
    # 0.7 - 0.4 and 0.3 differ in the last bit; as a tie they have rank 1.5 each.
    assert rank_biserial([0.7 - 0.4, -0.3]) == 0


@pytest.mark.parametrize("few", [[], [0, 0, 0], [0.3], [0, 0.3]])
def test_too_few_differences_are_no_test(few):
    assert wilcoxon_p(few) is None
    assert rank_biserial(few) is None


@pytest.mark.parametrize("patients", [10, 30, 80])
def test_p_is_that_of_scipy(patients):
    differences = np.random.default_rng(patients).normal(0.2, 1, patients)
    method = "exact" if patients <= 50 else "asymptotic"
    expected = stats.wilcoxon(differences, method=method).pvalue
    # Ranks of rounded differences: equal, so only rounding of p itself.
    assert wilcoxon_p(differences) == pytest.approx(expected, rel=ROUNDING)


# Enumerating signs takes as long as the machine is busy: no deadline.
@settings(deadline=None)
@given(st.lists(st.integers(-4, 4), max_size=7))
def test_p_counts_all_choices_of_signs(differences):
    changed = np.array([d for d in differences if d])
    if changed.size < 2:
        assert wilcoxon_p(differences) is None
        return
    ranks = stats.rankdata(np.abs(changed))
    sums = [
        ranks @ np.array(signs)
        for signs in itertools.product((-1, 1), repeat=len(ranks))
    ]
    observed = abs(ranks @ np.sign(changed))
    expected = np.mean([abs(total) >= observed for total in sums])
    assert wilcoxon_p(differences) == pytest.approx(expected, rel=1e-9)  # sums of ranks


def test_holm_by_hand():
    # 0.01 x 3 = 0.03; 0.03 x 2 = 0.06; 0.04 x 1 = 0.04, raised to the one before
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06], rel=ROUNDING)
    assert holm([0.9, 0.5]) == [1, 1]
    assert holm([]) == []


def test_a_test_that_could_not_be_made_still_counts():
    # Three were planned: 0.01 x 3, 0.02 x 2
    corrected = holm([0.01, None, 0.02])
    assert corrected[1] is None
    assert [corrected[0], corrected[2]] == pytest.approx([0.03, 0.04], rel=ROUNDING)


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_keeps_the_order_and_lies_below_bonferroni(p_values):
    corrected = holm(p_values)
    by_p = [corrected[i] for i in np.argsort(p_values, kind="stable")]
    assert by_p == sorted(by_p)
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= min(1, len(p_values) * p)


def test_pairs_by_hand():
    found = compare_pairs([0.9, 0.8, 0.5, NAN, 0.6], [0.5, 0.6, 0.5, 0.2, NAN])
    # Differences 0.4, 0.2, 0 and two pairs without
    assert found["difference"]["mean"] == pytest.approx(0.2, rel=ROUNDING)
    assert found["difference"]["patients"] == 3
    assert (found["zero_differences"], found["left_out"]) == (1, 2)
    # Two differences of one sign: 2 of 4 choices
    assert found["wilcoxon_p"] == pytest.approx(0.5, rel=ROUNDING)
    assert found["rank_biserial"] == 1


def test_no_pair_is_strict_json():
    found = compare_pairs([NAN], [1.0])
    assert found["difference"]["mean"] is found["wilcoxon_p"] is None
    json.dumps(found, allow_nan=False)
