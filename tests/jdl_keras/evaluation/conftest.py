"""A small study on a grid of 2 x 2.5 x 10 mm: one voxel is 0.05 ml."""

import numpy as np
import pytest

from tfrecords_tools.labels import TASKS
from tfrecords_tools.study import Study


def build_study(
    label_map, labelled=None, patient="aa", study="01", step_mm=(2, 2.5, 10)
):
    label_map = np.asarray(label_map, np.uint8)
    return Study(
        patient_key=patient,
        study_key=study,
        source="test",
        pixels=np.arange(label_map.size, dtype=np.float32).reshape(label_map.shape),
        label_map=label_map,
        labelled=labelled or (frozenset(TASKS),) * len(label_map),
        affine=np.diag([*map(float, step_mm), 1.0]),
    )


@pytest.fixture
def make_study():
    return build_study


@pytest.fixture
def worked_case(make_study):
    """Three slices of 4 x 4; the scar of slice 2 has no label."""
    label_map = np.zeros((3, 4, 4))
    label_map[0, 0] = [2, 2, 3, 4]
    label_map[1, 0] = [2, 2, 0, 0]
    label_map[2, 0] = [2, 3, 0, 0]
    both, myocardium_only = frozenset(TASKS), frozenset({"myocardium"})
    myocardium, scar = np.zeros((2, 3, 4, 4), bool)
    myocardium[0, 0, 1:] = myocardium[0, 1, 3] = myocardium[1, 0, :2] = True
    scar[0, 0, 2] = scar[0, 1, 2:] = scar[2, 3] = True
    study = make_study(label_map, (both, both, myocardium_only))
    return study, {"myocardium": myocardium, "scar": scar}
