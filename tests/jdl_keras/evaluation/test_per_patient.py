import dataclasses
import math

import numpy as np
import pytest

from jdl_keras.evaluation.overlap import OverlapCounts
from jdl_keras.evaluation.per_patient import (
    measure_study,
    patient_results,
    reference_mask,
)

ROUNDING = 1e-12
"""Relative tolerance where only float rounding differs."""


def by_task(results):
    return {result.task: result for result in results}


def test_slices_by_hand(worked_case):
    found = measure_study(*worked_case).slices
    counts = {(row.task, row.slice_index): row.counts for row in found}
    assert counts == {
        ("myocardium", 0): OverlapCounts(3, 1, 1),
        ("myocardium", 1): OverlapCounts(2, 0, 0),
        ("myocardium", 2): OverlapCounts(0, 0, 2),
        ("scar", 0): OverlapCounts(1, 2, 1),
        ("scar", 1): OverlapCounts(0, 0, 0),
    }
    first = found[0]
    # 4 voxels x (2 x 2.5 x 10 mm3 = 0.05 ml) = 0.2 ml on both sides
    assert first.reference_ml == pytest.approx(0.2, rel=ROUNDING)
    assert first.prediction_ml == pytest.approx(0.2, rel=ROUNDING)
    assert (first.patient_key, first.study_key) == ("aa", "01")


def test_patient_by_hand(worked_case):
    found = by_task(patient_results([measure_study(*worked_case)]))
    myocardium, scar = found["myocardium"], found["scar"]
    assert (myocardium.tp, myocardium.fp, myocardium.fn) == (5, 1, 3)
    assert myocardium.dice == 10 / 14
    assert (myocardium.studies, myocardium.slices) == (1, 3)
    # 8 against 6 voxels of 0.05 ml, one of the 6 false
    assert myocardium.reference_ml == pytest.approx(0.4, rel=ROUNDING)
    assert myocardium.prediction_ml == pytest.approx(0.3, rel=ROUNDING)
    assert myocardium.volume_difference_ml == pytest.approx(-0.1, rel=1e-9)  # cancels
    assert myocardium.false_positive_ml == pytest.approx(0.05, rel=ROUNDING)
    assert math.isnan(myocardium.burden_reference_percent)
    assert (scar.tp, scar.fp, scar.fn, scar.slices) == (1, 2, 1, 2)
    assert scar.dice == 2 / 5
    assert scar.precision == 1 / 3
    assert scar.recall == 1 / 2


def test_scar_distance_ignores_the_unlabelled_slice(worked_case):
    scar = by_task(patient_results([measure_study(*worked_case)]))["scar"]
    # Reference pixels (0, 2), (0, 3); prediction (0, 2), (1, 2), (1, 3); rows of 2 mm.
    # To the prediction: 0 and 2 mm, 95 % at 1.9. To the reference: 0, 2, 2 mm: 2.
    assert scar.hd95_mm == 2


def test_burden_counts_slices_measured_for_both_tasks(worked_case):
    scar = by_task(patient_results([measure_study(*worked_case)]))["scar"]
    # Slices 0 and 1: reference 2 of 4 + 2 voxels, prediction 3 of 4 + 2. Slice 2 would
    # make it 2 of 8 and 3 of 6.
    assert scar.burden_reference_percent == pytest.approx(100 * 2 / 6, rel=ROUNDING)
    assert scar.burden_prediction_percent == pytest.approx(100 * 3 / 6, rel=ROUNDING)


def test_direct_predicts_no_myocardium_and_has_no_burden(worked_case):
    study, predictions = worked_case
    result = measure_study(study, {"scar": predictions["scar"]})
    (scar,) = patient_results([result])
    assert scar.task == "scar"
    assert math.isnan(scar.burden_reference_percent)
    assert math.isnan(scar.burden_prediction_percent)


def test_an_empty_myocardium_prediction_has_no_burden(worked_case):
    study, predictions = worked_case
    nothing = np.zeros_like(predictions["scar"])
    result = measure_study(study, {**predictions, "myocardium": nothing})
    scar = by_task(patient_results([result]))["scar"]
    assert math.isnan(scar.burden_prediction_percent)
    assert scar.burden_reference_percent == pytest.approx(100 * 2 / 6, rel=ROUNDING)


