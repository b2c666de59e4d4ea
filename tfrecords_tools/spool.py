"""Studies that were read and wait on disk, because their splits are known only later.

A study is one `.npz` file, there whole or not at all. Its name is the fingerprint of
what it was read from, so a build that was killed finds again what it had read.
"""

import dataclasses
import functools
import hashlib
import json
import secrets
import traceback
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrecords_tools import __version__, files
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.label_checks import warnings_for
from tfrecords_tools.label_fixes import fixed
from tfrecords_tools.labels import SCAR, TASKS, region_mask
from tfrecords_tools.sources.source import Item, Source
from tfrecords_tools.study import Study


@dataclasses.dataclass(frozen=True)
class Spooled:
    """A study that waits on disk; what splits and manifest need of it.

    Attributes:
        path: of the `.npz` file.
        labelled: for each task the number of slices that have its reference.
        has_scar: whether the reference shows scar in any slice.
    """

    path: Path
    patient_key: str
    study_key: str
    source: str
    slices: int
    labelled: dict[str, int]
    has_scar: bool
    warnings: tuple[str, ...]


def spool_name(source: Source, fix: Sequence[str] | None = None) -> str:
    """Folder name for the studies of a source with these settings and this version."""
    read: Any = source.read
    settings = sorted(source.settings.items())
    values: list[object] = [__version__, source.name, settings, fix]
    if isinstance(read, functools.partial):
        values += [read.args, sorted(read.keywords.items())]
        read = read.func
    return "studies-" + _digest([*values, read.__module__, read.__qualname__])[:16]


def import_study(
    read: Callable[[Any], Study],
    folder: Path,
    item: Item,
    fix: Sequence[str] | None = None,
) -> Spooled | RefusedError:
    """Reads one study and spools it, unless it waits in `folder` already.

    Unless `fix` is None, labels that look wrong become warnings of the study, after
    those faults were mended that it names, see `tfrecords_tools.label_fixes`.

    Whatever is wrong with a study costs that study.

    Raises:
        OSError: if the study cannot be written.
    """
    path = folder / f"{_fingerprint(item)}.npz"
    waiting = _waiting(path)
    if waiting:
        return waiting
    study = attempt(lambda: _prepared(read(item), fix), item)
    return study if isinstance(study, RefusedError) else _spool(study, path)


def attempt(make: Callable[[], Study], item: Item) -> Study | RefusedError:
    """A study, or what is wrong with it.

    The error of one that a reader did not foresee names the line, and not the values,
    which may identify somebody.

    Args:
        make: reads it.
        item: that is read.
    """
    try:
        return make()
    except RefusedError as error:
        return error
    except MemoryError:
        return RefusedError(item.key, "TOO_LARGE", "needs more memory than there is")
    except OSError as error:
        subject = error.filename or item.key
        reason = error.strerror or type(error).__name__
        return RefusedError(subject, "UNREADABLE", reason)
    except Exception as error:
        return _unforeseen(item, error)


def _prepared(study: Study, fix: Sequence[str] | None) -> Study:
    if fix is None:
        return study
    study = fixed(study, fix)
    warnings = (*study.warnings, *warnings_for(study))
    return dataclasses.replace(study, warnings=warnings)


def load_spooled(spooled: Spooled) -> Study:
    """The study that waits.

    Raises:
        RefusedError: `CORRUPT` if the disk gives something else back.
    """
    try:
        with (
            spooled.path.open("rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            flags = arrays["labelled"]
            return Study(
                patient_key=spooled.patient_key,
                study_key=spooled.study_key,
                source=spooled.source,
                pixels=arrays["pixels"],
                label_map=arrays["label_map"],
                labelled=tuple(
                    frozenset(t for t, f in zip(TASKS, row, strict=True) if f)
                    for row in flags
                ),
                affine=arrays["affine"],
                warnings=spooled.warnings,
            )
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        spooled.path.unlink()
        reason = "the disk gives back something else; the same command reads it again"
        raise RefusedError(spooled.path, "CORRUPT", reason) from None


def _fingerprint(item: Item) -> str:
    return _digest((type(item).__qualname__, item, [*map(_state, item.files)]))


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode(errors="backslashreplace")).hexdigest()


def _unforeseen(item: Item, error: Exception) -> RefusedError:
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    reason = f"{type(error).__name__} at {place}; a fault of the reader, report it"
    return RefusedError(item.key, "FAULT", reason)


def _spool(study: Study, path: Path) -> Spooled:
    spooled = Spooled(
        path=path,
        patient_key=study.patient_key,
        study_key=study.study_key,
        source=study.source,
        slices=len(study.labelled),
        labelled={task: sum(task in s for s in study.labelled) for task in TASKS},
        has_scar=bool(region_mask(study.label_map, SCAR).any()),
        warnings=study.warnings,
    )
    summary = json.dumps(dataclasses.asdict(spooled) | {"path": path.name})
    flags = [[task in tasks for task in TASKS] for tasks in study.labelled]
    # A name of its own: a worker of a killed build may still be writing this study.
    whole = files.whole_file(path, f".{secrets.token_hex(4)}")
    with whole as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            summary=np.frombuffer(summary.encode(), np.uint8),
            pixels=study.pixels,
            label_map=study.label_map,
            labelled=np.array(flags),
            affine=study.affine,
        )
    return spooled


def _waiting(path: Path) -> Spooled | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            summary = json.loads(arrays["summary"].tobytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # damaged since: the study is read again
    warnings = tuple(summary.pop("warnings"))
    return Spooled(**summary | {"path": path, "warnings": warnings})
