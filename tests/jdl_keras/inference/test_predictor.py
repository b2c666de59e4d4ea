"""Predictions lie on the native grid and do not depend on how slices are batched.

The networks of the tests on rotations are functions whose mean is worked by hand.
"""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.config import Config, GridConfig
from jdl_keras.data.centring import image_middle
from jdl_keras.inference.mask_rule import MaskRule
from jdl_keras.inference.predictor import Predictor, predict
from jdl_keras.models.methods import METHODS, build_network
from jdl_keras.preprocessing import Grid
from jdl_keras.run_folder import RunFolder
from tfrecords_tools.labels import TASKS
from tfrecords_tools.study import Study

pytestmark = pytest.mark.slow

GRID = Grid(size=(32, 48), spacing_mm=(2.0, 2.0), percentiles=(0.0, 100.0))


def make_study(shape=(3, 40, 50), spacing_mm=(1.5, 1.25), pixels=None):
    random = np.random.default_rng(0)
    pixels = random.random(shape, np.float32) if pixels is None else pixels
    return Study(
        patient_key="aa",
        study_key="01",
        source="test",
        pixels=pixels,
        label_map=np.zeros(pixels.shape, np.uint8),
        labelled=(frozenset(TASKS),) * len(pixels),
        affine=np.diag([*spacing_mm, 10.0, 1.0]),
    )


def one_slice(study, index):
    return make_study(
        spacing_mm=study.spacing_mm, pixels=study.pixels[index : index + 1]
    )


def predictor(function, rotations=1, grid=GRID, locate=image_middle):
    """One whose network computes `function` of what it sees."""
    image = keras.Input((*grid.size, 1))
    network = keras.Model(image, {"scar": function(image)})
    return Predictor(network, grid, locate, rotations)


def mirror(**options):
    """What its network sees is what it finds."""
    return predictor(keras.layers.Identity(), **options)


@pytest.fixture
def network():
    """Two tasks, random weights."""
    keras.utils.set_random_seed(0)
    image = keras.Input((*GRID.size, 1))
    x = keras.layers.Conv2D(4, 5, padding="same", activation="relu")(image)
    maps = {
        task: keras.layers.Conv2D(1, 5, padding="same", activation="sigmoid")(x)
        for task in TASKS
    }
    return keras.Model(image, maps)


@pytest.fixture
def toy(network):
    return Predictor(network, GRID, image_middle)


@pytest.mark.parametrize("shape", [(3, 40, 50), (1, 17, 90), (2, 64, 20)])
def test_maps_are_probabilities_on_the_native_grid(toy, shape):
    maps = toy.probability_maps(make_study(shape))
    assert [*maps] == [*TASKS]
    for values in maps.values():
        assert values.shape == shape
        assert values.dtype == np.float32
        assert values.min() >= 0
        assert values.max() <= 1


def test_slices_one_by_one_give_what_the_stack_gives(toy):
    study = make_study()
    together = toy.probability_maps(study)
    for index in range(3):
        alone = toy.probability_maps(one_slice(study, index))
        for task, values in alone.items():
            # the order of float32 sums may change with the batch, by some 1e-7
            np.testing.assert_allclose(values[0], together[task][index], atol=1e-6)


def test_bright_spot_is_found_where_it_is():
    # rows 10-13 and columns 30-33 of 40 x 50: neither central nor symmetric
    pixels = np.random.default_rng(0).random((1, 40, 50), np.float32) * 0.01
    pixels[0, 10:14, 30:34] = 1
    maps = mirror().probability_maps(make_study(pixels=pixels))
    found = np.argwhere(maps["scar"][0] >= 0.5)
    # Half a pixel of the coarser grid is 1 mm: 0.67 rows or 0.8 columns.
    assert np.abs(found.mean(axis=0) - (11.5, 31.5)).max() <= 0.8
    # 4 x 4 pixels = 6 x 5 mm; each edge may move by half a grid pixel, 1 mm:
    # from 4 x 3 mm = 6.4 pixels to 8 x 7 mm = 29.9 pixels of 1.5 x 1.25 mm
    assert 6 <= len(found) <= 30


