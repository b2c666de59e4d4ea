"""Studies of several kinds in one folder, told apart by their content and names.

Known data sets go before pairs of names, and DICOM, which is known by its content, may
lie beside either. No file is read for two kinds.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tfrecords_tools.dicom.choice import DicomConfig
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import MYOCARDIUM, region_mask
from tfrecords_tools.sources import dicom, emidec, layouts, nifti, png
from tfrecords_tools.sources.nifti import NiftiConfig
from tfrecords_tools.sources.pairing import file_names
from tfrecords_tools.sources.source import Item, LeftOut, Source
from tfrecords_tools.study import Study

SOURCE = "auto"

PAIRS = {
    "**/{study}/image.nii*": ("**/{study}/{}.nii*", ("mask", "contours", "label")),
    "**/images/{study}.nii*": ("**/{}/{study}.nii*", ("masks", "contours", "labels")),
    "**/{study}_image.nii*": ("**/{study}_{}.nii*", ("mask", "contours", "label")),
    # nnU-Net
    "**/imagesTr/{study}_0000.nii*": ("**/{}/{study}.nii*", ("labelsTr",)),
}
"""Images, and what their label maps are called."""


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
class FoundItem:
    """A study of some kind, with how it is read.

    Attributes:
        item: of its own source.
        description: the kind, and what was chosen.
        read: of its own source.
    """

    item: Item
    description: str
    read: Callable[[Any], Study] = dataclasses.field(repr=False)

    @property
    def key(self) -> str:
        """Pseudonym of the study."""
        return self.item.key

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is read from."""
        return self.item.files


def source(folder: Path, config: AutoConfig, key: bytes) -> Source:
    """The studies of every kind under `folder`.

    Raises:
        RefusedError: `NO_STUDIES` if no kind is there; what a kind refuses as a whole.
    """
    items: list[FoundItem] = []
    left_out: list[LeftOut] = []
    settings: dict[str, str | int | float] = {}
    read_by: set[Path] = set()
    has_dicom = False
    for found in _kinds(folder, config, key, read_by):
        for item in found.items:
            if not read_by & {*item.files}:
                items.append(FoundItem(item, _description(found, item), found.read))
        read_by |= {path for item in found.items for path in item.files}
        # What one kind does not know, another one may; DICOM is asked last.
        has_dicom = found.name == dicom.SOURCE
        left_out += [e for e in found.left_out if has_dicom or e.what != "file"]
        settings |= {f"{found.name}.{k}": v for k, v in found.settings.items()}
    if not items and not left_out:
        reason = "neither DICOM files nor images and references by names that are known"
        raise RefusedError(folder, "NO_STUDIES", f"{reason}; name the source")
    if not has_dicom:
        names, _ = file_names(folder)
        others = len({folder / name for name in names} - read_by)
        left_out += [LeftOut("file", "of no kind that is known", others)] * bool(others)
    return Source(SOURCE, items, read, settings, left_out, private=True)


def read(found: FoundItem) -> Study:
    """Reads one study as its kind is read.

    Raises:
        RefusedError: as its kind does, and `LABELS` for a reference without any wall.
    """
    study = found.read(found.item)
    wall = region_mask(study.label_map, MYOCARDIUM).any()
    if study.label_map.any() and not wall:
        reason = (
            "labels without any myocardium, such as a mask of 0 and 1: nothing tells "
            "what it is of; use the source nifti or png with --labels or --masks"
        )
        raise RefusedError(found.key, "LABELS", reason)
    return study


def _description(found: Source, item: Item) -> str:
    chosen = getattr(item, "description", "")
    return f"{found.name}: {chosen}" if chosen else found.name


def _kinds(
    folder: Path, config: AutoConfig, key: bytes, read_by: Collection[Path]
) -> Iterator[Source]:
    """The sources that find something; `read_by` grows with what each of them reads."""
    for open_kind in _candidates(folder, config, key, read_by):
        try:
            yield open_kind()
        except RefusedError as error:
            if error.code != "NO_STUDIES":
                raise


def _candidates(
    folder: Path, config: AutoConfig, key: bytes, read_by: Collection[Path]
) -> Iterator[Callable[[], Source]]:
    unlabelled = config.unlabelled
    yield partial(emidec.source, folder)
    for name in layouts.LAYOUTS:
        yield partial(layouts.source, name, folder, unlabelled)
    for images, (pattern, words) in PAIRS.items():
        for word in words:
            references = pattern.replace("{}", word)
            pairs = NiftiConfig(images=images, references=references)
            yield partial(nifti.source, folder, pairs, key)
        if unlabelled:
            alone = NiftiConfig(images=images, references="", unlabelled=True)
            yield partial(nifti.source, folder, alone, key)
    if (folder / png.PngConfig().spacing_table).is_file():
        slices = png.PngConfig(unlabelled=unlabelled)
        yield partial(png.source, folder, slices, key)
    yield partial(
        dicom.source,
        folder,
        DicomConfig(),
        key,
        references=config.references,
        unlabelled=unlabelled,
        workers=config.workers,
        without=read_by,
    )
