"""Checks a record set to the last byte: `python -m tfrecords_tools.verify RECORDS`."""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfrecords_tools import files
from tfrecords_tools.errors import DONE, REFUSED, RefusedError, run_command
from tfrecords_tools.labels import SCAR, TASKS, region_mask
from tfrecords_tools.manifest import MANIFEST_NAME, Manifest, load_manifest
from tfrecords_tools.quiet_tensorflow import load_tensorflow
from tfrecords_tools.record_set import RecordSet, damages
from tfrecords_tools.splits import SPLITS
from tfrecords_tools.study import Study


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
    parser.add_argument("records", type=Path, help="folder of the record set")
    folder = command_line.parse(parser, argv).records
    manifest = load_manifest(folder)
    load_tensorflow()
    faults = list(all_faults(folder, manifest))
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"ok: {_in_words(manifest)}")
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
    record_set = RecordSet(folder, manifest, files.sha256(folder / MANIFEST_NAME))
    try:
        yield from _content_faults(record_set)
    except RefusedError as error:
        yield error


def _content_faults(record_set: RecordSet) -> Iterator[RefusedError]:
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
    record_set: RecordSet, found: dict[tuple[str, str], Counter[str]]
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


def _in_words(manifest: Manifest) -> str:
    totals = manifest.totals.values()
    patients, slices = (sum(t[name] for t in totals) for name in ("patients", "slices"))
    megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
    shards = len(manifest.shards)
    return f"{patients} patients, {slices} slices, {shards} shards, {megabytes:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
