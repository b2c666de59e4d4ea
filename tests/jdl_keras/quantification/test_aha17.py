"""Segments against a table by hand, and against every way to lay the pixel grid."""

import numpy as np
import pytest

from jdl_keras.quantification import aha17
from jdl_keras.quantification.masks import WallMasks, base_first
from jdl_keras.quantification.measurement import measure
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.sources.volume_study import flipped_affine

INSERTION_DEGREES = 120
"""Seen from the apex with anterior on top, 1 and 2 meet at ten o'clock."""


def measured(masks, point_mm):
    return measure(masks, insertions_mm=point_mm)


# Angles


@pytest.mark.parametrize(
    ("seen", "segments"),
    [
        # Counter-clockwise as seen, 0 to the right: basal, mid, apical
        (90, (1, 7, 13)),
        (119, (1, 7, 13)),
        (121, (2, 8, 13)),
        (134, (2, 8, 13)),
        (136, (2, 8, 14)),
        (180.1, (3, 9, 14)),
        (224, (3, 9, 14)),
        (226, (3, 9, 15)),
        (270, (4, 10, 15)),
        (301, (5, 11, 15)),
        (330, (5, 11, 16)),
        (0, (6, 12, 16)),
        (44, (6, 12, 16)),
        (46, (6, 12, 13)),
        (61, (1, 7, 13)),
    ],
)
def test_segments_by_the_clock(seen, segments):
    degrees = np.array([(seen - INSERTION_DEGREES) % 360])
    found = [int(aha17.segment_numbers(degrees, level)[0]) for level in range(3)]
    assert tuple(found) == segments


def test_all_segments_are_there_and_in_equal_parts():
    degrees = np.arange(360) + 0.5
    numbers = [aha17.segment_numbers(degrees, level) for level in range(3)]
    found, counts = np.unique(np.concatenate(numbers), return_counts=True)
    assert found.tolist() == list(range(1, 17))
    assert counts.tolist() == [60] * 12 + [90] * 4


def test_every_segment_has_one_artery():
    every = sorted(number for own in aha17.TERRITORIES.values() for number in own)
    assert every == sorted(aha17.NAMES) == list(range(1, 18))


# Levels


@pytest.mark.parametrize(
    ("rings", "expected"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([0, 1, 2, 3], [0, 1, 1, 2]),  # centres at 1/8, 3/8, 5/8, 7/8 of the way
        ([2, 3, 4, 5, 6, 7], [0, 0, 1, 1, 2, 2]),
        ([0, 1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 1, 1, 2, 2, 2]),  # 5/16 < 1/3 < 7/16
        ([0, 2, 5], [0, 1, 2]),  # 1/12, 5/12, 11/12
    ],
)
def test_thirds_of_the_long_axis(rings, expected):
    assert list(aha17.levels(rings).values()) == expected


def test_two_rings_are_too_few(heart, place_mm):
    masks = heart(slices=2, pixel_mm=1.0)
    found = measured(masks, place_mm(masks, INSERTION_DEGREES, 30))
    assert found.segments == ()
    assert "2 slices with a full ring" in found.segments_not_assessed
    assert aha17.NOT_ASSESSED in found.segments_not_assessed


# A hand-placed insertion


def test_scar_lies_where_it_was_drawn(heart, place_mm):
    # From 240 to 300 degrees is the inferior wall, half through it; 240 to 300 lies
    # in the middle of segment 15, which is from 225 to 315.
    masks = heart(scars=[(240, 300, 0, 0.5)])
    found = measured(masks, place_mm(masks, INSERTION_DEGREES, 30))
    depth = {one.number: one.transmurality_percent for one in found.segments}
    area = {one.number: one.area_fraction_percent for one in found.segments}
    # (25^2 - 20^2) / (30^2 - 20^2) = 45 % of the area; two thirds of segment 15.
    for number, full in ((4, 1), (10, 1), (15, 2 / 3)):
        assert depth[number] == pytest.approx(50 * full, abs=2)
        assert area[number] == pytest.approx(45 * full, abs=2)
    others = [v for n, v in depth.items() if n not in (4, 10, 15)]
    # A ragged end may reach over the border by one chord of 60, through half the wall.
    assert max(others) < 1
    assert found.segments[3].transmurality_class == "26-50"
    whole_g = sum(one.scar_g for one in found.segments)
    assert whole_g == pytest.approx(found.burden.scar_g)
    rca = next(one for one in found.territories if one.name == "RCA")
    assert rca.scar_g == pytest.approx(whole_g, rel=0.01)


