"""The cohort as a whole: same seed same bytes, and masses that match the truth."""

import numpy as np
import pytest
from scipy import ndimage

from tfrecords_tools import geometry
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import MYOCARDIUM, SCAR, TASKS, Tissue, region_mask
from tfrecords_tools.pseudonyms import PUBLIC_KEY, pseudonym
from tfrecords_tools.sources.phantom import (
    PhantomConfig,
    Truth,
    source,
    studies,
    truth,
)

pytestmark = pytest.mark.slow

SEED = 4
CONFIG = PhantomConfig(patients=12, seed=SEED)


@pytest.fixture(scope="module")
def cohort():
    return list(studies(CONFIG))


@pytest.fixture(scope="module")
def known():
    return [truth(SEED, index) for index in range(CONFIG.patients)]


def test_source_reads_the_same_patients_in_any_order(cohort):
    listed = source(CONFIG)
    assert len(listed.items) == 12
    assert listed.settings == {"patients": 12, "seed": SEED, "noise": 1.0}
    for index in (7, 2):
        study = listed.read(listed.items[index])
        assert study.study_key == listed.items[index].key == cohort[index].study_key
        np.testing.assert_array_equal(study.pixels, cohort[index].pixels)


def mass_g(study, mask):
    voxel_ml = geometry.voxel_volume_ml(study.spacing_mm, study.slice_spacing_mm)
    return mask.sum() * voxel_ml * 1.05


def rasterisation_bound_g(study, mask):
    """How far the mass by pixel centres may lie from the mass by areas.

    Along the border each pixel is counted whole or not at all: an error spread evenly
    over a pixel, with a deviation of 1 / sqrt(12) of one. Over N border pixels that is
    sqrt(N / 12) pixels. Five of these deviations, for neighbours are not independent.
    """
    border = mask & ~ndimage.binary_erosion(mask, np.ones((1, 3, 3)))
    one_pixel_g = mass_g(study, np.ones(1))
    return 5 * np.sqrt(max(border.sum(), 1) / 12) * one_pixel_g


def test_same_seed_same_bytes_and_a_longer_cohort_begins_with_a_shorter(cohort):
    for again, study in zip(studies(PhantomConfig(2, SEED)), cohort, strict=False):
        assert again.pixels.tobytes() == study.pixels.tobytes()
        assert again.label_map.tobytes() == study.label_map.tobytes()
        assert (again.affine == study.affine).all()
        assert again.patient_key == study.patient_key


RECORDED = {
    0: [27, 4, 45, 110, 129, 174, 283, 378, 425, 435, 432, 445, 342, 149, 171, 337],
    1: [170, 190, 152, 148, 193, 153, 163, 286, 288, 264, 281, 278, 296, 302, 317, 358],
}
"""Grey values of two patients: first slice, middle row, columns 60 to 75."""


@pytest.mark.parametrize("index", RECORDED)
def test_cohort_is_the_one_that_was_published(cohort, index):
    pixels = cohort[index].pixels
    row = pixels[0, pixels.shape[1] // 2, 60:76]
    # Another processor's last bit may round to the next grey value; other noise of
    # these scanners would differ by 10 and more.
    np.testing.assert_allclose(row, RECORDED[index], atol=1)


def test_noise_grows_by_its_factor_and_nothing_else_changes(cohort):
    once, twice, thrice = (
        next(studies(PhantomConfig(1, SEED, noise=factor))) for factor in (1, 2, 3)
    )
    assert once.pixels.tobytes() == cohort[0].pixels.tobytes()
    assert once.pixels.min() < 0  # PSIR: the noise adds to the signal
    # signal + 3 n - 2 (signal + 2 n) + signal + n = 0, and half a grey value of
    # rounding for each: 0.5 + 2 x 0.5 + 0.5 = 2
    assert np.abs(thrice.pixels - 2 * twice.pixels + once.pixels).max() <= 2
    assert (twice.pixels - once.pixels).std() > 5
    assert thrice.label_map.tobytes() == once.label_map.tobytes()
    assert (thrice.affine == once.affine).all()
    assert thrice.patient_key == once.patient_key


def test_patients_and_seeds_differ(cohort):
    other = next(studies(PhantomConfig(1, SEED + 1)))
    images = {study.pixels.tobytes() for study in [*cohort, other]}
    assert len(images) == len(cohort) + 1
    assert other.patient_key != cohort[0].patient_key


def test_identity_and_labels(cohort):
    for index, study in enumerate(cohort):
        assert study.patient_key == pseudonym(f"phantom-{SEED}-{index}", PUBLIC_KEY)
        assert study.source == "phantom"
        assert set(study.labelled) == {frozenset(TASKS)}
        assert set(np.unique(study.label_map)) <= set(Tissue)


def test_one_patient_of_three_has_no_scar(cohort):
    scarred = [region_mask(study.label_map, SCAR).any() for study in cohort]
    # Two of every three in a row, and not always the same two.
    triples = np.reshape(scarred, (-1, 3))
    assert (triples.sum(axis=1) == 2).all()
    assert len(np.unique(triples, axis=0)) > 1


@pytest.mark.parametrize("region", [MYOCARDIUM, SCAR, frozenset({Tissue.MVO})])
def test_mass_of_the_label_map_is_the_true_mass(cohort, known, region):
    found_any = False
    for study, true in zip(cohort, known, strict=True):
        true_g = {MYOCARDIUM: true.myocardium_g, SCAR: true.scar_g}
        mask = region_mask(study.label_map, region)
        bound_g = rasterisation_bound_g(study, mask)
        found_any |= mask.any()
        assert abs(mass_g(study, mask) - true_g.get(region, true.mvo_g)) < bound_g
    assert found_any


def test_truth_is_consistent(known):
    assert Truth(80.0, 20.0, 4.0).burden_percent == 25  # 100 * 20 / 80
    for true in known:
        assert 0 <= true.mvo_g <= true.scar_g < true.myocardium_g
        # Adult left ventricles, from small to hypertrophied.
        assert 40 < true.myocardium_g < 220


def test_grey_values_are_those_of_a_scanner(cohort):
    for study in cohort:
        assert study.pixels.dtype == np.float32
        assert (study.pixels == np.rint(study.pixels)).all()
        assert -4096 <= study.pixels.min() < study.pixels.max() <= 4095
    lowest = [study.pixels.min() for study in cohort]
    assert min(lowest) < 0  # signed PSIR
    assert max(lowest) >= 0  # magnitude, or PSIR with an offset


def test_blood_and_scar_stand_out_from_healthy_wall(cohort):
    for study in cohort:
        values = {t: study.pixels[study.label_map == t] for t in Tissue}
        healthy = np.median(values[Tissue.HEALTHY_MYOCARDIUM])
        assert np.median(values[Tissue.BLOOD_POOL]) > healthy
        # Of less there is mostly border, which partial volume blends with the wall.
        if len(values[Tissue.SCAR]) > 100:
            assert np.median(values[Tissue.SCAR]) > healthy


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"patients": 0}, "patients"),
        ({"seed": -1}, "seed"),
        ({"noise": -0.1}, "noise"),
        ({"noise": float("nan")}, "noise"),
        ({"noise": float("inf")}, "noise"),
    ],
)
def test_impossible_cohorts_are_refused(values, key):
    with pytest.raises(RefusedError, match=f"{key}: CONFIG"):
        PhantomConfig(**values)
