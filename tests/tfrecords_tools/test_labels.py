"""What is left of a label map where references are missing."""

import numpy as np
import pytest

from tfrecords_tools.labels import Tissue, tissues_without

# Background, blood pool, healthy myocardium, scar, MVO
LEFT = {
    (): [0, 1, 2, 3, 4],
    ("scar",): [0, 1, 2, 2, 2],
    ("myocardium",): [0, 1, 0, 3, 4],
    ("myocardium", "scar"): [0, 1, 0, 0, 0],
}


@pytest.mark.parametrize("tasks", LEFT)
def test_tissues_without_references(tasks):
    assert tissues_without(tasks).tolist() == LEFT[tasks]
    assert tissues_without(tasks[::-1]).tolist() == LEFT[tasks]


def test_label_map_without_scar_keeps_the_wall():
    label_map = np.array([[Tissue.SCAR, Tissue.BLOOD_POOL, Tissue.MVO]], np.uint8)
    left = tissues_without(["scar"])[label_map]
    assert left.dtype == np.uint8
    assert left.tolist() == [[2, 1, 2]]
