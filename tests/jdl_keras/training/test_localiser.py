"""The localiser learns to find what its training images always show in the middle."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from jdl_keras.config import Config, LocaliserConfig
from jdl_keras.data.centring import reference_centre
from jdl_keras.models.localiser import Localiser
from jdl_keras.preprocessing import Grid, image_centre, preprocess
from jdl_keras.training.localiser import (
    MARGIN_MM,
    View,
    Views,
    place_loss,
    random_cut,
    random_view,
    render,
    target,
    train_localiser,
)
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import Tissue
from tfrecords_tools.study import Study

pytestmark = pytest.mark.slow

BOTH = frozenset({"myocardium", "scar"})
SMALL = LocaliserConfig((32, 32), (10.0, 10.0), width=8, steps=120, batch_size=8)
GRID = Grid(SMALL.size, SMALL.spacing_mm)


def disc_study(number, size, spacing_mm, place_mm=(0.0, 0.0), slices=2):
    """A disc of 35 mm radius, off the image's middle by `place_mm`, on noise."""
    random = np.random.default_rng(number)
    y, x = (
        (np.arange(n) - (n - 1) / 2) * mm - at
        for n, mm, at in zip(size, spacing_mm, place_mm, strict=True)
    )
    disc = np.hypot(y[:, None], x[None, :]) <= 35
    label_map = np.where(disc, np.uint8(Tissue.HEALTHY_MYOCARDIUM), np.uint8(0))
    pixels = random.normal(100 * disc, 10, (slices, *size))
    return Study(
        patient_key=f"patient-{number}",
        study_key=f"study-{number}",
        source="discs",
        pixels=pixels.astype(np.float32),
        label_map=np.repeat(label_map[None], slices, axis=0),
        labelled=(BOTH,) * slices,
        affine=np.diag([*spacing_mm, 10.0, 1.0]),
    )


def record_set_of(studies):
    """What the training needs of a record set."""
    slices = [one for study in studies for one in study.slices()]
    return SimpleNamespace(path="discs", slices={"train": slices}.__getitem__)


def centred_discs():
    return [
        disc_study(number, (110 + 8 * number, 150 - 6 * number), (2.0, 2.2))
        for number in range(8)
    ]


# Views


def test_field_keeps_the_margin_and_stays_inside_the_slice():
    random = np.random.default_rng(0)
    for _ in range(200):
        low, high = random_cut(random, -70.0, 180.0)
        assert -70 <= low <= -MARGIN_MM
        assert MARGIN_MM <= high <= 180
        # Nearer than the margin to the slice's own border: nothing is cut there.
        assert random_cut(random, -20.0, 180.0)[0] == pytest.approx(-20)


def test_place_of_the_heart_in_the_field_is_uniform():
    random = np.random.default_rng(0)
    cuts = np.array([random_cut(random, -200.0, 200.0) for _ in range(4000)])
    place = -cuts[:, 0] / (cuts[:, 1] - cuts[:, 0])
    # Drawn from 50 / 250 = 0.2 to 0.8; the margin moves some of the shortest inward.
    counts, _ = np.histogram(place, np.linspace(0.25, 0.75, 6))
    # Five bins of 4000 * 0.1 / 0.6 = 667; binomial sd 24: 4.5 sd.
    assert np.abs(counts - 667).max() < 107


def test_field_of_a_turned_view_ends_at_the_slice():
    extent = np.array([[-90.0, -120.0], [100.0, 80.0]])
    for seed in range(50):
        view = random_view(np.random.default_rng(seed), extent)
        middles = [(low, 0) for low in view.field[:, 0]]
        middles += [(0, side) for side in view.field[:, 1]]
        for place in middles:
            native = view.to_native @ np.array(place)
            # On the border of what is kept; float64.
            over = np.maximum(view.kept[0] - native, native - view.kept[1])
            assert over.max() == pytest.approx(0, abs=1e-9)


def test_unturned_view_of_the_whole_slice_is_what_inference_sees():
    study = disc_study(3, (90, 120), (2.0, 1.5), place_mm=(-20.0, 35.0))
    one = next(study.slices())
    heart = np.array(reference_centre(study))
    corners = np.array([np.zeros(2), np.array(one.pixels.shape) - 1.0])
    extent = (corners - heart) * one.spacing_mm
    view = View(np.eye(2), extent, extent, dark=False)
    image, place = render(one, heart, view, GRID)
    images, spacing_mm = study.pixels[:1], np.float32([study.spacing_mm])
    seen = preprocess(
        images,
        spacing_mm,
        dataclasses.replace(GRID, percentiles=(0, 100)),
        image_centre(images),
    )
    image = (image - image.min()) / np.ptp(image)
    # The same bilinear samples in float64 and float32.
    np.testing.assert_allclose(image, np.asarray(seen)[0, ..., 0], atol=1e-4)
    # The middle of 32 is 15.5; -20 mm / 10 mm and 35 mm / 10 mm from it. The disc's
    # box is a whole number of pixels of 0.2 x 0.15: it is off by half of one at most.
    np.testing.assert_allclose(place, [13.5, 19.0], atol=0.1)


