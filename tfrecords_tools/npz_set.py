"""A record set in one `.npz` file, for machines without TensorFlow.

The file holds the manifest and flat arrays, see `FIELDS`. Slices of different sizes lie
one after the other in `pixels` and `label_maps`, rows first.
"""

import dataclasses
import hashlib
import io
import itertools
import math
import tokenize
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfrecords_tools import files
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS
from tfrecords_tools.manifest import MANIFEST_NAME, parse_manifest
from tfrecords_tools.splits import SPLITS
from tfrecords_tools.study import Slice
from tfrecords_tools.study_set import StudySet

if TYPE_CHECKING:
    from tfrecords_tools.record_set import RecordSet

SUFFIX = ".npz"

NPZ_VERSION = 1
"""Version of the fields; another one is not read."""

FIELDS: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "version": ("<i8", ()),
    "sha256": ("<U64", ()),
    "manifest": ("|u1", ("bytes",)),
    "pixels": ("<f4", ("pixels",)),
    "label_maps": ("|u1", ("pixels",)),
    "shapes": ("<i8", ("slices", 2)),
    "labelled": ("|b1", ("slices", len(TASKS))),
    "affines": ("<f8", ("slices", 4, 4)),
    "patient_keys": ("<U", ("slices",)),
    "study_keys": ("<U", ("slices",)),
    "sources": ("<U", ("slices",)),
    "slice_indices": ("<i8", ("slices",)),
    "slice_counts": ("<i8", ("slices",)),
}
"""Type and shape of each field; axes of one name are of one length.

`<U` is text of any width. `sha256` is that of all other fields, see `_digest`.
"""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class NpzSet(StudySet):
    """A record set in memory, out of one `.npz` file.

    Attributes:
        arrays: the fields, read-only; slices in the order of the record set.
    """

    arrays: dict[str, np.ndarray]

    def _stored_slices(self, stored_splits: Collection[str]) -> Iterator[Slice]:
        split_of = {p.patient_key: p.split for p in self.manifest.patients}
        for place, key in enumerate(self.arrays["patient_keys"]):
            if split_of[key] in stored_splits:
                yield self._slice(place)

    @cached_property
    def _starts(self) -> list[int]:
        """Where the pixels of each slice begin."""
        sizes = self.arrays["shapes"].prod(axis=1).tolist()
        return [*itertools.accumulate(sizes, initial=0)]

    def _slice(self, place: int) -> Slice:
        values = {name: array[place] for name, array in self._by_slice.items()}
        pixels = slice(*self._starts[place : place + 2])
        return Slice(
            patient_key=str(values["patient_keys"]),
            study_key=str(values["study_keys"]),
            source=str(values["sources"]),
            pixels=self.arrays["pixels"][pixels].reshape(values["shapes"]),
            label_map=self.arrays["label_maps"][pixels].reshape(values["shapes"]),
            labelled=frozenset(itertools.compress(TASKS, values["labelled"])),
            index=int(values["slice_indices"]),
            slice_count=int(values["slice_counts"]),
            affine=values["affines"],
        )

    @property
    def _by_slice(self) -> dict[str, np.ndarray]:
        return {
            name: self.arrays[name]
            for name, (_, axes) in FIELDS.items()
            if axes[:1] == ("slices",)
        }


def check_target(path: Path, overwrite: bool) -> None:
    """Refuses a file to write that is no `.npz`, or is there already."""
    if path.suffix != SUFFIX:
        raise RefusedError(path, "CONFIG", f"the file's name must end in {SUFFIX}")
    if path.exists() and not overwrite:
        reason = "the file is there; add --overwrite or choose another name"
        raise RefusedError(path, "EXISTS", reason)


def write_npz(record_set: "RecordSet", path: Path) -> None:
    """Writes a record set as one file, atomically; it takes the memory of the pixels.

    The same record set gives the same bytes.

    Args:
        record_set: seen as it is stored.
        path: the file, which ends in `.npz`; replaced if it is there.

    Raises:
        ValueError: for a view, which a file cannot hold.
    """
    if record_set.view:
        raise ValueError(f"expected the record set as stored, got {record_set.view}")
    manifest = (record_set.path / MANIFEST_NAME).read_bytes()
    arrays = _arrays([s for split in SPLITS for s in record_set.slices(split)])
    arrays["manifest"] = np.frombuffer(manifest, np.uint8)
    arrays["version"] = np.array(NPZ_VERSION, "<i8")
    arrays["sha256"] = np.array(_digest(arrays))
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _arrays(slices: list[Slice]) -> dict[str, np.ndarray]:
    columns = {
        "pixels": np.concatenate([s.pixels.ravel() for s in slices]),
        "label_maps": np.concatenate([s.label_map.ravel() for s in slices]),
        "shapes": [s.pixels.shape for s in slices],
        "labelled": [[task in s.labelled for task in TASKS] for s in slices],
        "affines": [s.affine for s in slices],
        "patient_keys": [s.patient_key for s in slices],
        "study_keys": [s.study_key for s in slices],
        "sources": [s.source for s in slices],
        "slice_indices": [s.index for s in slices],
        "slice_counts": [s.slice_count for s in slices],
    }
    return {name: np.asarray(c, FIELDS[name][0]) for name, c in columns.items()}


