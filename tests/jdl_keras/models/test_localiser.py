"""Heat maps to centres, by hand; and what the localiser does with an empty image."""

import keras
import numpy as np
import pytest

from jdl_keras.config import LocaliserConfig
from jdl_keras.models.localiser import (
    Localiser,
    build_localiser,
    heat_map_centre,
    heat_maps,
    native_centres,
    slice_centres,
    study_heat_map,
)
from jdl_keras.preprocessing import Grid, image_centre

CONFIG = LocaliserConfig(size=(32, 48), spacing_mm=(4.0, 5.0), width=8)
GRID = Grid(CONFIG.size, CONFIG.spacing_mm)


def heat_of(places, size=(20, 30)):
    """A heat map (1, h, w, 1) from {(row, column): heat}."""
    heat = np.zeros((1, *size, 1), "float32")
    for (row, column), value in places.items():
        heat[0, row, column] = value
    return heat


def centre(places, radius=(4.0, 4.0)):
    return keras.ops.convert_to_numpy(heat_map_centre(heat_of(places), radius))[0]


def test_single_hot_pixel():
    np.testing.assert_array_equal(centre({(7, 21): 0.3}), [7, 21])


def test_expected_position_lies_between_pixels():
    # Rows (3 * 7 + 1 * 8) / 4 = 7.25, columns (3 * 21 + 1 * 20) / 4 = 20.75.
    np.testing.assert_array_equal(centre({(7, 21): 0.75, (8, 20): 0.25}), [7.25, 20.75])


def test_second_blob_outside_the_window_does_not_pull():
    near, far = {(5, 5): 0.4, (5, 9): 0.1}, {(5, 10): 0.3, (15, 25): 0.35}
    # (0.4 * 5 + 0.1 * 9) / 0.5 = 5.8: the window ends 4 pixels from the maximum.
    # One rounding of float32 near 5.8 is 5e-7.
    np.testing.assert_allclose(centre(near | far), [5, 5.8], atol=2e-6)


def test_no_heat_gives_the_middle():
    np.testing.assert_array_equal(centre({}), [9.5, 14.5])


def test_native_position_by_hand():
    # Heat at (10, 30) of 32 x 48; the grid's middle is (15.5, 23.5). Offset: -5.5 rows
    # of 4 mm = -22 mm, 6.5 columns of 5 mm = 32.5 mm. Native pixels of 2 x 1.25 mm
    # around (49.5, 59.5): 49.5 - 11 and 59.5 + 26.
    heat = heat_of({(10, 30): 1.0}, GRID.size)
    spacing_mm, middle = np.float32([[2.0, 1.25]]), np.float32([[49.5, 59.5]])
    found = native_centres(heat, GRID, spacing_mm, middle)
    np.testing.assert_allclose(found, [[38.5, 85.5]], atol=1e-4)


def test_native_position_stays_inside_the_image():
    # The first row is 15.5 * 4 = 62 mm above the middle, the image ends after 15 mm.
    heat = heat_of({(0, 47): 1.0}, GRID.size)
    middle = np.float32([[15.0, 10.0]])
    found = native_centres(heat, GRID, np.ones((1, 2), "float32"), middle)
    np.testing.assert_array_equal(found, [[0.0, 20.0]])


def test_slices_that_went_astray_are_outvoted():
    right = heat_of({(6, 8): 1.0})
    astray = [heat_of({(1, 1): 1.0}), heat_of({(18, 28): 1.0})]
    unsure = heat_of({(6, 9): 0.5, (2, 20): 0.5})
    together = study_heat_map(np.concatenate([right, *astray, unsure, right]))
    # Two votes for (6, 8), half a vote for (6, 9): column 8 + 0.5 / 2.5.
    found = heat_map_centre(together, (4.0, 4.0))
    np.testing.assert_allclose(found, [[6, 8.2]], atol=2e-6)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return build_localiser(CONFIG)


@pytest.mark.parametrize("size", [(32, 32), (96, 96), (128, 48)])
def test_logits_lie_on_the_grid(size):
    network = build_localiser(LocaliserConfig(size=size, width=8))
    assert network(np.zeros((2, *size, 1), "float32")).shape == (2, *size, 1)


def test_every_pixel_can_change_every_logit(network):
    image = np.random.default_rng(0).random((1, *GRID.size, 1), "float32")
    before = keras.ops.convert_to_numpy(network(image))
    image[0, 0, 0] += 0.5
    assert (keras.ops.convert_to_numpy(network(image)) != before).all()


def random_images(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def test_heat_of_a_slice_sums_to_one(network):
    spacing_mm = np.float32([[1.5, 1.5], [2.0, 1.0]])
    heat = heat_maps(network, GRID, random_images(2, 40, 50), spacing_mm)
    # 1536 terms: float32 rounds their sum by less than 1e-5.
    np.testing.assert_allclose(np.sum(heat, axis=(1, 2, 3)), [1, 1], atol=1e-5)


@pytest.mark.parametrize("value", [0.0, -3.5, 1e30, np.nan, np.inf])
def test_nothing_to_see_gives_the_middle(network, value):
    images = np.full((2, 30, 41), value, "float32")
    images[1] = random_images(30, 41)
    spacing_mm = np.full((2, 2), 1.5, "float32")
    found = keras.ops.convert_to_numpy(slice_centres(network, GRID, images, spacing_mm))
    np.testing.assert_array_equal(found[0], [14.5, 20.0])
    assert np.isfinite(found).all()
    alone = slice_centres(network, GRID, images[1:], spacing_mm[1:])
    # The order of float32 sums may change with the batch.
    np.testing.assert_allclose(found[1], alone[0], atol=1e-3)


def test_one_pixel_is_an_image(network):
    found = slice_centres(
        network, GRID, np.ones((1, 1, 1), "float32"), np.ones((1, 2), "float32")
    )
    np.testing.assert_array_equal(found, [[0, 0]])


def test_study_of_equal_slices_is_centred_as_each(network, make_study):
    study = make_study(0, pixels=np.repeat(random_images(1, 12, 10), 3, axis=0))
    localiser = Localiser(network, GRID)
    slices = localiser.slice_centres(study)
    assert slices.shape == (3, 2)
    # The mean of three equal heat maps rounds differently from one.
    np.testing.assert_allclose(localiser.study_centre(study), slices[0], atol=1e-4)


def test_works_in_a_graph_of_unknown_size(network):
    tf = pytest.importorskip("tensorflow")
    shapes = [tf.TensorSpec([None, None, None]), tf.TensorSpec([None, 2])]
    function = tf.function(
        lambda images, spacing_mm: slice_centres(network, GRID, images, spacing_mm),
        input_signature=shapes,
    )
    images, spacing_mm = random_images(2, 33, 21), np.float32([[1.5, 1.5], [2.0, 1.0]])
    eager = slice_centres(network, GRID, images, spacing_mm)
    np.testing.assert_allclose(function(images, spacing_mm), eager, atol=1e-3)
    middle = image_centre(images)
    assert np.abs(eager - middle).max() > 0.1
