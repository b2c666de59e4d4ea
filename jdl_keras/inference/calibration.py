"""What validation patients teach: how far burdens err, and which values are usual."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy import stats

from jdl_keras.inference.sign_measures import Values
from jdl_keras.inference.signs import SIGNS, measure_signs
from jdl_keras.inference.study_prediction import StudyPrediction, any_wall
from jdl_keras.quantification.burden import burden
from jdl_keras.quantification.masks import WallMasks
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import write_text
from tfrecords_tools.labels import MYOCARDIUM, TASKS, region_mask
from tfrecords_tools.strict_json import strictly

LEVEL_PERCENT = 90.0
"""Of patients whose burden the interval is to hold."""

LEAST_SPREAD_PERCENT = 1.0
"""Points of burden added to every spread: less than two readers differ by, so that
passes that agree by chance give no interval of no width. It is fixed, not fitted: the
promise of the interval then needs no more than patients that can be exchanged."""

FALSE_ALARMS = 0.05
"""Of good studies that all learned ranges together may stop if signs were normal: half
of what the gate may stop, for they are not quite."""

LEAST_PATIENTS = 8
"""Fewer teach no range."""

RULE = (
    "the range of a sign is that of one new patient, predicted from the validation "
    "patients as if normal (mean -+ t sd sqrt(1 + 1/n)), its share of "
    f"{FALSE_ALARMS:.0%} false alarms the same for every limit, and no narrower than "
    "the values seen; a patient's value is that of the worst slice"
)


@dataclasses.dataclass(frozen=True)
class Range:
    """What is usual of one sign.

    Attributes:
        low: smallest usual value; None if small ones are not odd.
        high: largest usual value; None if large ones are not odd.
    """

    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What the validation split of one model taught.

    Attributes:
        passes: of each prediction; others are not calibrated by it.
        scores: of each patient with a reference, ascending: distance of predicted and
            reference scar burden over the spread of the passes, see `spread_percent`.
        ranges: of each sign, by name; empty with fewer than `LEAST_PATIENTS`.
        patients: how many taught the ranges.
        rule: how the ranges were set.
    """

    passes: int
    scores: list[float]
    ranges: dict[str, Range]
    patients: int
    rule: str = RULE

    def __post_init__(self):
        for name, numbers in self._numbers():
            if not np.isfinite(numbers).all():
                raise ValueError(f"{name} must be finite")
        if self.passes < 1 or self.patients < 0:
            raise ValueError("passes and patients must be counts")
        if self.scores != sorted(self.scores) or min(self.scores, default=0.0) < 0:
            raise ValueError("scores must ascend from 0")
        for name, one in self.ranges.items():
            if one.low is not None and one.high is not None and one.low > one.high:
                raise ValueError(f"{name} must run from low to high")
        if unknown := set(self.ranges) - set(SIGNS):
            raise ValueError(f"unknown signs {sorted(unknown)}")

    def _numbers(self) -> Iterable[tuple[str, list[float]]]:
        yield "scores", self.scores
        for name, one in self.ranges.items():
            yield name, [x for x in (one.low, one.high) if x is not None]


def fit_calibration(predictions: Iterable[StudyPrediction]) -> Calibration:
    """Learns from the validation split; one study is in memory at a time.

    Args:
        predictions: of studies the network did not learn from; where a whole stack has
            a reference of wall and scar, `study.label_map` is it.

    Raises:
        RefusedError: `EMPTY` without any study.
        ValueError: if the studies differ in the number of passes.
    """
    passes: set[int] = set()
    scores: dict[str, list[float]] = defaultdict(list)
    signs: dict[str, list[dict[str, Values]]] = defaultdict(list)
    for prediction in predictions:
        patient = prediction.study.patient_key
        passes.add(len(prediction.passes))
        score = burden_score(prediction)
        if score is not None:
            scores[patient].append(score)
        if any_wall(prediction.masks):
            signs[patient].append(measure_signs(prediction))
    if not passes:
        raise RefusedError("calibration", "EMPTY", "no validation study to learn from")
    if len(passes) > 1:
        raise ValueError(f"studies of {sorted(passes)} passes; expected one number")
    return Calibration(
        passes=passes.pop(),
        # A patient counts once, with the worst study: studies of one are no news.
        scores=sorted(max(found) for found in scores.values()),
        ranges=_ranges([*signs.values()]),
        patients=len(signs),
    )


def spread_percent(prediction: StudyPrediction) -> float:
    """Deviation of the scar burden over the passes, and the least of it, in points."""
    found = prediction.pass_burdens_percent
    deviation = float(np.std(found, ddof=1)) if len(found) > 1 else 0.0
    return deviation + LEAST_SPREAD_PERCENT


def burden_score(prediction: StudyPrediction) -> float | None:
    """How far the predicted burden lies from the reference's, in spreads.

    None where not all of the stack has a reference, or that has no wall. A prediction
    without wall is as far off as any can be.
    """
    study = prediction.study
    reference = region_mask(study.label_map, MYOCARDIUM)
    if not all(set(TASKS) <= tasks for tasks in study.labelled) or not reference.any():
        return None
    if not any_wall(prediction.masks):
        return 100 / LEAST_SPREAD_PERCENT
    drawn = burden_percent(WallMasks(study.label_map, study.affine))
    return abs(burden_percent(prediction.wall) - drawn) / spread_percent(prediction)


def burden_percent(wall: WallMasks) -> float:
    """Scar burden of masks of wall and scar, which have some wall."""
    # `WallMasks` is never without wall; None would be a stack nobody looked in.
    return burden(wall).burden_percent or 0.0


def _ranges(patients: list[list[dict[str, Values]]]) -> dict[str, Range]:
    limits = sum(sign.too_low + sign.too_high for sign in SIGNS.values())
    share = FALSE_ALARMS / limits
    ranges = {}
    for name, sign in SIGNS.items():
        values = [
            [x for one in studies for x in one[name].values()] for studies in patients
        ]
        known = [found for found in values if found]
        if len(known) < LEAST_PATIENTS:
            continue
        ranges[name] = Range(
            -_highest([-min(found) for found in known], share)
            if sign.too_low
            else None,
            _highest([max(found) for found in known], share) if sign.too_high else None,
        )
    return ranges


def _highest(values: list[float], share: float) -> float:
    """What one more value exceeds with this probability, and no less than seen."""
    count = len(values)
    t = float(stats.t.ppf(1 - share, count - 1))
    above = t * np.std(values, ddof=1) * np.sqrt(1 + 1 / count)
    return max(float(np.mean(values) + above), *values)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Writes `calibration.json` of a run."""
    text = json.dumps(dataclasses.asdict(calibration), indent=1, allow_nan=False)
    write_text(path, text + "\n")


def read_calibration(path: Path) -> Calibration:
    """What `write_calibration` wrote.

    Raises:
        RefusedError: if it is missing or something else.
    """
    if not path.is_file():
        raise RefusedError(path, "NOT_A_FILE", "this run was not calibrated")
    try:
        return strictly(Calibration, json.loads(path.read_bytes()), "calibration")
    except ValueError as error:
        raise RefusedError(path, "CORRUPT", f"{error}; calibrate again") from None
