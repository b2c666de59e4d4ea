"""Frames: what classic and enhanced MR images say of each picture in them."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom import uid

from tfrecords_tools.dicom.files import guarded
from tfrecords_tools.dicom.marks import (
    Contrast,
    Mark,
    contrast_of,
    marks_of_codes,
    marks_of_text,
)
from tfrecords_tools.errors import RefusedError

CLASSIC = uid.MRImageStorage
ENHANCED = (uid.EnhancedMRImageStorage, uid.LegacyConvertedEnhancedMRImageStorage)
MR_IMAGES = (CLASSIC, *ENHANCED)

MAX_FRAMES = 20_000

TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("FrameOfReferenceUID", "PatientID", "Modality", "SeriesNumber", "ImageType"),
    *("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName"),
    *("AcquisitionContrast", "ComplexImageComponent", "ScanningSequence"),
    *("EchoPulseSequence", "InversionRecovery", "InversionTime", "TriggerTime"),
    *("TemporalPositionIdentifier", "CardiacNumberOfImages", "InstanceNumber"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows"),
    *("Columns", "NumberOfFrames", "SamplesPerPixel", "RescaleSlope"),
    *("RescaleIntercept", "ModalityLUTSequence", "SmallestImagePixelValue"),
    *("BurnedInAnnotation", "LossyImageCompression"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
"""All that is ever looked at in a header; pixels come with tags of their own."""

_ACQUISITION = ("ProtocolName", "SequenceName", "PulseSequenceName")
_CODES = (
    *("ImageType", "ComplexImageComponent", "AcquisitionContrast"),
    *("ScanningSequence", "EchoPulseSequence", "FrameType"),
)

Vector = tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Frame:
    """One picture in a file. Its UIDs and patient are never to be written anywhere.

    Attributes:
        number: of the frame in its file, from 1.
        instance_number: of its file; 0 if not given.
        position_mm: (3,) centre of the first pixel, LPS; None if not given.
        orientation: (6,) directions along a row and along a column; or None.
        spacing_mm: of (rows, columns); None if not given.
        slope: and `intercept`, from stored values to the image's.
        time: sorts the frames of one position, as (temporal position, trigger).
        phases: cardiac phases of the acquisition; 1 if it says none.
        inversion_ms: inversion time; None if not given.
        contrast: PSIR, magnitude or phase.
        marks: hints at what was acquired.
        burned_in: whether the pixels hold text, which may name the patient.
        lossy: whether compression changed the values.
    """

    path: Path
    number: int
    sop_uid: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    patient_id: str
    series_number: int
    instance_number: int
    rows: int
    columns: int
    position_mm: Vector | None
    orientation: Vector | None
    spacing_mm: Vector | None
    slope: float
    intercept: float
    time: tuple[float, float]
    phases: int
    inversion_ms: float | None
    contrast: Contrast
    marks: frozenset[Mark]
    burned_in: bool
    lossy: bool


_NEEDED = (
    *("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("Rows", "Columns"),
)


def frames_of(path: Path, dataset: pydicom.Dataset) -> list[Frame]:
    """The frames of an MR image.

    Raises:
        RefusedError: `MISSING_TAG`, `BAD_HEADER`, `BAD_GEOMETRY`, `BAD_RESCALE` or
            `UNSUPPORTED`.
    """
    with guarded(path, "BAD_HEADER", "values that cannot be read"):
        _check_image(path, dataset)
        return list(_frames(path, dataset))


def _check_image(path: Path, dataset: pydicom.Dataset) -> None:
    for keyword in _NEEDED:
        if not dataset.get(keyword):
            raise RefusedError(path, "MISSING_TAG", f"no {keyword}")
    if dataset.get("SamplesPerPixel", 1) != 1:
        raise RefusedError(path, "UNSUPPORTED", "a picture in colour")
    if "ModalityLUTSequence" in dataset:
        raise RefusedError(path, "BAD_RESCALE", "values by a table, not by a slope")


def _frames(path: Path, dataset: pydicom.Dataset) -> Iterator[Frame]:
    count = int(dataset.get("NumberOfFrames") or 1)
    enhanced = dataset.get("SOPClassUID") in ENHANCED
    if not 1 <= count <= MAX_FRAMES or (count > 1 and not enhanced):
        raise RefusedError(path, "UNSUPPORTED", f"{count} frames in one classic image")
    groups = [pydicom.Dataset()] * count
    if enhanced:
        shared = dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
        groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
        if len(groups) != count:
            reason = f"{count} frames, but functional groups of {len(groups)}"
            raise RefusedError(path, "BAD_HEADER", reason)
        groups = [_joined(shared[0], group) for group in groups]
    for index, group in enumerate(groups):
        yield _frame(_Values(path, dataset, group), index + 1)


_GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime",),
    "FrameContentSequence": ("TemporalPositionIndex",),
    "MRImageFrameTypeSequence": ("FrameType", "ComplexImageComponent"),
    "MRModifierSequence": ("InversionRecovery", "InversionTimes"),
}
"""Functional groups and what is looked at in them."""


def _joined(shared: pydicom.Dataset, own: pydicom.Dataset) -> pydicom.Dataset:
    """What is looked at in a frame's functional groups, its own before the shared."""
    joined = pydicom.Dataset()
    for group, keywords in _GROUPS.items():
        items = own.get(group) or shared.get(group)
        for keyword in keywords:
            if items and keyword in items[0]:
                joined[keyword] = items[0][keyword]
    return joined


