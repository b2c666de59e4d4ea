"""Opening a record set: whatever is not as the manifest says is refused."""

import dataclasses
import itertools
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfrecords_tools import files, npz_set, shards
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS, tissues_without
from tfrecords_tools.manifest import (
    MANIFEST_NAME,
    Manifest,
    ShardEntry,
    load_manifest,
)
from tfrecords_tools.study import Slice
from tfrecords_tools.study_set import StudySet

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class RecordSet(StudySet):
    """A folder of shards that was checked against its manifest."""

    @property
    def folder(self) -> Path:
        """Where manifest and shards lie."""
        return self.path

    def shard_paths(self, split: str) -> list[Path]:
        """The shards that hold patients of a split, in the order of reading."""
        return self._shard_paths(self._stored_splits(split))

    def examples(self, split: str) -> "tf.data.Dataset":
        """Serialized records () string, in the order of `slices`, for `parse`.

        They are as stored: `parse` takes away what the view does not show. The slices
        of a study are neighbours.
        """
        import tensorflow as tf

        from tfrecords_tools import schema

        paths = [str(path) for path in self.shard_paths(split)]
        dataset = tf.data.TFRecordDataset(tf.constant(paths, tf.string))
        if self._is_sifted(split):
            keys = self.patients(split)
            dataset = dataset.filter(
                lambda record: tf.reduce_any(schema.parse_patient_key(record) == keys)
            )
        count = self.totals(split)["slices"]
        return dataset.apply(tf.data.experimental.assert_cardinality(count))

    def parse(self, serialized: "tf.Tensor") -> dict[str, "tf.Tensor"]:
        """One record of `examples` as tensors, with the references of the view.

        Args:
            serialized: () string, one record.

        Returns:
            see `tfrecords_tools.schema.parse`.
        """
        from tfrecords_tools import schema

        record = schema.parse(serialized)
        return self._without_hidden(record) if self._hidden else record

    def _without_hidden(self, record: dict[str, "tf.Tensor"]) -> dict[str, "tf.Tensor"]:
        import tensorflow as tf

        keys = [tf.constant(self._hidden_of(task), tf.string) for task in TASKS]
        hidden = tf.stack([tf.reduce_any(record["patient_key"] == k) for k in keys])
        left = tf.gather_nd(_TISSUES_WITHOUT, tf.cast(hidden, tf.int32))
        label_map = tf.gather(left, tf.cast(record["label_map"], tf.int32))
        labelled = record["labelled"] & ~hidden
        return record | {"labelled": labelled, "label_map": label_map}

    def _shard_paths(self, stored_splits: Collection[str]) -> list[Path]:
        listed = self.manifest.shards
        return [
            self.path / shard.name for shard in listed if shard.split in stored_splits
        ]

    def _stored_slices(self, stored_splits: Collection[str]) -> Iterator[Slice]:
        from tfrecords_tools import schema

        for path in self._shard_paths(stored_splits):
            yield from map(schema.decode, shards.read_records(path))


_TISSUES_WITHOUT = np.reshape(
    [
        tissues_without([*itertools.compress(TASKS, missing)])
        for missing in itertools.product((False, True), repeat=len(TASKS))
    ],
    [2] * len(TASKS) + [-1],
)
"""`tissues_without`, by whether the reference of each task is missing."""


def open_record_set(path: Path, full: bool = True) -> StudySet:
    """Opens a record set, or refuses it before anything is computed from it.

    Args:
        path: the folder, or the `.npz` file that it was dumped to.
        full: compare the SHA-256 of every shard too, not only size and record count.
            A file is always read and compared in full.

    Returns:
        A `RecordSet` for a folder, a `tfrecords_tools.npz_set.NpzSet` for a file.

    Raises:
        RefusedError: with the code of the first fault, see `damages`,
            `tfrecords_tools.manifest.load_manifest` and
            `tfrecords_tools.npz_set.open_npz`.
    """
    if path.suffix == npz_set.SUFFIX:
        return npz_set.open_npz(path)
    manifest = load_manifest(path)
    for damage in damages(path, manifest, full):
        raise damage
    return unchecked_record_set(path, manifest)


def unchecked_record_set(folder: Path, manifest: Manifest) -> RecordSet:
    """The record set of a folder whose shards are known to be those of `manifest`."""
    return RecordSet(
        path=folder,
        manifest=manifest,
        sha256=files.sha256(folder / MANIFEST_NAME),
        members=tuple(manifest.patients),
    )


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
