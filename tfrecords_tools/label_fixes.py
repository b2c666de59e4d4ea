"""The few faults of labels that can be mended without looking; never by default."""

import dataclasses
from collections.abc import Callable, Collection

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.label_shapes import enclosed_holes, pieces
from tfrecords_tools.labels import MYOCARDIUM, Tissue, region_mask
from tfrecords_tools.study import Study

FIX_MM2 = 20.0
"""Islands and holes below this area are mended: a slip of the pen, no anatomy."""


def without_islands(
    label_map: np.ndarray, pixel_mm2: float, below_mm2: float = FIX_MM2
) -> np.ndarray:
    """A slice without the small pieces apart from the wall or from the blood pool.

    Args:
        label_map: (H, W) uint8 of `Tissue`.
        pixel_mm2: area of one pixel.
        below_mm2: pieces of this area and more stay.

    Returns:
        (H, W) uint8: pieces are blood pool where blood pool encloses them, else
        background. The largest piece always stays.
    """
    mended = label_map.copy()
    blood = label_map == Tissue.BLOOD_POOL
    for mask in (region_mask(label_map, MYOCARDIUM), blood):
        for piece in pieces(mask)[1:]:
            if np.count_nonzero(piece) * pixel_mm2 < below_mm2:
                in_blood = enclosed_holes(blood & ~piece)[piece].all()
                mended[piece] = Tissue.BLOOD_POOL if in_blood else Tissue.BACKGROUND
    return mended


def without_holes(
    label_map: np.ndarray, pixel_mm2: float, below_mm2: float = FIX_MM2
) -> np.ndarray:
    """A slice whose small unlabelled holes take the label of the nearest pixel.

    Args:
        label_map: (H, W) uint8 of `Tissue`.
        pixel_mm2: area of one pixel.
        below_mm2: holes of this area and more stay: they are cavities.
    """
    mended = label_map.copy()
    labelled = label_map != Tissue.BACKGROUND
    if not labelled.any():
        return mended
    from scipy import ndimage  # see `label_shapes`

    _, nearest = ndimage.distance_transform_edt(~labelled, return_indices=True)
    for hole in pieces(enclosed_holes(labelled)):
        if np.count_nonzero(hole) * pixel_mm2 < below_mm2:
            mended[hole] = label_map[tuple(nearest)][hole]
    return mended


FIXES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "islands": without_islands,
    "holes": without_holes,
}
"""What can be asked for by name, in the order in which it is done."""


def fixed(study: Study, names: Collection[str]) -> Study:
    """The study with its labels mended, and every change among its warnings.

    Args:
        study: any; one that needs nothing comes back as it is.
        names: of `FIXES`.

    Raises:
        RefusedError: for an unknown name.
    """
    if unknown := sorted(set(names) - set(FIXES)):
        raise RefusedError("fix", "CONFIG", f"expected of {[*FIXES]}, got {unknown}")
    pixel_mm2 = study.spacing_mm[0] * study.spacing_mm[1]
    label_map, notes = study.label_map.copy(), []
    for name in (name for name in FIXES if name in names):
        for index, labels in enumerate(label_map):
            mended = FIXES[name](labels, pixel_mm2)
            if count := np.count_nonzero(mended != labels):
                notes.append(f"FIXED slice {index + 1}: {name}, {count} pixels")
                label_map[index] = mended
    if not notes:
        return study
    warnings = (*study.warnings, *notes)
    return dataclasses.replace(study, label_map=label_map, warnings=warnings)
