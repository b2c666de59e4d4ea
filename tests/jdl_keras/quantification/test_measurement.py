"""All in one call: completeness, phantom truth, and the same numbers everywhere."""

import dataclasses
import json

import numpy as np
import pytest

from jdl_keras.evaluation.per_patient import measure_study, patient_results
from jdl_keras.quantification.completeness import completeness
from jdl_keras.quantification.masks import WallMasks, masks_of
from jdl_keras.quantification.measurement import measure
from jdl_keras.quantification.tables import as_json, texts
from tfrecords_tools.labels import TASKS, Tissue, region_mask
from tfrecords_tools.sources.phantom import cohort
from tfrecords_tools.sources.phantom.wall import areas_mm2, label_map, tabulate

FINE_MM = 0.5


@pytest.fixture(scope="module")
def fine_patient():
    """A phantom patient's anatomy on pixels of 0.5 mm, and its areas without pixels."""
    patient = cohort._draw_patient(0, 1)
    stack = patient.stack
    middle = np.tile([119.3, 120.6], (len(stack.z_mm), 1))
    affine = stack.affine.copy()
    affine[:3, :2] *= FINE_MM / stack.pixel_mm
    fine = dataclasses.replace(
        stack, pixel_mm=FINE_MM, shape=(240, 240), centre=middle, affine=affine
    )
    masks = WallMasks(label_map(patient.ventricle, patient.scars, fine), affine)
    return patient, masks


def test_masses_of_a_phantom_within_one_percent(fine_patient):
    patient, masks = fine_patient
    areas = areas_mm2(patient.ventricle, patient.scars, patient.stack.z_mm)
    g = {
        t: a.sum() * patient.stack.slice_spacing_mm * 1.05e-3 for t, a in areas.items()
    }
    found = measure(masks).burden
    assert found.myocardium_g == pytest.approx(sum(g.values()), rel=0.01)
    scar_g = g[Tissue.SCAR] + g[Tissue.MVO]
    assert found.scar_g == pytest.approx(scar_g, rel=0.01)


def test_transmurality_of_a_phantom_within_two_points(fine_patient):
    patient, masks = fine_patient
    table = tabulate(patient.ventricle, patient.scars, patient.stack.z_mm, 360)
    ((first, last),) = table.scars
    depth = np.clip(last, 0, 1) - np.clip(first, 0, 1)
    expected = 100 * depth[depth > 0].mean()
    assert measure(masks).transmurality_percent == pytest.approx(expected, abs=2)


def test_burden_is_that_of_the_evaluation(make_study):
    study = make_study(1, slices=3)
    predictions = {t: region_mask(study.label_map, r) for t, r in TASKS.items()}
    rows = {r.task: r for r in patient_results([measure_study(study, predictions)])}
    found = measure(WallMasks(study.label_map, study.affine)).burden
    scar = rows["scar"]
    assert found.burden_percent == pytest.approx(scar.burden_reference_percent)
    assert found.scar_ml == pytest.approx(scar.reference_ml)


# Completeness


def with_changes(heart, change, slices=5):
    masks = heart(pixel_mm=1.0, slices=slices)
    labels = masks.label_map.copy()
    change(labels)
    return WallMasks(labels, masks.affine)


def test_rings_all_the_way_miss_base_and_apex(heart):
    found = completeness(heart(pixel_mm=1.0))
    assert found.full_rings == (0, 1, 2)
    assert [("base" in w, "apex" in w) for w in found.warnings] == [
        (True, False),
        (False, True),
    ]


def test_open_base_and_cap_are_a_whole_ventricle(heart):
    def change(labels):
        labels[0, :, labels.shape[2] // 2 + 15 :] = 0  # the outflow tract
        labels[4][labels[4] > 0] = Tissue.HEALTHY_MYOCARDIUM

    found = completeness(with_changes(heart, change))
    assert found.kinds == ("open ring", *["full ring"] * 3, "no cavity")
    # Cut 15 mm right of its centre, the disc of 30 mm has its centre of mass 5.1 mm
    # left of it: 2/3 (30^2 - 15^2)^1.5 / (900 pi - 553) = 11691 / 2275. From there the
    # inner ends of the wall, (15, 13.2), are seen at atan(13.2 / 20.1) = 33.3 degrees:
    # 67 in all; one pixel of 1 mm at either end is 2.4 degrees.
    assert found.gaps_degrees[0] == pytest.approx(67, abs=5)
    assert found.warnings == ()


def test_missing_slice_between_rings_is_told(heart):
    found = completeness(with_changes(heart, lambda labels: labels[2].fill(0)))
    assert found.kinds[2] == "no wall"
    assert any("slice 2" in line for line in found.warnings)


def test_no_ring_at_all(heart):
    def change(labels):
        labels[:, : labels.shape[1] // 2] = 0

    found = completeness(with_changes(heart, change))
    assert found.full_rings == ()
    assert found.warnings == ("INCOMPLETE: no slice has a full ring of wall",)


# What is written


def test_json_is_strict_and_every_number_has_unit_and_rule(heart, place_mm):
    masks = heart(scars=[(200, 280, 0, 0.6)], pixel_mm=1.0)
    pixels = np.random.default_rng(3).normal(10, 1, masks.label_map.shape)
    pixels[masks.scar] += 20
    found = measure(masks, pixels, place_mm(masks, 120, 30))
    content = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert all(row["unit"] and row["rule"] for row in content["measurements"])
    names = [row["name"] for row in content["measurements"]]
    assert len(names) == len(set(names))
    assert [row["segment"] for row in content["segments"]] == list(range(1, 18))
    assert content["segments"][16]["transmurality_percent"] is None
    files = texts(found)
    assert files["slices.csv"].count("\n") == 1 + 3
    # Scar 20 above a remote wall of 10 with sd 1 is found by all of these.
    values = {row["name"]: row["value"] for row in content["measurements"]}
    for method in ("5SD", "6SD", "FWHM", "Otsu"):
        own = values[f"scar burden, {method}"]
        assert own == pytest.approx(values["scar burden"], abs=0.1), method


def test_without_scar_labels_nothing_is_said_of_scar(heart):
    masks = heart(pixel_mm=1.0)
    found = as_json(measure(masks_of(masks.myocardium, None, masks.affine)))
    values = {row["name"]: row["value"] for row in found["measurements"]}
    assert (
        values["scar mass"] is values["scar burden"] is values["holes of scar"] is None
    )
    assert values["myocardium mass"] > 0


def test_filled_holes_are_flagged(heart):
    masks = heart(scars=[(200, 280, 0, 1)], pixel_mm=1.0)
    labels = masks.label_map.copy()
    row, column = np.argwhere(labels[1] == Tissue.SCAR).mean(axis=0).astype(int)
    labels[1, row, column] = Tissue.HEALTHY_MYOCARDIUM
    masks = WallMasks(labels, masks.affine)
    kept, filled = measure(masks), measure(masks, fill_holes=True)
    # One voxel of 1 x 1 x 8 mm
    assert kept.hole_ml == filled.hole_ml == pytest.approx(0.008)
    assert kept.burden.mvo_ml == 0
    assert filled.burden.mvo_ml == pytest.approx(0.008)
    assert any("HOLES" in line for line in kept.warnings)
    assert any("counted as MVO" in line for line in filled.warnings)
