"""The DICOM images that a prediction was made from, as its SEG and SR refer to them.

What is copied from their headers is a list of names: who the patient is and which study
it was, because a PACS cannot file an object that does not say the same.
"""

import dataclasses
import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from pydicom.config import disable_value_validation
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, TM

from jdl_keras.inference.study_prediction import Provenance, StudyPrediction
from tfrecords_tools import geometry
from tfrecords_tools.dicom.files import guarded, read_header
from tfrecords_tools.dicom.frames import CLASSIC, TAGS, Frame, frames_of
from tfrecords_tools.dicom.stacks import stack_of
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import whole_file

MANUFACTURER = "jdl_keras"
RESEARCH_USE = "Research use only, not for diagnosis"

_IDENTITY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
    "ReferringPhysicianName",
)
"""With StudyInstanceUID what PS3.3 demands of patient and study (types 1 and 2); all
but the PatientID may be empty."""

_COMPRESSION = (
    *("LossyImageCompression", "LossyImageCompressionRatio"),
    "LossyImageCompressionMethod",
)

_OURS = [*_IDENTITY, *_COMPRESSION, "SliceThickness"]

logging.getLogger("highdicom").addHandler(logging.NullHandler())
logging.getLogger("highdicom").propagate = False  # its messages quote names


@dataclasses.dataclass(frozen=True, eq=False)
class SourceImage:
    """The image of one slice. Its UIDs are for other DICOM objects only.

    Attributes:
        frame: of `tfrecords_tools.dicom.frames`.
        sop_class_uid: of its file.
        identity: the elements of `_IDENTITY`, what is not valid left empty.
        compression: those of `_COMPRESSION` that it has.
        thickness_mm: of the slice; None if not given.
    """

    frame: Frame
    sop_class_uid: str
    identity: pydicom.Dataset
    compression: pydicom.Dataset
    thickness_mm: float | None

    @property
    def frame_number(self) -> int | None:
        """Its number in the file; None for files of one image by their class."""
        return None if self.sop_class_uid == CLASSIC else self.frame.number


def source_images(
    slices: Sequence[tuple[Path, int]], prediction: StudyPrediction
) -> list[SourceImage]:
    """The images of a prediction's slices, base to apex; pixels are not read.

    Args:
        slices: file and number of each frame, in any order.
        prediction: made from them.

    Raises:
        RefusedError: for anything wrong with a header, see
            `tfrecords_tools.dicom.stacks.read_stack`, and `GEOMETRY_MISMATCH` if the
            prediction lies on another grid.
    """
    with quiet():
        found = {
            (image.frame.sop_uid, image.frame.number): image
            for path in dict.fromkeys(path for path, _ in slices)
            for image in _images(path, [n for p, n in slices if p == path])
        }
    # The order and the checks of the reader, for pictures without pixels.
    nothing = np.zeros((0, 0), np.float32)
    stack, _ = stack_of([(image.frame, nothing) for image in found.values()])
    images = [found[name] for name in stack.frames]
    _check_grid(prediction, images, stack.affine)
    return images


def _images(path: Path, numbers: Sequence[int]) -> Iterator[SourceImage]:
    dataset = read_header(path, [*TAGS, *_OURS])
    frames = {frame.number: frame for frame in frames_of(path, dataset)}
    for number in numbers:
        if number not in frames:
            raise RefusedError(path, "BAD_HEADER", f"no frame {number}")
        with guarded(path, "BAD_HEADER", "values that cannot be read"):
            yield SourceImage(
                frame=frames[number],
                sop_class_uid=str(dataset.SOPClassUID),
                identity=_identity(dataset),
                compression=_chosen(dataset, _COMPRESSION),
                thickness_mm=_thickness_mm(dataset, number),
            )


def _identity(dataset: pydicom.Dataset) -> pydicom.Dataset:
    identity = pydicom.Dataset()
    for keyword in _IDENTITY:
        value = dataset.get(keyword)
        setattr(identity, keyword, value if _is_valid(keyword, value) else "")
    return identity


