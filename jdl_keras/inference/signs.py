"""What is measured in a prediction to tell a usual study from one to look at.

None of the signs looks at a reference. What is usual is learned from the validation
split, see `jdl_keras.inference.calibration`.
"""

import dataclasses
import math
from collections.abc import Callable

from jdl_keras.inference import sign_measures as measures
from jdl_keras.inference.seen import Seen
from jdl_keras.inference.sign_measures import OF_STUDY, Values
from jdl_keras.inference.study_prediction import StudyPrediction
from tfrecords_tools.label_shapes import SliceShape


@dataclasses.dataclass(frozen=True)
class Sign:
    """One thing that is measured.

    Attributes:
        concern: code of `quality.CODES` that it raises.
        text: what is odd where it is too high or too low.
        measure: of a prediction in which a wall was found.
        too_low: whether small values are odd.
        too_high: whether large values are odd.
        harmless: up to it no value is too high, whatever was learned.
        needs_learning: false for findings of `label_checks`, which have limits of their
            own: without a learned range any of them is odd, with one those beyond it,
            for a model may leave a small gap in every other study.
    """

    concern: str
    text: str
    measure: Callable[["Seen"], Values]
    too_low: bool = False
    too_high: bool = False
    harmless: float = -math.inf
    needs_learning: bool = True


def _by_slice(measure: Callable[[Seen, int, SliceShape], float | None]) -> Callable:
    """From a measure of one slice to that of a study."""

    def of_all(seen: Seen) -> Values:
        found = {i: measure(seen, i, shape) for i, shape in seen.shapes.items()}
        return {i: value for i, value in found.items() if value is not None}

    return of_all


def _of_study(measure: Callable[[Seen], float | None]) -> Callable:
    """From a number of the study to `Values`."""

    def of_all(seen: Seen) -> Values:
        value = measure(seen)
        return {} if value is None else {OF_STUDY: value}

    return of_all


def _of_finding(code: str) -> Callable:
    """The values of findings of a code; 0 for a study without."""

    def of_all(seen: Seen) -> Values:
        found: Values = {}
        for finding in seen.findings:
            if finding.code == code:
                index = OF_STUDY if finding.index is None else finding.index
                found[index] = max(finding.value, found.get(index, 0.0))
        return found or {OF_STUDY: 0.0}

    return of_all


UNLIKE = "UNLIKE_TRAINING"

SIGNS = {
    "open_ring": Sign(
        "OPEN_RING",
        "The wall is open between closed rings.",
        _of_finding("OPEN_RING"),
        too_high=True,
        needs_learning=False,
    ),
    "far_scar": Sign(
        "SCAR_OUTSIDE",
        "Scar lies apart from the wall, or reaches out of the heart.",
        _of_finding("SCAR_OUTSIDE"),
        too_high=True,
        needs_learning=False,
    ),
    "loose_scar": Sign(
        "SCAR_OUTSIDE",
        "Much of the scar is not in what was found as wall.",
        _of_study(measures.loose_scar),
        too_high=True,
        harmless=1.0,
    ),
    "shifted": Sign(
        "SHIFTED",
        "The heart is not where it is in the other slices.",
        _of_finding("SHIFTED"),
        too_high=True,
        needs_learning=False,
    ),
    "scar_share": Sign(
        "VOLUMES",
        "Unusually much of the wall is scar.",
        _of_study(measures.scar_share),
        too_high=True,
    ),
    "wall_mass": Sign(
        "VOLUMES",
        "The wall is unusually light or heavy.",
        _of_study(measures.wall_mass),
        too_low=True,
        too_high=True,
    ),
    "wall_thickness": Sign(
        "VOLUMES",
        "The wall is unusually thin or thick.",
        _by_slice(measures.wall_thickness),
        too_low=True,
        too_high=True,
    ),
    "elongation": Sign(
        "INCOMPLETE",
        "The ventricle is too short for its width: slices may be missing.",
        _of_study(measures.elongation),
        too_low=True,
    ),
    "coverage": Sign(
        "INCOMPLETE",
        "The slices with wall cover too little length: some may be missing.",
        _of_study(measures.coverage),
        too_low=True,
    ),
    "last_diameter": Sign(
        "INCOMPLETE",
        "The heart is still wide in its last slice: the apex may be missing.",
        _of_study(measures.last_diameter),
        too_high=True,
    ),
    "image_jump": Sign(
        "INCOMPLETE",
        "The image changes more from the slice before than elsewhere in the stack: one "
        "may be missing between them.",
        measures.image_jump,
        too_high=True,
    ),
    "pass_disagreement": Sign(
        "DISAGREEMENT",
        "The passes draw different walls.",
        _by_slice(measures.pass_disagreement),
        too_high=True,
        harmless=0.1,
    ),
    "burden_spread": Sign(
        "DISAGREEMENT",
        "The passes find different amounts of scar.",
        _of_study(measures.burden_spread),
        too_high=True,
        harmless=2.0,
    ),
    "doubt": Sign(
        "DISAGREEMENT",
        "The model is unsure where the wall ends.",
        _by_slice(measures.doubt),
        too_high=True,
    ),
    "noise": Sign(
        UNLIKE,
        "The image is noisier than usual.",
        _by_slice(measures.noise),
        too_high=True,
    ),
    "contrast": Sign(
        UNLIKE,
        "Wall and cavity hardly differ.",
        _by_slice(measures.contrast),
        too_low=True,
    ),
    "cut_off": Sign(
        UNLIKE,
        "The field of view ends near the heart.",
        _by_slice(measures.cut_off),
        too_high=True,
        harmless=0.1,
    ),
    "oval": Sign(
        UNLIKE,
        "The outline is far from round: is this a short axis?",
        _by_slice(measures.oval),
        too_high=True,
    ),
}
"""All of them, by name."""


def measure_signs(prediction: StudyPrediction) -> dict[str, Values]:
    """Every sign of a prediction in which a wall was found."""
    seen = Seen(prediction)
    return {name: sign.measure(seen) for name, sign in SIGNS.items()}
