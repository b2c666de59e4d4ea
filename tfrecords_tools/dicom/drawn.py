"""References by the study that they belong to, as far as that can be told unread."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from tfrecords_tools.dicom.studies import FoundStudy, own_folders
from tfrecords_tools.references.matching import fault_of
from tfrecords_tools.references.reference_file import ReferenceFile
from tfrecords_tools.sources.source import LeftOut


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """References of an input.

    Attributes:
        files: all that they are read from.
        own: by StudyInstanceUID, those that name a study or lie in its folder.
        shared: those that only their place in the patient may assign to a study.
        shared_state: changes when one of those changes.
        left_out: those that belong to nothing here.
    """

    files: frozenset[Path]
    own: dict[str, list[ReferenceFile]]
    shared: tuple[ReferenceFile, ...]
    shared_state: str
    left_out: tuple[LeftOut, ...]


def assign(
    found: Sequence[ReferenceFile], studies: Sequence[FoundStudy], folder: Path
) -> Drawn:
    """Assigns references by what they name, else by the folder they lie in.

    Args:
        found: the references.
        studies: of the input.
        folder: the input.
    """
    owners = _Owners(studies, folder)
    own = defaultdict[str, list[ReferenceFile]](list)
    shared, left_out = list[ReferenceFile](), list[LeftOut]()
    for file in found:
        uids = owners.of(file)
        for uid in uids:
            own[uid].append(file)
        reason = "" if uids else _not_shared(file)
        if reason:
            left_out.append(LeftOut(f"reference ({file.kind})", reason))
        elif not uids:
            shared.append(file)
    return Drawn(
        files=frozenset(path for file in found for path in file.files),
        own=dict(own),
        shared=tuple(shared),
        shared_state=_state(shared),
        left_out=tuple(left_out),
    )


class _Owners:
    def __init__(self, studies: Sequence[FoundStudy], folder: Path):
        self._of_folder = own_folders(studies, folder)
        self._of_image = {uid: s.study_uid for s in studies for uid in s.image_uids}
        self._known = {study.study_uid for study in studies} - {""}

    def of(self, file: ReferenceFile) -> set[str]:
        """Studies that a reference names; else the one in whose folder it lies."""
        named = {self._of_image[u] for u in file.image_uids if u in self._of_image}
        named |= {file.study_uid} & self._known
        folders = (f for f in file.path.parents if f in self._of_folder)
        return named or {self._of_folder[folder].study_uid for folder in folders}


def _not_shared(file: ReferenceFile) -> str:
    """Why a reference that no study owns can be nobody's; empty if it can."""
    if file.kind == "text":  # numbers of instances, which any study has
        return "lies in no study's folder"
    fault = file.fault or fault_of(file)
    if fault:
        return fault[0]
    return "of no study here" if file.image_uids or file.study_uid else ""


def _state(references: Iterable[ReferenceFile]) -> str:
    files = [(p, p.stat()) for file in references for p in file.files]
    state = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in files]
    return hashlib.sha256(repr(state).encode(errors="replace")).hexdigest()
