"""From a labelled volume, whose slices may run either way, to a study."""

from collections.abc import Sequence

import numpy as np

from tfrecords_tools import geometry
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import Tissue
from tfrecords_tools.sources.labelled import LabelledFiles, SliceOrder
from tfrecords_tools.sources.pairing import PairedStudy
from tfrecords_tools.study import Study


def make_study(
    item: PairedStudy,
    source: str,
    config: LabelledFiles,
    pixels: np.ndarray,
    label_map: np.ndarray,
    affine: np.ndarray,
    warnings: Sequence[str] = (),
) -> Study:
    """The study of a volume, base first and seen from the apex.

    Args:
        item: whose keys it gets; labelled if it has references.
        source: name of the source.
        config: the order of slices, and the tasks of a reference.
        pixels: (S, H, W), of any real type.
        label_map: (S, H, W) uint8 of `Tissue`.
        affine: (4, 4), see `tfrecords_tools.geometry`.
        warnings: what was accepted so far.

    Raises:
        RefusedError: with the first image's path, if `Study` refuses.
    """
    is_apex_first, told = apex_first(config.slice_order, affine, len(pixels))
    # Axes 0 and 1 of the arrays are slices and rows, columns 2 and 0 of the affine.
    flips = (0,) * is_apex_first + (1,) * _mirrored(affine)
    for axis in flips:
        affine = flipped_affine(affine, 2 - 2 * axis, pixels.shape[axis])
    with np.errstate(over="ignore"):  # infinity is refused by Study
        pixels = np.ascontiguousarray(np.flip(pixels, flips), np.float32)
    label_map = np.ascontiguousarray(np.flip(label_map, flips))
    tasks = config.tasks if item.references else frozenset()
    try:
        return Study(
            patient_key=item.patient_key,
            study_key=item.key,
            source=source,
            pixels=pixels,
            label_map=label_map,
            labelled=(tasks,) * len(pixels),
            affine=affine + 0.0,  # no minus zero
            warnings=(*warnings, *told, *_doubts(label_map)),
        )
    except RefusedError as error:
        path = item.images[0][1]
        raise RefusedError(path, error.code, error.reason) from None


def apex_first(
    order: SliceOrder, affine: np.ndarray, slices: int
) -> tuple[bool, list[str]]:
    """Whether slices must be turned round, and what is doubtful about it.

    Args:
        order: what the settings say.
        affine: (4, 4), see `tfrecords_tools.geometry`.
        slices: how many there are.
    """
    towards_apex = geometry.towards_apex(affine[:3, 2])
    if slices == 1:
        return towards_apex < 0, []
    if order == "auto":
        reason = "SLICE_ORDER: no direction in the file tells it; base first is assumed"
        return towards_apex < 0, [] if towards_apex else [reason]
    is_apex_first = order == "apex_first"
    if towards_apex and is_apex_first != (towards_apex < 0):
        return is_apex_first, ["SLICE_ORDER: directions in the file say the opposite"]
    return is_apex_first, []


def _mirrored(affine: np.ndarray) -> bool:
    """Whether the picture is the mirror image of what a scanner shows from the apex.

    NIfTI files often count rows upward. Nothing in training mirrors pictures, and a
    mirrored heart is another anatomy to a network.
    """
    return geometry.towards_apex(geometry.stack_normal(affine)) < 0


def flipped_affine(affine: np.ndarray, column: int, count: int) -> np.ndarray:
    """The affine of an array with `count` steps along the axis of a column, turned."""
    flipped = affine.copy()
    flipped[:3, 3] += (count - 1) * affine[:3, column]
    flipped[:3, column] *= -1
    return flipped


def _doubts(label_map: np.ndarray) -> list[str]:
    """The cavity tapers to the apex; where it grows, the order may be wrong."""
    cavity = np.count_nonzero(label_map == Tissue.BLOOD_POOL, axis=(1, 2))
    count = len(cavity)
    slope = (2 * np.arange(count) - count + 1) @ cavity  # its sign, of a fitted line
    if count < 3 or slope <= 0:
        return []
    return ["SLICE_ORDER: the blood pool grows from first to last; is the apex first?"]
