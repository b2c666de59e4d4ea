import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jdl_keras.evaluation.components import smallest_voxels, without_small_components

masks = arrays(bool, (3, 5, 4), elements=st.sampled_from([False, False, True]))


def stack(*voxels):
    mask = np.zeros((3, 6, 6), bool)
    mask[tuple(np.transpose(voxels))] = True
    return mask


PAIR = [(0, 0, 0), (0, 0, 1)]
TRIPLE = [(1, 4, 3), (1, 4, 4), (1, 4, 5)]


def test_what_is_below_the_volume_goes():
    mask = stack(*PAIR, *TRIPLE)
    # Voxels of 0.05 ml: the pair has 0.1 ml, the triple 0.15 ml.
    for smallest_ml, left in [(0, mask), (0.1, mask), (0.11, stack(*TRIPLE))]:
        found = without_small_components(mask, smallest_ml, 0.05)
        np.testing.assert_array_equal(found, left)
    assert without_small_components(mask, 0.15, 0.05).sum() == 3
    assert not without_small_components(mask, 0.16, 0.05).any()


@pytest.mark.parametrize("neighbour", [(1, 2, 2), (0, 3, 3), (1, 3, 3)])
def test_touching_by_face_edge_or_corner_is_one_component(neighbour):
    mask = stack((0, 2, 2), neighbour)
    np.testing.assert_array_equal(without_small_components(mask, 2, 1), mask)


@pytest.mark.parametrize("apart", [(2, 2, 2), (0, 4, 2), (0, 2, 0)])
def test_a_gap_of_one_voxel_separates(apart):
    assert not without_small_components(stack((0, 2, 2), apart), 2, 1).any()


def test_a_limit_that_is_met_is_not_rounded_away():
    # 2.1 / 0.3 is 7.000000000000001 in floats.
    assert smallest_voxels(2.1, 0.3) == 7
    assert smallest_voxels(2.11, 0.3) == 8
    assert smallest_voxels(0, 0.3) == 0


def component_sizes(places):
    """For each voxel how many it reaches by steps of at most one along each axis."""
    steps = np.abs(places[:, None] - places[None]).max(axis=-1, initial=0)
    reaches = steps <= 1
    for _ in places:
        reaches = reaches @ reaches
    return reaches.sum(axis=1)


@given(masks, st.integers(0, 8))
def test_a_voxel_stays_if_it_reaches_enough_others(mask, voxels):
    found = without_small_components(mask, voxels * 0.04, 0.04)
    expected = mask.copy()
    places = np.argwhere(mask)
    expected[tuple(places[component_sizes(places) < voxels].T)] = False
    np.testing.assert_array_equal(found, expected)
