"""Having the studies of a source read and spooled, and telling what came of each."""

import contextlib
import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.manifest import SkippedEntry
from tfrecords_tools.sources.source import Item, LeftOut, Source
from tfrecords_tools.splits import SplitFractions, check_counts
from tfrecords_tools.spool import Spooled
from tfrecords_tools.workers import Outcomes, Work, in_processes

Engine = Callable[[Work, Sequence[Item], Path], Outcomes]
"""Does work on items somewhere, and yields items and outcomes as they are done.

The folder is for files of its own; it goes when the build ends.
"""


def in_this_process(work: Work, items: Sequence[Item], _: Path) -> Outcomes:
    """The engine that does one item after the other."""
    yield from in_processes(work, items, workers=1)


@dataclasses.dataclass
class Imported:
    """What came of the studies of a source.

    Attributes:
        studies: that wait on disk, sorted.
        skipped: why others were refused.
        left_out: those without a reference.
    """

    studies: list[Spooled] = dataclasses.field(default_factory=list)
    skipped: list[SkippedEntry] = dataclasses.field(default_factory=list)
    left_out: list[LeftOut] = dataclasses.field(default_factory=list)


def import_studies(
    source: Source,
    work: Work,
    stage: Path,
    engine: Engine,
    fractions: SplitFractions,
    unlabelled: bool,
    strict: bool,
) -> Imported:
    """Has every study spooled, and sorts out what came of it.

    Args:
        source: the studies.
        work: reads and spools one.
        stage: folder for the engine.
        engine: where the work is done.
        fractions: refused as soon as no further study can make them right.
        unlabelled: take studies without any reference too.
        strict: stop at the first refused study.

    Raises:
        RefusedError: for the fractions or, if strict, a study.
    """
    imported, seen = Imported(), set()
    outcomes = _outcomes(source, work, stage, engine, fractions, strict)
    for item, outcome in outcomes:
        if isinstance(outcome, RefusedError):
            imported.skipped.append(SkippedEntry(outcome.code, outcome.reason))
        elif (outcome.patient_key, outcome.study_key) in seen:
            reason = "this study came before; its files are there twice"
            _tell(source, item, RefusedError(item.key, "DUP_STUDY", reason), strict)
            imported.skipped.append(SkippedEntry("DUP_STUDY", reason))
        elif unlabelled or any(outcome.labelled.values()):
            seen.add((outcome.patient_key, outcome.study_key))
            imported.studies.append(outcome)
        else:
            reason = "has no reference; --unlabelled takes it"
            imported.left_out.append(LeftOut(outcome.study_key, reason))
    _warn(source, outcomes)
    imported.studies.sort(key=lambda study: (study.patient_key, study.study_key))
    return imported


def _outcomes(
    source: Source,
    work: Work,
    stage: Path,
    engine: Engine,
    fractions: SplitFractions,
    strict: bool,
) -> list[tuple[Item, Spooled | RefusedError]]:
    """What comes of every item; sorted, whatever the engine's order."""
    items = sorted(source.items, key=_order)
    most = len({getattr(item, "patient_key", item.key) for item in items})
    labelled: set[str] = set()
    check_counts(fractions, 0, most)
    outcomes = []
    with contextlib.closing(engine(work, items, stage)) as done:
        for item, outcome in done:
            if isinstance(outcome, RefusedError):
                _tell(source, item, outcome, strict)
            elif any(outcome.labelled.values()):
                labelled.add(outcome.patient_key)
                check_counts(fractions, len(labelled), most)
            outcomes.append((item, outcome))
    return sorted(outcomes, key=lambda pair: _order(pair[0]))


def _order(item: Item) -> tuple[str, str]:
    return item.key, repr(item)


def _tell(source: Source, item: Item, error: RefusedError, strict: bool) -> None:
    """Prints why a study was refused; private paths become its key.

    Raises:
        RefusedError: if that is to end all.
    """
    subject = item.key if source.private else error.subject
    error = RefusedError(subject, error.code, error.reason)
    if strict:
        raise error
    print(error, file=sys.stderr)


def _warn(
    source: Source, outcomes: Iterable[tuple[Item, Spooled | RefusedError]]
) -> None:
    """Prints each warning once, whatever its numbers; the manifest keeps them all."""
    told = dict[str, list[tuple[str, str]]]()
    for item, outcome in outcomes:
        for warning in () if isinstance(outcome, RefusedError) else outcome.warnings:
            name = item.key if source.private else outcome.study_key
            told.setdefault(re.sub(r"\d+", "", warning), []).append((name, warning))
    for same in told.values():
        name, warning = same[0]
        more = f" (and {len(same) - 1} more like it)" if len(same) > 1 else ""
        print(f"WARNING {name}: {warning}{more}", file=sys.stderr)
