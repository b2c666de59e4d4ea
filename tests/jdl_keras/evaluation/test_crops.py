"""Whether a crop holds the myocardium; distances worked by hand."""

import json

import numpy as np
import pytest

from jdl_keras.evaluation.crops import measure_crop, summarise_crops
from tfrecords_tools.labels import Tissue

ALL = frozenset({"myocardium", "scar"})
STEP_MM = (1.5, 1.25, 8.0)


@pytest.fixture
def study(make_study):
    """12 x 10 pixels; the third slice shows no myocardium."""
    label_map = np.zeros((4, 12, 10), np.uint8)
    label_map[0, 2:7, 1:6] = Tissue.HEALTHY_MYOCARDIUM  # middle (4, 3)
    label_map[1, 4:9, 3:8] = Tissue.SCAR  # middle (6, 5)
    label_map[3, 0:12, 0:10] = Tissue.HEALTHY_MYOCARDIUM  # not labelled
    return make_study(label_map, (ALL, ALL, ALL, frozenset()), step_mm=STEP_MM)


def test_errors_and_shares_by_hand(study):
    # Slice 0: 2 rows too low, 3 mm. Slice 1: 2 columns too far left, 2.5 mm.
    slices = np.array([[6.0, 3.0], [6.0, 3.0], [0.0, 0.0], [0.0, 0.0]])
    # Around both slices: rows 2..8, columns 1..7: middle (5, 4). The study's centre
    # is 2 rows and 2.4 columns off: 3 mm and 3 mm.
    result = measure_crop(study, slices, (7.0, 6.4), crop_mm=(12.0, 10.0))
    assert result.slice.error_mm == pytest.approx((3.0, 2.5))
    assert result.study.error_mm == pytest.approx((18**0.5,))
    assert result.reference.error_mm == (0.0,)
    # Half a crop is 6 mm = 4 rows and 5 mm = 4 columns. Slice 0 around (6, 3): its
    # rows 2..6 just fit into 2..10. Slice 1 around (6, 3): its columns reach 7, and 7
    # is the last. Around (7, 6.4) rows start at 3: slice 0 is cut; slice 1, rows 4..8
    # and columns 3..7, fits into 3..11 and 2.4..10.4.
    assert result.slice.inside == (True, True)
    assert result.study.inside == (False, True)
    # Around (5, 4): rows 1..9, columns 0..8.
    assert result.reference.inside == (True, True)


def test_one_pixel_outside_is_outside(study):
    slices = np.array([[6.1, 3.0], [6.0, 3.0], [0.0, 0.0], [0.0, 0.0]])
    result = measure_crop(study, slices, (5.0, 4.0), crop_mm=(12.0, 10.0))
    assert result.slice.inside == (False, True)


def test_summary_counts_slices_and_studies(study, make_study):
    slices = np.array([[6.1, 3.0], [6.0, 3.0], [0.0, 0.0], [0.0, 0.0]])
    crop = measure_crop(study, slices, (5.0, 4.0), crop_mm=(12.0, 10.0))
    empty = make_study(np.zeros((3, 12, 10)))
    nothing = measure_crop(empty, np.zeros((3, 2)), (0.0, 0.0), (12.0, 10.0))
    summary = summarise_crops([crop, nothing, crop])
    assert summary["slice"]["slices"] == 4
    assert summary["slice"]["inside"] == 0.5
    # Twice 3.15 and 2.5 mm: the median lies between.
    assert summary["slice"]["error_mm"]["median"] == pytest.approx(2.825)
    assert summary["slice"]["error_mm"]["max"] == pytest.approx(3.15)
    assert summary["study"]["error_mm"]["max"] == 0.0
    assert summary["reference"]["inside"] == 1.0


def test_nothing_to_measure_is_none_and_valid_json(make_study):
    empty = make_study(np.zeros((3, 12, 10)))
    nothing = measure_crop(empty, np.zeros((3, 2)), (0.0, 0.0), (12.0, 10.0))
    summary = summarise_crops([nothing])
    assert summary["study"]["inside"] is None
    assert summary["study"]["error_mm"]["percentile95"] is None
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
