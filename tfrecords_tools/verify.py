"""Checks a record set to the last byte: `python -m tfrecords_tools.verify RECORDS`.

With `--privacy SOURCE` it searches the record set, and run folders after it, for what
identifies the patients of the source.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tfrecords_tools import npz_set
from tfrecords_tools.errors import DONE, REFUSED, RefusedError, run_command
from tfrecords_tools.labels import SCAR, TASKS, region_mask
from tfrecords_tools.manifest import Manifest, load_manifest
from tfrecords_tools.quiet_tensorflow import load_tensorflow
from tfrecords_tools.record_set import damages, unchecked_record_set
from tfrecords_tools.splits import SPLITS
from tfrecords_tools.study import Study
from tfrecords_tools.study_set import StudySet


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; prints every fault and returns 2 if there is one."""
    faults: list[RefusedError] = []
    code = run_command(lambda: faults.extend(_verify(argv)))
    return REFUSED if code == DONE and faults else code


def _verify(argv: Sequence[str] | None) -> list[RefusedError]:
    from tfrecords_tools import command_line

    parser = command_line.make_parser(
        "tfrecords_tools.verify", "Checks every shard and every record of a record set."
    )
    parser.add_argument("records", type=Path, help="folder or .npz of the record set")
    runs = "with --privacy: run folders, reports and whatever else was made from it"
    parser.add_argument("runs", type=Path, nargs="*", help=runs)
    privacy = (
        "search for the identifiers of this folder of DICOM or NIfTI files instead"
    )
    parser.add_argument("--privacy", type=Path | None, metavar="SOURCE", help=privacy)
    arguments = command_line.parse(parser, argv)
    path = arguments.records
    if arguments.privacy:
        return _search(arguments.privacy, [path, *arguments.runs])
    if arguments.runs:
        reason = "one record set at a time; further folders go with --privacy SOURCE"
        raise RefusedError("command line", "CONFIG", reason)
    if path.suffix == npz_set.SUFFIX:
        record_set = npz_set.open_npz(path)
        manifest, faults = record_set.manifest, list(_content_faults(record_set))
    else:
        manifest = load_manifest(path)
        load_tensorflow()
        faults = list(all_faults(path, manifest))
    return _reported(faults, lambda: _in_words(manifest, path))


def _search(source: Path, targets: Sequence[Path]) -> list[RefusedError]:
    from tfrecords_tools.privacy.scan import scan

    result = scan(source, targets)
    return _reported(result.faults, lambda: result.in_words)


def _reported(
    faults: list[RefusedError], searched: Callable[[], str]
) -> list[RefusedError]:
    """Prints the faults; else what was searched, which a damaged set cannot tell."""
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"ok: {searched()}")
    return faults


def all_faults(folder: Path, manifest: Manifest) -> Iterator[RefusedError]:
    """Every fault of the files; of the records, if the files are as listed.

    Yields:
        what `damages` yields; else `CORRUPT` for an unreadable record or study,
        `COUNTS` where records and manifest differ, `SPLIT_LEAK` for a patient in
        another split than listed, `DUP_PIXELS` for one image under two patients.
    """
    damaged = list(damages(folder, manifest, full=True))
    if damaged:
        yield from damaged
        return
    try:
        yield from _content_faults(unchecked_record_set(folder, manifest))
    except RefusedError as error:
        yield error


def _content_faults(record_set: StudySet) -> Iterator[RefusedError]:
    owner: dict[bytes, str] = {}
    found: dict[tuple[str, str], Counter[str]] = {}
    for split in SPLITS:
        for study in record_set.studies(split):
            found.setdefault((split, study.patient_key), Counter()).update(
                _counts(study)
            )
            yield from _shared_images(study, owner)
    yield from _count_faults(record_set, found)


def _counts(study: Study) -> Counter[str]:
    labelled = {task: sum(task in s for s in study.labelled) for task in TASKS}
    scar_slices = int(region_mask(study.label_map, SCAR).any(axis=(1, 2)).sum())
    slices = len(study.labelled)
    counts = {"studies": 1, "slices": slices, "scar_slices": scar_slices}
    return Counter(labelled | counts)


def _shared_images(study: Study, owner: dict[bytes, str]) -> Iterator[RefusedError]:
    for slice_ in study.slices():
        content = repr(slice_.pixels.shape).encode() + slice_.pixels.tobytes()
        first = owner.setdefault(hashlib.sha256(content).digest(), study.patient_key)
        if first != study.patient_key:
            reason = f"slice {slice_.index} is an image of patient {first} too"
            yield RefusedError(study.patient_key, "DUP_PIXELS", reason)


def _count_faults(
    record_set: StudySet, found: dict[tuple[str, str], Counter[str]]
) -> Iterator[RefusedError]:
    listed = {(p.split, p.patient_key): p for p in record_set.manifest.patients}
    for split, key in sorted(set(found) - set(listed)):
        reason = f"has records in {split}, where the manifest does not list it"
        yield RefusedError(key, "SPLIT_LEAK", reason)
    for place, patient in listed.items():
        counted = found.get(place, Counter())
        has_scar = counted.pop("scar_slices", 0) > 0
        listed_counts = {"studies": patient.studies, "slices": patient.slices}
        expected = Counter(patient.labelled | listed_counts)
        if counted != expected or has_scar != patient.has_scar:
            reason = f"records count {dict(counted)}, the manifest {dict(expected)}"
            yield RefusedError(patient.patient_key, "COUNTS", reason)


def _in_words(manifest: Manifest, path: Path) -> str:
    totals = manifest.totals.values()
    patients, slices = (sum(t[name] for t in totals) for name in ("patients", "slices"))
    names = [shard.name for shard in manifest.shards] if path.is_dir() else [""]
    megabytes = sum((path / name).stat().st_size for name in names) / 1e6
    shards = f"{len(names)} shards" if path.is_dir() else "one file"
    return f"{patients} patients, {slices} slices, {shards}, {megabytes:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