def test_two_insertions_turn_the_apex(heart, place_mm):
    # The apical slice is anchored a quarter turn further on: its scar at 270 degrees
    # lies where 180 was, in the septum.
    masks = heart(scars=[(255, 285, 0, 1)], pixel_mm=1.0)
    points = [place_mm(masks, 120, 30, 0), place_mm(masks, 210, 30, 2)]
    found = measured(masks, np.array(points))
    scarred = {one.number for one in found.segments if one.area_fraction_percent > 5}
    assert scarred == {4, 10, 14}


# However the grid lies


def flip(axis):
    def change(labels, affine):
        column = {0: 2, 1: 0, 2: 1}[axis]
        return np.flip(labels, axis), flipped_affine(affine, column, labels.shape[axis])

    return change


def transpose(labels, affine):
    return labels.transpose(0, 2, 1), affine[:, [1, 0, 2, 3]]


def after(*changes):
    def change(labels, affine):
        for one in changes:
            labels, affine = one(labels, affine)
        return labels, affine

    return change


CHANGES = {
    "rows": flip(1),
    "columns": flip(2),
    "slices": flip(0),
    "transposed": transpose,
    "90 degrees": after(transpose, flip(1)),
    "180 degrees": after(flip(1), flip(2)),
    "270 degrees": after(transpose, flip(2)),
    "all": after(flip(0), transpose, flip(1)),
}


@pytest.fixture(scope="module")
def reference_heart():
    """A phantom's reference, with scar, cut to the heart."""
    from tfrecords_tools.sources.phantom import PhantomConfig, source

    cohort = source(PhantomConfig(patients=2))
    study = cohort.read(cohort.items[1])
    return study.label_map, study.affine


@pytest.fixture(scope="module")
def anterior_mm(reference_heart):
    """By hand: on the epicardium at ten o'clock of the third slice's picture."""
    masks = WallMasks(*reference_heart)
    shape = masks.shapes[2]
    rows, columns = np.indices(shape.hull.shape) - shape.centre[:, None, None]
    ray = np.abs(np.degrees(np.arctan2(-rows, columns)) - 123.4) < 3
    edge = np.argwhere(shape.hull & ray)
    far = edge[np.linalg.norm(edge - shape.centre, axis=1).argmax()]
    return masks.affine[:3] @ [*far, 2, 1]


@pytest.mark.parametrize("name", CHANGES)
def test_segments_do_not_depend_on_the_grid(name, reference_heart, anterior_mm):
    expected = measured(WallMasks(*reference_heart), anterior_mm)
    assert expected.burden.scar_g > 5  # there is something to assign
    labels, affine, _ = base_first(*CHANGES[name](*reference_heart))
    found = measured(WallMasks(np.ascontiguousarray(labels), affine), anterior_mm)
    for one, other in zip(found.segments, expected.segments, strict=True):
        # Pixels on a border of segments, or chords on one of pixels, may fall to the
        # other side by rounding: none of some hundred here.
        assert one.scar_g == pytest.approx(other.scar_g, abs=1e-9)
        assert one.area_fraction_percent == pytest.approx(other.area_fraction_percent)
        # A chord of 60 may do so: 100 samples, one of them.
        assert one.transmurality_percent == pytest.approx(
            other.transmurality_percent, abs=0.1
        )


# What is refused, never guessed


def test_without_an_insertion_nothing_is_assessed(heart):
    found = measure(heart(pixel_mm=1.0))
    assert found.segments == found.territories == ()
    assert found.segments_not_assessed.startswith(aha17.NOT_ASSESSED)


@pytest.mark.parametrize(
    ("move", "reason"),
    [
        (lambda point, masks: point * [-1, -1, 1], "from the wall|beyond the wall"),
        (lambda point, masks: point + 40 * masks.long_axis, "beyond the wall"),
        (lambda point, masks: point * np.nan, "expected x, y, z"),
        (lambda point, masks: point[:2], "expected x, y, z"),
    ],
)
def test_points_that_are_no_insertion_are_refused(heart, place_mm, move, reason):
    masks = heart(pixel_mm=1.0)
    point = move(place_mm(masks, INSERTION_DEGREES, 30), masks)
    with pytest.raises(RefusedError, match=f"insertion: BAD_GEOMETRY: .*({reason})"):
        measured(masks, point)
