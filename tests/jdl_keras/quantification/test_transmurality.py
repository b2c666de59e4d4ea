"""Transmurality and layers against analytic sectors of a round wall."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jdl_keras.quantification.chords import any_anchor, directions, slice_chords
from jdl_keras.quantification.masks import WallMasks
from jdl_keras.quantification.transmurality import (
    layers,
    mean_transmurality_percent,
    transmurality_class,
)

POINTS = 2.0
"""What is asked for: within 2 points of the analytic truth."""


def chords_of(masks, index=0):
    return slice_chords(masks, index, any_anchor(masks))


@pytest.mark.parametrize("depth", [0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize(("pixel_mm", "points"), [(0.5, POINTS), (1.5, 3.0)])
def test_subendocardial_sector_of_known_depth(heart, depth, pixel_mm, points):
    # At 1.5 mm the sector's ragged ends, some 4 of 120 degrees, meet half of the scar.
    masks = heart(scars=[(40, 160, 0, depth)], pixel_mm=pixel_mm, slices=1)
    found = chords_of(masks)
    inside = mean_transmurality_percent([found], only_with_scar=True)
    assert inside == pytest.approx(100 * depth, abs=points)
    # A third of all chords meet scar; half a pixel at either end of the sector, 1.5 mm
    # on a circle of 20 mm, is 4 degrees.
    extent = (found.transmurality_percent > 0).sum()
    assert extent == pytest.approx(120, abs=5)
    every = mean_transmurality_percent([found])
    assert every == pytest.approx(100 * depth / 3, abs=POINTS)


def test_layers_of_a_subendocardial_scar(heart):
    found = layers([chords_of(heart(scars=[(40, 160, 0, 0.5)]))])
    # Scar from 20 to 25 mm: pi (25^2 - 20^2) is to 225; up to 20 + 10/3 mm it is to
    # (23.33^2 - 20^2) = 144.4: 64.2 % endocardial, the rest of 35.8 % mid-wall.
    shares = [one.share_of_scar_percent for one in found]
    assert shares == pytest.approx([64.2, 35.8, 0], abs=POINTS)
    # A third of the turn: all of the endocardial layer there; of the mid-wall layer
    # 80.6 / (26.67^2 - 23.33^2) = 80.6 / 166.7 = 48.3 % of it.
    scarred = [one.scarred_percent for one in found]
    assert scarred == pytest.approx([33.3, 16.1, 0], abs=POINTS)


@pytest.mark.parametrize(
    ("depths", "layer"), [((1 / 3, 2 / 3), 1), ((0, 1 / 3), 0), ((2 / 3, 1), 2)]
)
def test_scar_of_one_layer_lies_there(heart, depths, layer):
    chords = [chords_of(heart(scars=[(200, 300, *depths)], pixel_mm=0.25))]
    shares = [one.share_of_scar_percent for one in layers(chords)]
    # Half a pixel of 0.25 mm over a layer of 3.33 mm at either border is 7.5 %, and
    # what leaks there is half of it on average.
    assert shares[layer] > 95
    # Mid-wall scar is not transmural: a third of the wall.
    found = mean_transmurality_percent(chords, only_with_scar=True)
    assert found == pytest.approx(100 / 3, abs=POINTS)


def test_without_scar(heart):
    chords = [chords_of(heart())]
    assert mean_transmurality_percent(chords) == 0
    assert mean_transmurality_percent(chords, only_with_scar=True) is None
    assert [one.share_of_scar_percent for one in layers(chords)] == [None] * 3
    assert [one.scarred_percent for one in layers(chords)] == [0] * 3


def test_no_chords():
    assert mean_transmurality_percent([]) is None
    assert layers([])[0].scarred_percent is None


def test_gap_has_no_chord(heart):
    masks = heart()
    labels = masks.label_map.copy()
    rows, columns = np.indices(labels.shape[1:])
    labels[:, (columns > 90) & (np.abs(rows - 65) < 10)] = 0
    values = chords_of(WallMasks(labels, masks.affine)).transmurality_percent
    # 20 rows of 0.5 mm at 20 mm and more from the centre: 2 asin(5 / 20) = 29 degrees,
    # at the outer end 19; a chord is gone where it meets no wall at all.
    assert 15 <= np.isnan(values).sum() <= 32


def test_a_slice_without_wall_is_an_error(heart):
    masks = heart()
    labels = masks.label_map.copy()
    labels[1] = 0
    with pytest.raises(ValueError, match="slice 1"):
        chords_of(WallMasks(labels, masks.affine), 1)


@settings(max_examples=12, deadline=None)
@given(
    depth=st.floats(0.1, 0.9),
    first=st.integers(0, 359),
    row=st.floats(-0.5, 0.5),
    column=st.floats(-0.5, 0.5),
)
def test_depth_counts_and_not_the_place_on_the_grid(heart, depth, first, row, column):
    scars = [(first, first + 90, 0, depth)]
    masks = heart(scars=scars, pixel_mm=1.0, off=(row, column), slices=1)
    found = mean_transmurality_percent([chords_of(masks)], only_with_scar=True)
    # 1 mm pixels on a wall of 10 mm: the mean over 90 chords evens out half pixels, but
    # two ragged ends of half a pixel, 1.4 degrees each, count with half of their depth.
    assert found == pytest.approx(100 * depth, abs=3.5)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (0, "0"),
        (0.49, "0"),
        (0.5, "1-25"),
        (25.4, "1-25"),
        (25.5, "26-50"),
        (50, "26-50"),
        (50.5, "51-75"),
        (75.49, "51-75"),
        (75.5, "76-100"),
        (100, "76-100"),
    ],
)
def test_classes(value, name):
    assert transmurality_class(value) == name


def test_directions_turn_counter_clockwise_seen_from_the_apex():
    # Who looks from the apex sees the long axis (0, 0, 1) point at him, x to the right
    # and y up: a quarter turn counter-clockwise takes x to y.
    found = directions(np.array([90.0]), np.array([1.0, 0, 0]), np.array([0, 0, 1.0]))
    np.testing.assert_allclose(found, [[0, 1, 0]], atol=1e-12)


def test_anchor_of_a_coronal_stack_is_the_left():
    # Rows to the feet, columns to the left, slices to the back: no front in the plane.
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 1, 0], [0, 0, 8], [-1, 0, 0]], float)
    masks = WallMasks(np.full((2, 3, 3), 2, np.uint8), affine)
    np.testing.assert_allclose(any_anchor(masks), [1, 0, 0], atol=1e-12)
