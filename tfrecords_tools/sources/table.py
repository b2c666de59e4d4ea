"""The sources that `build` knows, one entry each."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfrecords_tools.dicom.choice import DicomConfig
from tfrecords_tools.references.config import ReferenceConfig
from tfrecords_tools.sources import auto, dicom, emidec, layouts, nifti, phantom, png
from tfrecords_tools.sources.source import Source


@dataclasses.dataclass(frozen=True)
class NoSettings:
    """Settings of a source that has none."""


@dataclasses.dataclass(frozen=True)
class SourceCommand:
    """A subcommand of `build`.

    Attributes:
        help: the first line of its help.
        open: makes the source of the input, the settings and the key of pseudonyms.
        config: dataclass of the settings; its `unlabelled` and `workers`, if it has
            them, are those of the build.
        input: help of the input; None if there is none.
        private: whether the input may carry identifiers, and so needs a key file.
    """

    help: str
    open: Callable[[Path, Any, bytes], Source]
    config: type = NoSettings
    input: str | None = "folder of the data set, as it was unpacked"
    private: bool = False


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Settings of a known data set.

    Args:
        unlabelled: also take studies without references.
    """

    unlabelled: bool = False


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


def _dicom(folder: Path, build: DicomBuild, key: bytes) -> Source:
    names = (field.name for field in dataclasses.fields(DicomConfig))
    return dicom.source(
        folder,
        DicomConfig(**{name: getattr(build, name) for name in names}),
        key,
        references=build.references,
        reference_config=build.drawn,
        unlabelled=build.unlabelled,
        workers=build.workers,
    )


def _data_set(name: str, help: str) -> SourceCommand:
    def open(folder: Path, config: DataSet, _: bytes) -> Source:
        return layouts.source(name, folder, config.unlabelled)

    return SourceCommand(help, open, DataSet)


SOURCES = {
    "phantom": SourceCommand(
        "Studies with known truth, drawn.",
        lambda folder, config, key: phantom.source(config),
        phantom.PhantomConfig,
        input=None,
    ),
    "emidec": SourceCommand(
        "The EMIDEC data set.", lambda folder, config, key: emidec.source(folder)
    ),
    "myops": _data_set("myops", "The MyoPS 2020 data set."),
    "mscmr": _data_set("mscmr", "The MS-CMRSeg 2019 data set."),
    "acdc": _data_set("acdc", "The ACDC 2017 data set."),
    "auto": SourceCommand(
        "Whatever a folder holds: the kinds below, told apart by content and names.",
        auto.source,
        auto.AutoConfig,
        "folder of studies",
        private=True,
    ),
    "dicom": SourceCommand(
        "LGE short-axis series in folders of DICOM files.",
        _dicom,
        DicomBuild,
        "folder of DICOM files, in any order and depth",
        private=True,
    ),
    "nifti": SourceCommand(
        "Images with masks or label maps as NIfTI.",
        nifti.source,
        nifti.NiftiConfig,
        "folder that the patterns of names start at",
        private=True,
    ),
    "png": SourceCommand(
        "Pairs of PNG files with a table of spacings.",
        png.source,
        png.PngConfig,
        "folder that the patterns of names start at",
        private=True,
    ),
}
"""By subcommand."""
