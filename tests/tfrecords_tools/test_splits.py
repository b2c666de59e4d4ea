"""Laws of the split: exact totals, strata within one, no influence of the order."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.splits import (
    SPLITS,
    SplitFractions,
    assign_splits,
    fold_splits,
    limited,
)

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


# Folds

cohorts = st.dictionaries(st.text(max_size=6), st.booleans(), min_size=6, max_size=50)


@given(cohorts, st.integers(2, 6), st.integers(0, 3))
def test_folds_partition_the_patients(has_scar, folds, seed):
    assignments = [fold_splits(has_scar, folds, k, seed) for k in range(folds)]
    tested = [k for splits in assignments for k in splits if splits[k] == "test"]
    assert sorted(tested) == sorted(has_scar)
    for splits in assignments:
        assert list(splits) == sorted(has_scar)
        assert set(splits.values()) == set(SPLITS)
        _assert_fold_sizes(splits, has_scar, folds)


def _assert_fold_sizes(splits, has_scar, folds):
    counts = Counter(splits.values())
    _assert_rounded(counts["test"], len(splits) / folds)
    for stratum in (True, False):
        keys = [key for key in splits if has_scar[key] == stratum]
        strata = Counter(splits[key] for key in keys)
        _assert_rounded(strata["test"], len(keys) / folds)
        rest = len(keys) - strata["test"]
        assert abs(strata["validation"] - rest / 8) < 1
        if rest > 1:
            assert strata["validation"] >= 1
            assert strata["train"] >= 1


def test_five_folds_of_80_patients():
    has_scar = {f"case-{n}": n < 53 for n in range(80)}
    for fold in range(5):
        splits = fold_splits(has_scar, 5, fold, seed=0)
        with_scar = Counter(splits[key] for key in splits if has_scar[key])
        without = Counter(splits[key] for key in splits if not has_scar[key])
        # 53 = 11 + 11 + 11 + 10 + 10; the 27 others begin where these end, with the
        # fourth fold: 27 = 6 + 6 (fourth, fifth) + 5 + 5 + 5. Every fold tests 16.
        tested = 11 if fold < 3 else 10
        assert (with_scar["test"], without["test"]) == (tested, 16 - tested)
        # (53 - 11) / 8 = 5.25 and (53 - 10) / 8 = 5.375; 22 / 8 = 2.75, 21 / 8 = 2.6
        assert (with_scar["validation"], without["validation"]) == (5, 3)


def test_validation_changes_from_fold_to_fold():
    has_scar = {f"case-{n}": n % 3 > 0 for n in range(60)}
    validated = []
    for fold in range(5):
        splits = fold_splits(has_scar, 5, fold, seed=0)
        validated += [key for key in splits if splits[key] == "validation"]
    # 40 and 20 in 5 folds: 32 / 8 = 4 and 16 / 8 = 2 of the 8 and 4 of the next fold
    assert len(validated) == len(set(validated)) == 5 * 6


def test_folds_follow_from_the_seed_and_the_keys():
    has_scar = {f"case-{n}": n % 2 == 0 for n in range(40)}
    backwards = dict(reversed(has_scar.items()))
    assert fold_splits(backwards, 5, 2, 0) == fold_splits(has_scar, 5, 2, 0)
    assert fold_splits(has_scar, 5, 2, 1) != fold_splits(has_scar, 5, 2, 0)


@pytest.mark.parametrize(
    ("patients", "folds", "fold", "named"),
    [
        (20, 1, 0, "folds: CONFIG"),
        (20, 5, 5, "fold: CONFIG: expected 0 to 4, got 5"),
        (20, 5, -1, "fold: CONFIG"),
        (4, 5, 0, "4 patients are too few for 5"),
        (5, 2, 0, "5 patients are too few for 2"),  # a fold of 3 leaves 2
        (0, 2, 0, "too few"),
    ],
)
def test_impossible_folds_are_refused(patients, folds, fold, named):
    has_scar = {str(n): n % 2 == 0 for n in range(patients)}
    with pytest.raises(RefusedError, match=named):
        fold_splits(has_scar, folds, fold, 0)


# Smaller training splits


@given(patients, st.integers(0, 3), st.data())
def test_limited_keeps_a_stratified_part(has_scar, seed, data):
    assignment = assign_splits(has_scar, SplitFractions(), 0)
    trained = [key for key in assignment if assignment[key] == "train"]
    count = data.draw(st.integers(1, len(trained)))
    kept = limited(assignment, has_scar, count, seed)
    assert assignment.items() >= kept.items()
    assert [*kept] == [key for key in assignment if key in kept]
    left = [key for key in kept if kept[key] == "train"]
    assert len(left) == count
    assert len(kept) == len(assignment) - len(trained) + count
    share = sum(has_scar[key] for key in trained) / len(trained)
    _assert_rounded(sum(has_scar[key] for key in left), count * share)
    if count > 1:
        assert limited(assignment, has_scar, count - 1, seed).items() <= kept.items()


def test_limited_keeps_the_share_with_scar():
    has_scar = {f"case-{n}": n < 20 for n in range(60)}
    assignment = dict.fromkeys(has_scar, "train") | {"case-59": "test"}
    kept = limited(assignment, has_scar, 10, seed=0)
    # 10 x 20 / 59 = 3.39, rounded up to 4; and the one that is tested
    assert sum(has_scar[key] for key in kept) == 4
    assert len(kept) == 11
    assert kept["case-59"] == "test"
    assert limited(assignment, has_scar, 10, seed=1) != kept
    assert limited(assignment, has_scar, 59, seed=0) == assignment


@pytest.mark.parametrize("count", [0, 4])
def test_impossible_limits_are_refused(count):
    assignment = dict.fromkeys("abc", "train") | {"d": "test"}
    with pytest.raises(RefusedError, match=f"1 to 3 patients of train, got {count}"):
        limited(assignment, dict.fromkeys("abcd", True), count, 0)
