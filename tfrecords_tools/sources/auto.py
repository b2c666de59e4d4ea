"""Studies of several kinds in one folder, told apart by their content and names.

Known data sets go before pairs of names, and DICOM, which is known by its content, may
lie beside either. No file is read for two kinds.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tfrecords_tools.dicom.config import DicomConfig
from tfrecords_tools.dicom.scan import scan
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import MYOCARDIUM, region_mask
from tfrecords_tools.sources import dicom, emidec, layouts, nifti, png
from tfrecords_tools.sources.config import AutoConfig, NiftiConfig, PngConfig
from tfrecords_tools.sources.source import Item, LeftOut, Source
from tfrecords_tools.study import Study
from tfrecords_tools.workers import cores

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
    def patient_key(self) -> str:
        """Pseudonym of the patient, as far as it is known unread."""
        return getattr(self.item, "patient_key", self.item.key)

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is read from."""
        return self.item.files


def source(folder: Path, config: AutoConfig, key: bytes) -> Source:
    """The studies of every kind under `folder`.

    What one kind by name does not take, the next one may; what none of them takes is
    looked into as DICOM and its references, and counted there.

    Raises:
        RefusedError: `NO_STUDIES` if no kind is there; what a kind refuses as a whole.
    """
    items: list[FoundItem] = []
    left_out: list[LeftOut] = []
    settings: dict[str, str | int | float] = {}
    known: set[Path] = set()
    for found in _named(folder, key):
        new = [item for item in found.items if not known & {*item.files}]
        for item in new:
            if config.unlabelled or getattr(item, "references", False):
                items.append(FoundItem(item, _description(found, item), found.read))
            else:
                reason = "no reference by a name that is known; --unlabelled takes it"
                left_out.append(LeftOut(item.key, reason))
            known |= {*item.files}
        settings |= {f"{found.name}.{k}": v for k, v in found.settings.items() if new}
    scanned = scan(folder, config.workers or cores())
    if not (items or left_out or scanned.headers):
        reason = "neither DICOM files nor images and references by names that are known"
        raise RefusedError(folder, "NO_STUDIES", f"{reason}; name the source")
    rest = dicom.of_scan(
        scanned,
        folder,
        DicomConfig(),
        key,
        references=config.references,
        unlabelled=config.unlabelled,
        without=known,
    )
    items += [
        FoundItem(item, _description(rest, item), rest.read) for item in rest.items
    ]
    settings |= {f"{rest.name}.{k}": v for k, v in rest.settings.items()}
    return Source(SOURCE, items, read, settings, [*left_out, *rest.left_out], True)


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


def _named(folder: Path, key: bytes) -> Iterator[Source]:
    """The sources that find something by names, with and then without references."""
    for open_kind in _candidates(folder, key):
        try:
            yield open_kind()
        except RefusedError as error:
            if error.code != "NO_STUDIES":
                raise


def _candidates(folder: Path, key: bytes) -> Iterator[Callable[[], Source]]:
    yield partial(emidec.source, folder)
    for name in layouts.LAYOUTS:
        for unlabelled in (False, True):
            yield partial(layouts.source, name, folder, unlabelled, key)
    for images, (pattern, words) in PAIRS.items():
        for word in words:
            references = pattern.replace("{}", word)
            pairs = NiftiConfig(images=images, references=references)
            yield partial(nifti.source, folder, pairs, key)
        alone = NiftiConfig(images=images, references="", unlabelled=True)
        yield partial(nifti.source, folder, alone, key)
    if (folder / PngConfig().spacing_table).is_file():
        for unlabelled in (False, True):
            slices = PngConfig(unlabelled=unlabelled)
            yield partial(png.source, folder, slices, key)
