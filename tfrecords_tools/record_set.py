"""Opening a record set: whatever is not as the manifest says is refused."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfrecords_tools import files, shards
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.manifest import (
    MANIFEST_NAME,
    Manifest,
    ShardEntry,
    load_manifest,
)
from tfrecords_tools.splits import SPLITS
from tfrecords_tools.study import Slice, Study

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """A record set that was checked against its manifest.

    Attributes:
        folder: where manifest and shards lie.
        manifest: what is in it.
        sha256: checksum of the manifest, and by it of the whole set.
    """

    folder: Path
    manifest: Manifest
    sha256: str

    def patients(self, split: str) -> list[str]:
        """The patient keys of a split, sorted."""
        _check_split(split)
        return [patient.patient_key for patient in self.manifest.of_split(split)]

    def shard_paths(self, split: str) -> list[Path]:
        """The shards of a split in the order in which they are read."""
        _check_split(split)
        listed = self.manifest.shards
        return [self.folder / shard.name for shard in listed if shard.split == split]

    def examples(self, split: str) -> "tf.data.Dataset":
        """Serialized records () string, by patient, study and slice, in fixed order.

        See `tfrecords_tools.schema.parse`. The slices of a study are neighbours.
        """
        import tensorflow as tf

        paths = [str(path) for path in self.shard_paths(split)]
        dataset = tf.data.TFRecordDataset(tf.constant(paths, tf.string))
        count = self.manifest.totals[split]["slices"]
        return dataset.apply(tf.data.experimental.assert_cardinality(count))

    def slices(self, split: str) -> Iterator[Slice]:
        """The slices of a split, one in memory at a time."""
        from tfrecords_tools import schema

        for path in self.shard_paths(split):
            yield from map(schema.decode, shards.read_records(path))

    def studies(self, split: str) -> Iterator[Study]:
        """The studies of a split, one in memory at a time."""
        by_study = itertools.groupby(
            self.slices(split), key=lambda s: (s.patient_key, s.study_key)
        )
        for _, slices in by_study:
            yield _study(list(slices))


def open_record_set(folder: Path, full: bool = True) -> RecordSet:
    """Opens a record set, or refuses it before anything is computed from it.

    Args:
        folder: the record set.
        full: compare the SHA-256 of every shard too, not only size and record count.

    Raises:
        RefusedError: with the code of the first fault, see `damages` and
            `tfrecords_tools.manifest.load_manifest`.
    """
    manifest = load_manifest(folder)
    for damage in damages(folder, manifest, full):
        raise damage
    return RecordSet(folder, manifest, files.sha256(folder / MANIFEST_NAME))


def damages(folder: Path, manifest: Manifest, full: bool) -> Iterator[RefusedError]:
    """Every way in which the shards are not those of the manifest.

    Yields:
        `MISSING_SHARD`, `EXTRA_SHARD`, `EMPTY_SHARD`, `DUPLICATED_SHARD` and
        `SWAPPED_SHARD` (the content is that of another shard, which is there too, or
        not), `TRUNCATED` (cut inside a record, or between two), `CORRUPT`.
    """
    listed = {shard.name for shard in manifest.shards}
    for path in sorted(folder.glob("*.tfrecord")):
        if path.name not in listed:
            reason = "the manifest does not list it; take it away"
            yield RefusedError(path, "EXTRA_SHARD", reason)
    for shard in manifest.shards:
        path = folder / shard.name
        if not path.is_file():
            reason = "listed in the manifest, not in the folder; copy the set again"
            yield RefusedError(path, "MISSING_SHARD", reason)
        elif not _is_intact(path, shard, full):
            yield _diagnosis(path, shard, manifest)


def _is_intact(path: Path, shard: ShardEntry, full: bool) -> bool:
    if path.stat().st_size != shard.bytes:
        return False
    try:
        counted = shards.count_records(path)
    except RefusedError:
        return False
    return counted == shard.records and (not full or files.sha256(path) == shard.sha256)


def _diagnosis(path: Path, shard: ShardEntry, manifest: Manifest) -> RefusedError:
    """Names what is wrong with a shard that is not intact."""
    again = "copy or build the set again"
    size = path.stat().st_size
    if size == 0:
        return RefusedError(path, "EMPTY_SHARD", f"expected {shard.bytes} bytes")
    for twin in manifest.shards:
        if twin.bytes == size and twin.sha256 == files.sha256(path):
            return _misplaced(path, twin)
    if size >= shard.bytes:
        return RefusedError(path, "CORRUPT", f"its content has changed; {again}")
    try:
        counted = shards.count_records(path)
    except RefusedError as error:
        return error
    reason = f"{counted} of {shard.records} records are left; {again}"
    return RefusedError(path, "TRUNCATED", reason)


def _misplaced(path: Path, twin: ShardEntry) -> RefusedError:
    own = path.with_name(twin.name)
    if own.is_file() and files.sha256(own) == twin.sha256:
        return RefusedError(path, "DUPLICATED_SHARD", f"a second copy of {twin.name}")
    return RefusedError(path, "SWAPPED_SHARD", f"holds the content of {twin.name}")


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise RefusedError("split", "CONFIG", f"expected one of {SPLITS}, got {split}")


def _study(slices: list[Slice]) -> Study:
    first = slices[0]
    if [s.index for s in slices] != list(range(first.slice_count)):
        reason = f"its {first.slice_count} slices are not all there, in order"
        raise RefusedError(first.study_key, "CORRUPT", reason)
    return Study(
        patient_key=first.patient_key,
        study_key=first.study_key,
        source=first.source,
        pixels=np.stack([s.pixels for s in slices]),
        label_map=np.stack([s.label_map for s in slices]),
        labelled=tuple(s.labelled for s in slices),
        affine=first.affine,
    )
