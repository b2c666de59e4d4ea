"""The sources that `build` knows, one entry each; imported when they are opened."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfrecords_tools.dicom.config import DicomConfig
from tfrecords_tools.sources.config import (
    AutoConfig,
    DataSet,
    DicomBuild,
    NiftiConfig,
    NoSettings,
    PhantomConfig,
    PngConfig,
)
from tfrecords_tools.sources.source import Source


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


def _phantom(_: Path, config: PhantomConfig, key: bytes) -> Source:
    from tfrecords_tools.sources import phantom

    return phantom.source(config)


def _emidec(folder: Path, _: NoSettings, key: bytes) -> Source:
    from tfrecords_tools.sources import emidec

    return emidec.source(folder)


def _auto(folder: Path, config: AutoConfig, key: bytes) -> Source:
    from tfrecords_tools.sources import auto

    return auto.source(folder, config, key)


def _nifti(folder: Path, config: NiftiConfig, key: bytes) -> Source:
    from tfrecords_tools.sources import nifti

    return nifti.source(folder, config, key)


def _png(folder: Path, config: PngConfig, key: bytes) -> Source:
    from tfrecords_tools.sources import png

    return png.source(folder, config, key)


def _dicom(folder: Path, build: DicomBuild, key: bytes) -> Source:
    from tfrecords_tools.sources import dicom

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
        from tfrecords_tools.sources import layouts

        return layouts.source(name, folder, config.unlabelled)

    return SourceCommand(help, open, DataSet)


SOURCES = {
    "phantom": SourceCommand(
        "Studies with known truth, drawn.",
        _phantom,
        PhantomConfig,
        input=None,
    ),
    "emidec": SourceCommand("The EMIDEC data set.", _emidec),
    "myops": _data_set("myops", "The MyoPS 2020 data set."),
    "mscmr": _data_set("mscmr", "The MS-CMRSeg 2019 data set."),
    "acdc": _data_set("acdc", "The ACDC 2017 data set."),
    "auto": SourceCommand(
        "Whatever a folder holds: the kinds below, told apart by content and names.",
        _auto,
        AutoConfig,
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
        _nifti,
        NiftiConfig,
        "folder that the patterns of names start at",
        private=True,
    ),
    "png": SourceCommand(
        "Pairs of PNG files with a table of spacings.",
        _png,
        PngConfig,
        "folder that the patterns of names start at",
        private=True,
    ),
}
"""By subcommand."""
