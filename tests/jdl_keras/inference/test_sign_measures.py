"""The measures behind the gate, on shapes and images whose values are known."""

import dataclasses

import numpy as np
import pytest
from predicted_rings import (
    CENTRE,
    PIXEL_MM,
    SIDE,
    SLICE_MM,
    SLICES,
    counted,
    predicted,
    rings,
    with_pixels,
)

from jdl_keras.inference import sign_measures as measures
from jdl_keras.inference.seen import Seen
from jdl_keras.inference.sign_measures import OF_STUDY
from jdl_keras.inference.signs import SIGNS, measure_signs

ROWS, COLUMNS = (np.indices((SIDE, SIDE)) - CENTRE) * PIXEL_MM


def discs(radii_mm, stretch=1.0):
    """A prediction whose wall fills a disc in each slice; `stretch` along columns."""
    study = rings().study
    wall = np.stack([np.hypot(ROWS, COLUMNS / stretch) < mm for mm in radii_mm])
    part = dataclasses.replace(
        study,
        pixels=study.pixels[: len(wall)],
        label_map=study.label_map[: len(wall)],
        labelled=study.labelled[: len(wall)],
    )
    return predicted(part, wall, np.zeros_like(wall))


def first(prediction, measure):
    """A slice's measure in slice 0."""
    seen = Seen(prediction)
    return measure(seen, 0, seen.shapes[0])


def test_amounts():
    seen = Seen(counted(25))
    # 100 voxels of 1 x 1 x 10 mm are 1 ml, 1.05 g.
    assert measures.wall_mass(seen) == pytest.approx(np.log(1.05))
    assert measures.scar_share(seen) == pytest.approx(25)
    # 20 of 120 voxels of scar lie beyond the 100 of wall: 0.2 ml.
    assert measures.loose_scar(Seen(counted(120))) == pytest.approx(0.2)


def test_thickness_of_a_ring():
    radius = np.hypot(ROWS, COLUMNS)
    wall = ((radius < 40) & (radius >= 28))[None].repeat(SLICES, 0)
    case = predicted(rings().study, wall, np.zeros_like(wall))
    # 12 mm; areas of discs on a grid of 2 mm are right to about 1 %.
    assert np.exp(first(case, measures.wall_thickness)) == pytest.approx(12, rel=0.03)


def test_disagreement_of_passes():
    case = counted(0, (0, 0))
    half = {task: mask.copy() for task, mask in case.masks.items()}
    half["myocardium"].ravel()[50:] = False
    case = dataclasses.replace(case, passes=[case.masks, half])
    # Dice 1 and 2 x 50 / (100 + 50) = 2/3, so 1 - 5/6.
    assert first(case, measures.pass_disagreement) == pytest.approx(1 / 6)
    assert first(counted(0, (0,)), measures.pass_disagreement) is None


def test_spread_of_the_burden():
    assert measures.burden_spread(Seen(counted(0, (18, 20, 22)))) == pytest.approx(2)
    assert measures.burden_spread(Seen(counted(0, (18,)))) is None


@pytest.mark.parametrize(("p", "bits"), [(0.5, 1.0), (0.25, 0.811278), (1.0, 0.0)])
def test_doubt(p, bits):
    # -1/4 log2 1/4 - 3/4 log2 3/4 = 0.5 + 0.311278
    case = rings()
    maps = {task: np.full(m.shape, p, np.float32) for task, m in case.maps.items()}
    found = first(dataclasses.replace(case, maps=maps), measures.doubt)
    assert found == pytest.approx(bits, abs=3e-5)  # certainty is cut at 1e-6


def test_noise_is_measured_and_edges_are_not():
    case = rings()
    steps = 100.0 * (COLUMNS > 3) + 100.0 * (ROWS > 3)
    noise = np.random.default_rng(0).normal(0, 2, (SLICES, SIDE, SIDE))
    # Deviation 2 over the range from 0 to 200; 5000 samples of it, 3 %.
    found = first(with_pixels(case, steps + noise), measures.noise)
    assert np.exp(found) == pytest.approx(2 / 200, rel=0.08)


