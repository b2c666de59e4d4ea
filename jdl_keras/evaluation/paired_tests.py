"""Tests of paired values, one pair per patient. What is undefined is None."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from jdl_keras.evaluation.statistics import describe, number

FEWEST_DIFFERENCES = 2
"""Differences other than zero that a test needs; a single one always has p = 1."""
_DECIMALS = 12
"""Means over seeds that are equal on paper may differ in the last bits; ranks not."""

ZERO_RULE = "pairs without a difference are left out (Wilcoxon's own rule)"


def compare_pairs(first: ArrayLike, second: ArrayLike) -> dict:
    """Is `first` larger than `second`, patient by patient?

    Args:
        first: one value per patient.
        second: the same of the same patients, in the same order. Pairs with a NaN
            are left out.

    Returns:
        `difference`, `describe` of first - second; `wilcoxon_p`; `rank_biserial`;
        `zero_differences` and `left_out`, how many pairs were equal or had a NaN.
    """
    difference = np.subtract(np.asarray(first, float), np.asarray(second, float))
    known = difference[~np.isnan(difference)]
    return {
        "difference": describe(known),
        "wilcoxon_p": wilcoxon_p(known),
        "rank_biserial": rank_biserial(known),
        "zero_differences": int(known.size - _not_zero(known).size),
        "left_out": int(difference.size - known.size),
    }


def wilcoxon_p(differences: ArrayLike) -> float | None:
    """Two-sided p value of Wilcoxon's signed-rank test.

    Zeros are left out. Exact for up to 50 differences without ties and for up to 13
    with ties; beyond that the normal approximation, corrected for ties (SciPy's
    `auto`). None for fewer than two differences other than zero.

    Args:
        differences: one finite difference per patient.
    """
    changed = _not_zero(differences)
    if changed.size < FEWEST_DIFFERENCES:
        return None
    return number(stats.wilcoxon(changed, alternative="two-sided").pvalue)


def rank_biserial(differences: ArrayLike) -> float | None:
    """Matched-pairs rank-biserial correlation, in [-1, 1]: the size of the effect.

    (W+ - W-) / (W+ + W-), the rank sums of positive and negative differences (Kerby,
    Comprehensive Psychology 2014;3:11.IT.3.1). 1 if all differences are positive.
    None where `wilcoxon_p` is None.
    """
    changed = _not_zero(differences)
    if changed.size < FEWEST_DIFFERENCES:
        return None
    ranks = stats.rankdata(np.abs(changed))
    return number((ranks * np.sign(changed)).sum() / ranks.sum())


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values corrected by Holm's step-down rule, in the order given.

    The i-th smallest of m is multiplied by m - i + 1, is at least the corrected value
    before it, and at most 1 (Holm, Scand J Stat 1979;6:65-70). A None stays None and
    still counts in m: the test was planned.
    """
    corrected: list[float | None] = [None] * len(p_values)
    known = [(p, place) for place, p in enumerate(p_values) if p is not None]
    largest = 0.0
    for rank, (p, place) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        corrected[place] = largest
    return corrected


def _not_zero(differences: ArrayLike) -> np.ndarray:
    rounded = np.round(np.asarray(differences, float), _DECIMALS)
    return rounded[rounded != 0]
