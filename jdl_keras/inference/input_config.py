"""Settings of what `predict` reads."""

import dataclasses
from typing import Literal

from tfrecords_tools.dicom.config import DicomConfig
from tfrecords_tools.sources.config import NiftiConfig


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """How the input is read.

    Attributes:
        source: what a folder holds; a record set and a single NIfTI file are known.
        dicom: of DICOM files.
        nifti: of NIfTI files.
        split: of a record set.
    """

    source: Literal["auto", "dicom", "nifti"] = "auto"
    dicom: DicomConfig = dataclasses.field(default_factory=DicomConfig)
    nifti: NiftiConfig = dataclasses.field(default_factory=NiftiConfig)
    split: Literal["train", "validation", "test"] = "test"
