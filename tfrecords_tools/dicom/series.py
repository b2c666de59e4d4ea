"""What a series is, and which frames of a study make the stack.

The rules, in the order in which they are asked; the first that fits decides.

1. Frames of one series and one reconstruction (PSIR, magnitude, phase) are a part.
2. A part is a scout, map, flow or perfusion, reformatted or phase, if a name says so.
3. It is a cine if its slices come at several times, or if a name or the number of
   cardiac phases says so.
4. It is LGE if no spin echo, and a name or an inversion recovery with 100 to 700 ms
   says so. Everything else is other.
5. Its view is short-axis if the normal of most of its frames lies within a cone around
   the usual long axis of hearts.
6. Parts with fewer than three slices (one series a slice) are joined where kind,
   reconstruction, frame of reference, orientation, matrix and pixel size are the same;
   of a slice that was repeated, the series with the highest number is taken.
7. Of several stacks: LGE before cine before other, the preferred reconstruction, the
   most slices, the highest series number (the last one acquired).
"""

import dataclasses
import enum
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby

from tfrecords_tools.dicom.frames import Frame
from tfrecords_tools.dicom.marks import Contrast, Mark
from tfrecords_tools.dicom.planes import (
    by_position,
    directions,
    parallel,
    tilt_degrees,
)

MIN_SLICES = 3
"""Fewer are no stack; long-axis views come as one, two or three."""

_INVERSION_MS = (100.0, 700.0)
"""Inversion times of LGE with its margin; cine and perfusion have none or less."""


class Kind(enum.StrEnum):
    """What was acquired."""

    LGE = "LGE"
    CINE = "cine"
    SCOUT = "scout"
    MAP = "map"
    FLOW = "flow"
    PERFUSION = "perfusion"
    REFORMATTED = "reformatted"
    PHASE = "phase"
    OTHER = "other"


_NAMED = (
    *((Mark.SCOUT, Kind.SCOUT), (Mark.MAP, Kind.MAP), (Mark.FLOW, Kind.FLOW)),
    *((Mark.PERFUSION, Kind.PERFUSION), (Mark.REFORMATTED, Kind.REFORMATTED)),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Frames that belong together: of one series, or joined of several.

    Attributes:
        frames: sorted by SOPInstanceUID and number.
        joined: whether they come of several series.
    """

    frames: tuple[Frame, ...]
    joined: bool = False

    @cached_property
    def places(self) -> list[list[Frame]]:
        """Frames of the main orientation by position, base to apex."""
        return by_position(parallel(self.frames))

    @cached_property
    def strays(self) -> list[Frame]:
        """Frames of another orientation, or without one."""
        main = {id(frame) for place in self.places for frame in place}
        return [frame for frame in self.frames if id(frame) not in main]

    @cached_property
    def kind(self) -> Kind:
        """See the rules of this module."""
        first = self.frames[0]
        marks = frozenset[Mark]().union(*(frame.marks for frame in self.frames))
        if first.contrast is Contrast.PHASE:
            return Kind.PHASE
        for mark, kind in _NAMED:
            if mark in marks:
                return kind
        if self.moves or first.phases > 1 or Mark.CINE in marks:
            return Kind.CINE
        if Mark.SPIN_ECHO in marks:
            return Kind.OTHER
        low, high = _INVERSION_MS
        inverted = low <= (first.inversion_ms or 0) <= high or Mark.INVERSION in marks
        return Kind.LGE if inverted or Mark.LGE in marks else Kind.OTHER

    @cached_property
    def moves(self) -> bool:
        """Whether most slices come at several times."""
        several = [len({f.time for f in place}) > 1 for place in self.places]
        return 2 * sum(several) > len(several)

    @property
    def contrast(self) -> Contrast:
        """The reconstruction."""
        return self.frames[0].contrast

    @property
    def series_number(self) -> int:
        """The highest among its series."""
        return max(frame.series_number for frame in self.frames)

    @cached_property
    def tilt_degrees(self) -> float | None:
        """See `planes.tilt_degrees`; None if no frame says how it lies."""
        if not self.places:
            return None
        axes = directions(self.places[0][0].orientation)
        return None if axes is None else tilt_degrees(axes)


def parts_of(frames: Iterable[Frame]) -> list[Part]:
    """The frames of a study as parts, in the same order whatever theirs was."""

    def part(frame: Frame) -> tuple[str, Contrast]:
        return frame.series_uid, frame.contrast

    ordered = sorted(frames, key=lambda f: (*part(f), f.sop_uid, f.number))
    return [Part(tuple(group)) for _, group in groupby(ordered, part)]


def joined(parts: Sequence[Part]) -> list[Part]:
    """The parts with those joined that are single slices of one stack."""
    small = [p for p in parts if len(p.places) < MIN_SLICES and _can_join(p)]
    whole = [part for part in parts if part not in small]
    groups: list[list[Part]] = []
    for part in small:
        for group in groups:
            if _fit(group[0], part):
                group.append(part)
                break
        else:
            groups.append([part])
    return whole + [g[0] if len(g) == 1 else _join(g) for g in groups]


def _can_join(part: Part) -> bool:
    frame = part.frames[0]
    return bool(part.places and not part.strays and frame.frame_of_reference_uid)


def _fit(one: Part, other: Part) -> bool:
    same_look = _look(one) == _look(other)
    return same_look and len(parallel([one.frames[0], other.frames[0]])) == 2


def _look(part: Part) -> tuple:
    frame = part.frames[0]
    where = (frame.frame_of_reference_uid, frame.rows, frame.columns, frame.spacing_mm)
    return part.kind, part.contrast, *where


def _join(parts: Sequence[Part]) -> Part:
    """One part; where series lie upon each other, the one with the highest number."""
    frames = sorted(
        (frame for part in parts for frame in part.frames),
        key=lambda f: (f.sop_uid, f.number),
    )
    kept = []
    for place in by_position(frames):
        last = max(place, key=lambda f: (f.series_number, f.series_uid))
        kept += [frame for frame in place if frame.series_uid == last.series_uid]
    kept.sort(key=lambda f: (f.sop_uid, f.number))
    return Part(tuple(kept), joined=True)
