"""Each check of the gate on a heart of rings that shows one fault."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predicted_rings import (
    CENTRE,
    SIDE,
    SLICES,
    counted,
    rings,
    with_masks,
    with_pixels,
    with_slices,
)
from scipy import ndimage

from jdl_keras.inference.calibration import fit_calibration
from jdl_keras.inference.quality import CODES, review
from jdl_keras.inference.signs import SIGNS
from jdl_keras.inference.study_prediction import StudyPrediction

MIDDLE = SLICES // 2


@pytest.fixture(scope="module")
def known():
    """Learned from as many patients as a small validation split has."""
    return fit_calibration(rings(number) for number in range(12))


@pytest.fixture(scope="module")
def good():
    """A patient who taught nothing."""
    return rings(100)


def found(verdict):
    return {one.code: one for one in verdict.concerns}


def sector(degrees):
    """(H, W) what lies in the first so many degrees about the middle."""
    rows, columns = np.indices((SIDE, SIDE))
    angle = np.degrees(np.arctan2(rows - CENTRE, columns - CENTRE)) % 360
    return angle < degrees


def test_nine_of_ten_good_studies_pass(known):
    verdicts = [review(rings(number), known).name for number in range(100, 110)]
    assert verdicts.count("PASS") >= 9


def test_no_heart(known):
    verdict = review(counted(0, (0, 0, 0), wall=0), known)
    assert [one.code for one in verdict.concerns] == ["NO_HEART"]


# Labels


def test_broken_ring(known, good):
    def breaks(wall, scar):
        for mask in (wall, scar):
            mask[MIDDLE] &= ~sector(40)

    concern = found(review(with_masks(good, breaks), known))["OPEN_RING"]
    assert concern.slices == (MIDDLE,)


def test_no_ring_at_all(known, good):
    def breaks(wall, scar):
        for mask in (wall, scar):
            mask &= ~sector(90)

    verdict = review(with_masks(good, breaks), known)
    assert "No slice has a full ring of wall." in {one.text for one in verdict.concerns}


def test_scar_apart_from_the_wall(known, good):
    def adds(_, scar):
        scar[2, 5:10, 5:10] = True

    verdict = review(with_masks(good, adds), known)
    assert found(verdict)["SCAR_OUTSIDE"].slices == (2,)


def test_scar_beside_the_wall(known, good):
    # Scar where the wall was missed: it hangs on the rest of the wall, so only the two
    # masks tell. 40 of 360 degrees of some 100 ml are about 10 ml.
    def misses(wall, scar):
        wall &= ~scar

    verdict = review(with_masks(good, misses), known)
    assert [*found(verdict)] == ["SCAR_OUTSIDE"]


def test_a_little_scar_beside_the_wall_is_harmless(known, good):
    # 20 voxels of 2 x 2 x 10 mm are 0.8 ml; no validation patient has any.
    def misses(wall, scar):
        wall[tuple(np.argwhere(scar)[:20].T)] = False

    assert known.ranges["loose_scar"].high == 0
    assert review(with_masks(good, misses), known).name == "PASS"


def test_heart_that_jumps_aside(known, good):
    def moves(wall, scar):
        for mask in (wall, scar):
            mask[4] = np.roll(mask[4], 8, 0)  # 16 mm

    assert found(review(with_masks(good, moves), known))["SHIFTED"].slices == (4,)


@pytest.mark.parametrize("change", [ndimage.binary_dilation, ndimage.binary_erosion])
def test_thick_and_thin_walls(known, good, change):
    plane = ndimage.generate_binary_structure(2, 1)[None]

    def grows(wall, _):
        wall[:] = change(wall, plane, 2)

    concern = found(review(with_masks(good, grows), known))["VOLUMES"]
    assert set(concern.slices) <= {*range(SLICES)}


def test_light_wall_is_no_missing_slice(known, good):
    def thins(wall, _):
        wall[:] = ndimage.binary_erosion(wall, np.ones((1, 3, 3)))

    assert "INCOMPLETE" not in found(review(with_masks(good, thins), known))


def test_heavy_heart_is_implausible_without_learning(good):
    # 20 mm instead of 10: about twice 130 g is still plausible, 50 mm is not.
    affine = good.study.affine.copy()
    affine[2, 2] = 50.0
    study = dataclasses.replace(good.study, affine=affine)
    verdict = review(dataclasses.replace(good, study=study), None)
    assert "VOLUMES" in found(verdict)


def test_wall_of_scar(known, good):
    def floods(wall, scar):
        scar[:] = wall & sector(330)

    assert "VOLUMES" in found(review(with_masks(good, floods), known))


# Stack


@pytest.mark.parametrize(
    "kept",
    [[0, 1, 2, 3], [3, 4, 5, 6], [0, 1, 5, 6]],
    ids=["no apex", "no base", "no middle"],
)
def test_missing_slices(known, good, kept):
    verdict = review(with_slices(good, kept), known)
    assert "INCOMPLETE" in found(verdict)
    assert SIGNS["coverage"].text in {one.text for one in verdict.concerns}


def test_gap_in_the_wall(known, good):
    def forgets(wall, scar):
        wall[3], scar[3] = False, False

    assert 3 in review(with_masks(good, forgets), known).slices
    assert "INCOMPLETE" in found(review(with_masks(good, forgets), None))


def test_jump_of_the_image(known, good):
    pixels = good.study.pixels.copy()
    outside = ~ndimage.binary_fill_holes(good.wall.myocardium.any(axis=0))
    pixels[4:, outside] = np.roll(pixels[4:], 14, 1)[:, outside]
    verdict = review(with_pixels(good, pixels), known)
    assert found(verdict)["INCOMPLETE"].slices == (4,)


def test_heart_at_the_edge_of_the_image(known, good):
    side = slice(int(CENTRE) - 17, SIDE)
    study = dataclasses.replace(
        good.study,
        pixels=good.study.pixels[:, side],
        label_map=good.study.label_map[:, side],
    )

    def cut(volumes):
        return {task: volume[:, side] for task, volume in volumes.items()}

    passes = [cut(one) for one in good.passes]
    part = StudyPrediction(study, cut(good.maps), cut(good.masks), passes)
    codes = found(review(part, known))
    assert "INCOMPLETE" in codes  # labels on the edge
    assert "UNLIKE_TRAINING" in codes  # a window that is not filled


# Passes


def test_passes_that_draw_another_wall(known, good):
    passes = [
        {task: np.roll(mask, move, 1) for task, mask in good.masks.items()}
        for move in (0, 4, -4)
    ]
    verdict = review(dataclasses.replace(good, passes=passes), known)
    assert [*found(verdict)] == ["DISAGREEMENT"]


def test_passes_that_find_another_scar(known, good):
    wall = good.masks["myocardium"]
    passes = [
        {"myocardium": one["myocardium"], "scar": wall & sector(degrees)}
        for one, degrees in zip(good.passes, (0, 40, 80), strict=True)
    ]
    concern = found(review(dataclasses.replace(good, passes=passes), known))
    assert [*concern] == ["DISAGREEMENT"]
    assert concern["DISAGREEMENT"].slices == ()


def test_passes_a_reader_would_not_tell_apart_are_harmless(known, good):
    calm = dataclasses.replace(
        known,
        ranges=known.ranges
        | {
            name: dataclasses.replace(known.ranges[name], high=0.0)
            for name in ("burden_spread", "pass_disagreement")
        },
    )
    one = good.masks | {"scar": good.masks["scar"].copy()}
    one["scar"][0] = False  # one slice of seven: about 2 of 11 points, deviation 1.1
    passes = [good.masks, good.masks, one]
    assert review(dataclasses.replace(good, passes=passes), calm).name == "PASS"


def test_unsure_network(known, good):
    maps = good.maps | {"myocardium": good.maps["myocardium"].copy()}
    maps["myocardium"][5] = 0.3 + 0.4 * good.masks["myocardium"][5]
    verdict = review(dataclasses.replace(good, maps=maps), known)
    assert found(verdict)["DISAGREEMENT"].slices == (5,)


# Images


def test_noise(known, good):
    more = np.random.default_rng(1).normal(0, 40, good.study.pixels.shape)
    verdict = review(with_pixels(good, good.study.pixels + more), known)
    assert set(found(verdict)["UNLIKE_TRAINING"].slices) == {*range(SLICES)}


def test_brightness_is_nothing(known, good):
    verdict = review(with_pixels(good, 7 * good.study.pixels + 300), known)
    assert verdict.name == "PASS"


def test_wall_as_bright_as_the_cavity(known, good):
    pixels = good.study.pixels.copy()
    remote = good.masks["myocardium"] & ~good.masks["scar"]
    remote[[0, 1, 2, 4, 5, 6]] = False
    pixels[remote] += 80
    verdict = review(with_pixels(good, pixels), known)
    assert 3 in found(verdict)["UNLIKE_TRAINING"].slices


def test_field_of_view_that_ends_near_the_heart(known, good):
    pixels = good.study.pixels.copy()
    pixels[:, :, :24] = 0.0
    verdict = review(with_pixels(good, pixels), known)
    assert "UNLIKE_TRAINING" in found(verdict)


def test_outline_that_is_not_round(known, good):
    def stretched(volume):
        order = 0 if volume.dtype == bool else 1
        turned = ndimage.zoom(volume.astype(np.float32), (1, 1.0, 0.6), order=order)
        sides = (SIDE - turned.shape[2]) // 2
        pad = ((0, 0), (0, 0), (sides, SIDE - turned.shape[2] - sides))
        return np.pad(turned, pad, "edge").astype(volume.dtype)

    def all_of(volumes):
        return {task: stretched(volume) for task, volume in volumes.items()}

    study = dataclasses.replace(good.study, pixels=stretched(good.study.pixels))
    passes = [all_of(one) for one in good.passes]
    long = StudyPrediction(study, all_of(good.maps), all_of(good.masks), passes)
    verdict = review(long, known)
    texts = {one.text for one in verdict.concerns}
    assert SIGNS["oval"].text in texts


# Laws


def test_nothing_passes_without_calibration(known, good):
    assert [*found(review(good, None))] == ["UNCALIBRATED"]
    other = dataclasses.replace(known, passes=9)
    assert [*found(review(good, other))] == ["UNCALIBRATED"]
    empty = dataclasses.replace(known, ranges={})
    assert [*found(review(good, empty))] == ["UNCALIBRATED"]


def test_warnings_of_the_input_are_concerns(known, good):
    verdict = review(good, known, ["GAP: slices 3 and 4 lie 20 mm apart"])
    assert [*found(verdict)] == ["INPUT"]
    assert "20 mm" in verdict.concerns[0].text


def test_gravest_comes_first(known, good):
    def breaks(wall, scar):
        for mask in (wall, scar):
            mask[MIDDLE] &= ~sector(40)

    noise = np.random.default_rng(1).normal(0, 40, good.study.pixels.shape)
    case = with_pixels(with_masks(good, breaks), good.study.pixels + noise)
    codes = [one.code for one in review(case, known, ["odd"]).concerns]
    assert codes == sorted(codes, key=[*CODES].index)
    assert {"OPEN_RING", "UNLIKE_TRAINING", "INPUT"} <= set(codes)


def test_every_sign_raises_a_known_concern():
    assert {sign.concern for sign in SIGNS.values()} <= set(CODES)
    assert all(sign.too_low or sign.too_high for sign in SIGNS.values())


@given(st.permutations(range(3)), st.integers(0, 3), st.booleans())
@settings(max_examples=4)
def test_order_of_passes_and_flips_are_nothing(known, good, order, turns, flip):
    def moved(volume):
        turned = np.rot90(volume, turns, (1, 2))
        return np.ascontiguousarray(turned[:, ::-1] if flip else turned)

    def all_of(volumes):
        return {task: moved(volume) for task, volume in volumes.items()}

    # Far from every limit: the window lies on whole pixels, so values change a little.
    more = np.random.default_rng(1).normal(0, 40, good.study.pixels.shape)
    noisy = good.study.pixels + more
    one = with_pixels(good, noisy)
    study = dataclasses.replace(one.study, pixels=moved(one.study.pixels))
    passes = [all_of(one.passes[place]) for place in order]
    other = StudyPrediction(study, all_of(one.maps), all_of(one.masks), passes)
    assert told(review(other, known)) == told(review(one, known))


def told(verdict):
    return {(one.code, one.text, frozenset(one.slices)) for one in verdict.concerns}
