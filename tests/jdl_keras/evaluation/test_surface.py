import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import KDTree

from jdl_keras.evaluation.surface import (
    bounding_box,
    hausdorff_mm,
    hd95_mm,
    in_plane_hd95_mm,
)

masks = arrays(bool, (3, 6, 5))
steps_mm = st.floats(0.5, 10)


def stack(*voxels, shape=(4, 8, 8)):
    mask = np.zeros(shape, bool)
    mask[tuple(np.transpose(voxels))] = True
    return mask


def test_single_voxels_with_anisotropic_spacing():
    # 1 slice x 10 mm, 2 rows x 1.5 mm, 3 columns x 2 mm: sqrt(100 + 9 + 36) mm.
    found = hd95_mm(stack((0, 0, 0)), stack((1, 2, 3)), (1.5, 2.0), 10.0)
    assert found == pytest.approx(math.sqrt(145), rel=1e-12)  # float rounding


def test_it_is_the_95th_percentile_of_the_worse_direction():
    row = np.zeros((1, 1, 21), bool)
    point = row.copy()
    row[:], point[..., 0] = True, True
    # Point to row: 0. Row to point: 0, 0.5, ..., 10 mm; 0.95 x 20 = the 19th: 9.5 mm.
    assert hd95_mm(point, row, (1.0, 0.5), 10.0) == 9.5
    assert hd95_mm(row, point, (1.0, 0.5), 10.0) == 9.5


def test_the_surface_is_what_has_a_face_neighbour_outside():
    disc = np.zeros((1, 5, 5), bool)
    disc[0, 1:4, 1:4] = True
    ring = disc.copy()
    ring[0, 2, 2] = False
    # In the slice both have the same border of 8 pixels.
    assert in_plane_hd95_mm(disc[0], ring[0], (1.0, 1.0)) == 0
    # In the stack the disc's centre lies open above and below: of its 9 distances eight
    # are 0 and one is 1 mm; place 0.95 x 8 = 7.6 interpolates to 0.6 mm.
    assert hd95_mm(disc, ring, (1.0, 1.0), 10.0) == pytest.approx(0.6, rel=1e-12)


def test_a_mask_on_the_border_of_the_array_has_its_surface_there():
    full, smaller = np.ones((2, 5, 7, 7), bool)
    smaller[:, :, 0] = False
    assert hd95_mm(full, full, (1.0, 1.0), 8.0) == 0
    # Full's surface has 49 + 49 + 3 x 24 = 170 voxels; the 5 x 7 of row 0, more than
    # 5 % of them, are 1 mm from the smaller mask.
    assert hd95_mm(full, smaller, (1.0, 1.0), 8.0) == 1


def test_a_missing_mask_has_no_distance():
    some, none = stack((1, 2, 3)), np.zeros((4, 8, 8), bool)
    for pair in [(some, none), (none, some), (none, none)]:
        assert math.isnan(hd95_mm(*pair, (1.0, 1.0), 10.0))
        assert math.isnan(in_plane_hd95_mm(pair[0][1], pair[1][1], (1.0, 1.0)))


def recomputed(reference, prediction, steps):
    """Nearest neighbours in a tree, over voxels found by shifting a padded mask."""

    def surface(mask):
        padded = np.pad(mask, 1)
        inside = padded.copy()
        for axis in range(padded.ndim):
            for step in (-1, 1):
                inside &= np.roll(padded, step, axis)
        return (np.argwhere(padded & ~inside) - 1) * steps

    a, b = surface(reference), surface(prediction)
    directed = [np.percentile(KDTree(to).query(o)[0], 95) for o, to in ((a, b), (b, a))]
    return max(directed)


@given(masks, masks, steps_mm, steps_mm, steps_mm)
def test_symmetric_and_equal_to_an_independent_recomputation(a, b, row, column, gap):
    found = hd95_mm(a, b, (row, column), gap)
    np.testing.assert_equal(found, hd95_mm(b, a, (row, column), gap))
    if a.any() and b.any():
        # Square roots of sums taken in another order.
        expected = recomputed(a, b, np.array([gap, row, column]))
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_bounding_box_by_hand():
    box = bounding_box(stack((1, 2, 3), (2, 5, 3)))
    assert box == (slice(1, 3), slice(2, 6), slice(3, 4))


def test_hausdorff_is_the_largest_distance():
    row = np.zeros((2, 3, 21), bool)
    point = row.copy()
    row[0, 0], point[0, 0, 0] = True, True
    # Along the row 20 x 0.5 = 10 mm; HD95 was 9.5 mm.
    assert hausdorff_mm(point, row, (1.0, 0.5), 8.0) == 10
    assert hausdorff_mm(row, point, (1.0, 0.5), 8.0) == 10
    # One stray voxel, a slice of 8 mm and two rows of 1 mm from the row
    stray = row.copy()
    stray[1, 2, 7] = True
    found = hausdorff_mm(row, stray, (1.0, 0.5), 8.0)
    assert found == pytest.approx(math.sqrt(64 + 4), rel=1e-12)  # float rounding
    assert math.isnan(hausdorff_mm(row, np.zeros_like(row), (1.0, 0.5), 8.0))


@given(masks, masks)
def test_hausdorff_is_symmetric_and_not_below_hd95(a, b):
    found = hausdorff_mm(a, b, (1.5, 1.0), 9.0)
    np.testing.assert_equal(found, hausdorff_mm(b, a, (1.5, 1.0), 9.0))
    if not math.isnan(found):
        assert found >= hd95_mm(a, b, (1.5, 1.0), 9.0)
