"""n-SD, FWHM, Otsu and the presets on eight pixels, worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jdl_keras.quantification.masks import masks_of
from jdl_keras.quantification.remote import (
    RULES,
    Remote,
    automatic_remote,
    given_remote,
)
from jdl_keras.quantification.thresholds import METHODS, otsu_threshold, threshold_scars
from tfrecords_tools.errors import RefusedError

AFFINE = np.diag([1.0, 1.0, 10.0, 1.0])
PIXELS = np.array([[[8, 10, 12, 13], [14, 16, 19, 30]]], float)
REMOTE = PIXELS <= 12
# Mean 10, deviations -2, 0, 2: sd = sqrt(8 / 3) = 1.632993
BY_HAND = {
    # method: threshold, pixels of scar
    "2SD": (13.265986, [14, 16, 19, 30]),
    "3SD": (14.898979, [16, 19, 30]),
    "5SD": (18.164966, [19, 30]),
    "6SD": (19.797959, [30]),
    "FWHM": (20, [30]),  # 10 + (30 - 10) / 2
    "core (Roes)": (20, [30]),
    "grey zone (Roes)": (17, [19]),  # 10 + 0.35 x 20 = 17, up to 20
    "core (Yan)": (14.898979, [16, 19, 30]),
    "grey zone (Yan)": (13.265986, [14]),
}


def masks_with(scar=None, wall=None):
    wall = np.ones(PIXELS.shape, bool) if wall is None else wall
    return masks_of(wall, scar, AFFINE)


def scars_of(pixels=PIXELS, scar=PIXELS >= 19, base="remote", remote=REMOTE):
    masks = masks_with(scar)
    found = threshold_scars(masks, pixels, Remote(remote, "as drawn"), base)
    return {one.method: one for one in found}


@pytest.mark.parametrize("method", BY_HAND)
def test_by_hand(method):
    threshold, scar = BY_HAND[method]
    found = scars_of()[method]
    assert found.threshold == pytest.approx(threshold, abs=1e-6)  # six digits by hand
    assert PIXELS[found.mask].tolist() == scar
    # One voxel is 0.01 ml and 0.0105 g; the wall has eight.
    assert found.scar_g == pytest.approx(0.0105 * len(scar))
    assert found.burden_percent == pytest.approx(100 * len(scar) / 8)
    assert "as drawn" in found.rule


@pytest.mark.parametrize(
    ("base", "level", "threshold", "scar"),
    [
        ("remote", 10, 20, [30]),
        ("minimum", 8, 19, [19, 30]),  # 8 + 22 / 2
        ("zero", 0, 15, [16, 19, 30]),  # 30 / 2
    ],
)
def test_base_of_fwhm_is_told(base, level, threshold, scar):
    found = scars_of(base=base)["FWHM"]
    assert (found.base, found.threshold) == (level, threshold)
    assert PIXELS[found.mask].tolist() == scar


def test_maximum_is_that_of_the_detected_scar():
    # The bright pixel of 30 is not part of it: 10 + (19 - 10) / 2 = 14.5
    found = scars_of(scar=PIXELS == 19)["FWHM"]
    assert found.threshold == 14.5


def test_otsu_by_hand():
    pixels = np.array([[[1, 1, 2, 2], [2, 8, 9, 9]]], float)
    found = scars_of(pixels, scar=pixels > 7)["Otsu"]
    assert pixels[found.mask].tolist() == [8, 9, 9]
    assert found.threshold == 8


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=2, max_size=9).filter(
        lambda v: len({*v}) > 1
    )
)
def test_otsu_has_the_largest_variance_between_classes(values):
    values = np.array(values, float)

    def between(threshold):
        high, low = values[values >= threshold], values[values < threshold]
        return len(high) * len(low) * (high.mean() - low.mean()) ** 2

    best = max(between(value) for value in np.unique(values)[1:])
    # Float rounding only.
    assert between(otsu_threshold(values)) == pytest.approx(best, rel=1e-9)


# What is not assessed says so


def test_nothing_is_found_where_no_scar_was_detected():
    found = scars_of(scar=np.zeros(PIXELS.shape, bool))
    for method in ("Otsu", "FWHM", "core (Roes)"):
        assert found[method].mask is None
        assert found[method].not_assessed == "no scar detected"
    assert found["5SD"].mask is not None
    assert scars_of(scar=None)["Otsu"].not_assessed == "nobody looked for scar"


def test_remote_without_spread_or_pixels():
    assert "spread" in scars_of(remote=PIXELS == 8)["2SD"].not_assessed
    empty = scars_of(remote=PIXELS < 0)
    assert empty["2SD"].not_assessed == empty["FWHM"].not_assessed == "no remote wall"
    assert empty["Otsu"].mask is not None
    assert scars_of(remote=PIXELS < 0, base="minimum")["FWHM"].mask is not None


def test_scar_as_dark_as_its_base_has_no_half_height():
    found = scars_of(scar=PIXELS == 10)["FWHM"]
    assert "not brighter" in found.not_assessed


def test_zero_is_no_base_of_signed_images():
    with pytest.raises(RefusedError, match="fwhm_base: CONFIG"):
        scars_of(PIXELS - 20, base="zero")


def test_images_that_cannot_be_used_are_refused():
    with pytest.raises(RefusedError, match="SHAPE_MISMATCH"):
        scars_of(PIXELS[:, :1])
    with pytest.raises(RefusedError, match="NOT_FINITE"):
        scars_of(np.where(PIXELS == 8, np.nan, PIXELS))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 50), st.integers(-500, 500))
def test_gain_and_offset_of_a_scanner_change_nothing(gain, offset):
    # Except from the base zero, which is why it is for magnitude images only.
    other = scars_of(PIXELS * gain + offset)
    for method, found in scars_of().items():
        if method == "grey zone (Yan)" or not found.mask.any():
            continue
        np.testing.assert_array_equal(other[method].mask, found.mask)


def test_every_method_names_its_source():
    for rule in METHODS:
        assert rule.source in scars_of()[rule.name].rule


# Remote wall


def test_given_remote_is_what_lies_in_the_wall():
    wall = PIXELS > 8
    found = given_remote(masks_with(wall=wall), REMOTE)
    assert PIXELS[found.mask].tolist() == [10, 12]
    with pytest.raises(RefusedError, match="remote: LABELS"):
        given_remote(masks_with(wall=wall), PIXELS == 8)
    with pytest.raises(RefusedError, match="remote: SHAPE_MISMATCH"):
        given_remote(masks_with(), REMOTE[:, :1])


def test_remote_beyond_scar(heart):
    masks = heart(scars=[(40, 160, 0, 0.5)], pixel_mm=1.0, slices=2)
    found = automatic_remote(masks, np.zeros(masks.label_map.shape))
    assert found.rule == RULES["beyond_scar"]
    assert found.mask.any()
    assert not (found.mask & masks.scar).any()
    assert not (found.mask & ~masks.myocardium).any()
    scar, remote = (np.argwhere(one[0]) for one in (masks.scar, found.mask))
    apart = np.linalg.norm(scar[:, None] - remote, axis=-1)
    assert apart.min() >= 5  # mm, of pixels of 1 mm


def test_darkest_sector(heart):
    masks = heart(pixel_mm=1.0, slices=1)
    middle = (np.array(masks.label_map.shape[1:]) - 1) / 2
    rows, columns = np.indices(masks.label_map.shape[1:])
    pixels = 100.0 + columns[None] - rows[None] * 0.01  # darkest to the left
    found = automatic_remote(masks, pixels, "darkest_sector").mask[0]
    # One sector of six, without its rim of a pixel at either side of ten.
    share = found.sum() / masks.myocardium.sum()
    assert 0.8 * 0.8 / 6 < share < 1.05 / 6
    assert np.argwhere(found)[:, 1].mean() < middle[1] - 15


def test_scar_rule_needs_scar(heart):
    labels = heart(slices=1)
    masks = masks_of(labels.myocardium, None, labels.affine)
    pixels = np.zeros(masks.label_map.shape)
    with pytest.raises(RefusedError, match="remote_rule: CONFIG"):
        automatic_remote(masks, pixels, "beyond_scar")
    assert automatic_remote(masks, pixels).rule == RULES["darkest_sector"]
