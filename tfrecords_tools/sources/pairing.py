"""Images and references that belong together by their names, as a pattern tells.

A pattern is a path under the input folder: `{study}` and `{patient}` stand for a part
of a file's or folder's name, as short as possible; `{index}` for a slice's number; `*`
for any part of a name; `**/` for any folders or none. The same placeholder twice in a
pattern means the same text.
"""

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.pseudonyms import pseudonym
from tfrecords_tools.sources.source import LeftOut

Name = tuple[str, str]
"""Patient and study."""

Files = tuple[tuple[int, Path], ...]
"""Slice numbers and paths, sorted; the number is 0 where the pattern has none."""

_EXPRESSIONS = {"patient": "[^/]+?", "study": "[^/]+?", "index": "[0-9]{1,6}"}


@dataclasses.dataclass(frozen=True)
class PairedStudy:
    """A study that is not read yet.

    Attributes:
        key: pseudonym of the study.
        patient_key: pseudonym of the patient.
        images: its image, or its slices.
        references: for each pattern of references its files; empty if it has none.
        values: what a table says of it, one tuple a row.
    """

    key: str
    patient_key: str
    images: Files
    references: tuple[Files, ...]
    values: tuple[tuple[str, ...], ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All paths."""
        return tuple(
            path for part in (self.images, *self.references) for _, path in part
        )


def placeholders(setting: str, pattern: str) -> frozenset[str]:
    """The placeholders of a pattern.

    Raises:
        RefusedError: `CONFIG` with `setting`, if one is unknown.
    """
    found = frozenset(re.findall(r"{([^{}]*)}", pattern))
    if not found <= _EXPRESSIONS.keys():
        known = ", ".join(f"{{{name}}}" for name in _EXPRESSIONS)
        raise RefusedError(setting, "CONFIG", f"a placeholder that is none of {known}")
    return found


def find_pairs(
    folder: Path,
    images: str,
    references: Sequence[str],
    key: bytes,
    unlabelled: bool,
) -> tuple[dict[Name, PairedStudy], list[LeftOut]]:
    """The studies under `folder`, sorted, and what is there beside them.

    A study is taken with all of its references or with none. A file that matches a
    pattern of references is no image. Links to folders are not followed.

    Args:
        folder: the input.
        images: pattern of the images.
        references: patterns with the placeholders of `images`.
        key: of the pseudonyms.
        unlabelled: whether studies without references are taken.

    Raises:
        RefusedError: `NO_STUDIES`, if there are none.
    """
    names, left_out = file_names(folder)
    parts = [_matches(folder, names, pattern) for pattern in references]
    used = {path for found in parts for files in found.values() for _, path in files}
    rest = [name for name in names if folder / name not in used]
    found = _matches(folder, rest, images)
    pairs = {}
    for name, files in sorted(found.items()):
        whole = all(_numbers(part.get(name, ())) == _numbers(files) for part in parts)
        own = tuple(part[name] for part in parts) if whole else ()
        study = PairedStudy(*_keys(name, key), files, own)
        if own or unlabelled:
            pairs[name] = study
        else:
            reason = "no reference of its name, or not all; --unlabelled takes it so"
            left_out.append(LeftOut(study.key, reason))
    if not pairs:
        reason = f"none of its {len(names)} files fits the pattern of images"
        if found:
            reason = f"{len(found)} studies by the pattern of images, none with a file "
            reason += "for each pattern of references; --unlabelled takes them so"
        raise RefusedError(folder, "NO_STUDIES", f"{reason}; see --help")
    orphans = set().union(*parts) - set(found)
    others = len(rest) - sum(map(len, found.values()))
    left_out.append(LeftOut("reference", "no image of its name", len(orphans)))
    left_out.append(LeftOut("file", "matches no pattern", others))
    return pairs, [entry for entry in left_out if entry.count]


def check_inside(folder: Path, files: Iterable[Path]) -> None:
    """Refuses links that lead out of `folder`, to what nobody meant to read.

    Raises:
        RefusedError: `NOT_A_FILE`.
    """
    root = folder.resolve()
    for path in files:
        try:
            target = path.resolve()
        except RuntimeError:  # of Python before 3.13
            reason = "a link that leads to itself"
            raise RefusedError(path, "NOT_A_FILE", reason) from None
        if not target.is_relative_to(root):
            reason = "a link that leads out of the input folder"
            raise RefusedError(path, "NOT_A_FILE", reason)


def _keys(name: Name, key: bytes) -> tuple[str, str]:
    """Keys of the study and of the patient; equal where the name tells no patient."""
    patient, study = name
    if not patient:
        return (pseudonym(study, key),) * 2
    return pseudonym(f"{patient}/{study}", key), pseudonym(patient, key)


def _numbers(files: Files) -> set[int]:
    return {number for number, _ in files}


def file_names(folder: Path) -> tuple[list[str], list[LeftOut]]:
    """Paths under `folder` with /, sorted, and the folders that cannot be read."""
    closed: list[OSError] = []
    names = [
        (Path(parent) / name).relative_to(folder).as_posix()
        for parent, _, files in os.walk(folder, onerror=closed.append)
        for name in files
    ]
    return sorted(names), [LeftOut("folder", "cannot be opened", len(closed))]


def _matches(folder: Path, names: Sequence[str], pattern: str) -> dict[Name, Files]:
    found: dict[Name, list[tuple[int, Path]]] = {}
    expression = re.compile("".join(_expression(pattern)), re.DOTALL)
    for name in names:
        match = expression.fullmatch(name)
        if match:
            parts = match.groupdict("")
            file = int(parts.get("index", 0)), folder / name
            found.setdefault((parts.get("patient", ""), parts["study"]), []).append(
                file
            )
    return {name: tuple(sorted(files)) for name, files in found.items()}


def _expression(pattern: str) -> Iterator[str]:
    """The pieces of the regular expression that a pattern stands for."""
    seen = set()
    for piece in re.split(r"({[^{}]*}|\*\*/|\*)", pattern):
        name = piece[1:-1]
        if piece == "**/":
            yield "(?:[^/]+/)*"
        elif piece == "*":
            yield "[^/]*"
        elif not piece.startswith("{"):
            yield re.escape(piece)
        elif name in seen:
            yield f"(?P={name})"
        else:
            seen.add(name)
            yield f"(?P<{name}>{_EXPRESSIONS[name]})"
