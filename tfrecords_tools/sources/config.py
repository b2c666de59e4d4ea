"""Settings of the sources.

Apart from what reads the files, so that a command can name them without loading that.
"""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar, Literal

from tfrecords_tools.dicom.config import DicomConfig
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.references.config import ReferenceConfig
from tfrecords_tools.sources.labelled import LabelledFiles


@dataclasses.dataclass(frozen=True)
class NoSettings:
    """Settings of a source that has none."""


@dataclasses.dataclass(frozen=True)
class PhantomConfig:
    """A synthetic cohort.

    Args:
        patients: how many; a cohort of 60 begins with the cohort of 10.
        seed: which cohort; patient i depends on (seed, i) and on nothing else.
        noise: factor on the deviation of the scanners' noise. The noise itself and
            all else of a patient stay the same; ghosts of breathing are no noise.

    Raises:
        RefusedError: if there would be no patient, the seed is negative, or the noise
            is.
    """

    patients: int = 120
    seed: int = 0
    noise: float = 1.0

    def __post_init__(self):
        for name, least in (("patients", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                reason = f"expected {least} or more, got {value}"
                raise RefusedError(name, "CONFIG", reason)
        if not 0 <= self.noise < math.inf:
            reason = f"expected a number of 0 or more, got {self.noise}"
            raise RefusedError("noise", "CONFIG", reason)


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Settings of a known data set.

    Args:
        unlabelled: also take studies without references.
    """

    unlabelled: bool = False


@dataclasses.dataclass(frozen=True)
class AutoConfig:
    """What is taken from a folder of anything.

    Attributes:
        references: folder of references of DICOM studies, beside those among them.
        unlabelled: also take studies without references.
        workers: processes that read headers.
    """

    references: Path | None = None
    unlabelled: bool = False
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class DicomBuild(DicomConfig):
    """Settings of DICOM folders and of what was drawn on their images.

    Args:
        references: folder of reference files, beside those among the images.
        drawn: what names and values in reference files mean.
        unlabelled: also take studies without references.
        workers: processes that read headers; 0 is one a core.
    """

    references: Path | None = None
    drawn: ReferenceConfig = dataclasses.field(default_factory=ReferenceConfig)
    unlabelled: bool = False
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class NiftiConfig(LabelledFiles):
    """How NIfTI files are found and understood.

    Patterns are paths under the input folder, such as `{patient}/{study}_LGE.nii*`:
    the same `{study}` and `{patient}` pair an image with its reference, `*` stands for
    any part of a name and `**/` for any folders. All studies of a patient stay in one
    split; without `{patient}`, each study is a patient.

    Attributes:
        images: pattern of the images' paths under the input, such as
            {patient}/{study}_LGE.nii*: what {study} and {patient} stand for pairs an
            image with its reference, * stands for any part of a name, **/ for folders.
        references: pattern of the label maps; empty if there are none.
        masks: patterns of binary masks, in place of label maps.
        labels: value to tissue; 0 is background unless named. A task whose tissue
            (HEALTHY_MYOCARDIUM, SCAR) is not named is not labelled.
        slice_order: which slice comes first in the file; `auto` goes by the directions
            in the file where they are oblique, as those of a short axis are, and else
            assumes the base, with a warning.
        unlabelled: also take studies without references.
        spacing: voxel sizes must agree, or which of the two headers is right.
        orientation: sform and qform must agree, or which of them is right.
        slice_axis: the axis of the array that counts slices.
    """

    images: str = "{study}/image.nii*"
    references: str = "{study}/mask.nii*"
    spacing: Literal["agree", "pixdim", "affine"] = "agree"
    orientation: Literal["agree", "sform", "qform"] = "agree"
    slice_axis: Literal[1, 2, 3] = 3

    def settings(self) -> dict[str, str | int | float]:
        """What decides a study's bits."""
        names = ("spacing", "orientation", "slice_axis")
        return super().settings() | {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True)
class PngConfig(LabelledFiles):
    """How PNG slices are found and understood.

    Patterns are paths under the input folder: the same `{study}`, `{patient}` and
    `{index}` pair an image with its reference, `*` stands for any part of a name and
    `**/` for any folders. All studies of a patient stay in one split; without
    `{patient}`, each study is a patient.

    Attributes:
        images: pattern of the images' paths under the input, such as
            {patient}/{study}/{index}.png: what {study}, {patient} and {index} (of the
            slice) stand for pairs an image with its reference, * stands for any part of
            a name, **/ for folders.
        references: pattern of the label maps; empty if there are none.
        masks: patterns of binary masks, in place of label maps.
        labels: value to tissue; 0 is background unless named. A task whose tissue
            (HEALTHY_MYOCARDIUM, SCAR) is not named is not labelled.
        slice_order: which index comes first; `auto` assumes the base, with a warning.
        unlabelled: also take studies without references.
        spacing_table: CSV file under the input folder with the columns study,
            spacing_mm_rows, spacing_mm_columns, slice_spacing_mm, and patient if
            patterns tell patients.
    """

    images: str = "{study}_{index}.png"
    references: str = "{study}_{index}_mask.png"
    spacing_table: str = "spacing.csv"

    NEEDED: ClassVar[frozenset[str]] = frozenset({"study", "index"})
