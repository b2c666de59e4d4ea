"""Splits of patients: stratified by scar, exact, the same for any listing order."""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from tfrecords_tools.errors import RefusedError

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class SplitFractions:
    """Share of the patients that each split gets, or the number of patients.

    Attributes:
        train: patients to learn from.
        validation: patients to choose the epoch and the settings on.
        test: patients that are only reported on.
    """

    train: float = 0.7
    validation: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        """Refuses shares that can fit no number of patients."""
        shares = self.exact()
        counts = all(share.denominator == 1 for share in shares)
        if min(shares) < 0 or not (counts or sum(shares) == 1):
            expected = "shares that sum to 1, or whole numbers of patients"
            raise RefusedError(
                "fractions", "CONFIG", f"expected {expected}; got {_listed(shares)}"
            )

    def exact(self) -> list[Fraction]:
        """The shares in the order of `SPLITS`: 0.7 is exactly 7/10."""
        shares = dataclasses.astuple(self)
        if not all(math.isfinite(share) for share in shares):
            raise RefusedError("fractions", "CONFIG", f"expected numbers, got {shares}")
        return [Fraction(share).limit_denominator(10**6) for share in shares]


def check_counts(fractions: SplitFractions, least: int, most: int) -> None:
    """Refuses numbers of patients that no further study can make right.

    Args:
        fractions: shares, which fit any number, or numbers of patients.
        least: patients with a reference so far.
        most: patients that there may be.

    Raises:
        RefusedError: `CONFIG`.
    """
    given = fractions.exact()
    if sum(given) != 1 and not least <= sum(given) <= most:
        there = f"at least {least}" if sum(given) < least else f"at most {most}"
        expected = f"shares that sum to 1, or to the number of patients ({there})"
        raise RefusedError(
            "fractions", "CONFIG", f"expected {expected}; got {_listed(given)}"
        )


def assign_splits(
    has_scar: Mapping[str, bool], fractions: SplitFractions, seed: int
) -> dict[str, str]:
    """Puts each patient into one split.

    The totals are the fractions of all patients by largest remainder (80 patients at
    0.7, 0.1, 0.2 give 56, 8, 16). Of the patients with and without scar each split
    gets its fraction too, to within one patient. Who goes where follows from the
    SHA-256 of seed and key, so names, folders and their order play no part.

    Args:
        has_scar: for each patient key whether the reference shows scar.
        fractions: shares that sum to 1, or counts that sum to the patients.
        seed: another seed gives another split.

    Returns:
        The split of each patient key, in sorted order of the keys.

    Raises:
        RefusedError: if the fractions do not fit.
    """
    shares = _shares(fractions, len(has_scar))
    totals = _largest_remainder([len(has_scar) * share for share in shares])
    with_scar = _draw_order((key for key in has_scar if has_scar[key]), seed)
    without = _draw_order((key for key in has_scar if not has_scar[key]), seed)
    scar_quota = _scar_quota(len(with_scar), len(without), shares, totals)
    rest_quota = [
        total - quota for total, quota in zip(totals, scar_quota, strict=True)
    ]
    assigned = _deal(with_scar, scar_quota) | _deal(without, rest_quota)
    return dict(sorted(assigned.items()))


def fold_splits(
    has_scar: Mapping[str, bool], folds: int, fold: int, seed: int
) -> dict[str, str]:
    """The splits of one fold of a cross-validation over patients.

    Over all folds each patient is tested once. The folds' sizes differ by at most one
    patient, those of their patients with and without scar too. Of each of these two
    strata an eighth of what is not tested goes to validation: at least one patient
    where there are two, and first those whom the next fold tests, so that validation
    changes from fold to fold. Who goes where follows from seed and key as in
    `assign_splits`.

    Args:
        has_scar: for each patient key whether the reference shows scar.
        folds: number of folds, at least 2.
        fold: which fold is tested, from 0.
        seed: another seed gives other folds.

    Returns:
        The split of each patient key, in sorted order of the keys.

    Raises:
        RefusedError: if there is no such fold, or there are too few patients.
    """
    _check_folds(len(has_scar), folds, fold)
    assigned: dict[str, str] = {}
    dealt = -fold
    for stratum in (True, False):
        keys = _draw_order((key for key in has_scar if has_scar[key] == stratum), seed)
        # In how many folds from this one a patient is tested; the second stratum is
        # dealt from where the first one ended.
        wait = {key: (dealt + place) % folds for place, key in enumerate(keys)}
        dealt += len(keys)
        tested = [key for key in keys if not wait[key]]
        rest = sorted((key for key in keys if wait[key]), key=wait.__getitem__)
        validated = max(round(len(rest) / 8), 1) if len(rest) > 1 else 0
        quota = (len(rest) - validated, validated, len(tested))
        assigned |= _deal([*rest[validated:], *rest[:validated], *tested], quota)
    return dict(sorted(assigned.items()))


