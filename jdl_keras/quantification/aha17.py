"""The 17 segments of the American Heart Association, in patient coordinates.

Cerqueira et al., Circulation 2002. Angles are counted from the anterior insertion of
the right ventricle, counter-clockwise as seen from the apex; the insertion is the
border of segments 1 and 2. The four apical segments are turned by 15 degrees against
the six: both rings have their anterior segment in the same place.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jdl_keras.quantification.burden import percent, volume_ml
from jdl_keras.quantification.chords import SliceChords, pixels_per_mm
from jdl_keras.quantification.masks import WallMasks
from jdl_keras.quantification.transmurality import transmurality_class
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import MYOCARDIAL_DENSITY_G_PER_ML

SEGMENT_RULE = (
    "AHA 17 segments (Cerqueira 2002): slices with a full ring in three equal parts of "
    "the long axis; angles from the anterior RV insertion, the border of segments 1 "
    "and 2; 16 of 17 reported, the cap is not on a short-axis stack"
)
NOT_ASSESSED = "segments not assessed"

NAMES = {
    **{1: "basal anterior", 2: "basal anteroseptal", 3: "basal inferoseptal"},
    **{4: "basal inferior", 5: "basal inferolateral", 6: "basal anterolateral"},
    **{7: "mid anterior", 8: "mid anteroseptal", 9: "mid inferoseptal"},
    **{10: "mid inferior", 11: "mid inferolateral", 12: "mid anterolateral"},
    **{13: "apical anterior", 14: "apical septal", 15: "apical inferior"},
    **{16: "apical lateral", 17: "apex"},
}
TERRITORIES = {
    "LAD": (1, 2, 7, 8, 13, 14, 17),
    "RCA": (3, 4, 9, 10, 15),
    "LCX": (5, 6, 11, 12, 16),
}
REPORTED = 16

LEAST_SLICES = 3
"""One for each level."""

INSERTION_OFF_MM = 20.0
"""The insertion lies on the epicardium; further off, the point is in another system of
coordinates (RAS for LPS) or of another heart."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """What was measured in one segment; None where it has no wall.

    Attributes:
        number: 1 to 16.
        myocardium_g: mass of its wall.
        scar_g: mass of its scar.
        area_fraction_percent: scar area / wall area.
        transmurality_percent: mean over its chords of scar length / wall length.
    """

    number: int
    myocardium_g: float
    scar_g: float
    area_fraction_percent: float | None
    transmurality_percent: float | None

    @property
    def name(self) -> str:
        """Such as "basal anterior"."""
        return NAMES[self.number]

    @property
    def territory(self) -> str:
        """Coronary artery that usually supplies it."""
        return next(name for name, own in TERRITORIES.items() if self.number in own)

    @property
    def transmurality_class(self) -> str | None:
        """See `transmurality.CLASSES`."""
        value = self.transmurality_percent
        return None if value is None else transmurality_class(value)


@dataclasses.dataclass(frozen=True)
class Territory:
    """Scar in what one coronary artery usually supplies, segment 17 left out."""

    name: str
    myocardium_g: float
    scar_g: float

    @property
    def burden_percent(self) -> float | None:
        """Scar mass / wall mass."""
        return percent(self.scar_g, self.myocardium_g)


def levels(full_rings: Sequence[int]) -> dict[int, int]:
    """Level of each slice with a full ring: 0 basal, 1 mid, 2 apical.

    The way from the first of them to the last, half a slice added at either end, is
    divided in three equal parts; a slice belongs to the part of its centre.

    Raises:
        RefusedError: `INCOMPLETE`, if there are fewer than three.
    """
    if len(full_rings) < LEAST_SLICES:
        reason = f"{len(full_rings)} slices with a full ring, expected {LEAST_SLICES}"
        raise RefusedError("masks", "INCOMPLETE", f"{reason} or more; {NOT_ASSESSED}")
    first, count = full_rings[0], full_rings[-1] - full_rings[0] + 1
    # In whole numbers: (i + 1/2) / count of the way, in thirds.
    return {i: 3 * (2 * (i - first) + 1) // (2 * count) for i in full_rings}


def segment_numbers(degrees: np.ndarray, level: int) -> np.ndarray:
    """Segments at angles from the anterior insertion.

    Args:
        degrees: any shape, counter-clockwise as seen from the apex.
        level: 0 basal, 1 mid, 2 apical.
    """
    if level == 2:
        # Anterior is the middle of segment 1, 30 degrees before the insertion; the
        # anterior quarter of 90 degrees ends 15 degrees behind the insertion.
        return 13 + ((degrees - 15) // 90 + 1).astype(int) % 4
    return 6 * level + 1 + (degrees // 60 + 1).astype(int) % 6


def anchors(masks: WallMasks, insertions_mm: np.ndarray) -> np.ndarray:
    """Direction (S, 3) of the anterior insertion from each slice's centre.

    It is taken in the slice that a point lies nearest to, and kept along the axis to
    where the next point takes over.

    Args:
        masks: the stack.
        insertions_mm: (P, 3) LPS, one point or several at different heights.

    Raises:
        RefusedError: `BAD_GEOMETRY`, if a point lies beyond the stack, or not at the
            epicardium.
    """
    points = np.atleast_2d(np.asarray(insertions_mm, float))
    if points.shape[1:] != (3,) or not np.isfinite(points).all() or not len(points):
        raise RefusedError("insertion", "BAD_GEOMETRY", "expected x, y, z in mm (LPS)")
    heights = (points - masks.affine[:3, 3]) @ masks.long_axis / masks.slice_spacing_mm
    found = [_anchor(masks, *pair) for pair in zip(points, heights, strict=True)]
    slices = np.arange(len(masks.label_map))
    nearest = np.abs(slices[:, None] - heights).argmin(axis=1)
    return np.array(found)[nearest]


def _anchor(masks: WallMasks, point_mm: np.ndarray, height: float) -> np.ndarray:
    walled = np.flatnonzero(masks.myocardium.any(axis=(1, 2)))
    index = walled[np.abs(walled - height).argmin()]
    shape = masks.shapes[index]
    assert shape is not None  # it has wall
    offset = point_mm - masks.affine[:3] @ [*shape.centre, index, 1]
    offset = offset - (offset @ masks.long_axis) * masks.long_axis
    row, column = shape.centre + offset @ pixels_per_mm(masks.affine)
    places = np.argwhere(shape.wall) - (row, column)
    off_mm = np.linalg.norm(places * masks.spacing_mm, axis=1).min()
    beyond = abs(height - index) > 1.5
    if beyond or off_mm > INSERTION_OFF_MM or not np.linalg.norm(offset) > 1:
        reason = "slices beyond the wall" if beyond else "mm from the wall"
        far = abs(height - index) if beyond else off_mm
        reason = f"lies {far:.0f} {reason}; expected the insertion's x, y, z in LPS"
        raise RefusedError("insertion", "BAD_GEOMETRY", reason)
    return offset / np.linalg.norm(offset)


def segment_map(
    masks: WallMasks, anchor: np.ndarray, level_of: dict[int, int]
) -> np.ndarray:
    """(S, H, W) uint8: the segment of each pixel of wall, 0 elsewhere.

    Args:
        masks: the stack.
        anchor: (S, 3), see `anchors`.
        level_of: see `levels`.
    """
    numbers = np.zeros(masks.label_map.shape, np.uint8)
    for index, level in level_of.items():
        shape = masks.shapes[index]
        assert shape is not None  # a ring
        places = np.argwhere(shape.wall)
        offsets_mm = (places - shape.centre) @ masks.affine[:3, :2].T
        across = np.cross(masks.long_axis, anchor[index])
        angles = np.arctan2(offsets_mm @ across, offsets_mm @ anchor[index])
        degrees = np.degrees(angles) % 360
        numbers[index][tuple(places.T)] = segment_numbers(degrees, level)
    return numbers


def measure_segments(
    masks: WallMasks,
    numbers: np.ndarray,
    chords: dict[int, SliceChords],
    level_of: dict[int, int],
) -> list[Segment]:
    """Segments 1 to 16.

    Args:
        masks: the stack.
        numbers: see `segment_map`.
        chords: of each slice with a level, by the same anchors.
        level_of: see `levels`.
    """
    of_chord = {i: segment_numbers(chords[i].degrees, level_of[i]) for i in level_of}
    return [
        _segment(number, masks, numbers == number, chords, of_chord)
        for number in range(1, REPORTED + 1)
    ]


def _segment(
    number: int,
    masks: WallMasks,
    here: np.ndarray,
    chords: dict[int, SliceChords],
    of_chord: dict[int, np.ndarray],
) -> Segment:
    wall_ml, scar_ml = volume_ml(here, masks), volume_ml(here & masks.scar, masks)
    values = np.concatenate(
        [chords[i].transmurality_percent[own == number] for i, own in of_chord.items()]
    )
    known = values[~np.isnan(values)]
    return Segment(
        number,
        wall_ml * MYOCARDIAL_DENSITY_G_PER_ML,
        scar_ml * MYOCARDIAL_DENSITY_G_PER_ML,
        percent(scar_ml, wall_ml),
        float(known.mean()) if known.size else None,
    )


def territories(segments: Sequence[Segment]) -> list[Territory]:
    """Sums over the segments of each coronary territory."""
    return [
        Territory(
            name,
            sum(one.myocardium_g for one in segments if one.number in numbers),
            sum(one.scar_g for one in segments if one.number in numbers),
        )
        for name, numbers in TERRITORIES.items()
    ]