def scar_study(make_study, reference, prediction, **more):
    """One slice of 1 x 8 pixels from the columns of reference and prediction."""
    label_map, mask = np.zeros((1, 1, 8)), np.zeros((1, 1, 8), bool)
    label_map[..., reference] = 3
    mask[..., prediction] = True
    return measure_study(make_study(label_map, **more), {"scar": mask})


def test_studies_of_a_patient_add_up(make_study):
    first = scar_study(make_study, [0, 1], [1], study="01")
    second = scar_study(make_study, [0], [3], study="02", step_mm=(1, 1, 10))
    (patient,) = patient_results([first, second])
    assert patient.counts == OverlapCounts(1, 1, 2)
    assert (patient.studies, patient.slices) == (2, 2)
    # 2 x 0.05 ml + 1 x 0.01 ml; 1 x 0.05 ml + 1 x 0.01 ml; the false voxel is 0.01 ml
    assert patient.reference_ml == pytest.approx(0.11, rel=ROUNDING)
    assert patient.prediction_ml == pytest.approx(0.06, rel=ROUNDING)
    assert patient.false_positive_ml == pytest.approx(0.01, rel=ROUNDING)
    # 95 % of {0, 2.5} = 2.375 mm in the first, 3 columns x 1 mm in the second
    assert patient.hd95_mm == 3


def test_a_study_without_scar_does_not_hide_the_distance(make_study):
    found = scar_study(make_study, [0], [2], study="01")
    empty = scar_study(make_study, [], [], study="02")
    missed = scar_study(make_study, [0], [], study="03")
    assert patient_results([found, empty])[0].hd95_mm == 5
    assert math.isnan(patient_results([found, missed])[0].hd95_mm)
    assert math.isnan(patient_results([empty])[0].hd95_mm)


def test_patients_are_kept_apart_in_the_order_given(make_study):
    studies = [
        scar_study(make_study, [0], [0], patient=key, study=f"{key}1")
        for key in ("bb", "aa", "bb")
    ]
    found = [(row.patient_key, row.tp) for row in patient_results(studies)]
    assert found == [("bb", 2), ("aa", 1)]


def test_results_equal_a_recomputation_from_the_masks(make_study):
    random = np.random.default_rng(11)
    label_map = random.integers(0, 5, (4, 9, 7))
    prediction = random.random((4, 9, 7)) < 0.4
    (found,) = patient_results(
        [measure_study(make_study(label_map), {"scar": prediction})]
    )
    reference = label_map >= 3  # scar and MVO
    both = (reference & prediction).sum()
    assert found.dice == 2 * both / (reference.sum() + prediction.sum())
    assert found.precision == both / prediction.sum()
    assert found.recall == both / reference.sum()


def test_a_label_on_an_unlabelled_slice_is_no_reference(worked_case):
    study, _ = worked_case
    assert not reference_mask(study, "scar")[2].any()
    assert reference_mask(study, "myocardium")[2].sum() == 2


def test_wrong_predictions_are_errors(worked_case):
    study, predictions = worked_case
    with pytest.raises(ValueError, match="boolean prediction mask, got float64"):
        measure_study(study, {"scar": predictions["scar"] * 0.5})
    with pytest.raises(ValueError, match=r"grid \(3, 4, 4\), got \(3, 4, 3\)"):
        measure_study(study, {"scar": predictions["scar"][..., 1:]})
    with pytest.raises(ValueError, match="expected a task of .*got 'mvo'"):
        measure_study(study, {"mvo": predictions["scar"]})


def test_an_unlabelled_study_measures_nothing(make_study):
    study = make_study(np.zeros((2, 3, 3)), (frozenset(), frozenset()))
    result = measure_study(study, {"scar": np.ones((2, 3, 3), bool)})
    assert (result.slices, dict(result.hd95_mm)) == ((), {})
    assert patient_results([result]) == []


def test_results_cannot_be_changed(worked_case):
    row = measure_study(*worked_case).slices[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.task = "scar"