@dataclasses.dataclass(frozen=True)
class _Values:
    """Checked values of one frame; an enhanced image has them in its groups."""

    path: Path
    dataset: pydicom.Dataset
    group: pydicom.Dataset

    def get(self, keyword: str) -> object:
        value = self.group.get(keyword)
        return self.dataset.get(keyword) if value is None else value

    def numbers(self, keyword: str, count: int, code: str) -> Vector | None:
        value = self.get(keyword)
        if value is None or value == "":
            return None
        values = value if isinstance(value, pydicom.multival.MultiValue) else [value]
        numbers = tuple(float(str(v)) for v in values)
        # Nothing in a patient is a kilometre away; no scale is beyond 32 bits.
        if len(numbers) != count or not all(abs(n) < 1e7 for n in numbers):
            reason = f"expected {count} finite numbers in {keyword}"
            raise RefusedError(self.path, code, reason)
        return numbers

    def number(self, *keywords: str) -> float | None:
        """The first number of the first of `keywords` that is given."""
        for keyword in keywords:
            value = self.get(keyword)
            if isinstance(value, pydicom.multival.MultiValue):
                value = value[0] if value else None
            if value not in (None, "") and math.isfinite(float(str(value))):
                return float(str(value))
        return None

    def texts(self, *keywords: str) -> list[str]:
        found: list[str] = []
        for keyword in keywords:
            for source in (self.dataset, self.group):
                value = source.get(keyword) or ()
                found += [value] if isinstance(value, str) else map(str, value)
        return found


def _frame(values: _Values, number: int) -> Frame:
    slope, intercept = _rescale(values)
    series = marks_of_text(" ".join(values.texts("SeriesDescription")))
    acquisition = marks_of_text(" ".join(values.texts(*_ACQUISITION)))
    codes = marks_of_codes(values.texts(*_CODES))
    if "YES" in values.texts("InversionRecovery"):
        codes |= {Mark.INVERSION}
    smallest = values.number("SmallestImagePixelValue") or 0
    below_zero = min(intercept, slope * smallest + intercept) < 0
    return Frame(
        path=values.path,
        number=number,
        sop_uid=_text(values.get("SOPInstanceUID")),
        study_uid=_text(values.get("StudyInstanceUID")),
        series_uid=_text(values.get("SeriesInstanceUID")),
        frame_of_reference_uid=_text(values.get("FrameOfReferenceUID")),
        patient_id=_text(values.get("PatientID")),
        series_number=int(values.number("SeriesNumber") or 0),
        instance_number=int(values.number("InstanceNumber") or 0),
        rows=int(values.dataset.Rows),
        columns=int(values.dataset.Columns),
        position_mm=values.numbers("ImagePositionPatient", 3, "BAD_GEOMETRY"),
        orientation=values.numbers("ImageOrientationPatient", 6, "BAD_GEOMETRY"),
        spacing_mm=values.numbers("PixelSpacing", 2, "BAD_GEOMETRY"),
        slope=slope,
        intercept=intercept,
        time=(
            values.number("TemporalPositionIndex", "TemporalPositionIdentifier") or 0,
            values.number("NominalCardiacTriggerDelayTime", "TriggerTime") or 0,
        ),
        phases=int(values.number("CardiacNumberOfImages") or 1),
        inversion_ms=values.number("InversionTimes", "InversionTime"),
        contrast=contrast_of(series, codes, acquisition, below_zero),
        marks=series | acquisition | codes,
        burned_in="YES" in values.texts("BurnedInAnnotation"),
        lossy="01" in values.texts("LossyImageCompression"),
    )


def _rescale(values: _Values) -> tuple[float, float]:
    (slope,) = values.numbers("RescaleSlope", 1, "BAD_RESCALE") or (1.0,)
    (intercept,) = values.numbers("RescaleIntercept", 1, "BAD_RESCALE") or (0.0,)
    if slope == 0:
        raise RefusedError(values.path, "BAD_RESCALE", "the slope is zero")
    return slope, intercept


def _text(value: object) -> str:
    return "" if value is None else str(value).strip().strip("\0")
