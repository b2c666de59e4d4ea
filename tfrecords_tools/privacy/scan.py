"""Searches record sets and run folders for the identifiers of their source."""

import dataclasses
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.privacy.identifiers import Identifier, searchable
from tfrecords_tools.privacy.needles import Needles
from tfrecords_tools.privacy.source_identifiers import (
    regular_files,
    source_identifiers,
)
from tfrecords_tools.privacy.spellings import Spelling, spellings
from tfrecords_tools.privacy.unpacking import BROKEN, contents

LARGEST_UNPACKED_BYTES = 8 * 2**30
"""A file that holds more is not searched to its end, and that is a fault."""


@dataclasses.dataclass
class PrivacyScan:
    """What was searched for, and what was found where.

    Attributes:
        identifiers: how many values were searched for.
        kinds: of how many kinds they are.
        files: how many files were searched.
        megabytes: how much was read, unpacked contents included.
        faults: one for each file and kind; they never quote a value.
    """

    identifiers: int
    kinds: int
    files: int = 0
    megabytes: float = 0.0
    faults: list[RefusedError] = dataclasses.field(default_factory=list)

    @property
    def in_words(self) -> str:
        """Such as: 12 files, 137.6 MB, searched for 512 identifiers of 31 kinds."""
        return (
            f"{self.files} files, {self.megabytes:.1f} MB, searched for "
            f"{self.identifiers} identifiers of {self.kinds} kinds"
        )


def scan(source: Path, targets: Sequence[Path]) -> PrivacyScan:
    """Searches files and folders for what identifies the patients of a source.

    Args:
        source: folder of the DICOM or NIfTI files that something was made from.
        targets: record sets, run folders, or any other files and folders.

    Raises:
        RefusedError: if a path is not there, or the source has nothing to search for,
            so that nothing could ever be found.
    """
    wanted = _distinct(source)
    if not wanted:
        reason = "no identifier in it to search for; give the folder of the import"
        raise RefusedError(source, "NO_STUDIES", reason)
    result = PrivacyScan(len(wanted), len({identifier.kind for identifier in wanted}))
    needles = Needles(spellings(wanted))
    for target in targets:
        for path in regular_files(target):
            result.files += 1
            result.faults.extend(_faults(path, target, needles, result))
    return result


def _distinct(source: Path) -> list[Identifier]:
    """The identifiers, each value once, under the kind it was first found as."""
    found: dict[tuple[str, str], Identifier] = {}
    for identifier in searchable(source_identifiers(source)):
        found.setdefault((identifier.text, identifier.form), identifier)
    return [*found.values()]


def _faults(
    path: Path, target: Path, needles: Needles, result: PrivacyScan
) -> Iterator[RefusedError]:
    shown = _shown(path, target, needles)
    for part in path.relative_to(target).parts:
        for spelling in set(_spellings(io.BytesIO(os.fsencode(part)), needles)):
            yield _fault(shown, spelling, "is in its name")
    found: set[Spelling] = set()
    read = 0
    try:
        with path.open("rb") as file:
            for content in contents(file):
                for item in needles.found_in(content):
                    if isinstance(item, Spelling):
                        found.add(item)
                        continue
                    read += item
                    if read > LARGEST_UNPACKED_BYTES:
                        raise _TooLargeError
    except _TooLargeError:
        yield RefusedError(shown, "TOO_LARGE", "holds too much to be searched")
    except BROKEN:
        reason = "cannot be read or unpacked; not all of it was searched"
        yield RefusedError(shown, "CORRUPT", reason)
    result.megabytes += read / 1e6
    for spelling in sorted(found, key=dataclasses.astuple):
        yield _fault(shown, spelling, "of the source stands in it")


class _TooLargeError(Exception):
    pass


def _spellings(stream: IO[bytes], needles: Needles) -> Iterator[Spelling]:
    return (item for item in needles.found_in(stream) if isinstance(item, Spelling))


def _fault(shown: str, spelling: Spelling, where: str) -> RefusedError:
    reason = f"{spelling.kind} {where} ({spelling.encoding})"
    return RefusedError(shown, "IDENTIFIER", reason)


def _shown(path: Path, target: Path, needles: Needles) -> str:
    """The path below the target; what of it identifies somebody is not repeated."""
    parts = [target.name or ".", *path.relative_to(target).parts]
    return "/".join(
        "***" if any(_spellings(io.BytesIO(os.fsencode(part)), needles)) else part
        for part in parts
    )