def test_heart_is_at_its_place_in_every_view():
    views = Views(
        [*disc_study(1, (120, 120), (2.0, 2.0)).slices()], Config(localiser=SMALL)
    )
    for step in range(6):
        images, targets = views[step]
        assert images.shape == targets.shape == (8, 32, 32, 1)
        assert 0 <= images.min() < images.max() <= 1
        for image, heat in zip(images[..., 0], targets[..., 0], strict=True):
            assert heat.sum() == pytest.approx(1, abs=1e-5)
            row, column = np.unravel_index(heat.argmax(), heat.shape)
            # 35 mm x 0.7 is a radius of 2.4 pixels at least: the nearest pixel and
            # its neighbours are bright, the median of the rest, noise, is not.
            disc = image[row - 1 : row + 2, column - 1 : column + 2]
            assert disc.mean() > np.median(image) + 0.2


def test_batches_depend_on_seed_and_step_only():
    slices = [*disc_study(1, (60, 60), (3.0, 3.0)).slices()]
    config = Config(localiser=SMALL)
    views, again = Views(slices, config), Views(slices, config)
    other = Views(slices, dataclasses.replace(config, seed=1))
    again[7]
    for a, b in zip(views[3], again[3], strict=True):
        np.testing.assert_array_equal(a, b)
    assert (views[3][0] != views[4][0]).any()
    assert (views[3][0] != other[3][0]).any()


def test_target_by_hand():
    heat = target(np.array([10.0, 20.0]), GRID)
    # A step of 10 mm at a standard deviation of 10 mm: exp(-1 / 2).
    assert heat[11, 20] / heat[10, 20] == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert heat.argmax() == 10 * 32 + 20


def test_loss_by_hand():
    # Four places, softmax 1/8, 1/8, 1/4, 1/2; target half on the first and last:
    # (ln 8 + ln 2) / 2 = ln 4.
    logits = np.log(np.float32([1, 1, 2, 4])).reshape(1, 2, 2, 1)
    reference = np.float32([0.5, 0, 0, 0.5]).reshape(1, 2, 2, 1)
    loss = keras.ops.convert_to_numpy(
        place_loss(*map(keras.ops.convert_to_tensor, (reference, logits)))
    )
    assert loss == pytest.approx([np.log(4)], rel=1e-6)


# Training


@pytest.fixture(scope="module")
def trained():
    return train_localiser(Config(localiser=SMALL), record_set_of(centred_discs()))


@pytest.mark.parametrize(
    ("size", "spacing_mm", "place_mm"),
    [
        ((120, 120), (2.0, 2.0), (0.0, 0.0)),
        ((90, 160), (2.5, 1.5), (60.0, -70.0)),
        ((200, 100), (1.2, 2.4), (-65.0, 75.0)),
        ((61, 75), (4.0, 3.0), (-80.0, -70.0)),
    ],
)
def test_discs_are_found_where_they_are(trained, size, spacing_mm, place_mm):
    """All discs of the training lay in the middle of their images."""
    study = disc_study(99, size, spacing_mm, place_mm)
    localiser = Localiser(trained, GRID)
    truth = np.array(reference_centre(study))
    found = np.array([localiser.study_centre(study), *localiser.slice_centres(study)])
    # 10 mm, one pixel of the grid; the disc's radius is 35 mm.
    error_mm = np.linalg.norm((found - truth) * spacing_mm, axis=1)
    assert error_mm.max() < 10


def empty_study():
    """Its disc lies outside the image."""
    return disc_study(5, (60, 60), (2.0, 2.0), place_mm=(500.0, 500.0))


def test_same_seed_same_weights_and_empty_slices_are_left_out(trained):
    """With an empty study in front every index would be another."""
    record_set = record_set_of([empty_study(), *centred_discs()])
    again = train_localiser(Config(localiser=SMALL), record_set)
    for a, b in zip(trained.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_myocardium_at_all_is_refused():
    with pytest.raises(RefusedError, match="LABELS"):
        train_localiser(Config(localiser=SMALL), record_set_of([empty_study()]))
