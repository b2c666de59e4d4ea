"""The gate: whether a person should look before the numbers of a study are used."""

from collections.abc import Iterator, Sequence

from jdl_keras.inference.calibration import Calibration
from jdl_keras.inference.seen import Seen
from jdl_keras.inference.sign_measures import OF_STUDY, Values
from jdl_keras.inference.signs import SIGNS, Sign
from jdl_keras.inference.study_prediction import (
    Concern,
    StudyPrediction,
    Verdict,
    any_wall,
)
from jdl_keras.quantification.completeness import completeness
from tfrecords_tools.findings import CODES as FINDINGS

CODES = {
    "NO_HEART": "no myocardium was found",
    "VOLUMES": "an implausible amount of wall or scar",
    "OPEN_RING": "the ring of wall is broken",
    "SCAR_OUTSIDE": "scar outside the wall",
    "SHIFTED": "the heart jumps aside from slice to slice",
    "INCOMPLETE": "slices may be missing, or the heart is cut off",
    "DISAGREEMENT": "the passes of the model disagree, or it is unsure",
    "UNLIKE_TRAINING": "images unlike those that the model was checked on",
    "UNCALIBRATED": "what is usual is not known for this model",
    "INPUT": "something was odd about the input",
}
"""Every kind of concern, the gravest first."""

ABSOLUTE = {
    "MASS": "VOLUMES",
    "SCAR_SHARE": "VOLUMES",
    "MISSING_SLICE": "INCOMPLETE",
    "LONE_SLICE": "INCOMPLETE",
    "BORDER": "INCOMPLETE",
    "OFF_IMAGE": "INCOMPLETE",
}
"""Findings on the predicted labels that no range excuses, and their concern."""


def review(
    prediction: StudyPrediction,
    calibration: Calibration | None,
    warnings: Sequence[str] = (),
) -> Verdict:
    """Judges a study; limits are the calibration's and those of `label_checks`.

    A PASS says that nothing was found, not that the masks are right.

    Args:
        prediction: the study; of at least two passes if they are to be compared.
        calibration: of the same model and passes; without it, or with one of other
            passes, there is no PASS.
        warnings: of the input, one line each, that a person should know first.
    """
    concerns = [Concern("INPUT", warning) for warning in warnings]
    if not any_wall(prediction.masks):
        return _verdict([Concern("NO_HEART", "No myocardium was found."), *concerns])
    seen = Seen(prediction)
    concerns += _absolute(seen)
    if calibration is not None and calibration.passes != len(prediction.passes):
        calibration = None
    if calibration is None or not calibration.ranges:
        text = "What is usual for this model is not known: it was not calibrated."
        concerns.append(Concern("UNCALIBRATED", text))
    for name, sign in SIGNS.items():
        odd = [*_odd(name, sign, sign.measure(seen), calibration)]
        if odd:
            slices = tuple(index for index in odd if index != OF_STUDY)
            concerns.append(Concern(sign.concern, sign.text, slices))
    return _verdict(concerns)


def _absolute(seen: Seen) -> Iterator[Concern]:
    """What needs nothing learned."""
    if not completeness(seen.prediction.wall).full_rings:
        yield Concern("OPEN_RING", "No slice has a full ring of wall.")
    for code, concern in ABSOLUTE.items():
        found = [one for one in seen.findings if one.code == code]
        if found:
            slices = tuple(one.index for one in found if one.index is not None)
            text = found[0].text if len(found) == 1 else f"{_sentence(code)}"
            yield Concern(concern, text, slices)


def _sentence(code: str) -> str:
    text = FINDINGS[code]
    return f"{text[0].upper()}{text[1:]}."


def _odd(
    name: str, sign: Sign, values: Values, calibration: Calibration | None
) -> Iterator[int]:
    """Slices whose value lies outside of what is usual, the farthest out first."""
    usual = calibration.ranges.get(name) if calibration else None
    if usual is None and sign.needs_learning:
        return
    low = usual.low if usual else None
    high = usual.high if usual else 0.0
    beyond = {}
    for index, value in values.items():
        above = value - max(high, sign.harmless) if high is not None else 0.0
        below = low - value if low is not None else 0.0
        beyond[index] = max(above, below)
    yield from sorted((i for i in beyond if beyond[i] > 0), key=lambda i: -beyond[i])


def _verdict(concerns: list[Concern]) -> Verdict:
    order = [*CODES]
    return Verdict(tuple(sorted(concerns, key=lambda one: order.index(one.code))))
