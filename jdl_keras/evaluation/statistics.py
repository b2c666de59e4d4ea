"""Statistics over patients. Values are JSON numbers: what is undefined is None."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

BOOTSTRAP_RESAMPLES = 2000
BOOTSTRAP_SEED = 0
"""Fixed, so that the same patients give the same interval."""


def describe(values: ArrayLike) -> dict:
    """Mean, spread, median and interval of one value per patient.

    Args:
        values: one number per patient; NaN where it is undefined for the patient.

    Returns:
        `mean`; `sd` with n - 1 in the denominator; `median`; `ci95`, the percentile
        bootstrap interval of the mean over patients; `patients`, how many were
        defined. No patient: all None. One patient: no sd and no interval.
    """
    known = _known(values)
    few = known.size < 2
    return {
        "mean": number(known.mean()) if known.size else None,
        "sd": None if few else number(known.std(ddof=1)),
        "median": number(np.median(known)) if known.size else None,
        "ci95": [None, None] if few else _bootstrap_ci95(known),
        "patients": int(known.size),
    }


def bland_altman(reference: ArrayLike, prediction: ArrayLike) -> dict:
    """Bias and 95 % limits of agreement of paired values, with their intervals.

    Differences are prediction - reference. The limits are bias ± 1.96 sd; standard
    errors sd / sqrt(n) and sd sqrt(1/n + 1.96² / (2 (n - 1))), with Student's t at
    n - 1 degrees of freedom (Bland and Altman, Stat Methods Med Res 1999;8:135-160).

    Returns:
        `bias`, `bias_ci95`, `limits_of_agreement`, `limits_of_agreement_ci95` (an
        interval for each limit) and `patients`; pairs with a NaN are left out. One
        pair has a bias only, no pair has nothing.
    """
    difference = np.subtract(*_pairs(prediction, reference))
    n = difference.size
    bias = float(difference.mean()) if n else math.nan
    # What too few pairs leave undefined is NaN, spreads as NaN and ends as None.
    sd = t = bias_error = limit_error = math.nan
    z = float(stats.norm.ppf(0.975))
    if n > 1:
        sd, t = float(difference.std(ddof=1)), float(stats.t.ppf(0.975, n - 1))
        bias_error = sd / math.sqrt(n)
        limit_error = sd * math.sqrt(1 / n + z**2 / (2 * (n - 1)))
    limits = _around(bias, z * sd)
    return {
        "bias": number(bias),
        "bias_ci95": [number(bound) for bound in _around(bias, t * bias_error)],
        "limits_of_agreement": [number(limit) for limit in limits],
        "limits_of_agreement_ci95": [
            [number(bound) for bound in _around(limit, t * limit_error)]
            for limit in limits
        ],
        "patients": int(n),
    }


def concordance(reference: ArrayLike, prediction: ArrayLike) -> float | None:
    """Lin's concordance correlation coefficient of paired values, in [-1, 1].

    2 s_xy / (s_x² + s_y² + (mean_x - mean_y)²) with n in the denominators (Lin,
    Biometrics 1989;45:255-268). None for fewer than two pairs, or if all values are
    one and the same number; pairs with a NaN are left out.
    """
    x, y = _pairs(reference, prediction)
    if x.size < 2:
        return None
    (variance_x, covariance), (_, variance_y) = np.cov(x, y, ddof=0)
    spread = variance_x + variance_y + (x.mean() - y.mean()) ** 2
    return number(2 * covariance / spread) if spread > 0 else None


def absolute_agreement(ratings: ArrayLike) -> float | None:
    """Intraclass correlation ICC(A,1): absolute agreement of single ratings.

    (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n) with the mean squares of
    subjects (MSR), raters (MSC) and the rest (MSE) of a two-way analysis of variance
    (McGraw and Wong, Psychol Methods 1996;1:30-46, case 2A).

    Args:
        ratings: (N, K) of N subjects by K raters; subjects with a NaN are left out.

    Returns:
        A number of at most 1. None for fewer than two subjects, or if all values are
        one and the same number.
    """
    values = np.asarray(ratings, dtype=float)
    values = values[~np.isnan(values).any(axis=1)]
    n, k = values.shape
    if n < 2:
        return None
    of_subjects, of_raters = values.mean(axis=1), values.mean(axis=0)
    rest = values - of_subjects[:, None] - of_raters + values.mean()
    subjects = k * of_subjects.var(ddof=1)
    raters = n * of_raters.var(ddof=1)
    error = float((rest**2).sum()) / ((n - 1) * (k - 1))
    spread = subjects + (k - 1) * error + k * (raters - error) / n
    return number((subjects - error) / spread) if spread > 0 else None


def number(value: float | None) -> float | None:
    """`value` as a JSON number: None where it is None, NaN or infinite."""
    return None if value is None or not math.isfinite(value) else float(value)


def _known(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    return array[~np.isnan(array)]


def _pairs(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    known = ~(np.isnan(x) | np.isnan(y))
    return x[known], y[known]


def _bootstrap_ci95(values: np.ndarray) -> list[float]:
    interval = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=BOOTSTRAP_RESAMPLES,
        confidence_level=0.95,
        method="percentile",
        rng=BOOTSTRAP_SEED,
    ).confidence_interval
    return [float(interval.low), float(interval.high)]


def _around(centre: float, half_width: float) -> list[float]:
    return [centre - half_width, centre + half_width]
