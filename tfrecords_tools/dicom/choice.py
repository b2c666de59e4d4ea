"""Which series of a study becomes its stack, and why the others do not."""

import dataclasses
import math
from collections.abc import Sequence

from tfrecords_tools.dicom.config import DicomConfig
from tfrecords_tools.dicom.frames import Frame
from tfrecords_tools.dicom.marks import Contrast
from tfrecords_tools.dicom.planes import position
from tfrecords_tools.dicom.series import MIN_SLICES, Kind, Part, joined, parts_of
from tfrecords_tools.errors import RefusedError

_ANY = frozenset({Kind.LGE, Kind.CINE, Kind.OTHER})
_ANY_TAKES_IT = "not wanted; dicom --series any takes it"


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """What a study gives.

    Attributes:
        part: the stack; None if it has none that is wanted.
        left_out: why not, for every other part.
    """

    part: Part | None
    left_out: tuple[str, ...]


def choose(frames: Sequence[Frame], config: DicomConfig) -> Choice:
    """The stack of a study, by the rules of `tfrecords_tools.dicom.series`."""
    parts = joined(parts_of(frames))
    whys = [_why_not(part, config) for part in parts]
    wanted = [part for part, why in zip(parts, whys, strict=True) if not why]
    best = max(wanted, key=lambda part: _rank(part, config), default=None)
    left_out = [
        f"{part.kind}: {why or _why_second(part, best)}"
        for part, why in zip(parts, whys, strict=True)
        if part is not best
    ]
    return Choice(best, tuple(sorted(left_out)))


def slices(part: Part, config: DicomConfig) -> list[Frame]:
    """The frames of a part that make the stack, and all that contradicts one.

    Raises:
        RefusedError: `GAP` if a slice of a cine has no such phase.
    """
    if part.kind is not Kind.CINE:
        return list(part.frames)
    chosen = []
    for place in part.places:
        if len(place) <= config.phase:
            reason = f"phase {config.phase} of a slice with {len(place)} phases"
            raise RefusedError(place[0].path, "GAP", reason)
        in_time = sorted(place, key=lambda f: (f.time, f.sop_uid, f.number))
        chosen.append(in_time[config.phase])
    return chosen + part.strays


def describe(part: Part) -> str:
    """A part in a few words, such as `PSIR, 9 slices, 10 mm apart`."""
    name = part.contrast if part.kind is Kind.LGE else part.kind
    words = [str(name), f"{len(part.places)} slices"]
    if len(part.places) > 1:
        first, last = (position(part.places[end][0]) for end in (0, -1))
        step_mm = math.dist(first, last) / (len(part.places) - 1)
        words.append(f"{step_mm:.3g} mm apart")
    return ", ".join([*words, "joined series"] if part.joined else words)


def _why_not(part: Part, config: DicomConfig) -> str:
    """Why a part is not wanted; empty if it is."""
    if part.kind not in ({Kind.LGE} if config.series == "lge" else _ANY):
        return _ANY_TAKES_IT if part.kind in _ANY else "not wanted"
    if part.tilt_degrees is None:
        # LGE that does not say where it lies is no stack to pass over: it is refused.
        return "" if part.kind is Kind.LGE else "says nowhere how it lies"
    if part.tilt_degrees > config.max_tilt_degrees:
        return "not short-axis"
    if len(part.places) < MIN_SLICES:
        return f"fewer than {MIN_SLICES} slices"
    return ""


def _rank(part: Part, config: DicomConfig) -> tuple:
    preferred = Contrast.PSIR if config.prefer == "psir" else Contrast.MAGNITUDE
    return (
        part.tilt_degrees is not None,
        *(part.kind is Kind.LGE, part.kind is Kind.CINE),
        part.contrast is preferred,
        len(part.places),
        part.series_number,
        part.frames[0].series_uid,
    )


def _why_second(part: Part, best: Part | None) -> str:
    assert best is not None, "a part without a reason competes with the best"
    if part.kind is not best.kind:
        return f"{best.kind} comes first"
    if part.contrast is not best.contrast:
        return f"{part.contrast}; {best.contrast} is preferred"
    return "another stack has more slices or came later"
