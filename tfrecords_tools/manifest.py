"""The manifest of a record set: what is in it, and what every shard must be."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from tfrecords_tools import __version__, files
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS
from tfrecords_tools.shards import SHARD_NAME
from tfrecords_tools.sources.source import LeftOut
from tfrecords_tools.splits import SPLITS
from tfrecords_tools.strict_json import strictly

SCHEMA_VERSION = 1
"""Version of the records and of the manifest; another one is not read."""

MANIFEST_NAME = "manifest.json"

Setting = str | int | float | bool
"""A setting of a build, as JSON keeps it."""


@dataclasses.dataclass(frozen=True)
class PatientEntry:
    """One patient of a record set.

    Attributes:
        labelled: for each task the number of slices that have its reference.
        has_scar: whether the reference shows scar in any slice.
        warnings: oddities that were accepted, one line each.
    """

    patient_key: str
    split: str
    studies: int
    slices: int
    labelled: dict[str, int]
    has_scar: bool
    warnings: list[str]


@dataclasses.dataclass(frozen=True)
class ShardEntry:
    """One shard of a record set: file name, size, record count and checksum."""

    name: str
    bytes: int
    records: int
    sha256: str

    @property
    def split(self) -> str:
        """The split that the shard belongs to."""
        return self.name.split("-")[0]


@dataclasses.dataclass(frozen=True)
class SkippedEntry:
    """Why one study was not imported; its path may name a person and is not kept."""

    code: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        source: name of the source module.
        settings: settings of the build by name: seeds, fractions, shards.
        patients: sorted by key.
        shards: by split, in the order in which they are read.
        totals: patients, studies, slices and patients with scar of each split.
        taken: how many studies of each kind the source found.
        left_out: what the input held and the build did not take, and why.
    """

    schema_version: int
    tool_version: str
    source: str
    settings: dict[str, Setting]
    patients: list[PatientEntry]
    shards: list[ShardEntry]
    skipped: list[SkippedEntry]
    totals: dict[str, dict[str, int]]
    taken: dict[str, int] = dataclasses.field(default_factory=dict)
    left_out: list[LeftOut] = dataclasses.field(default_factory=list)

    def of_split(self, split: str) -> list[PatientEntry]:
        """The patients of a split, sorted by key."""
        return [patient for patient in self.patients if patient.split == split]


def make_manifest(
    source: str,
    settings: dict[str, Setting],
    patients: list[PatientEntry],
    shards: list[ShardEntry],
    skipped: list[SkippedEntry],
    taken: dict[str, int],
    left_out: list[LeftOut],
) -> Manifest:
    """A manifest of this version of the tools, with its totals counted."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        tool_version=__version__,
        source=source,
        settings=settings,
        patients=patients,
        shards=shards,
        skipped=skipped,
        totals=_totals(patients),
        taken=taken,
        left_out=left_out,
    )


def _totals(patients: list[PatientEntry]) -> dict[str, dict[str, int]]:
    return {
        split: total_of([patient for patient in patients if patient.split == split])
        for split in SPLITS
    }


def total_of(patients: Sequence[PatientEntry]) -> dict[str, int]:
    """The number of patients, studies, slices and patients with scar."""
    return {
        "patients": len({patient.patient_key for patient in patients}),
        "studies": sum(patient.studies for patient in patients),
        "slices": sum(patient.slices for patient in patients),
        "with_scar": sum(patient.has_scar for patient in patients),
    }


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes `manifest.json`, atomically; the same content gives the same bytes."""
    text = json.dumps(dataclasses.asdict(manifest), indent=1, allow_nan=False)
    files.write_text(folder / MANIFEST_NAME, text + "\n")


def load_manifest(folder: Path) -> Manifest:
    """Reads and checks the manifest of a record set.

    Raises:
        RefusedError: `NOT_A_RECORD_SET` without a manifest, `VERSION` if another
            version wrote it, `MANIFEST` if it is malformed or contradicts itself,
            `SPLIT_LEAK` if a patient stands in two splits.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        reason = (
            f"no {MANIFEST_NAME} here; make a record set with tfrecords_tools.build"
        )
        raise RefusedError(folder, "NOT_A_RECORD_SET", reason)
    return parse_manifest(path.read_bytes(), path)


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """The manifest that `text` holds, checked.

    Args:
        text: the content of `manifest.json`.
        path: the file that it stands in, for messages.

    Raises:
        RefusedError: `VERSION`, `MANIFEST` and `SPLIT_LEAK` as `load_manifest`.
    """
    try:
        content = json.loads(text.decode("utf-8"))
        _check_version(content, path)
        manifest = strictly(Manifest, content, "manifest")
        _check_content(manifest)
    except (ValueError, RecursionError) as error:
        raise RefusedError(path, "MANIFEST", f"{error}; build the set again") from None
    _check_leak(manifest, path)
    return manifest


def _check_version(content: object, path: Path) -> None:
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        reason = f"schema_version must be {SCHEMA_VERSION}, got {version!r}"
        raise RefusedError(path, "VERSION", f"{reason}; build the set again")


def _check_content(manifest: Manifest) -> None:
    for patient in manifest.patients:
        if patient.split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {patient.split!r}")
        if set(patient.labelled) != set(TASKS):
            raise ValueError(f"labelled must have {[*TASKS]}, got {patient.labelled}")
    _check_shard_names([shard.name for shard in manifest.shards])
    if manifest.totals != _totals(manifest.patients):
        raise ValueError("totals are not the sums over the patients")
    for split in SPLITS:
        records = sum(s.records for s in manifest.shards if s.split == split)
        if records != manifest.totals[split]["slices"]:
            raise ValueError(
                f"{split}: records of shards and slices of patients differ"
            )


def _check_shard_names(names: list[str]) -> None:
    # A name from a manifest must not lead out of the folder.
    for name in names:
        if not SHARD_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a shard")
    if len(set(names)) != len(names):
        raise ValueError("a shard is listed twice")


def _check_leak(manifest: Manifest, path: Path) -> None:
    splits: dict[str, str] = {}
    for patient in manifest.patients:
        first = splits.setdefault(patient.patient_key, patient.split)
        if first != patient.split:
            reason = f"patient {patient.patient_key} is in {first} and {patient.split}"
            raise RefusedError(path, "SPLIT_LEAK", f"{reason}; build the set again")
    if len(splits) != len(manifest.patients):
        raise RefusedError(path, "MANIFEST", "a patient is listed twice")