def test_contrast():
    case = rings(noise=0)
    random = np.random.default_rng(0)
    cavity = case.study.label_map == 1
    pixels = np.where(cavity, 100, 40) + random.normal(0, 6, cavity.shape)
    # 60 over a deviation of 6 in both; 500 samples each, 5 %.
    found = first(with_pixels(case, pixels), measures.contrast)
    assert np.exp(found) == pytest.approx(10, rel=0.2)
    assert first(discs([30.0]), measures.contrast) is None  # no cavity


def test_share_of_the_window_without_image():
    case = rings()
    pixels = case.study.pixels.copy()
    # The window of 144 mm is 72 columns about the middle, from column 8 (rounded) on;
    # 27 columns of it have one value, but the last of them borders on content.
    pixels[:, :, : 8 + 27] = 0.0
    seen = Seen(with_pixels(case, pixels))
    assert seen.window[1].stop - seen.window[1].start == 72
    first_column = seen.window[1].start
    expected = (8 + 27 - 1 - first_column) / 72
    found = measures.cut_off(seen, 0, seen.shapes[0])
    assert found == pytest.approx(expected)


def test_stripes_are_no_empty_image():
    case = rings()
    for stripes in (ROWS, COLUMNS):
        pixels = np.broadcast_to(stripes, case.study.pixels.shape)
        assert not Seen(with_pixels(case, pixels)).empty.any()


def test_lengths_of_a_half_ellipsoid():
    # Cut at 5, 15, ... 65 mm from its base; 40 mm wide to a side and 80 mm long.
    heights = SLICE_MM * (np.arange(SLICES) + 0.5)
    radii = 40 * np.sqrt(1 - (heights / 80) ** 2)
    seen = Seen(discs(radii))
    # A hull goes along the outer edges of pixels, 1 % beyond the circle.
    # Slice 0 is a little narrower than the base: 40 x sqrt(1 - 1/256) = 39.92 mm.
    assert np.exp(measures.coverage(seen)) == pytest.approx(70 / 79.84, rel=0.015)
    # sqrt(1 - (65/80)^2) = 0.583
    assert measures.last_diameter(seen) == pytest.approx(0.583, abs=0.01)
    assert np.exp(measures.elongation(seen)) == pytest.approx(80 / 80, rel=0.02)
    # Without its last slices it covers less, but is as long as before.
    short = Seen(discs(radii[:5]))
    assert np.exp(measures.coverage(short)) == pytest.approx(50 / 79.84, rel=0.015)
    assert np.exp(measures.elongation(short)) == pytest.approx(1, rel=0.04)


def test_a_tube_has_no_length_of_its_own():
    assert measures.elongation(Seen(discs([30.0] * 4))) is None


def test_jumps_are_beside_the_usual_change():
    case = rings(noise=0)
    found = measures.image_jump(Seen(case))
    assert [*found] == [*range(1, SLICES)]
    assert np.median([*found.values()]) == pytest.approx(0)
    # The same after more noise, which adds to every change alike.
    assert measures.image_jump(Seen(discs([30.0] * 3))) == {}  # two changes: no median


@pytest.mark.parametrize("stretch", [1.0, 1.5, 0.5])
def test_oval(stretch):
    longer = max(stretch, 1 / stretch)
    found = first(discs([24.0], stretch), measures.oval)
    # Half a pixel, 1 mm, on the short half axis of 12 mm or more, and on the long one.
    assert np.exp(found) == pytest.approx(longer, rel=0.03)


def test_every_sign_of_a_heart_is_a_number():
    values = measure_signs(rings())
    assert [*values] == [*SIGNS]
    for name, found in values.items():
        assert found, name
        assert np.isfinite([*found.values()]).all(), name
        assert set(found) <= {OF_STUDY, *range(SLICES)}


def test_odd_masks_have_finite_signs():
    one = np.zeros((SLICES, SIDE, SIDE), bool)
    one[3, 0, 0] = True
    for wall in (one, np.ones_like(one)):
        values = measure_signs(predicted(rings().study, wall, np.zeros_like(wall)))
        for name, found in values.items():
            assert np.isfinite([*found.values()]).all(), name
