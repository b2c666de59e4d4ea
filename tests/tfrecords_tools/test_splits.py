"""Laws of the split: exact totals, strata within one, no influence of the order."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.splits import SPLITS, SplitFractions, assign_splits

patients = st.dictionaries(st.text(max_size=6), st.booleans(), min_size=1, max_size=40)
fractions = st.sampled_from(
    [(0.7, 0.1, 0.2), (0.6, 0.2, 0.2), (0.34, 0.33, 0.33), (1, 0, 0), (0.8, 0, 0.2)]
)


def test_80_patients_at_the_paper_fractions():
    has_scar = {f"case-{n}": n < 53 for n in range(80)}
    splits = assign_splits(has_scar, SplitFractions(0.7, 0.1, 0.2), seed=0)
    # 80 x 0.7 = 56, 80 x 0.1 = 8, 80 x 0.2 = 16
    assert Counter(splits.values()) == {"train": 56, "validation": 8, "test": 16}
    # 53 x 0.7 = 37.1, 53 x 0.1 = 5.3, 53 x 0.2 = 10.6: floors 37 + 5 + 10 = 52, and
    # the missing one goes to the largest remainder, 0.6.
    with_scar = Counter(split for key, split in splits.items() if has_scar[key])
    assert with_scar == {"train": 37, "validation": 5, "test": 11}


def test_counts_instead_of_fractions():
    splits = assign_splits(dict.fromkeys("abcdefgh", True), SplitFractions(5, 1, 2), 0)
    assert Counter(splits.values()) == {"train": 5, "validation": 1, "test": 2}


@given(patients, fractions, st.integers(0, 3))
def test_laws(has_scar, shares, seed):
    splits = assign_splits(has_scar, SplitFractions(*shares), seed)
    assert list(splits) == sorted(has_scar)
    assert set(splits.values()) <= set(SPLITS)
    for split, share in zip(SPLITS, shares, strict=True):
        _assert_rounded(sum(s == split for s in splits.values()), len(splits) * share)
        for stratum in (True, False):
            keys = [key for key in splits if has_scar[key] == stratum]
            _assert_rounded(sum(splits[k] == split for k in keys), len(keys) * share)


def _assert_rounded(count, exact):
    # 1e-9: the exact share is a fraction, `exact` its product in floating point.
    assert math.floor(exact + 1e-9) <= count <= math.ceil(exact - 1e-9)


@given(patients, st.randoms(use_true_random=False))
def test_listing_order_plays_no_part(has_scar, random):
    shuffled = list(has_scar.items())
    random.shuffle(shuffled)
    first = assign_splits(has_scar, SplitFractions(), 0)
    assert assign_splits(dict(shuffled), SplitFractions(), 0) == first


def test_seed_changes_the_split():
    has_scar = {f"case-{n}": n % 2 == 0 for n in range(40)}
    splits = [assign_splits(has_scar, SplitFractions(), seed) for seed in (0, 1)]
    assert splits[0] != splits[1]


@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.1), (1.2, -0.2, 0), (math.nan, 0, 1)])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(RefusedError, match="fractions: CONFIG"):
        SplitFractions(*shares)


def test_counts_of_other_patients_are_refused():
    with pytest.raises(RefusedError, match=r"number of patients \(3\); got 5, 1, 2"):
        assign_splits(dict.fromkeys("abc", True), SplitFractions(5, 1, 2), 0)
