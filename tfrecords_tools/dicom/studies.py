"""From the headers of a folder tree to its studies, and what speaks against each."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from tfrecords_tools import files
from tfrecords_tools.dicom.choice import choose, describe, slices
from tfrecords_tools.dicom.config import DicomConfig
from tfrecords_tools.dicom.frames import Frame
from tfrecords_tools.dicom.scan import Header
from tfrecords_tools.dicom.stacks import placed
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.stack import Grid


@dataclasses.dataclass(frozen=True, eq=False)
class FoundStudy:
    """What has one StudyInstanceUID, wherever its files lie.

    Attributes:
        study_uid: an identifier, as `patient_id` is; empty for a damaged file that
            belongs to nothing.
        files: of its images, damaged ones too.
        image_uids: SOPInstanceUIDs of its images.
        stack: the frames that make its stack; empty if it has none.
        grid: of the stack; None if it has none, or one that is refused.
        description: of the stack, such as `PSIR, 9 slices, 10 mm apart`.
        left_out: for every series that is not taken, why.
        warnings: oddities that are accepted.
        refusal: code and reason for not reading it at all.
    """

    study_uid: str
    patient_id: str
    files: tuple[Path, ...]
    image_uids: frozenset[str] = frozenset()
    stack: tuple[Frame, ...] = ()
    grid: Grid | None = None
    description: str = ""
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refusal: tuple[str, str] | None = None


def find_studies(headers: Iterable[Header], config: DicomConfig) -> list[FoundStudy]:
    """The studies, and damaged files that belong to none, in a fixed order.

    A damaged file belongs to the study that it names. If it cannot name one, it belongs
    to the study whose images lie beside it, if that is only one: a slice may be missing
    in it. A study with a damaged file in the chosen series is refused.
    """
    images, damaged = defaultdict[str, list[Header]](list), list[Header]()
    for header in headers:
        if header.fault:
            damaged.append(header)
        elif header.frames:
            images[header.study_uid].append(header)
    faults, alone = _owned(damaged, images)
    uids = sorted({*images, *faults})
    studies = [_study(uid, images[uid], faults[uid], config) for uid in uids]
    return studies + [
        FoundStudy("", "", (header.path,), refusal=header.fault) for header in alone
    ]


def own_folders(studies: Sequence[FoundStudy], root: Path) -> dict[Path, FoundStudy]:
    """The topmost folders, `root` or below, that hold images of one study only."""
    holders = defaultdict[Path, set[int]](set)
    for number, study in enumerate(studies):
        for path in study.files:
            for folder in path.parents:
                holders[folder].add(number)
                if folder == root:
                    break
    own = {folder: studies[min(n)] for folder, n in holders.items() if len(n) == 1}
    return {f: study for f, study in own.items() if f == root or f.parent not in own}


def _owned(
    damaged: Sequence[Header], images: dict[str, list[Header]]
) -> tuple[dict[str, list[Header]], list[Header]]:
    """Damaged files by study, and those of none."""
    beside = defaultdict[Path, set[str]](set)
    for uid, headers in images.items():
        for header in headers:
            beside[header.path.parent].add(uid)
    owned, alone = defaultdict[str, list[Header]](list), list[Header]()
    for header in damaged:
        uids = {header.study_uid} if header.study_uid else beside[header.path.parent]
        if len(uids) == 1:
            owned[min(uids)].append(header)
        else:
            alone.append(header)
    return owned, alone


def _study(
    uid: str, headers: Sequence[Header], damaged: Sequence[Header], config: DicomConfig
) -> FoundStudy:
    frames, copies = _without_copies(headers)
    choice = choose(frames, config)
    stack, grid, refusal = list[Frame](), None, None
    if choice.part:
        try:
            stack = slices(choice.part, config)
            _, grid, _ = placed(stack)
        except RefusedError as error:
            refusal = (error.code, error.reason)
    series = {frame.series_uid for frame in choice.part.frames} if choice.part else {""}
    for header in damaged:
        if not choice.part or header.series_uid in {"", *series}:
            refusal = header.fault
            break
    warnings = [f"{h.fault[0]}: a file of another series" for h in damaged if h.fault]
    patients = {frame.patient_id for frame in frames}
    return FoundStudy(
        study_uid=uid,
        patient_id=min(patients, default=""),
        files=tuple(header.path for header in (*headers, *damaged)),
        image_uids=frozenset(frame.sop_uid for frame in frames),
        stack=tuple(stack),
        grid=grid,
        description=describe(choice.part) if choice.part else "",
        left_out=(*choice.left_out, *["copy of an image that is taken"] * copies),
        warnings=tuple(warnings),
        refusal=(_of_patients(patients) or refusal) if stack or refusal else None,
    )


def _of_patients(patients: set[str]) -> tuple[str, str] | None:
    if "" in patients:
        return "MISSING_TAG", "images without a PatientID"
    if len(patients) > 1:
        return "MIXED_PATIENT", f"images of {len(patients)} patients in one study"
    return None


def _without_copies(headers: Sequence[Header]) -> tuple[list[Frame], int]:
    """Frames without those of files that are there twice, byte for byte.

    Others with the same SOPInstanceUID stay; they are refused if they are in the stack.
    """
    by_uid = defaultdict[str, list[Header]](list)
    for header in headers:
        by_uid[header.frames[0].sop_uid].append(header)
    kept = list[Header]()
    for same in by_uid.values():
        if len(same) > 1:
            same = list({files.sha256(h.path): h for h in reversed(same)}.values())
        kept += same
    return [f for header in kept for f in header.frames], len(headers) - len(kept)
