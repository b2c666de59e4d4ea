"""DICOM Segmentation objects: binary, fractional from 0.5 on, overlapping segments."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.geometry import affine_from_positions
from tfrecords_tools.references.config import ReferenceConfig, Structure
from tfrecords_tools.references.dicom_files import guard, instances, read_dataset
from tfrecords_tools.references.grids import lay
from tfrecords_tools.references.painting import paint_volume, tasks_of
from tfrecords_tools.references.reference_file import ReferenceFile
from tfrecords_tools.stack import Reference, Stack

if TYPE_CHECKING:
    from pydicom import Dataset

_MAX_VOXELS = 2**26
_RLE = "1.2.840.10008.1.2.5"


def describe(path: Path) -> ReferenceFile:
    """What a SEG file says it was drawn on.

    Raises:
        RefusedError: what `read_dataset` refuses, `MISSING_TAG` or `CORRUPT`.
    """
    with guard(path):
        dataset = read_dataset(path, pixels=False)
        found = instances(list(dataset.get("SourceImageSequence", [])))
        for series in dataset.get("ReferencedSeriesSequence", []):
            found |= instances(series.ReferencedInstanceSequence)
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            found |= _sources(frame)
        return ReferenceFile(
            kind="seg",
            files=(path,),
            image_uids=frozenset(found),
            study_uid=str(dataset.StudyInstanceUID),
            frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID", "")),
        )


def read_seg(file: ReferenceFile, stack: Stack, config: ReferenceConfig) -> Reference:
    """The reference in a SEG whose frames lie on slices of `stack`.

    Each frame is put where its position says; one that names its source image must
    lie on it. Slices without a frame are empty: such a file speaks of all of them.

    Raises:
        RefusedError: as `describe`; `UNSUPPORTED`, `TOO_LARGE`, `PIXEL_LENGTH`,
            `GEOMETRY_MISMATCH` or `LABELS`.
    """
    path = file.path
    with guard(path):
        dataset = read_dataset(path)
        structures = _structures(path, dataset, config)
        groups = dataset.PerFrameFunctionalGroupsSequence
        frames = list(zip(_pixels(path, dataset), groups, strict=True))
        laid = [_laid(path, dataset, one, stack) for one in frames]
    masks = {one: np.zeros(stack.pixels.shape, bool) for one in structures.values()}
    for number, index, pixels in laid:
        if number not in structures:
            raise RefusedError(path, "LABELS", "a frame of no segment")
        masks[structures[number]][index] |= pixels
    return paint_volume(path, masks, tasks_of(masks))


def _laid(
    path: Path, dataset: "Dataset", frame: tuple[np.ndarray, "Dataset"], stack: Stack
) -> tuple[int, int, np.ndarray]:
    """Of one frame: number of its segment, slice, and pixels (H, W)."""
    pixels, group = frame
    affine = _affine(dataset, group, stack)
    laid, index = lay(path, pixels[:, :, None], affine, stack.grid)
    sources = _sources(group)
    own = {i for i, (uid, _) in enumerate(stack.frames) if uid in sources}
    if own and index not in own:
        reason = "a frame does not lie on the image it was drawn on"
        raise RefusedError(path, "GEOMETRY_MISMATCH", reason)
    item = _item(dataset, group, "SegmentIdentificationSequence")
    return int(item.ReferencedSegmentNumber), index, laid[0]


def _structures(
    path: Path, dataset: "Dataset", config: ReferenceConfig
) -> dict[int, Structure]:
    """By segment number; by label, else by the code of the property type."""
    found = {}
    for segment in dataset.SegmentSequence:
        types = segment.get("SegmentedPropertyTypeCodeSequence", [])
        codes = [
            f"{one.get('CodingSchemeDesignator', '')}:{one.get('CodeValue', '')}"
            for one in types
        ]
        names = (str(segment.SegmentLabel), *codes)
        found[int(segment.SegmentNumber)] = config.structure(path, *names)
    return found


def _pixels(path: Path, dataset: "Dataset") -> np.ndarray:
    """(frames, rows, columns) boolean; the size is checked before it is unpacked."""
    count = len(dataset.PerFrameFunctionalGroupsSequence)
    shape = (count, int(dataset.Rows), int(dataset.Columns))
    if int(dataset.NumberOfFrames) != count or min(shape) < 1:
        reason = "frames declared and frames described differ"
        raise RefusedError(path, "PIXEL_LENGTH", reason)
    if np.prod(shape, dtype=float) > _MAX_VOXELS:
        raise RefusedError(path, "TOO_LARGE", f"{shape} is over {_MAX_VOXELS} voxels")
    bits, kind = int(dataset.BitsAllocated), str(dataset.SegmentationType)
    if bits not in (1, 8) or kind not in ("BINARY", "FRACTIONAL"):
        reason = "expected BINARY or FRACTIONAL of 1 or 8 bits"
        raise RefusedError(path, "UNSUPPORTED", reason)
    expected = -(-int(np.prod(shape, dtype=np.int64)) * bits // 8)
    native = str(dataset.file_meta.TransferSyntaxUID) != _RLE
    if native and len(dataset.PixelData) != expected + expected % 2:
        reason = f"expected {expected} bytes of pixels, got {len(dataset.PixelData)}"
        raise RefusedError(path, "PIXEL_LENGTH", reason)
    pixels = cast(np.ndarray, dataset.pixel_array).reshape(shape)
    if kind == "BINARY":
        return pixels > 0
    return pixels >= 0.5 * int(dataset.MaximumFractionalValue)


def _affine(dataset: "Dataset", group: "Dataset", stack: Stack) -> np.ndarray:
    """Of one frame, from (row, column, slice) to LPS."""
    directions = _item(dataset, group, "PlaneOrientationSequence")
    cosines = np.array(directions.ImageOrientationPatient, float)
    measures = _item(dataset, group, "PixelMeasuresSequence")
    position = _item(dataset, group, "PlanePositionSequence").ImagePositionPatient
    spacing_mm = float(measures.PixelSpacing[0]), float(measures.PixelSpacing[1])
    return affine_from_positions(
        np.array(position, float),
        row_direction=cosines[3:],
        column_direction=cosines[:3],
        spacing_mm=spacing_mm,
        slice_step_mm=stack.affine[:3, 2],
    )


def _item(dataset: "Dataset", group: "Dataset", name: str) -> "Dataset":
    """The functional group of a frame: its own, or the one that all share."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    return (group.get(name) or shared[name].value)[0]


def _sources(group: "Dataset") -> set[str]:
    return {
        uid
        for derivation in group.get("DerivationImageSequence", [])
        for uid in instances(list(derivation.get("SourceImageSequence", [])))
    }
