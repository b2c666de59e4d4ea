"""References by the study that they belong to, told without reading them wholly."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfrecords_tools.dicom.studies import FoundStudy, own_folders
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.references.grids import fits
from tfrecords_tools.references.label_volumes import is_image
from tfrecords_tools.references.reference_file import ReferenceFile
from tfrecords_tools.sources.source import LeftOut
from tfrecords_tools.stack import Grid

_NEAR_MM = 2.0
"""Between the middles of grids that may be one: the tolerances of `grids` add up to
0.7 mm over a field of view of 500 mm."""

_NOBODYS = {
    "nifti": "lies on the images of no study here",
    "nrrd": "lies on the images of no study here",
    "text": "lies in no study's folder, and in none that is called as one: move it",
}
_OF_OTHERS = "names no images of a study here"


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """References of an input.

    Attributes:
        files: all that they are read from.
        own: those of each study, by StudyInstanceUID.
        left_out: those that belong to nothing here.
    """

    files: frozenset[Path]
    own: dict[str, list[ReferenceFile]]
    left_out: tuple[LeftOut, ...]


def assign(
    found: Sequence[ReferenceFile], studies: Sequence[FoundStudy], roots: Sequence[Path]
) -> Drawn:
    """Assigns references by what they name, the folder they lie in, or their place.

    Args:
        found: the references.
        studies: of the input.
        roots: the input, and the folder of references if there is one.
    """
    owners = _Owners(studies, roots)
    own = defaultdict[str, list[ReferenceFile]](list)
    left_out = list[LeftOut]()
    for file in found:
        uids = owners.of(file)
        reason = _why_not(file, uids)
        if reason:
            left_out.append(LeftOut(f"reference ({file.kind})", reason))
            continue
        for uid in uids:
            own[uid].append(file)
    return Drawn(
        files=frozenset(path for file in found for path in file.files),
        own=dict(own),
        left_out=tuple(left_out),
    )


class _Owners:
    def __init__(self, studies: Sequence[FoundStudy], roots: Sequence[Path]):
        self._roots = roots
        self._of_folder = own_folders(studies, roots[0])
        self._of_image = {uid: s.study_uid for s in studies for uid in s.image_uids}
        self._known = {study.study_uid for study in studies} - {""}
        names = Counter(folder.name for folder in self._of_folder)
        self._of_name = {
            folder.name: study.study_uid
            for folder, study in self._of_folder.items()
            if names[folder.name] == 1 and folder != roots[0]
        }
        self._placed = [(s.grid, s.study_uid) for s in studies if s.grid]
        middles = [grid.middle_mm for grid, _ in self._placed]
        self._middles_mm = np.reshape(middles, (-1, 3))

    def of(self, file: ReferenceFile) -> set[str]:
        """Studies that a reference names; else the one in whose folder it lies.

        Else it goes by what its kind leaves: a volume by its place, contours as text,
        which have numbers only, by a folder with the name of a study's.
        """
        named = {self._of_image[u] for u in file.image_uids if u in self._of_image}
        named |= {file.study_uid} & self._known
        folders = (f for f in file.path.parents if f in self._of_folder)
        found = named or {self._of_folder[folder].study_uid for folder in folders}
        if not found and file.grid:
            found = {*self._at(file.grid)}
        if not found and file.kind == "text":
            found = {self._of_name[n] for n in self._names(file) if n in self._of_name}
            found = found if len(found) == 1 else set()
        return found

    def _at(self, grid: Grid) -> Iterator[str]:
        away_mm = np.linalg.norm(self._middles_mm - grid.middle_mm, axis=1)
        for number in np.flatnonzero(away_mm < _NEAR_MM):
            onto, study_uid = self._placed[number]
            if fits(grid, onto):
                yield study_uid

    def _names(self, file: ReferenceFile) -> Iterator[str]:
        """Of the folders from a root to the file."""
        folder = file.files[0].parent
        for root in self._roots:
            if folder.is_relative_to(root):
                yield from (root.name, *folder.relative_to(root).parts)


def _why_not(file: ReferenceFile, uids: set[str]) -> str:
    """Why a reference is nobody's, or none at all; empty if it is one."""
    if not uids:
        told = ": ".join(file.fault or ())
        return told or _NOBODYS.get(file.kind, _OF_OTHERS)
    try:
        return "an image, no labels" if file.grid and is_image(file) else ""
    except (RefusedError, OSError):
        return ""  # told when its study is read
