"""LGE short-axis stacks in folders of DICOM files, as a PACS hands them out.

Headers are read first, in parallel; which series of a study is taken is ruled in
`tfrecords_tools.dicom.series`. A study is what has one StudyInstanceUID, wherever its
files lie, and a patient is who has one PatientID.
"""

import dataclasses
import functools
import json
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from tfrecords_tools.dicom.config import DicomConfig
from tfrecords_tools.dicom.drawn import Drawn, assign
from tfrecords_tools.dicom.scan import Scan, scan
from tfrecords_tools.dicom.stacks import read_stack
from tfrecords_tools.dicom.studies import FoundStudy, find_studies
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.pseudonyms import pseudonym
from tfrecords_tools.references.config import ReferenceConfig
from tfrecords_tools.references.matching import index, read_reference
from tfrecords_tools.references.reference_file import ReferenceFile
from tfrecords_tools.sources.source import LeftOut, Source
from tfrecords_tools.stack import Reference, Stack
from tfrecords_tools.study import Study
from tfrecords_tools.workers import cores

SOURCE = "dicom"


@dataclasses.dataclass(frozen=True)
class DicomItem:
    """A study that is not read yet.

    Attributes:
        key: pseudonym of the study.
        patient_key: pseudonym of the patient.
        slices: file and number of each frame of the stack.
        files: what it is read from: its images and its own references.
        description: what was chosen, in a few words.
        warnings: oddities that were accepted.
        refusal: code and reason of a study that is not read at all.
        own: what was drawn on it, as far as can be told unread.
    """

    key: str
    patient_key: str
    slices: tuple[tuple[Path, int], ...]
    files: tuple[Path, ...]
    description: str = ""
    warnings: tuple[str, ...] = ()
    refusal: tuple[str, str] | None = None
    # An item is known by its `repr`, and sets in these have no order.
    own: tuple[ReferenceFile, ...] = dataclasses.field(default=(), repr=False)


def source(
    folder: Path,
    config: DicomConfig,
    key: bytes,
    references: Path | None = None,
    reference_config: ReferenceConfig | None = None,
    unlabelled: bool = False,
    workers: int = 0,
) -> Source:
    """The studies below a folder.

    Args:
        folder: of DICOM files, in any order and depth.
        config: which series are taken.
        key: of the pseudonyms.
        references: a folder of reference files, beside those among the images.
        reference_config: what the names and values in them mean.
        unlabelled: take studies that have no reference too.
        workers: processes that read headers; 0 is one a core.

    Raises:
        RefusedError: `NOT_A_FILE` if a folder is not there, `NO_STUDIES` if it holds
            no DICOM file at all.
    """
    scanned = scan(folder, workers or cores())
    if not scanned.headers:
        reason = f"none of its {len(scanned.not_dicom)} files is DICOM"
        raise RefusedError(folder, "NO_STUDIES", reason)
    return of_scan(
        scanned, folder, config, key, references, reference_config, unlabelled
    )


def of_scan(
    scanned: Scan,
    folder: Path,
    config: DicomConfig,
    key: bytes,
    references: Path | None = None,
    reference_config: ReferenceConfig | None = None,
    unlabelled: bool = False,
    without: Collection[Path] = (),
) -> Source:
    """The studies of a folder whose headers were read, be they none.

    Args:
        scanned: the headers.
        folder: and the other settings: as of `source`.
        config: as of `source`.
        key: as of `source`.
        references: as of `source`.
        reference_config: as of `source`.
        unlabelled: as of `source`.
        without: files that another source reads.

    Raises:
        RefusedError: `NOT_A_FILE` if the folder of references is not there.
    """
    if references and not references.is_dir():
        raise RefusedError(references, "NOT_A_FILE", "no such folder")
    studies = find_studies(scanned.headers, config)
    roots = [folder, references] if references else [folder]
    # A folder of references below the input is found twice.
    found = {file.files: file for root in roots for file in index(root, without)}
    drawn = assign(list(found.values()), studies, roots)
    known = drawn.files | {*without}
    left_out = [*_not_looked_at(scanned, known), *drawn.left_out]
    items = []
    for study in studies:
        item = _item(study, drawn, key, unlabelled)
        left_out += _left_out(study, item, drawn, key, config)
        if item and (item.refusal or item.slices):
            items.append(item)
    reference_config = reference_config or ReferenceConfig()
    rules = dataclasses.asdict(reference_config)
    # Names of contours may name people.
    rules["names"] = {pseudonym(n, key): s for n, s in rules["names"].items()}
    return Source(
        name=SOURCE,
        items=sorted(items, key=lambda item: (item.key, item.files)),
        read=functools.partial(read, config=reference_config),
        settings=dataclasses.asdict(config)
        | {"references": json.dumps(rules, default=str)},
        left_out=left_out,
        private=True,
    )


