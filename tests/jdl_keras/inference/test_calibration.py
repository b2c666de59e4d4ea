"""What validation patients teach, by hand, and the file it is kept in."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predicted_rings import counted, rings

from jdl_keras.inference.calibration import (
    FALSE_ALARMS,
    Calibration,
    Range,
    burden_score,
    fit_calibration,
    read_calibration,
    spread_percent,
    write_calibration,
)
from jdl_keras.inference.signs import SIGNS
from tfrecords_tools.errors import RefusedError

KNOWN = Calibration(3, [0.5, 2.0], {"noise": Range(None, -3.5)}, 2)


def test_score_by_hand():
    # |20 - 29| over the deviation of 18, 20, 22, which is 2, and 1 more.
    assert burden_score(counted(20, (18, 20, 22), 29)) == pytest.approx(3)
    assert burden_score(counted(20, (18, 20, 22), 11)) == pytest.approx(3)


def test_deviation_is_of_a_sample():
    # 10 and 14: mean 12, squares 4 + 4 over 2 - 1, root 2.83, and 1 more.
    assert spread_percent(counted(0, (10, 14))) == pytest.approx(1 + math.sqrt(8))


def test_no_wall_is_as_far_off_as_can_be():
    assert burden_score(counted(0, (0, 0), 5, wall=0)) == 100


def test_without_a_reference_there_is_no_score():
    assert burden_score(counted(20, (18, 22))) is None
    case = counted(20, (18, 22), 29)
    for labelled in (frozenset(), frozenset({"myocardium"}), frozenset({"scar"})):
        study = dataclasses.replace(case.study, labelled=(labelled,))
        assert burden_score(dataclasses.replace(case, study=study)) is None


def test_a_patient_counts_once_with_the_worst_study():
    studies = [
        counted(20, (20, 20), 23, patient="aa"),  # 3 points off
        counted(20, (20, 20), 21, patient="aa"),  # 1
        counted(20, (20, 20), 22, patient="bb"),  # 2
        counted(20, (20, 20), None, patient="cc"),
    ]
    known = fit_calibration(studies)
    assert known.scores == pytest.approx([2, 3])
    assert known.patients == 3
    assert known.passes == 2


def test_range_by_hand():
    shares = [10, 12, 14, 16, 18, 20, 22, 24]
    studies = [counted(n, (n,), n, patient=str(n)) for n in shares]
    known = fit_calibration(studies)
    # Mean 17; squares 49 + 25 + 9 + 1 doubled are 168, over 7 is 24.
    limits = sum(sign.too_low + sign.too_high for sign in SIGNS.values())
    high = 17 + t_of_seven(FALSE_ALARMS / limits) * math.sqrt(24) * math.sqrt(1 + 1 / 8)
    assert known.ranges["scar_share"] == Range(None, pytest.approx(high))


def t_of_seven(share):
    """Student's t with 7 degrees of freedom above which this share lies."""

    def above(t):
        angle = math.atan(t / math.sqrt(7))
        cosine = math.cos(angle)
        series = cosine + 2 / 3 * cosine**3 + 8 / 15 * cosine**5
        return 0.5 - (angle + math.sin(angle) * series) / math.pi

    assert above(3.4994833) == pytest.approx(0.005, abs=1e-8)  # from a table
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) > share else (low, middle)
    return low


def test_range_is_no_narrower_than_seen():
    shares = [10] * 40 + [60]
    studies = [counted(n, (n,), patient=str(i)) for i, n in enumerate(shares)]
    assert fit_calibration(studies).ranges["scar_share"].high == pytest.approx(60)


def test_few_patients_teach_no_range():
    studies = [counted(n, (n,), n, patient=str(n)) for n in range(10, 17)]
    known = fit_calibration(studies)
    assert known.ranges == {}
    assert len(known.scores) == 7


def test_order_of_the_patients_is_nothing():
    studies = [rings(number) for number in range(8)]
    known, turned = fit_calibration(studies), fit_calibration(reversed(studies))
    assert turned.scores == known.scores
    assert [*turned.ranges] == [*known.ranges]
    for name, one in known.ranges.items():
        # Sums in another order differ in their last digits.
        assert limits(turned.ranges[name]) == pytest.approx(limits(one), rel=1e-9)


def limits(usual):
    return [limit for limit in (usual.low, usual.high) if limit is not None]


def test_nothing_to_learn_from():
    with pytest.raises(RefusedError, match="EMPTY"):
        fit_calibration([])
    with pytest.raises(ValueError, match="expected one number"):
        fit_calibration([counted(1, (1,)), counted(1, (1, 2))])


def test_written_and_read(tmp_path):
    path = tmp_path / "calibration.json"
    known = fit_calibration(rings(number) for number in range(8))
    write_calibration(path, known)
    assert read_calibration(path) == known
    assert known.ranges.keys() == SIGNS.keys()


finite = st.floats(0, 1e6)


@given(st.lists(finite), finite)
@settings(max_examples=20)
def test_any_calibration_is_read_back(tmp_path_factory, scores, high):
    path = tmp_path_factory.mktemp("any") / "calibration.json"
    known = Calibration(2, sorted(scores), {"noise": Range(-1.0, high)}, len(scores))
    write_calibration(path, known)
    assert read_calibration(path) == known


def damaged(**changes):
    return json.dumps(dataclasses.asdict(KNOWN) | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"threshold": 0.5}',
        damaged(passes="3"),
        damaged(passes=0),
        damaged(patients=-1),
        damaged(more=1),
        damaged(scores=[2.0, 0.5]),
        damaged(scores=[-1.0]),
        damaged(scores=[math.nan]),
        damaged(scores=[math.inf]),
        damaged(ranges={"noise": {"low": None, "high": math.inf}}),
        damaged(ranges={"noise": {"low": 2.0, "high": 1.0}}),
        damaged(ranges={"noise": {"high": 1.0}}),
        damaged(ranges={"colour": {"low": None, "high": 1.0}}),
    ],
)
def test_damaged_or_foreign_files_are_refused(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(RefusedError, match="CORRUPT"):
        read_calibration(path)


def test_the_file_behind_the_damaged_ones_is_whole(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(damaged())
    assert read_calibration(path) == KNOWN


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(RefusedError, match="NOT_A_FILE"):
        read_calibration(tmp_path / "calibration.json")
