"""Shards: TFRecord files that are there whole or not at all."""

import errno
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfrecords_tools import files
from tfrecords_tools.errors import RefusedError

SHARD_NAME = re.compile(r"(train|validation|test)-(\d{5})-of-(\d{5})\.tfrecord")

_HEADER_BYTES, _FOOTER_BYTES = 12, 4
"""TFRecord framing: length (uint64) and its CRC, the data, the CRC of the data."""


def shard_name(split: str, index: int, count: int) -> str:
    """File name of shard `index` of the `count` shards of a split."""
    return f"{split}-{index:05}-of-{count:05}.tfrecord"


def write_records(path: Path, records: Iterable[bytes]) -> int:
    """Writes an uncompressed TFRecord file atomically; returns the record count.

    Raises:
        OSError: if the system refuses, a full disk included.
    """
    import tensorflow as tf

    count = 0
    with files.whole_file(path) as temporary:
        try:
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for record in records:
                    writer.write(record)
                    count += 1
        except tf.errors.OpError as error:
            # TensorFlow has errors of its own for what the system refuses.
            reason = error.message.splitlines()[0]
            raise OSError(errno.EIO, reason, str(path)) from None
    return count


def count_records(path: Path) -> int:
    """Number of records, from the length headers alone: no record is read.

    Raises:
        RefusedError: `TRUNCATED` if the file ends inside a record.
    """
    size, end, count = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while end < size:
            file.seek(end)
            header = file.read(_HEADER_BYTES)
            if len(header) == _HEADER_BYTES:
                (length,) = struct.unpack("<Q", header[:8])
                end += _HEADER_BYTES + length + _FOOTER_BYTES
            if len(header) < _HEADER_BYTES or end > size:
                raise RefusedError(path, "TRUNCATED", f"ends inside record {count}")
            count += 1
    return count


def read_records(path: Path) -> Iterator[bytes]:
    """The serialized records of a shard in order, their CRCs checked.

    Raises:
        RefusedError: `CORRUPT` if a CRC is wrong or the file ends inside a record.
    """
    import tensorflow as tf

    try:
        yield from tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    except tf.errors.DataLossError as error:
        raise RefusedError(path, "CORRUPT", error.message.splitlines()[0]) from None
