"""Whether the crop that was found holds the myocardium, on the native grid."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfrecords_tools.geometry import bounding_box
from tfrecords_tools.labels import MYOCARDIUM, region_mask
from tfrecords_tools.study import Study


@dataclasses.dataclass(frozen=True)
class Placement:
    """Crops of one kind, one for each slice that shows the myocardium.

    Attributes:
        inside: whether the whole myocardium of the slice lies in its crop.
        error_mm: distance of each centre that was found from the middle of the box
            around the myocardium: of the slice, or one for the study.
    """

    inside: tuple[bool, ...]
    error_mm: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class CropResult:
    """The crops of one study.

    Attributes:
        slice: every slice cropped around its own centre.
        study: all slices cropped around the study's centre.
        reference: all slices cropped around the middle of the reference.
    """

    slice: Placement
    study: Placement
    reference: Placement


def measure_crop(
    study: Study,
    slice_centres: np.ndarray,
    study_centre: tuple[float, float],
    crop_mm: tuple[float, float],
) -> CropResult:
    """Compares centres with the reference myocardium.

    Args:
        study: with its reference; slices without a myocardium count nowhere.
        slice_centres: (S, 2) native (row, column) found for each slice.
        study_centre: native (row, column) found for the study.
        crop_mm: extent of the crop in rows and in columns. A pixel is inside if its
            centre is.
    """
    masks = region_mask(study.label_map, MYOCARDIUM)
    boxes = {
        index: box
        for index, tasks in enumerate(study.labelled)
        if "myocardium" in tasks and (box := bounding_box(masks[index])) is not None
    }
    if not boxes:
        nothing = Placement((), ())
        return CropResult(nothing, nothing, nothing)
    spacing_mm = np.array(study.spacing_mm)
    boxes_mm = np.stack([*boxes.values()]) * spacing_mm  # (slices, first and last, 2)
    around = np.stack([boxes_mm[:, 0].min(axis=0), boxes_mm[:, 1].max(axis=0)])
    middle_mm = around.mean(axis=0)

    def placed(centres: np.ndarray, truth_mm: np.ndarray) -> Placement:
        found_mm = np.atleast_2d(centres) * spacing_mm
        error = np.linalg.norm(found_mm - truth_mm, axis=1)
        reach = np.abs(boxes_mm - found_mm[:, None])
        inside = (reach <= np.array(crop_mm) / 2).all(axis=(1, 2))
        return Placement(tuple(inside.tolist()), tuple(error.tolist()))

    return CropResult(
        slice=placed(slice_centres[[*boxes]], boxes_mm.mean(axis=1)),
        study=placed(np.array(study_centre), middle_mm),
        reference=placed(middle_mm / spacing_mm, middle_mm),
    )


def summarise_crops(crops: Sequence[CropResult]) -> dict:
    """Shares and errors over many studies, for `localiser.json`.

    Returns:
        For `slice`, `study` and `reference`: `slices`, of which the share `inside` has
        its whole myocardium in the crop, and the `median`, `percentile95` and `max` of
        `error_mm`. None where there is nothing to measure.
    """
    return {
        field.name: _summary([getattr(crop, field.name) for crop in crops])
        for field in dataclasses.fields(CropResult)
    }


def _summary(placements: list[Placement]) -> dict:
    inside = [one for placement in placements for one in placement.inside]
    error_mm = [one for placement in placements for one in placement.error_mm]
    percentiles = np.percentile(error_mm, [50, 95, 100]) if error_mm else [None] * 3
    names = ("median", "percentile95", "max")
    return {
        "slices": len(inside),
        "inside": float(np.mean(inside)) if inside else None,
        "error_mm": {
            name: None if value is None else float(value)
            for name, value in zip(names, percentiles, strict=True)
        },
    }
