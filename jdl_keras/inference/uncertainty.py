"""How sure the scar burden is: an interval about it."""

import math

from jdl_keras.inference.calibration import (
    LEAST_SPREAD_PERCENT,
    LEVEL_PERCENT,
    Calibration,
    burden_percent,
    spread_percent,
)
from jdl_keras.inference.study_prediction import (
    Interval,
    StudyPrediction,
    any_wall,
)

NOT_CALIBRATED = "spread of passes, not calibrated"


def burden_interval(
    prediction: StudyPrediction, calibration: Calibration | None
) -> Interval:
    """The interval of a study's scar burden.

    Split-conformal prediction with normalised scores (Papadopoulos, Gammerman and Vovk
    2008; Lei et al. 2018, doi:10.1080/01621459.2017.1307116, section 5.2): the score of
    a validation patient is |reference - predicted| / (sd over passes + s0), s0 being
    `LEAST_SPREAD_PERCENT`. With q the k-th smallest of n scores,
    k = ceil((n + 1) x level), the interval is predicted -+ q x (sd + s0), cut to 0-100.

    It holds the value that a reader would draw in at least the stated share of
    patients, averaged over patients and validation splits, if the new patient and those
    of the validation split can be exchanged: same scanner, sequence, disease mix and
    readers, and a model chosen without them. The model's best epoch and its operating
    point were chosen on the same split, so a little less is to be expected. It says
    nothing about one kind of patients by itself, such as those without scar.

    With too few patients for the level (9 for 90 %) the largest score is taken, and the
    share that it promises, n / (n + 1), is stated. Without a calibration, or one of
    other passes, the interval spans the passes and promises nothing.

    Args:
        prediction: the study.
        calibration: of the same model and passes.

    Returns:
        0 to 100 % where no wall was found.
    """
    if not any_wall(prediction.masks):
        return Interval(
            0.0, 100.0, None, "no myocardium found, so anything is possible"
        )
    found = burden_percent(prediction.wall)
    if calibration is None or not calibration.scores:
        return _span(prediction, found, NOT_CALIBRATED)
    if calibration.passes != len(prediction.passes):
        passes = f"{calibration.passes} passes, not {len(prediction.passes)}"
        return _span(prediction, found, f"{NOT_CALIBRATED}: calibrated for {passes}")
    score, coverage = conformal_quantile(calibration.scores)
    half = score * spread_percent(prediction)
    rule = (
        f"prediction ± {score:.3g} x (deviation over {len(prediction.passes)} passes "
        f"+ {LEAST_SPREAD_PERCENT:g}), split-conformal on {len(calibration.scores)} "
        "validation patients"
    )
    return Interval(max(found - half, 0.0), min(found + half, 100.0), coverage, rule)


def conformal_quantile(
    scores: list[float], level_percent: float = LEVEL_PERCENT
) -> tuple[float, float]:
    """The score that bounds the interval, and the coverage in percent it promises.

    Args:
        scores: of the validation patients, ascending, at least one.
        level_percent: coverage wanted.
    """
    count = len(scores)
    # Multiplied first: a whole number of percent then gives no rounding error.
    place = math.ceil((count + 1) * level_percent / 100)
    if place > count:
        return scores[-1], 100 * count / (count + 1)
    return scores[place - 1], level_percent


def _span(prediction: StudyPrediction, found: float, rule: str) -> Interval:
    all_found = (found, *prediction.pass_burdens_percent)
    return Interval(min(all_found), max(all_found), None, rule)