def read(item: DicomItem, config: ReferenceConfig) -> Study:
    """Reads one study.

    Raises:
        RefusedError: whatever is wrong with it; names the item's key.
    """
    try:
        if item.refusal:
            raise RefusedError(item.key, *item.refusal)
        stack, odd = read_stack(item.slices)
        reference = _reference(item, stack, config)
        return Study(
            patient_key=item.patient_key,
            study_key=item.key,
            source=SOURCE,
            pixels=stack.pixels,
            label_map=reference.label_map,
            labelled=reference.labelled,
            affine=stack.affine,
            warnings=(*item.warnings, *odd, *reference.warnings),
        )
    except RefusedError as error:
        raise RefusedError(item.key, error.code, error.reason) from None


def _reference(item: DicomItem, stack: Stack, config: ReferenceConfig) -> Reference:
    found = read_reference(stack, item.own, config)
    return found or Reference(
        label_map=np.zeros(stack.pixels.shape, np.uint8),
        labelled=(frozenset[str](),) * len(stack.pixels),
    )


def _item(
    study: FoundStudy, drawn: Drawn, key: bytes, unlabelled: bool
) -> DicomItem | None:
    """A study as an item; None if it has no stack, or no reference and needs one."""
    own = tuple(drawn.own.get(study.study_uid, ()))
    if not study.refusal:
        if not study.stack:
            return None
        if not (own or unlabelled):
            return None
    paths = sorted({frame.path for frame in study.stack} or {*study.files})
    return DicomItem(
        key=pseudonym(study.study_uid or str(study.files[0]), key),
        patient_key=pseudonym(study.patient_id, key),
        slices=tuple(sorted((frame.path, frame.number) for frame in study.stack)),
        files=(*paths, *(path for file in own for path in file.files)),
        description=study.description,
        warnings=study.warnings,
        refusal=study.refusal,
        own=own,
    )


def _left_out(
    study: FoundStudy,
    item: DicomItem | None,
    drawn: Drawn,
    key: bytes,
    config: DicomConfig,
) -> Iterator[LeftOut]:
    name = pseudonym(study.study_uid, key)
    yield from (LeftOut(name, reason) for reason in study.left_out)
    if item is None and study.stack:
        yield LeftOut(name, "has no reference; --unlabelled takes it")
    elif item is None:
        wanted = "LGE short-axis" if config.series == "lge" else "short-axis"
        yield LeftOut(name, f"no {wanted} series in this study")
        for file in drawn.own.get(study.study_uid, ()):
            yield LeftOut(f"reference ({file.kind})", "of a study that is left out")


def _not_looked_at(scanned: Scan, known: Collection[Path]) -> Iterator[LeftOut]:
    yield from (LeftOut(what, "no image", n) for what, n in scanned.others.items())
    others = len({*scanned.not_dicom} - {*known})
    if others:
        yield LeftOut("file", "no DICOM file, and no reference", others)
    for header in scanned.headers:
        if header.other and header.path not in known:
            yield LeftOut("file", f"{header.other}: no MR image")