def open_npz(path: Path) -> NpzSet:
    """Reads a file that `write_npz` wrote into memory, or refuses it.

    Raises:
        RefusedError: `NOT_A_RECORD_SET` if it is not such a file, `CORRUPT` if its
            content has changed, `VERSION` if another version wrote it, `FIELDS` if a
            field is missing, unknown or of another type or shape, `COUNTS` if slices
            and manifest differ, and what `parse_manifest` raises.
    """
    arrays = _read(path)
    if "version" not in arrays:
        reason = "not a dump of a record set; make one with tfrecords_tools.dump"
        raise RefusedError(path, "NOT_A_RECORD_SET", reason)
    if arrays["version"].tolist() != NPZ_VERSION:
        found = arrays["version"].tolist()
        reason = f"version must be {NPZ_VERSION}, got {found}; dump the set again"
        raise RefusedError(path, "VERSION", reason)
    _check_fields(arrays, path)
    if _digest(arrays) != arrays["sha256"]:
        raise _corrupt(path, "its content has changed")
    text = arrays["manifest"].tobytes()
    manifest = parse_manifest(text, path)
    slices = {patient.patient_key: patient.slices for patient in manifest.patients}
    if Counter(arrays["patient_keys"].tolist()) != slices:
        reason = "slices and manifest differ; dump the set again"
        raise RefusedError(path, "COUNTS", reason)
    sha256, members = hashlib.sha256(text).hexdigest(), tuple(manifest.patients)
    return NpzSet(
        path=path, manifest=manifest, sha256=sha256, members=members, arrays=arrays
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise RefusedError(path, "NOT_A_RECORD_SET", "no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                member.filename.removesuffix(".npy"): _member(archive, member)
                for member in archive.infolist()
            }
    except _DAMAGE as error:
        raise _corrupt(path, " ".join(str(error).split())) from None


_DAMAGE = (
    zipfile.BadZipFile,
    ValueError,
    TypeError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    NotImplementedError,
    RuntimeError,
)
"""What `zipfile` and NumPy were seen to raise for files with random damage."""


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array, of no more memory than the file is long."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    if member.header_offset < 0:
        raise ValueError(f"{member.filename} begins before the file")
    content = archive.read(member)  # compares the CRC too
    header = io.BytesIO(content)
    if np.lib.format.read_magic(header) != (1, 0):
        raise ValueError(f"{member.filename} is not an array of version 1.0")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(header)
    if by_columns:
        raise ValueError(f"{member.filename} lies by columns")
    return np.frombuffer(content, dtype, offset=header.tell()).reshape(shape)


def _corrupt(path: Path, reason: str) -> RefusedError:
    return RefusedError(path, "CORRUPT", f"{reason}; copy or dump the set again")


def _check_fields(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Compares names, types and shapes with `FIELDS`."""
    differing = sorted(set(arrays) ^ set(FIELDS))
    if differing:
        raise RefusedError(path, "FIELDS", f"missing or unknown: {differing}")
    sizes: dict[int | str, int] = {}
    for name, (dtype, axes) in FIELDS.items():
        array = arrays[name]
        for axis, size in zip(axes, array.shape, strict=False):
            if isinstance(axis, str):
                sizes.setdefault(axis, size)
        shape = tuple(sizes.get(axis, axis) for axis in axes)
        if not array.dtype.str.startswith(dtype) or array.shape != shape:
            found = f"{array.dtype.str} {array.shape}"
            reason = f"{name} must be {dtype} {shape}, got {found}"
            raise RefusedError(path, "FIELDS", reason)
    if sizes["pixels"] != sum(map(math.prod, arrays["shapes"].tolist())):
        reason = "pixels and shapes differ; dump the set again"
        raise RefusedError(path, "FIELDS", reason)


def _digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and bytes of all fields but `sha256`."""
    digest = hashlib.sha256()
    for name in sorted(set(arrays) - {"sha256"}):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
