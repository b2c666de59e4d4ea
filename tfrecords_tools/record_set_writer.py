"""Writing a record set: spool each study, choose the splits, join, publish."""

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfrecords_tools import files
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS
from tfrecords_tools.manifest import (
    MANIFEST_NAME,
    Manifest,
    PatientEntry,
    Setting,
    ShardEntry,
    make_manifest,
    write_manifest,
)
from tfrecords_tools.quiet_tensorflow import load_tensorflow
from tfrecords_tools.shards import shard_name, write_records
from tfrecords_tools.sources.source import LeftOut, Source
from tfrecords_tools.splits import SPLITS, SplitFractions, assign_splits
from tfrecords_tools.spool import Spooled, import_study, load_spooled, spool_name
from tfrecords_tools.staging import publish, staged
from tfrecords_tools.strict_json import strictly
from tfrecords_tools.study_import import (
    Engine,
    Imported,
    import_studies,
    in_this_process,
)

DEFAULT_FRACTIONS = SplitFractions()


def build_record_set(
    source: Source,
    out: Path,
    *,
    split_seed: int = 0,
    fractions: SplitFractions = DEFAULT_FRACTIONS,
    shards: int = 4,
    overwrite: bool = False,
    unlabelled: bool = False,
    strict: bool = False,
    fix: Sequence[str] | None = None,
    engine: Engine = in_this_process,
) -> Manifest:
    """Writes the studies of a source as a record set.

    The same studies give the same bytes, in any order and by any engine. A build that
    was killed leaves no manifest and is simply run again: what it had read is not read
    again unless its files changed. A refused study is printed and costs itself only.

    Patients without any reference go to the test split, because nothing can be learnt
    from them; the others are split as if those were not there.

    Args:
        source: the studies.
        out: folder of the record set; made if need be.
        split_seed: another seed puts other patients into the splits.
        fractions: of the patients with a reference: shares, or numbers of patients.
        shards: files a split; fewer if it has fewer studies.
        overwrite: replace a record set that is there.
        unlabelled: take studies without any reference too, for prediction.
        strict: stop at the first refused study.
        fix: faults of labels that are mended, of `label_fixes.FIXES`; what else is
            odd about labels becomes a warning. None takes labels unchecked.
        engine: where the studies are read.

    Raises:
        RefusedError: if `out` is a record set already, or no study is left, or, if
            strict, one was refused.
        OSError: if the system refuses; a record set that was there stays.
    """
    check_request(out, shards, overwrite)
    shares = dataclasses.asdict(fractions)
    settings = source.settings | {"split_seed": split_seed, **shares, "shards": shards}
    settings |= {"fix": " ".join(fix)} if fix else {}
    name = spool_name(source, fix)
    strictly(dict[str, Setting], settings, "settings")  # else nobody could open it
    out.mkdir(parents=True, exist_ok=True)
    with files.locked(out), staged(out, name) as stage:
        work = functools.partial(import_study, source.read, stage / name, fix=fix)
        imported = import_studies(
            source, work, stage, engine, fractions, unlabelled, strict
        )
        if not imported.studies:
            raise RefusedError(out, "NO_STUDIES", _why_none(imported))
        patients = _patients(imported.studies, fractions, split_seed)
        load_tensorflow()
        entries = list(_write_shards(imported.studies, patients, stage, shards))
        manifest = make_manifest(
            source=source.name,
            settings=settings,
            patients=patients,
            shards=entries,
            skipped=sorted(imported.skipped, key=dataclasses.astuple),
            taken=taken(source),
            left_out=_merged([*source.left_out, *imported.left_out]),
        )
        write_manifest(manifest, stage)
        publish(stage, out)
    return manifest


def check_request(out: Path, shards: int, overwrite: bool) -> None:
    """Refuses what cannot be built, before anything is read.

    Raises:
        RefusedError: `EXISTS` if `out` is a record set, `CONFIG` for no such `shards`.
    """
    if not 1 <= shards <= 10_000:
        raise RefusedError("shards", "CONFIG", f"expected 1 to 10000, got {shards}")
    if (out / MANIFEST_NAME).exists() and not overwrite:
        reason = "a record set is there; add --overwrite or choose another folder"
        raise RefusedError(out, "EXISTS", reason)


def taken(source: Source) -> dict[str, int]:
    """How many items there are of each description, for sources that describe them."""
    described = (getattr(item, "description", "") for item in source.items)
    return dict(sorted(Counter(filter(None, described)).items()))


def _why_none(imported: Imported) -> str:
    if imported.left_out:
        return "no study has a reference; --unlabelled takes them for prediction"
    if imported.skipped:
        return "every study was refused; the lines above say why"
    return "no study to take; the table of what is left out says why"


def _merged(left_out: Sequence[LeftOut]) -> list[LeftOut]:
    """Sorted, one entry for the same thing and reason."""
    counts: Counter[tuple[str, str]] = Counter()
    for entry in left_out:
        counts[entry.what, entry.reason] += entry.count
    return [LeftOut(*names, count) for names, count in sorted(counts.items())]


def _patients(
    spooled: list[Spooled], fractions: SplitFractions, split_seed: int
) -> list[PatientEntry]:
    by_patient: dict[str, list[Spooled]] = {}
    for study in spooled:
        by_patient.setdefault(study.patient_key, []).append(study)
    entries = [_patient(key, studies) for key, studies in by_patient.items()]
    has_scar = {p.patient_key: p.has_scar for p in entries if any(p.labelled.values())}
    splits = assign_splits(has_scar, fractions, split_seed)
    return [
        dataclasses.replace(patient, split=splits.get(patient.patient_key, "test"))
        for patient in entries
    ]


def _patient(key: str, studies: Sequence[Spooled]) -> PatientEntry:
    return PatientEntry(
        patient_key=key,
        split="",
        studies=len(studies),
        slices=sum(study.slices for study in studies),
        labelled={
            task: sum(study.labelled[task] for study in studies) for task in TASKS
        },
        has_scar=any(study.has_scar for study in studies),
        warnings=[warning for study in studies for warning in study.warnings],
    )


def _write_shards(
    spooled: list[Spooled], patients: list[PatientEntry], stage: Path, shards: int
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


def _write_shard(studies: list[Spooled], path: Path) -> ShardEntry:
    # Here and not where the studies are read: TensorFlow takes seconds to start.
    from tfrecords_tools import schema

    slices = (load_spooled(study).slices() for study in studies)
    records = map(schema.encode, itertools.chain.from_iterable(slices))
    count = write_records(path, records)
    for study in studies:
        study.path.unlink()  # so that a build needs the space of the set only once
    return ShardEntry(
        name=path.name,
        bytes=path.stat().st_size,
        records=count,
        sha256=files.sha256(path),
    )
