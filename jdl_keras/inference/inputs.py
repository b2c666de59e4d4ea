"""What `predict` reads: files of hospitals as every source takes them, or records."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from jdl_keras.inference.input_config import InputConfig
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.manifest import MANIFEST_NAME
from tfrecords_tools.npz_set import SUFFIX
from tfrecords_tools.pseudonyms import pseudonym
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.sources import auto, dicom, nifti
from tfrecords_tools.sources.auto import FoundItem
from tfrecords_tools.sources.config import AutoConfig, NiftiConfig
from tfrecords_tools.sources.dicom import DicomItem
from tfrecords_tools.sources.pairing import PairedStudy
from tfrecords_tools.sources.source import Item, Source
from tfrecords_tools.spool import attempt
from tfrecords_tools.study import Study


@dataclasses.dataclass(frozen=True)
class InputStudy:
    """One study to predict.

    Attributes:
        key: its pseudonym.
        read: reads it, or says what is wrong with it.
        item: what it is read from; records have none.
    """

    key: str
    read: Callable[[], Study | RefusedError]
    item: Item | None = None


@dataclasses.dataclass(frozen=True)
class Input:
    """Studies to predict.

    Attributes:
        count: how many.
        studies: each of them, in a stable order.
        source: where they come from; None for a record set.
    """

    count: int
    studies: Iterator[InputStudy]
    source: Source | None = None


def is_records(path: Path) -> bool:
    """Whether a path is a record set, and so needs no key."""
    return path.suffix == SUFFIX or (path / MANIFEST_NAME).is_file()


def open_records_input(path: Path, config: InputConfig) -> Input:
    """The studies of a split.

    Raises:
        RefusedError: `SPLIT` if it is empty; what opening a record set refuses.
    """
    records = open_record_set(path)
    count = records.totals(config.split)["studies"]
    if not count:
        reason = f"no study in its {config.split} split; choose another by --split"
        raise RefusedError(path, "SPLIT", reason)
    studies = records.studies(config.split)
    return Input(count, (InputStudy(s.study_key, partial(_same, s)) for s in studies))


def open_files_input(path: Path, config: InputConfig, key: bytes) -> Input:
    """The studies in files, whether or not they have a reference; perhaps none.

    Raises:
        RefusedError: what the sources refuse.
    """
    source = _source(path, config, key)
    items = sorted(source.items, key=lambda item: item.key)
    studies = (InputStudy(i.key, partial(_read, source, i), i) for i in items)
    return Input(len(items), studies, source)


def _same(study: Study) -> Study:
    return study


def _source(path: Path, config: InputConfig, key: bytes) -> Source:
    if path.is_file():
        return _one_file(path, config.nifti, key)
    if config.source == "dicom":
        return dicom.source(path, config.dicom, key, unlabelled=True)
    if config.source == "nifti":
        every = dataclasses.replace(config.nifti, unlabelled=True)
        return nifti.source(path, every, key)
    return auto.source(path, AutoConfig(unlabelled=True), key)


def _one_file(path: Path, config: NiftiConfig, key: bytes) -> Source:
    name = pseudonym(path.name, key)
    read = partial(nifti.read, name=nifti.SOURCE, folder=path.parent, config=config)
    items = [PairedStudy(name, name, ((0, path),), ())]
    return Source(nifti.SOURCE, items, read, config.settings(), private=True)


def _read(source: Source, item: Item) -> Study | RefusedError:
    images = _without_references(item)
    outcome = attempt(lambda: source.read(images), item)
    if isinstance(outcome, RefusedError) and source.private:
        return RefusedError(item.key, outcome.code, outcome.reason)
    return outcome


def _without_references(item: Item) -> Item:
    """The images alone: what is wrong with a reference is no reason not to predict."""
    if isinstance(item, FoundItem):
        return dataclasses.replace(item, item=_without_references(item.item))
    if isinstance(item, DicomItem):
        return dataclasses.replace(item, own=())
    if isinstance(item, PairedStudy):
        return dataclasses.replace(item, references=())
    return item


def dicom_slices(item: Item | None) -> Sequence[tuple[Path, int]]:
    """File and frame number of each slice, in any order; empty if it is not DICOM."""
    found = _own(item)
    return found.slices if isinstance(found, DicomItem) else ()


def nifti_image(item: Item | None) -> Path | None:
    """The file whose grid the image has, if it came as NIfTI."""
    found = _own(item)
    if isinstance(found, PairedStudy) and ".nii" in found.images[0][1].suffixes:
        return found.images[0][1]
    return None


def _own(item: Item | None) -> Item | None:
    return item.item if isinstance(item, FoundItem) else item