def _check_folds(patients: int, folds: int, fold: int) -> None:
    if folds < 2:
        raise RefusedError("folds", "CONFIG", f"expected 2 or more, got {folds}")
    if not 0 <= fold < folds:
        raise RefusedError("fold", "CONFIG", f"expected 0 to {folds - 1}, got {fold}")
    largest = -(-patients // folds)
    # Three of the rest are enough: two of them are of one stratum.
    if patients < folds or patients - largest < 3:
        reason = f"{patients} patients are too few for {folds}; each fold tests one"
        raise RefusedError("folds", "CONFIG", f"{reason} and leaves three or more")


def limited(
    assignment: Mapping[str, str],
    has_scar: Mapping[str, bool],
    count: int,
    seed: int,
    split: str = "train",
) -> dict[str, str]:
    """An assignment with fewer patients in one split, as learning curves need it.

    The first patients by the SHA-256 of seed and key stay; the share of patients with
    scar is that of the split, rounded up to a whole patient. A smaller count keeps a
    part of what a larger one keeps.

    Args:
        assignment: the split of each patient key.
        has_scar: for each patient key whether the reference shows scar.
        count: patients to keep in `split`.
        seed: another seed keeps other patients.
        split: the split to make smaller; the others stay as they are.

    Raises:
        RefusedError: if the split has no `count` patients.
    """
    keys = [key for key, assigned in assignment.items() if assigned == split]
    if not 1 <= count <= len(keys):
        reason = f"expected 1 to {len(keys)} patients of {split}, got {count}"
        raise RefusedError("patients", "CONFIG", reason)
    with_scar = _draw_order((key for key in keys if has_scar[key]), seed)
    without = _draw_order((key for key in keys if not has_scar[key]), seed)
    scar_count = -(-count * len(with_scar) // len(keys))
    dropped = {*with_scar[scar_count:], *without[count - scar_count :]}
    return {key: assignment[key] for key in assignment if key not in dropped}


def _shares(fractions: SplitFractions, patients: int) -> list[Fraction]:
    given = fractions.exact()
    if sum(given) not in (1, patients):
        expected = f"shares that sum to 1, or to the number of patients ({patients})"
        raise RefusedError(
            "fractions", "CONFIG", f"expected {expected}; got {_listed(given)}"
        )
    return [share / sum(given) for share in given]


def _listed(shares: list[Fraction]) -> str:
    return ", ".join(f"{float(share):g}" for share in shares)


def _largest_remainder(exact: list[Fraction]) -> list[int]:
    """Whole numbers with the sum of `exact`, each rounded up or down."""
    whole = [math.floor(value) for value in exact]
    missing = int(sum(exact)) - sum(whole)
    by_remainder = sorted(range(len(exact)), key=lambda i: whole[i] - exact[i])
    for i in by_remainder[:missing]:
        whole[i] += 1
    return whole


def _scar_quota(
    scar_count: int, rest_count: int, shares: list[Fraction], totals: list[int]
) -> tuple[int, ...]:
    """Patients with scar in each split, so that both strata stay within one patient.

    Rounding the two strata one after the other can leave the second one off by two,
    so every way of rounding the first is tried; with three splits there are eight.
    """
    exact = [scar_count * share for share in shares]
    exact_rest = [rest_count * share for share in shares]

    def worst_deviation(quota: tuple[int, ...]) -> Fraction:
        rest = [total - scar for total, scar in zip(totals, quota, strict=True)]
        pairs = zip((*quota, *rest), (*exact, *exact_rest), strict=True)
        return max(abs(count - wanted) for count, wanted in pairs)

    candidates = itertools.product(*({math.floor(x), math.ceil(x)} for x in exact))
    fitting = [quota for quota in candidates if sum(quota) == scar_count]
    return min(fitting, key=lambda quota: (worst_deviation(quota), quota))


def _draw_order(keys: Iterable[str], seed: int) -> list[str]:
    def drawn(key: str) -> str:
        return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()

    return sorted(keys, key=drawn)


def _deal(keys: list[str], quota: Sequence[int]) -> dict[str, str]:
    splits = itertools.chain.from_iterable(
        itertools.repeat(split, count)
        for split, count in zip(SPLITS, quota, strict=True)
    )
    return dict(zip(keys, splits, strict=True))
