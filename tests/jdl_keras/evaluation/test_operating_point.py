import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jdl_keras.evaluation.components import without_small_components
from jdl_keras.evaluation.operating_point import (
    SMALLEST_SCARS_ML,
    THRESHOLDS,
    GridPoint,
    choose_operating_point,
    read_operating_point,
    write_operating_point,
)
from jdl_keras.evaluation.overlap import overlap_counts
from tfrecords_tools.errors import RefusedError


@pytest.fixture
def case(make_study):
    """Makes a study of one slice and one row of 0.05 ml voxels, and its map."""

    def case(patient, scar, probability, study="01", voxels=8):
        label_map = np.zeros((1, 1, voxels))
        label_map[..., scar] = 3
        study = make_study(label_map, patient=patient, study=f"{patient}{study}")
        row = np.zeros((1, 1, voxels), np.float32)
        row[..., list(probability)] = list(probability.values())
        return study, row

    return case


@pytest.fixture
def ill(case):
    return case("ill", [0, 1, 2, 3], {0: 0.9, 1: 0.6, 2: 0.6, 3: 0.4, 4: 0.4, 7: 0.6})


@pytest.fixture
def healthy(case):
    """A lonely voxel of 0.05 ml, and a fainter pair of 0.1 ml."""
    return [case("h1", [], {2: 0.6}), case("h2", [], {5: 0.35, 6: 0.35})]


def test_the_grid_by_hand(ill, healthy):
    found = choose_operating_point([ill, *healthy], (0.3, 0.5, 0.7), (0.0, 0.1))
    assert found.points == [
        # voxels 0-4 and 7 against 0-3: 2 x 4 / (4 + 6); both healthy alarmed
        GridPoint(0.3, 0.0, 8 / 10, 1.0, 0.0),
        # without the lonely 7: 8 / 9; the pair of 0.1 ml stays
        GridPoint(0.3, 0.1, 8 / 9, 1.0, 0.5),
        # 0-2 and 7: 2 x 3 / (4 + 4); the lonely voxel alarms
        GridPoint(0.5, 0.0, 6 / 8, 1.0, 0.5),
        GridPoint(0.5, 0.1, 6 / 7, 1.0, 1.0),
        # voxel 0 alone: 2 / 5; as it is below 0.1 ml, a miss
        GridPoint(0.7, 0.0, 2 / 5, 1.0, 1.0),
        GridPoint(0.7, 0.1, 0.0, 0.0, 1.0),
    ]
    # The best Dice of all, 8 / 9, is not specific enough.
    assert (found.threshold, found.smallest_scar_ml) == (0.5, 0.1)
    assert (found.dice, found.specificity, found.reached) == (6 / 7, 1.0, True)
    assert (found.patients_with_scar, found.patients_without_scar) == (1, 2)


def test_where_no_point_is_specific_the_most_specific_is_taken(ill, healthy):
    found = choose_operating_point([ill, *healthy], (0.3,), (0.0, 0.1))
    assert (found.threshold, found.smallest_scar_ml) == (0.3, 0.1)
    assert (found.specificity, found.reached) == (0.5, False)


@pytest.mark.parametrize(("normals", "reached"), [(3, False), (4, False), (5, True)])
def test_one_false_alarm_is_allowed_among_five(ill, case, normals, reached):
    alarm = case("alarm", [], {0: 0.95, 1: 0.95, 2: 0.95})
    quiet = [case(f"q{i}", [], {}) for i in range(1, normals)]
    found = choose_operating_point([ill, alarm, *quiet], (0.3, 0.5), (0.0, 0.1))
    # 2/3 and 3/4 are below 0.8, 4/5 is not. The alarm of 0.15 ml stays at every point.
    assert found.reached == reached
    assert found.specificity == (normals - 1) / normals
    assert (found.threshold, found.smallest_scar_ml) == (0.3, 0.1)


def test_more_specificity_than_wanted_is_not_paid_for(ill, case):
    alarm = case("alarm", [], {0: 0.55})
    quiet = [case(f"q{i}", [], {}) for i in range(4)]
    found = choose_operating_point([ill, alarm, *quiet], (0.5, 0.7), (0.0,))
    # At 0.7 all five are free of scar, but Dice falls from 6/8 to 2/5.
    assert (found.threshold, found.specificity, found.reached) == (0.5, 0.8, True)


def test_dice_that_no_one_can_tell_apart_gives_way_to_specificity(case):
    # 200 of 200 voxels against 198: Dice 1 against 2 x 198 / 398 = 0.995.
    label_map = dict.fromkeys(range(200), 0.9) | {0: 0.4, 1: 0.4}
    long = case("ill", [*range(200)], label_map, voxels=200)
    alarm = case("alarm", [], {0: 0.45})
    quiet = [case(f"q{i}", [], {}) for i in range(4)]
    found = choose_operating_point([long, alarm, *quiet], (0.3, 0.6), (0.0,))
    assert (found.threshold, found.specificity) == (0.6, 1.0)
    assert found.dice == pytest.approx(198 / 199, rel=1e-12)  # float rounding


def test_among_equals_the_usual_threshold_and_the_least_removed(case):
    sure = case("ill", [0, 1, 2, 3], dict.fromkeys(range(4), 1.0))
    grid = (0.2, 0.45, 0.55, 0.9), (0.1, 0.0)
    found = choose_operating_point([sure, case("h", [], {})], *grid)
    # 0.45 and 0.55 are equally near to 0.5: the higher one raises fewer alarms.
    assert (found.threshold, found.smallest_scar_ml) == (0.55, 0.0)
    assert found.dice == 1


