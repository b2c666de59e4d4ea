"""Where the reference says the heart is: what the localiser learns, and the oracle."""

from collections.abc import Callable, Iterable

import numpy as np

from tfrecords_tools.geometry import bounding_box
from tfrecords_tools.labels import MYOCARDIUM, region_mask
from tfrecords_tools.study import Slice, Study


def reference_centre(study: Study) -> tuple[float, float]:
    """Native (row, column) in the middle of the myocardium over all labelled slices.

    The middle of the bounding box, not the centroid: of all centres it keeps the
    myocardium farthest from the edge of a crop, and an open ring does not draw it to
    its closed side. The middle of the image if the study has no myocardium.
    """
    labelled = np.array(["myocardium" in tasks for tasks in study.labelled])
    mask = region_mask(study.label_map[labelled], MYOCARDIUM).any(axis=0)
    return _box_middle(mask) or image_middle(study)


def slice_centres(
    studies: Iterable[Study], locate: Callable[[Study], tuple[float, float]]
) -> np.ndarray:
    """(slices, 2): for every slice of all studies the centre of its study."""
    rows = [np.tile(locate(study), (len(study.pixels), 1)) for study in studies]
    return np.concatenate(rows)


def image_middle(study: Study) -> tuple[float, float]:
    """Native (row, column) in the middle of the study's images."""
    rows, columns = study.pixels.shape[1:]
    return (rows - 1) / 2, (columns - 1) / 2


def slice_reference_centre(one: Slice) -> tuple[float, float] | None:
    """Native (row, column) in the middle of a slice's myocardium; None without any."""
    if "myocardium" not in one.labelled:
        return None
    return _box_middle(region_mask(one.label_map, MYOCARDIUM))


def _box_middle(mask: np.ndarray) -> tuple[float, float] | None:
    box = bounding_box(mask)
    return None if box is None else tuple(box.mean(axis=0).tolist())
