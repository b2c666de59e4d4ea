"""Writing a record set: spool each study, choose the splits, join, publish."""

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfrecords_tools import files
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import SCAR, TASKS, region_mask
from tfrecords_tools.manifest import (
    MANIFEST_NAME,
    Manifest,
    PatientEntry,
    ShardEntry,
    SkippedEntry,
    make_manifest,
    write_manifest,
)
from tfrecords_tools.shards import (
    concatenate,
    shard_name,
    write_records,
)
from tfrecords_tools.splits import SPLITS, SplitFractions, assign_splits
from tfrecords_tools.staging import publish, staged
from tfrecords_tools.study import Study

DEFAULT_FRACTIONS = SplitFractions()


@dataclasses.dataclass(frozen=True)
class _Spooled:
    """A study that waits on disk, because its split is known only at the end."""

    path: Path
    patient_key: str
    study_key: str
    slices: int
    labelled: dict[str, int]
    has_scar: bool
    warnings: tuple[str, ...]


def build_record_set(
    studies: Iterable[Study | RefusedError],
    out: Path,
    *,
    source: str,
    settings: dict[str, str | int | float],
    split_seed: int = 0,
    fractions: SplitFractions = DEFAULT_FRACTIONS,
    shards: int = 4,
    overwrite: bool = False,
) -> Manifest:
    """Writes studies as a record set; one study is in memory at a time.

    The same studies in any order give the same bytes. A build that was killed leaves
    no manifest and is simply run again. An error among the studies is printed and
    costs that study only.

    Args:
        studies: studies, or the errors of those that could not be read.
        out: folder of the record set; made if need be.
        source: name of the source, kept in the manifest.
        settings: settings of the source, kept in the manifest.
        split_seed: see `assign_splits`.
        fractions: see `assign_splits`.
        shards: files a split; fewer if it has fewer studies.
        overwrite: replace a record set that is there.

    Raises:
        RefusedError: if `out` is a record set already, or no study is left.
        OSError: if the system refuses; a record set that was there stays.
    """
    _check_request(out, shards, overwrite)
    shares = dataclasses.asdict(fractions)
    settings = settings | {"split_seed": split_seed, **shares, "shards": shards}
    out.mkdir(parents=True, exist_ok=True)
    with files.locked(out), staged(out) as stage:
        spooled, skipped = _spool(studies, stage)
        if not spooled:
            raise RefusedError(out, "NO_STUDIES", "no study could be imported")
        patients = _patients(spooled, fractions, split_seed)
        entries = list(_write_shards(spooled, patients, stage, shards))
        manifest = make_manifest(source, settings, patients, entries, skipped)
        write_manifest(manifest, stage)
        publish(stage, out)
    return manifest


def _check_request(out: Path, shards: int, overwrite: bool) -> None:
    if not 1 <= shards <= 10_000:
        raise RefusedError("shards", "CONFIG", f"expected 1 to 10000, got {shards}")
    if (out / MANIFEST_NAME).exists() and not overwrite:
        reason = "a record set is there; add --overwrite or choose another folder"
        raise RefusedError(out, "EXISTS", reason)


def _spool(
    studies: Iterable[Study | RefusedError], stage: Path
) -> tuple[list[_Spooled], list[SkippedEntry]]:
    """Writes one file a study; returns what was written, sorted, and the errors."""
    spooled: dict[tuple[str, str], _Spooled] = {}
    skipped = []
    for number, study in enumerate(studies):
        if isinstance(study, Study) and (study.patient_key, study.study_key) in spooled:
            reason = "this study came before; its files are there twice"
            study = RefusedError(study.study_key, "DUP_STUDY", reason)
        if isinstance(study, RefusedError):
            print(study, file=sys.stderr)
            skipped.append(SkippedEntry(study.code, study.reason))
            continue
        for warning in study.warnings:
            print(f"WARNING {study.study_key}: {warning}", file=sys.stderr)
        path = stage / f"study-{number:05}.tfrecord"
        spooled[study.patient_key, study.study_key] = _spool_study(study, path)
    in_order = [spooled[keys] for keys in sorted(spooled)]
    return in_order, sorted(skipped, key=dataclasses.astuple)


def _spool_study(study: Study, path: Path) -> _Spooled:
    from tfrecords_tools import schema

    count = write_records(path, map(schema.encode, study.slices()))
    labelled = {task: sum(task in s for s in study.labelled) for task in TASKS}
    return _Spooled(
        path=path,
        patient_key=study.patient_key,
        study_key=study.study_key,
        slices=count,
        labelled=labelled,
        has_scar=bool(region_mask(study.label_map, SCAR).any()),
        warnings=study.warnings,
    )


def _patients(
    spooled: list[_Spooled], fractions: SplitFractions, split_seed: int
) -> list[PatientEntry]:
    by_patient: dict[str, list[_Spooled]] = {}
    for study in spooled:
        by_patient.setdefault(study.patient_key, []).append(study)
    has_scar = {
        key: any(study.has_scar for study in studies)
        for key, studies in by_patient.items()
    }
    splits = assign_splits(has_scar, fractions, split_seed)
    return [
        PatientEntry(
            patient_key=key,
            split=split,
            studies=len(by_patient[key]),
            slices=sum(study.slices for study in by_patient[key]),
            labelled={
                task: sum(study.labelled[task] for study in by_patient[key])
                for task in TASKS
            },
            has_scar=has_scar[key],
            warnings=[w for study in by_patient[key] for w in study.warnings],
        )
        for key, split in splits.items()
    ]


def _write_shards(
    spooled: list[_Spooled], patients: list[PatientEntry], stage: Path, shards: int
) -> Iterator[ShardEntry]:
    """Joins the spooled studies into the shards of their splits, in sorted order."""
    split_of = {patient.patient_key: patient.split for patient in patients}
    for split in SPLITS:
        studies = [study for study in spooled if split_of[study.patient_key] == split]
        count = min(shards, len(studies))
        for index in range(count):
            first, last = (len(studies) * i // count for i in (index, index + 1))
            name = shard_name(split, index, count)
            yield _write_shard(studies[first:last], stage / name)


def _write_shard(studies: list[_Spooled], path: Path) -> ShardEntry:
    concatenate([study.path for study in studies], path)
    for study in studies:
        study.path.unlink()  # so that a build needs the space of the set only once
    return ShardEntry(
        name=path.name,
        bytes=path.stat().st_size,
        records=sum(study.slices for study in studies),
        sha256=files.sha256(path),
    )
