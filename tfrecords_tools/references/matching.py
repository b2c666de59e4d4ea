"""Finding references in a folder, and the one that was drawn on a stack.

A reference belongs to a stack by the identifiers of its images, or by its grid. Names
of files and their order say nothing; only contours as text, which have nothing else,
are matched by the InstanceNumber in their names.
"""

import dataclasses
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.references import (
    contour_text,
    cvi42,
    dicom_seg,
    label_volumes,
    rtstruct,
)
from tfrecords_tools.references.config import ReferenceConfig
from tfrecords_tools.references.dicom_files import RTSTRUCT_CLASS, SEG_CLASS, class_of
from tfrecords_tools.references.reference_file import Kind, ReferenceFile
from tfrecords_tools.stack import Reference, Stack

_READERS: dict[Kind, Callable[[ReferenceFile, Stack, ReferenceConfig], Reference]] = {
    "nifti": label_volumes.read_nifti,
    "nrrd": label_volumes.read_nrrd_labels,
    "seg": dicom_seg.read_seg,
    "rtstruct": rtstruct.read_rtstruct,
    "cvi42": cvi42.read_cvi42,
    "text": contour_text.read_text,
}

_DESCRIBERS: dict[Kind, Callable[[Path], ReferenceFile]] = {
    "nifti": label_volumes.describe_nifti,
    "nrrd": label_volumes.describe_nrrd,
    "seg": dicom_seg.describe,
    "rtstruct": rtstruct.describe,
    "cvi42": cvi42.describe,
}
"""Text says nothing of the images that it was drawn on."""

_BY_NAME: tuple[tuple[str, Kind], ...] = (
    (".nii", "nifti"),
    (".nii.gz", "nifti"),
    (".nrrd", "nrrd"),
    (".cvi42wsx", "cvi42"),
    (".cvi42ws", "cvi42"),
)
_PREAMBLE = 132
_CLOSED = ("NOT_A_FILE", "cannot be opened")


def index(folder: Path, without: Collection[Path] = ()) -> list[ReferenceFile]:
    """The references under `folder`, sorted by path; links are not followed.

    Contours as text of one folder are one reference. A reference that cannot be read
    is one with a `fault`. Other files, and those of `without`, are passed over.
    """
    found, texts = [], dict[Path, list[Path]]()
    for path in _regular_files(folder):
        if path in without:
            continue
        if contour_text.NAME.fullmatch(path.name):
            texts.setdefault(path.parent, []).append(path)
            continue
        kind = _kind(path)
        if kind:
            found.append(_described(path, kind))
    found += [ReferenceFile("text", tuple(paths)) for paths in texts.values()]
    return sorted(found, key=lambda file: str(file.path))


def read_reference(
    stack: Stack, candidates: Sequence[ReferenceFile], config: ReferenceConfig
) -> Reference | None:
    """The reference of a stack.

    Args:
        stack: the images.
        candidates: what lies in the folder of their study, or was named for it.
        config: what names and values mean.

    Returns:
        None if nothing was drawn on these images; so if all that was drawn was drawn on
        other images of their study.

    Raises:
        RefusedError: `LABELS` if two candidates match, `GEOMETRY_MISMATCH` if only
            references of another study are there, the fault of one that cannot be
            read if no other one matches, and what the formats' readers raise.
    """
    found, missed = _tried(stack, candidates, config)
    if len(found) > 1:
        kinds = " and ".join(sorted(file.kind for file, _ in found))
        reason = f"{len(found)} references of these images ({kinds}); leave one of them"
        raise RefusedError(found[0][0].path, "LABELS", reason)
    faulty = [RefusedError(file.path, *file.fault) for file in candidates if file.fault]
    others = faulty + missed
    if not found:
        for error in others:
            raise error
        return None
    reference = found[0][1]
    if isinstance(reference, RefusedError):
        raise reference
    if others:
        codes = ", ".join(sorted({error.code for error in others}))
        warning = f"{len(others)} other references are not taken ({codes})"
        return _with_warning(reference, warning)
    return reference


_Tried = tuple[ReferenceFile, Reference | RefusedError]


def _tried(
    stack: Stack, candidates: Sequence[ReferenceFile], config: ReferenceConfig
) -> tuple[list[_Tried], list[RefusedError]]:
    """What matches, with the outcome of reading it; and why the others do not."""
    found, missed, by_place = (
        list[_Tried](),
        list[RefusedError](),
        list[ReferenceFile](),
    )
    images = {uid for uid, _ in stack.frames}
    for file in candidates:
        if file.fault:
            continue
        if file.image_uids & images:
            found.append((file, _outcome(file, stack, config)))
        elif file.kind in ("nifti", "nrrd", "text"):
            _sort((file, _outcome(file, stack, config)), found, missed)
        elif _may_lie_on(file, stack):
            by_place.append(file)
        elif not file.study_uid or file.study_uid != stack.study_uid:
            reason = "a reference of other images than those beside it"
            missed.append(RefusedError(file.path, "GEOMETRY_MISMATCH", reason))
    if not found:
        for file in by_place:
            _sort((file, _outcome(file, stack, config)), found, missed)
    return found, missed


def _may_lie_on(file: ReferenceFile, stack: Stack) -> bool:
    """Whether only the place tells: a SEG has a grid; bare contours fit any images."""
    same = file.frame_of_reference_uid == stack.frame_of_reference_uid != ""
    return same and (file.kind == "seg" or not file.image_uids)


def _outcome(
    file: ReferenceFile, stack: Stack, config: ReferenceConfig
) -> Reference | RefusedError:
    try:
        reference = _READERS[file.kind](file, stack, config)
    except RefusedError as error:
        return error
    except OSError:
        return RefusedError(file.path, *_CLOSED)
    images = {uid for uid, _ in stack.frames}
    if file.image_uids and not file.image_uids & images:
        warning = "drawn on other images that lie in the same planes"
        return _with_warning(reference, warning)
    return reference


def _sort(tried: _Tried, found: list[_Tried], missed: list[RefusedError]) -> None:
    """A volume that lies elsewhere, or is an image itself, is no reference of these."""
    outcome = tried[1]
    elsewhere = ("GEOMETRY_MISMATCH", "UNSUPPORTED")
    if isinstance(outcome, RefusedError) and outcome.code in elsewhere:
        missed.append(outcome)
    else:
        found.append(tried)


def _with_warning(reference: Reference, warning: str) -> Reference:
    warnings = (*reference.warnings, warning)
    return dataclasses.replace(reference, warnings=warnings)


def _regular_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _kind(path: Path) -> Kind | None:
    """By the name; of DICOM files by what their head says."""
    name = path.name.lower()
    for ending, kind in _BY_NAME:
        if name.endswith(ending):
            return kind
    try:
        with path.open("rb") as file:
            head = file.read(_PREAMBLE)
    except OSError:  # it cannot be told what this is
        return None
    if head[-4:] != b"DICM" or len(head) < _PREAMBLE:
        return None
    classes: dict[str, Kind] = {SEG_CLASS: "seg", RTSTRUCT_CLASS: "rtstruct"}
    return classes.get(class_of(path))


def _described(path: Path, kind: Kind) -> ReferenceFile:
    try:
        return _DESCRIBERS[kind](path)
    except RefusedError as error:
        return ReferenceFile(kind, (path,), fault=(error.code, error.reason))
    except OSError:
        return ReferenceFile(kind, (path,), fault=_CLOSED)