def _is_valid(keyword: str, value: object) -> bool:
    if keyword == "PatientSex":
        return value in {"M", "F", "O"}
    try:
        # As it is written: pydicom keeps what it cannot convert until then.
        {"DA": DA, "TM": TM}.get(pydicom.datadict.dictionary_VR(keyword), str)(value)
    except (ValueError, TypeError, NotImplementedError):
        return False
    return value is not None


def _chosen(dataset: pydicom.Dataset, keywords: Sequence[str]) -> pydicom.Dataset:
    chosen = pydicom.Dataset()
    for keyword in keywords:
        if keyword in dataset:
            chosen[keyword] = dataset[keyword]
    return chosen


def _thickness_mm(dataset: pydicom.Dataset, number: int) -> float | None:
    groups = [dataset]
    for name, index in (
        ("PerFrameFunctionalGroupsSequence", number - 1),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        groups += [
            measures
            for group in dataset.get(name, [])[index : index + 1]
            for measures in group.get("PixelMeasuresSequence", [])
        ]
    given = [float(group.SliceThickness) for group in groups if _has_thickness(group)]
    return next((mm for mm in given if 0 < mm < 100), None)


def _has_thickness(group: pydicom.Dataset) -> bool:
    return group.get("SliceThickness") not in (None, "")


def _check_grid(
    prediction: StudyPrediction, images: Sequence[SourceImage], affine: np.ndarray
) -> None:
    study, frame = prediction.study, images[0].frame
    shape = (len(images), frame.rows, frame.columns)
    row_first = (*shape[1:], shape[0])
    if shape != study.pixels.shape or not geometry.same_grid(
        affine, study.affine, row_first
    ):
        reason = "the prediction lies on another grid than these images"
        raise RefusedError(study.study_key, "GEOMETRY_MISMATCH", reason)


def frame_of_reference_uid(images: Sequence[SourceImage]) -> str:
    """That of the images; of this study's own where they have none, or several.

    A SEG can say only one; its frames still name the images that they lie on.
    """
    found = {image.frame.frame_of_reference_uid for image in images} - {""}
    if len(found) == 1:
        return found.pop()
    return derived_uid(images[0].frame.study_uid, "frame of reference")


def derived_uid(*content: str) -> str:
    """The UID of these words: the same words give the same."""
    # Without a separator, ("ab", "c") and ("a", "bc") were one.
    return str(generate_uid(entropy_srcs=[repr(content)]))


def content_uid(
    kind: str, images: Sequence[SourceImage], masks: np.ndarray, who: Provenance
) -> str:
    """The UID of what `who` found in these images; what kind of UID is in `kind`."""
    names = [(image.frame.sop_uid, image.frame.number) for image in images]
    digest = hashlib.sha256(np.packbits(masks).tobytes()).hexdigest()
    return derived_uid(kind, repr(names), digest, repr(who))


def software(who: Provenance) -> dict[str, Any]:
    """The equipment, as arguments of highdicom's objects."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": f"{who.method} {who.preset}",
        "software_versions": who.version,
        "device_serial_number": serial_number(who),
    }


def serial_number(who: Provenance) -> str:
    """SHA-256 of the weights; of several networks that of all of theirs."""
    if len(who.weights_sha256) == 1:
        return who.weights_sha256[0]
    return hashlib.sha256("".join(who.weights_sha256).encode()).hexdigest()


def parameters(who: Provenance) -> dict[str, str]:
    """What identifies the networks, by name."""
    exports = {"exported_version": " ".join(map(str, who.exports))}
    return {
        "method": who.method,
        "preset": who.preset,
        "weights_sha256": " ".join(who.weights_sha256),
        "record_set_sha256": " ".join(who.record_set_sha256),
        **(exports if who.exports else {}),
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Silences pydicom and highdicom, whose warnings quote values.

    Values of the source are written as they are: the PACS compares them.
    """
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def save(dataset: hd.base.SOPClass, path: Path) -> None:
    """Writes a file that only its owner can read: it names the patient."""
    with whole_file(path, private=True) as temporary, quiet():
        dataset.save_as(temporary, enforce_file_format=True, overwrite=True)
