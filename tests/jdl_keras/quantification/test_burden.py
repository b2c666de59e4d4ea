"""Volumes, masses and burden against sums by hand and analytic shapes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jdl_keras.quantification.burden import burden, slice_burdens
from jdl_keras.quantification.masks import (
    WallMasks,
    base_first,
    masks_of,
    with_filled_holes,
)
from tfrecords_tools.errors import RefusedError

EXACT = 1e-9
"""Float rounding only."""
FINE = 0.01
"""What is asked for: within 1 % of the analytic shape."""

AFFINE = np.diag([1.1, 1.2, 10.0, 1.0])
VOXEL_ML = 0.0132  # 1.1 x 1.2 x 10 mm = 13.2 mm3


def test_masses_by_hand():
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[0, 0] = [2, 2, 3, 4]
    labels[1, 1] = [1, 2, 2, 0]
    found = burden(WallMasks(labels, AFFINE))
    # Wall 2 + 1 + 1 + 2 = 6 voxels, scar with MVO 2, MVO 1; blood counts nowhere.
    assert found.myocardium_ml == pytest.approx(6 * VOXEL_ML, rel=EXACT)
    assert found.scar_ml == pytest.approx(2 * VOXEL_ML, rel=EXACT)
    assert found.mvo_ml == pytest.approx(VOXEL_ML, rel=EXACT)
    assert found.scar_g == pytest.approx(2 * VOXEL_ML * 1.05, rel=EXACT)
    assert found.burden_percent == pytest.approx(100 / 3, rel=EXACT)


def test_height_is_along_the_normal_and_with_the_gap():
    # A sheared stack: each step 10 mm up and 6 mm along the rows; the height is 10.
    sheared = AFFINE.copy()
    sheared[0, 2] = 6.0
    labels = np.full((1, 2, 2), 2, np.uint8)
    found = burden(WallMasks(labels, sheared)).myocardium_ml
    assert found == pytest.approx(4 * VOXEL_ML, rel=EXACT)


def test_scar_that_nobody_looked_for_is_no_zero():
    found = burden(masks_of(np.ones((1, 2, 2), bool), None, AFFINE))
    assert (found.scar_ml, found.scar_g, found.burden_percent) == (None, None, None)


def test_scar_beside_the_wall_counts_as_wall():
    wall, scar = np.zeros((2, 1, 2, 3), bool)
    wall[0, 0, :2] = True
    scar[0, 0, 1:] = True
    # Wall 2, scar 2 with 1 in common: 3 in all.
    found = burden(masks_of(wall, scar, AFFINE)).burden_percent
    assert found == pytest.approx(200 / 3, rel=EXACT)


def test_annulus_and_its_sector(heart):
    found = burden(heart(scars=[(40, 130, 0, 0.5)]))
    # pi (30^2 - 20^2) = 1570.80 mm2 on 3 slices of 8 mm; a quarter of the turn of
    # pi (25^2 - 20^2) = 706.86 mm2 is scar.
    assert found.myocardium_ml == pytest.approx(1570.80 * 24 / 1000, rel=FINE)
    assert found.scar_g == pytest.approx(706.86 / 4 * 24 / 1000 * 1.05, rel=FINE)
    assert found.burden_percent == pytest.approx(11.25, rel=FINE)


def test_half_an_ellipsoidal_shell():
    # Semi-axes 30 x 30 x 60 without 20 x 20 x 50 mm: 2/3 pi (54000 - 20000) mm3
    analytic_ml = 2 / 3 * math.pi * 34000 / 1000
    steps, heights = np.arange(-62, 63) * 0.5, np.arange(30) * 2 + 1.0
    plane = (steps**2 + steps[:, None] ** 2)[None]
    z = heights[:, None, None]
    outer = plane / 30**2 + (z / 60) ** 2 < 1
    inner = plane / 20**2 + (z / 50) ** 2 < 1
    found = burden(masks_of(outer & ~inner, None, np.diag([0.5, 0.5, 2.0, 1.0])))
    assert found.myocardium_ml == pytest.approx(analytic_ml, rel=FINE)
    assert found.myocardium_g == pytest.approx(1.05 * analytic_ml, rel=FINE)


labels_of_a_stack = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 5, (3, 6, 5)).astype(np.uint8)
)


@settings(max_examples=15, deadline=None)
@given(labels_of_a_stack)
def test_slices_add_up_and_parts_are_no_more_than_the_whole(labels):
    labels[0, 0, 0] = 2  # some wall
    masks = WallMasks(labels, AFFINE)
    whole, parts = burden(masks), slice_burdens(masks)
    for name in ("myocardium_ml", "scar_ml", "mvo_ml"):
        total = sum(getattr(one, name) for one in parts)
        assert getattr(whole, name) == pytest.approx(total, abs=EXACT)
    assert 0 <= whole.mvo_ml <= whole.scar_ml <= whole.myocardium_ml
    filled = burden(with_filled_holes(masks))
    assert filled.myocardium_ml == whole.myocardium_ml
    assert filled.scar_ml - whole.scar_ml == pytest.approx(
        filled.mvo_ml - whole.mvo_ml, abs=EXACT
    )


# Holes


def test_hole_inside_scar_becomes_mvo():
    wall = np.ones((1, 5, 6), bool)
    scar = np.zeros_like(wall)
    scar[0, 1:4, 1:4] = True
    scar[0, 2, 2] = False
    found = burden(with_filled_holes(masks_of(wall, scar, AFFINE)))
    # 8 voxels of scar around one of MVO
    assert found.mvo_ml == pytest.approx(VOXEL_ML, rel=EXACT)
    assert found.scar_ml == pytest.approx(9 * VOXEL_ML, rel=EXACT)


def test_cavity_inside_scar_all_round_it_is_no_hole(heart):
    for depths in ((0, 1), (0.4, 1), (0.4, 0.6)):
        masks = heart(scars=[(0, 360, *depths)])
        assert not with_filled_holes(masks).mvo.any()


def test_open_bay_is_no_hole():
    wall = np.ones((1, 5, 6), bool)
    scar = np.zeros_like(wall)
    scar[0, 1:4, 1:4] = True
    scar[0, 2, 2:4] = False
    assert not with_filled_holes(masks_of(wall, scar, AFFINE)).mvo.any()


# What is refused


@pytest.mark.parametrize(
    ("labels", "affine", "code"),
    [
        (np.zeros((2, 3, 3), np.uint8), AFFINE, "LABELS"),
        (np.full((2, 3, 3), 5, np.uint8), AFFINE, "LABELS"),
        (np.full((3, 3), 2, np.uint8), AFFINE, "SHAPE_MISMATCH"),
        (np.full((2, 3, 3), 2, np.int64), AFFINE, "SHAPE_MISMATCH"),
        (np.full((2, 3, 3), 2, np.uint8), AFFINE * np.nan, "BAD_GEOMETRY"),
        (np.full((2, 3, 3), 2, np.uint8), np.diag([30, 1, 8, 1.0]), "BAD_GEOMETRY"),
    ],
)
def test_masks_that_cannot_be_measured_are_refused(labels, affine, code):
    with pytest.raises(RefusedError) as refusal:
        WallMasks(labels, affine)
    assert refusal.value.code == code


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(RefusedError, match="SHAPE_MISMATCH"):
        masks_of(np.ones((1, 2, 2), bool), np.ones((1, 2, 3), bool), AFFINE)


def test_apex_first_is_turned_and_points_stay_in_place(draw):
    labels, affine = draw(slices=3)
    labels[2] = 0
    turned = affine.copy()
    turned[:3, 3] += 2 * affine[:3, 2]
    turned[:3, 2] *= -1
    found, back, told = base_first(labels[::-1], turned, "auto")
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_allclose(back, affine, atol=1e-12)
    assert told == []


def test_order_that_nothing_tells_is_a_warning():
    labels = np.full((3, 4, 4), 2, np.uint8)
    found, _, told = base_first(labels, np.diag([1.0, 1.0, 8.0, 1.0]), "auto")
    assert found is labels
    assert "SLICE_ORDER" in told[0]
