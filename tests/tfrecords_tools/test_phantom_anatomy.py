"""Wall and scars of the phantom against geometry worked by hand."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tfrecords_tools import geometry
from tfrecords_tools.labels import MYOCARDIUM, SCAR, Tissue, region_mask
from tfrecords_tools.sources.phantom.anatomy import (
    TURN,
    Ripple,
    Ventricle,
    draw_ripple,
    draw_ventricle,
)
from tfrecords_tools.sources.phantom.scars import Scar, draw_scars
from tfrecords_tools.sources.phantom.stack import draw_stack
from tfrecords_tools.sources.phantom.wall import areas_mm2, label_map

SEEDS = st.integers(0, 100_000)
SMOOTH = Ripple(np.array([1]), np.zeros(1), np.zeros(1), np.zeros(1))
ROUND = Ventricle(
    cavity_radius_mm=20.0,
    cavity_length_mm=70.0,
    wall_mm=10.0,
    oval=0.0,
    oval_angle=0.0,
    septum_angle=math.pi,
    rv_size=1.0,
    tilt=(0.0, 0.0),
    shape=SMOOTH,
    thickness=SMOOTH,
    papillaries=(),
)
WEDGE = Scar(
    pattern="ischaemic",
    angle=0.0,
    half_angle=0.5,
    centre_mm=30.0,
    half_height_mm=20.0,
    reach=100.0,
    border=SMOOTH,
    mvo=0.0,
    thinning=0.0,
)


def draw_heart(seed):
    random = np.random.default_rng(seed)
    ventricle = draw_ventricle(random, math.pi, infarcted=True)
    return ventricle, draw_scars(random, math.pi, ventricle.cavity_length_mm), random


def areas(scars, z_mm):
    return {
        t: float(a[0]) for t, a in areas_mm2(ROUND, scars, np.array([z_mm])).items()
    }


def test_area_of_a_round_wall():
    # At the ring r = 20 * 0.94 = 18.8 and w = 10 (1 + 0.08 cos a). The mean of
    # r w + w^2 / 2 over a turn is 188 + 50 (1 + 0.08^2 / 2) = 238.16, so the area is
    # 2 pi 238.16 = 1496.4 mm2; the sum's cells of 0.1 mm leave less than 1e-4 of it.
    found = areas((), 0.0)
    assert found[Tissue.HEALTHY_MYOCARDIUM] == pytest.approx(1496.4, rel=1e-4)
    assert found[Tissue.SCAR] == found[Tissue.MVO] == 0


def test_area_of_a_transmural_wedge():
    # A wedge of +-0.5 rad of a wall of r and w, both nearly constant over the wedge:
    # its share of the turn is 1 / 2 pi. It stands opposite the septum, where the wall
    # is thinner by 0.08 cos a (0.0767 on average over the wedge).
    wall = areas((), 30.0)[Tissue.HEALTHY_MYOCARDIUM]
    found = areas((WEDGE,), 30.0)
    endocardium = ROUND.endocardium_mm(np.zeros(1), np.array([30.0]))[0]
    height = 1 - 0.2 * (30 / 70) ** 2
    thickness = 10 * height * (1 - 0.0767)
    # Cells of 2 pi / 1440 rad end the wedge: 0.2 % at each side.
    expected = endocardium * thickness + thickness**2 / 2
    assert found[Tissue.SCAR] == pytest.approx(expected, rel=5e-3)
    assert sum(found.values()) == pytest.approx(wall, rel=1e-6)
    assert areas((WEDGE,), 51.0)[Tissue.SCAR] == 0  # 30 + 20 mm is its end


def test_subendocardial_scar_reaches_its_depth():
    half = dataclasses.replace(WEDGE, reach=0.5)
    begin, end = half.interval(np.array([0.0, 1.0]), np.array([30.0, 30.0]))
    # In its middle from the endocardium half-way through; beyond 0.5 rad nothing.
    assert (begin[0], end[0]) == (0.0, 0.5)
    assert end[1] <= begin[1]


def test_patterns_lie_where_they_should():
    middle = np.zeros(1), np.full(1, 30.0)
    stripe = dataclasses.replace(WEDGE, pattern="mid_wall", reach=0.4)
    outer = dataclasses.replace(WEDGE, pattern="epicardial", reach=0.4)
    # 0.5 -+ 0.4 / 2, and the outer 0.4 of the wall.
    assert np.ravel(stripe.interval(*middle)) == pytest.approx([0.3, 0.7])
    assert np.ravel(outer.interval(*middle)) == pytest.approx([0.6, 1.0])


def test_infarct_thins_the_wall_but_adds_no_blood():
    thin = dataclasses.replace(WEDGE, thinning=0.4)
    assert sum(areas((thin,), 30.0).values()) < sum(areas((WEDGE,), 30.0).values())


@given(SEEDS)
def test_ripple_closes_over_a_turn_and_has_unit_deviation(seed):
    ripple = draw_ripple(np.random.default_rng(seed), range(2, 9), 0.1)
    turn = np.linspace(0, TURN, 400, endpoint=False)
    height = np.full_like(turn, 17.0)
    # Whole waves: exact but for the rounding of doubles.
    assert ripple(turn + TURN, height) == pytest.approx(ripple(turn, height), abs=1e-9)
    assert ripple(turn, height).std() == pytest.approx(1, abs=1e-9)


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_no_reflow_lies_enclosed_in_scar(seed):
    ventricle, scars, _ = draw_heart(seed)
    angle, z = np.meshgrid(np.linspace(0, TURN, 180), np.linspace(0, 70, 20))
    for scar in scars:
        begin, end = scar.interval(angle, z)
        core_begin, core_end = scar.core(angle, z)
        core = core_end > core_begin
        assert (core_begin[core] > begin[core]).all()
        assert (core_end[core] < end[core]).all()


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_wall_is_a_closed_ring_with_scar_inside(seed):
    ventricle, scars, random = draw_heart(seed)
    stack = draw_stack(random, ventricle, 2.0)
    for labels in label_map(ventricle, scars, stack):
        wall = region_mask(labels, MYOCARDIUM)
        blood = labels == Tissue.BLOOD_POOL
        outside = ndimage.label(~wall, structure=np.ones((3, 3)))[0]
        assert blood.any()
        assert (outside[blood] != outside[0, 0]).all()
        assert ndimage.label(wall)[1] == 1
        assert not region_mask(labels, SCAR)[~wall].any()


@given(SEEDS, st.floats(1.65, 3.2))
@settings(max_examples=40, deadline=None)
def test_stack_is_oblique_right_handed_and_knows_where_anterior_is(seed, angle):
    ventricle, _, random = draw_heart(seed)
    stack = draw_stack(random, ventricle, angle)
    affine, rows_columns = stack.affine, stack.shape
    assert 1.2 <= stack.pixel_mm <= 1.9
    assert geometry.pixel_spacing_mm(affine) == pytest.approx((stack.pixel_mm,) * 2)
    assert geometry.slice_spacing_mm(affine) == pytest.approx(stack.slice_spacing_mm)
    assert stack.slice_spacing_mm in (8, 9, 10)
    assert 5 <= len(stack.z_mm) <= 10
    assert all(150 <= n <= 288 for n in rows_columns)
    # Base to apex is left, anterior, down: in LPS +, -, -.
    assert (np.sign(affine[:3, 2]) == (1, -1, -1)).all()
    assert geometry.stack_normal(affine) @ affine[:3, 2] > 0
    # The patient's anterior, as (right, up) of the image, points to `angle`.
    down, right = affine[:3, :2].T / stack.pixel_mm
    anterior = np.array([0.0, -1.0, 0.0])
    found = math.atan2(-(anterior @ down), anterior @ right)
    assert math.cos(found - angle) == pytest.approx(1, abs=1e-9)


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_heart_lies_wholly_within_the_field(seed):
    ventricle, scars, random = draw_heart(seed)
    labels = label_map(ventricle, scars, draw_stack(random, ventricle, 2.0)) > 0
    edge = (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1])
    assert not any(side.any() for side in edge)
