"""What lies in a folder tree: every file's header, read once, in parallel."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset, uid

from tfrecords_tools.dicom.files import (
    guarded,
    identity_of,
    read_header,
    read_identity,
)
from tfrecords_tools.dicom.frames import MR_IMAGES, TAGS, Frame, frames_of
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.workers import in_processes

_SUFFIXES = (".dcm", ".ima", ".dicom")
"""A file that is called so and is no DICOM is damaged; any other is something else."""

_BATCH_FILES = 64

FILES_A_WORKER = 2000
"""A process takes 1 to 2 s to start, and reads 700 headers a second."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        study_uid: and `series_uid`: empty where they cannot be read; identifiers.
        frames: of an MR image.
        other: what it is if no MR image, such as `RT Structure Set Storage`.
        fault: code and reason of a damaged file.
    """

    path: Path
    study_uid: str = ""
    series_uid: str = ""
    frames: tuple[Frame, ...] = ()
    other: str = ""
    fault: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Scan:
    """A folder tree.

    Attributes:
        headers: of DICOM files, whole and damaged, by path.
        not_dicom: files that are something else.
        others: kinds of things that were not looked at, and how many there are.
    """

    headers: tuple[Header, ...]
    not_dicom: tuple[Path, ...]
    others: dict[str, int]


def scan(folder: Path, workers: int = 1) -> Scan:
    """Reads the headers of all files below a folder; links are not followed.

    Args:
        folder: or a single file.
        workers: processes; the result is the same with any number.

    Raises:
        RefusedError: `NOT_A_FILE` if there is nothing.
    """
    if not folder.exists():
        raise RefusedError(folder, "NOT_A_FILE", "no such folder")
    others: Counter[str] = Counter()
    paths = sorted(_paths(folder, others), key=os.fsencode)
    starts = range(0, len(paths), _BATCH_FILES)
    batches = [_Batch(str(i), tuple(paths[i : i + _BATCH_FILES])) for i in starts]
    headers: list[Header] = []
    workers = min(workers, 1 + len(paths) // FILES_A_WORKER)
    for batch, outcome in in_processes(_read_batch, batches, workers):
        if isinstance(outcome, RefusedError):
            fault = (outcome.code, outcome.reason)
            outcome = [Header(path, fault=fault) for path in batch.files]
        headers += outcome
    headers.sort(key=lambda header: os.fsencode(header.path))
    kept = tuple(header for header in headers if not _is_something_else(header))
    rest = tuple(header.path for header in headers if _is_something_else(header))
    return Scan(kept, rest, dict(sorted(others.items())))


def _paths(folder: Path, others: Counter[str]) -> Iterator[Path]:
    """Files to look at; hidden ones are no images but traces of file managers."""
    if folder.is_file():
        yield folder
    for root, _, names in os.walk(folder, onerror=lambda _: _count_folder(others)):
        for name in names:
            path = Path(root, name)
            if name.startswith("."):
                others["hidden files"] += 1
            elif path.is_symlink():
                others["links, which are not followed"] += 1
            elif not path.is_file():
                others["pipes and the like"] += 1
            else:
                yield path


def _count_folder(others: Counter[str]) -> None:
    others["folders that cannot be opened"] += 1


@dataclasses.dataclass(frozen=True)
class _Batch:
    key: str
    files: tuple[Path, ...]


def _read_batch(batch: _Batch) -> list[Header]:
    return [read_one(path) for path in batch.files]


def read_one(path: Path) -> Header:
    """The header of one file; whatever is wrong with it is its `fault`."""
    study_uid = series_uid = ""
    try:
        dataset = read_header(path, TAGS)
        study_uid, series_uid = identity_of(path, dataset)
        other = _other_kind(path, dataset)
        frames = () if other else tuple(frames_of(path, dataset))
        return Header(path, study_uid, series_uid, frames, other)
    except RefusedError as error:
        if not study_uid:
            study_uid, series_uid = read_identity(path)
        fault = (error.code, error.reason)
        return Header(path, study_uid, series_uid, fault=fault)


def _other_kind(path: Path, dataset: Dataset) -> str:
    """What a file is that is no MR image; empty for one that is."""
    with guarded(path, "BAD_HEADER", "its class cannot be read"):
        kind = dataset.get("SOPClassUID") or dataset.file_meta.get(
            "MediaStorageSOPClassUID", ""
        )
        if kind in MR_IMAGES:
            if (dataset.get("Modality") or "MR") != "MR":
                reason = "an MR image that calls itself another modality"
                raise RefusedError(path, "WRONG_MODALITY", reason)
            return ""
        if not kind and "Rows" in dataset:
            raise RefusedError(path, "MISSING_TAG", "no SOPClassUID")
        # Names of the standard only: what is not in its table may be anything.
        known = isinstance(kind, uid.UID) and kind.name != kind
        return kind.name if known else "unknown DICOM class"


def _is_something_else(header: Header) -> bool:
    named = header.path.suffix.lower() in _SUFFIXES
    return header.fault is not None and header.fault[0] == "NOT_DICOM" and not named
