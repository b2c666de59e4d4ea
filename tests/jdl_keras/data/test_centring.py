"""The reference's centre, by hand."""

import numpy as np
import pytest

from jdl_keras.data.centring import (
    image_middle,
    reference_centre,
    slice_reference_centre,
)
from tfrecords_tools.labels import Tissue

NONE, ALL = frozenset(), frozenset({"myocardium", "scar"})


@pytest.fixture
def study_of(make_study):
    """A study whose label map has rectangles (slice, rows, columns, tissue)."""

    def study_of(rectangles, labelled=(ALL, ALL, ALL)):
        label_map = np.zeros((3, 12, 10), np.uint8)
        for index, rows, columns, tissue in rectangles:
            label_map[index, slice(*rows), slice(*columns)] = tissue
        return make_study(0, label_map=label_map, labelled=labelled)

    return study_of


def test_middle_of_a_thin_ring(study_of):
    # Wall in rows 2..8 and columns 1..5, blood inside: (2 + 8) / 2, (1 + 5) / 2.
    wall = (0, (2, 9), (1, 6), Tissue.HEALTHY_MYOCARDIUM)
    blood = (0, (3, 8), (2, 5), Tissue.BLOOD_POOL)
    assert reference_centre(study_of([wall, blood])) == (5.0, 3.0)


def test_scar_and_mvo_belong_to_the_wall(study_of):
    # Rows 1..1, 2..2, 3..4: from 1 to 4. All in columns 4..7.
    parts = (Tissue.HEALTHY_MYOCARDIUM, Tissue.SCAR, Tissue.MVO)
    rows = ((1, 2), (2, 3), (3, 5))
    study = study_of([(0, r, (4, 8), t) for r, t in zip(rows, parts, strict=True)])
    assert reference_centre(study) == (2.5, 5.5)


def test_open_ring_is_centred_as_a_closed_one(study_of):
    # A C: full left wall, column 1; arms to column 7. Its centroid lies at the left.
    wall = Tissue.HEALTHY_MYOCARDIUM
    left = (1, (2, 9), (1, 2), wall)
    arms = [(1, (row, row + 1), (1, 8), wall) for row in (2, 8)]
    assert reference_centre(study_of([left, *arms])) == (5.0, 4.0)


def test_box_is_around_all_slices(study_of):
    wall = Tissue.HEALTHY_MYOCARDIUM
    study = study_of([(0, (1, 5), (2, 5), wall), (2, (3, 10), (4, 9), wall)])
    # Rows 1..9, columns 2..8.
    assert reference_centre(study) == (5.0, 5.0)
    # Alone: rows 1..4 and columns 2..4, nothing, rows 3..9 and columns 4..8.
    alone = [slice_reference_centre(one) for one in study.slices()]
    assert alone == [(2.5, 3.0), None, (6.0, 6.0)]


def test_slices_without_the_reference_do_not_count(study_of):
    wall = Tissue.HEALTHY_MYOCARDIUM
    rectangles = [(0, (1, 5), (2, 5), wall), (2, (3, 10), (4, 9), wall)]
    study = study_of(rectangles, labelled=(NONE, ALL, frozenset({"myocardium"})))
    assert reference_centre(study) == (6.0, 6.0)
    assert slice_reference_centre(next(study.slices())) is None


@pytest.mark.parametrize("labelled", [(ALL, ALL, ALL), (NONE, NONE, NONE)])
def test_without_a_myocardium_the_middle_of_the_image(study_of, labelled):
    study = study_of([(0, (4, 8), (3, 7), Tissue.BLOOD_POOL)], labelled)
    # Rows 0..11 and columns 0..9.
    assert reference_centre(study) == image_middle(study) == (5.5, 4.5)