def test_without_normals_dice_decides_and_nothing_is_claimed(ill):
    found = choose_operating_point([ill], (0.3, 0.5), (0.0, 0.1))
    assert (found.threshold, found.smallest_scar_ml) == (0.3, 0.1)
    assert (found.specificity, found.reached) == (None, False)
    assert "unknown" in found.rule


def test_without_scar_the_usual_threshold_if_specific(healthy):
    found = choose_operating_point(healthy)
    # At 0.5 the voxel of 0.6 and 0.05 ml alarms (1/2), at 0.1 ml nothing does.
    assert (found.threshold, found.smallest_scar_ml) == (0.5, 0.1)
    assert (found.dice, found.reached) == (None, True)


def test_without_patients_the_usual_threshold():
    found = choose_operating_point([])
    assert (found.threshold, found.smallest_scar_ml) == (0.5, 0.0)
    assert (found.dice, found.specificity, found.reached) == (None, None, False)
    assert (found.patients_with_scar, found.patients_without_scar) == (0, 0)


def test_studies_of_a_patient_are_one_patient(case):
    # The scar is in the first study, a false voxel in the second: 2 / (1 + 2).
    first = case("p", [0], {0: 0.9}, study="01")
    second = case("p", [], {4: 0.9}, study="02")
    found = choose_operating_point([first, second], (0.5,), (0.0,))
    assert (found.patients_with_scar, found.patients_without_scar) == (1, 0)
    assert found.dice == pytest.approx(2 / 3, rel=1e-12)  # float rounding


def test_an_unlabelled_slice_counts_for_size_but_is_not_compared(make_study):
    label_map = np.zeros((2, 1, 8))
    labelled = (frozenset({"scar"}), frozenset())
    probability = np.zeros((2, 1, 8), np.float32)
    probability[:, 0, 3] = 0.9  # two voxels, 0.1 ml, one of them with a reference
    study = make_study(label_map, labelled)
    found = choose_operating_point([(study, probability)], (0.5,), (0.1, 0.2))
    assert [point.specificity for point in found.points] == [0, 1]
    label_map[0, 0, 3] = 3
    study = make_study(label_map, labelled)
    found = choose_operating_point([(study, probability)], (0.5,), (0.1,))
    assert found.dice == 1  # and not 2 / 3, with the voxel that nobody judged
    unlabelled = make_study(label_map, (frozenset({"myocardium"}),) * 2)
    found = choose_operating_point([(unlabelled, probability)], (0.5,), (0.0,))
    assert found.patients_without_scar == 0


def test_a_probability_at_the_threshold_is_scar_as_in_prediction(case):
    study, probability = case("h", [], {0: 0.7})  # float32, a little below 0.7
    assert (probability >= 0.7).any()
    found = choose_operating_point([(study, probability)], (0.7,), (0.0,))
    assert found.specificity == 0


maps = arrays(np.float32, (2, 5, 4), elements=st.sampled_from([0.125, 0.375, 0.75]))
labels = arrays(np.uint8, (2, 5, 4), elements=st.sampled_from([0, 0, 2, 3, 4]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(maps, labels)
def test_dice_is_that_of_the_mask_that_prediction_writes(
    make_study, probability, label_map
):
    study = make_study(label_map)
    grid = (0.25, 0.5), (0.0, 0.1, 0.4)
    found = choose_operating_point([(study, probability)], *grid)
    places = [(threshold, ml) for threshold in grid[0] for ml in grid[1]]
    for (threshold, smallest_ml), point in zip(places, found.points, strict=True):
        mask = without_small_components(probability >= threshold, smallest_ml, 0.05)
        counts = overlap_counts(label_map >= 3, mask)
        assert (point.threshold, point.smallest_scar_ml) == (threshold, smallest_ml)
        if counts.reference:
            assert (point.dice, point.specificity) == (counts.dice, None)
        else:
            assert (point.dice, point.specificity) == (None, not mask.any())


def test_a_map_off_the_grid_is_an_error(ill):
    study, probability = ill
    with pytest.raises(ValueError, match=r"expected \(1, 1, 8\), got \(1, 8, 1\)"):
        choose_operating_point([(study, probability.transpose(0, 2, 1))])


def test_the_usual_grid():
    assert (THRESHOLDS[0], THRESHOLDS[-1], len(THRESHOLDS)) == (0.2, 0.9, 15)
    assert 0.5 in THRESHOLDS
    assert SMALLEST_SCARS_ML[0] == 0


def test_written_and_read(ill, healthy, tmp_path):
    path = tmp_path / "operating_point.json"
    for cases in ([ill, *healthy], [ill], []):
        chosen = choose_operating_point(cases)
        write_operating_point(path, chosen)
        assert read_operating_point(path) == chosen


def test_what_is_no_operating_point_is_refused(ill, tmp_path):
    path = tmp_path / "operating_point.json"
    with pytest.raises(RefusedError, match="NOT_A_FILE"):
        read_operating_point(path)
    write_operating_point(path, choose_operating_point([ill]))
    content = json.loads(path.read_text())
    for damage in ({"threshold": "0.5"}, {"more": 1}, {"points": [{}]}):
        path.write_text(json.dumps(content | damage))
        with pytest.raises(RefusedError, match="CORRUPT: point"):
            read_operating_point(path)
    path.write_text("{")
    with pytest.raises(RefusedError, match="CORRUPT"):
        read_operating_point(path)