def test_nothing_is_found_where_the_grid_does_not_reach():
    # The grid spans 32 x 2 = 64 mm of 100 rows of 1.5 mm: rows 28.3 to 70.7.
    study = make_study((1, 100, 50))
    maps = mirror().probability_maps(study)["scar"][0]
    assert not maps[:28].any()
    assert not maps[72:].any()
    assert maps[30:70].all(axis=1).any()
    # Centred on row 69.5, 20 rows below the middle, it reaches from 48.3 to 90.7.
    maps = mirror(locate=lambda _: (69.5, 24.5)).probability_maps(study)["scar"][0]
    assert not maps[:48].any()
    assert not maps[92:].any()
    assert maps[50:90].all(axis=1).any()


def test_long_stack_is_predicted_in_parts(toy, monkeypatch):
    study = make_study((5, 40, 50))
    whole = toy.probability_maps(study)
    sizes, predict_rotated = [], toy._predict_rotated

    def recording(images, *others):
        sizes.append(len(images))
        return predict_rotated(images, *others)

    monkeypatch.setattr(toy, "_predict_rotated", recording)
    monkeypatch.setattr("jdl_keras.inference.predictor.LARGEST_BATCH", 2)
    for task, values in toy.probability_maps(study).items():
        np.testing.assert_allclose(values, whole[task], atol=1e-6)
    assert sizes == [2, 2, 1]


def test_in_graph_is_what_the_predictor_gives(network):
    study = make_study()
    place = tf.constant([study.spacing_mm] * 3), tf.constant([image_middle(study)] * 3)
    in_graph = tf.function(lambda *inputs: predict(network, GRID, *inputs, rotations=3))
    maps = in_graph(tf.constant(study.pixels), *place)
    outside = Predictor(network, GRID, image_middle, rotations=3)
    for task, values in outside.probability_maps(study).items():
        np.testing.assert_allclose(maps[task], values, atol=1e-6)


def test_mask_starts_at_the_threshold(toy):
    study = make_study()
    maps = toy.probability_maps(study)
    for task, values in maps.items():
        threshold = float(values[1, 20, 25])
        mask = MaskRule(threshold, threshold, 0.0).masks(study, maps)[task]
        assert mask.dtype == bool
        assert mask[1, 20, 25]
        np.testing.assert_array_equal(mask, values >= threshold)


def test_saved_and_reloaded_network_predicts_the_same_bits(
    tmp_path, monkeypatch, toy_method
):
    monkeypatch.setitem(METHODS, "jdl", toy_method)
    folder = RunFolder(tmp_path)
    config = Config(grid=GridConfig(**dataclasses.asdict(GRID)))
    folder.describe(config, "ab12")
    network = build_network(config)
    folder.save_network(network)
    study = make_study()
    before = Predictor(network, GRID, image_middle).probability_maps(study)
    grid = Grid.from_config(folder.load_config().grid)
    reloaded = Predictor(folder.load_network(), grid, image_middle)
    after = reloaded.probability_maps(study)
    for task, values in before.items():
        assert values.tobytes() == after[task].tobytes()


# Rotations

SQUARE = Grid((32, 32), (1.5, 1.5), percentiles=(0.0, 100.0))
ROWS, COLUMNS = (np.float32(index) - 15.5 for index in np.mgrid[:32, :32])
"""Offsets from the middle of `SQUARE`."""


def of_place(values):
    """A network that sees nothing: (H, W) values of the place on the grid."""
    return keras.layers.Lambda(lambda seen: 0 * seen + values[..., None])


