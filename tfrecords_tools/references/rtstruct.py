"""DICOM RT structure sets: closed contours in patient coordinates."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.references import polygons
from tfrecords_tools.references.config import ReferenceConfig, Structure
from tfrecords_tools.references.dicom_files import guard, instances, read_dataset
from tfrecords_tools.references.painting import paint_contours
from tfrecords_tools.references.reference_file import ReferenceFile
from tfrecords_tools.stack import Reference, Stack

if TYPE_CHECKING:
    from pydicom import Dataset

_PLANE_TOLERANCE_MM = 0.5
"""Of a contour's points from the plane of its slice; slices are 5 to 10 mm apart."""

_TYPES = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR"}

Drawn = tuple[Structure, int, np.ndarray]
"""Structure, slice, and (N, 2) points of (row, column)."""


def describe(path: Path) -> ReferenceFile:
    """What a structure set says it was drawn on.

    Raises:
        RefusedError: what `read_dataset` refuses, `MISSING_TAG` or `CORRUPT`.
    """
    with guard(path):
        dataset = read_dataset(path)
        frames = list(dataset.get("ReferencedFrameOfReferenceSequence", []))
        rois = dataset.StructureSetROISequence
        found = {
            uid
            for roi in dataset.get("ROIContourSequence", [])
            for contour in roi.get("ContourSequence", [])
            for uid in instances(list(contour.get("ContourImageSequence", [])))
        }
        for frame in frames:
            for study in frame.get("RTReferencedStudySequence", []):
                for series in study.get("RTReferencedSeriesSequence", []):
                    found |= instances(list(series.get("ContourImageSequence", [])))
        references = {str(roi.ReferencedFrameOfReferenceUID) for roi in rois}
        return ReferenceFile(
            kind="rtstruct",
            files=(path,),
            image_uids=frozenset(found),
            study_uid=str(dataset.StudyInstanceUID),
            frame_of_reference_uid=references.pop() if len(references) == 1 else "",
        )


def read_rtstruct(
    file: ReferenceFile, stack: Stack, config: ReferenceConfig
) -> Reference:
    """The reference in a structure set, see `polygons` and `painting`.

    Contours that name images of another series are left out; the others must lie in
    the plane of a slice, and of the one they name.

    Raises:
        RefusedError: as `describe`; `CONTOUR`, `GEOMETRY_MISMATCH` or `LABELS`.
    """
    path = file.path
    shape = stack.pixels.shape
    with guard(path):
        drawn = list(_contours(path, read_dataset(path), stack, config))
    contours: dict[tuple[Structure, int], list[np.ndarray]] = {}
    for structure, index, points in drawn:
        polygons.check(path, points, shape[1:])
        contours.setdefault((structure, index), []).append(points)
    masks: dict[Structure, np.ndarray] = {}
    for (structure, index), borders in contours.items():
        mask = masks.setdefault(structure, np.zeros(shape, bool))
        mask[index] = polygons.fill(path, borders, shape[1:])
    if not masks:
        raise RefusedError(path, "CONTOUR", "no contour on these images")
    return paint_contours(path, masks)


def _contours(
    path: Path, dataset: "Dataset", stack: Stack, config: ReferenceConfig
) -> Iterator[Drawn]:
    names = {
        int(roi.ROINumber): str(roi.get("ROIName", ""))
        for roi in dataset.StructureSetROISequence
    }
    images = {uid for uid, _ in stack.frames}
    for roi in dataset.get("ROIContourSequence", []):
        structure = config.structure(path, names[int(roi.ReferencedROINumber)])
        if structure is Structure.IGNORED:
            continue
        for contour in roi.get("ContourSequence", []):
            named = instances(list(contour.get("ContourImageSequence", [])))
            if named and not named & images:
                continue
            if str(contour.ContourGeometricType) not in _TYPES:
                reason = "a contour that is not closed and planar"
                raise RefusedError(path, "CONTOUR", reason)
            index, points = _on_slice(path, contour, stack)
            if named and stack.frames[index][0] not in named:
                reason = "a contour does not lie on the image it was drawn on"
                raise RefusedError(path, "GEOMETRY_MISMATCH", reason)
            yield structure, index, points


def _on_slice(path: Path, contour: "Dataset", stack: Stack) -> tuple[int, np.ndarray]:
    """The slice whose plane a contour lies in, and its points there."""
    values = np.array(contour.get("ContourData") or [], float)
    if len(values) % 3 or not np.isfinite(values).all() or len(values) < 9:
        reason = "expected three points or more of three finite coordinates"
        raise RefusedError(path, "CONTOUR", reason)
    points_mm = values.reshape(-1, 3) - stack.affine[:3, 3]
    places = np.linalg.solve(stack.affine[:3, :3], points_mm.T).T
    index = round(float(np.median(places[:, 2])))
    step_mm = np.linalg.norm(stack.affine[:3, 2])
    away_mm = np.abs(places[:, 2] - index).max() * step_mm
    if away_mm > _PLANE_TOLERANCE_MM or not 0 <= index < len(stack.pixels):
        reason = "a contour that lies in the plane of no slice"
        raise RefusedError(path, "GEOMETRY_MISMATCH", reason)
    return index, places[:, :2]