def test_rotations_of_what_is_seen_give_the_image_back():
    # A heart-sized bump off the middle, whose smallest and largest value every
    # rotation sees, so that all of them scale alike.
    spacing_mm, sd_mm = (1.5, 1.25), 12.0
    rows, columns = np.mgrid[:64, :72]
    off_mm = np.hypot((rows - 35) * spacing_mm[0], (columns - 30) * spacing_mm[1])
    image = np.float32(np.exp(-0.5 * (off_mm / sd_mm) ** 2))[None]
    study = make_study(spacing_mm=spacing_mm, pixels=image)
    fine = Grid((96, 96), (1.0, 1.0), percentiles=(0.0, 100.0))
    # Linear interpolation is off by at most step^2 / 8 * curvature along each axis, and
    # the curvature by at most 1 / sd^2: (1.5^2 + 1.25^2) / 8 / 144 = 0.0033 on the way
    # there, (1 + 1) / 8 / 144 = 0.0017 on the way back. The peak is missed by as much
    # as on the way there, which scales all. In the corners the bump is 0.
    found = mirror(grid=fine, rotations=8).probability_maps(study)["scar"]
    reach = predictor(of_place(np.ones((96, 96))), grid=fine).probability_maps(study)
    inside = reach["scar"] == 1
    assert inside.sum() > 4000
    np.testing.assert_allclose(found[inside], image[inside], atol=0.0083)


def convolution(kernel):
    """Filters by a 3x3 kernel; in (0, 1)."""
    layer = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")
    layer.build((None, None, None, 1))
    layer.set_weights([np.float32(kernel)[..., None, None], np.zeros(1)])
    return layer


TURNS_ALONG = [[0.1, 0.2, 0.1], [0.2, -1.3, 0.2], [0.1, 0.2, 0.1]]
DOES_NOT = [[0.1, 0.2, 0.1], [0.2, -1.3, 0.2], [0.1, 0.2, 1.1]]


@pytest.mark.parametrize(("kernel", "turns"), [(TURNS_ALONG, True), (DOES_NOT, False)])
def test_network_that_turns_with_its_image_gives_the_same_at_4_rotations(kernel, turns):
    study, layer = make_study((2, 40, 50)), convolution(kernel)
    one, four = (
        predictor(layer, n, grid=SQUARE).probability_maps(study)["scar"] for n in (1, 4)
    )
    # A square grid turned by 90 degrees has the same pixels. Positions up to 50 carry
    # errors of 1e-5 pixels; the image rises by up to 1 a pixel, and the network, whose
    # weights add up to 2.5 and whose sigmoid has slope 1/4, by less than that.
    assert (np.abs(four - one).max() <= 2e-5) == turns


def test_mean_over_rotations_by_hand():
    # Columns and rows from the middle, each squared, over 1000, and a slope.
    values = COLUMNS**2 / 1000 + COLUMNS / 100
    study = make_study((1, 40, 40), SQUARE.spacing_mm)
    # Native and grid pixels coincide; native (21, 24) is grid (17, 20): row 1.5 and
    # column 4.5 from the middle, and its mirror -1.5 and -4.5.
    expected = {
        1: 4.5**2 / 1000 + 0.045,  # 0.06525
        2: 4.5**2 / 1000,  # the slopes cancel: 0.02025
        4: (4.5**2 + 1.5**2) / 2000,  # column, row, -column, -row: 0.01125
    }
    for rotations, value in expected.items():
        slope = predictor(of_place(values), rotations, grid=SQUARE)
        found = slope.probability_maps(study)["scar"][0, 21, 24]
        # Positions below 50 carry errors of 1e-5 pixels, slopes are below 0.04.
        assert found == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("rotations", [2, 3, 8])
def test_corners_that_few_rotations_reach_are_not_dimmed(rotations):
    ones, study = of_place(np.ones((32, 32))), make_study((1, 64, 64))
    many = predictor(ones, rotations, grid=SQUARE)
    maps = many.probability_maps(study)["scar"]
    expected = predictor(ones, grid=SQUARE).probability_maps(study)["scar"]
    # Means of ones, and 0 where the grid that is not turned does not reach.
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    assert (expected == 1).sum() >= 900
    assert (expected == 0).any()
