"""What a build tells: what it understood of the input, and what came of it."""

from collections import Counter

from tfrecords_tools.manifest import Manifest
from tfrecords_tools.record_set_writer import taken
from tfrecords_tools.sources.source import Source


def print_found(source: Source) -> None:
    """Tables of the studies found, by description, and of what is left out, and why."""
    left_out: Counter[str] = Counter()
    for entry in source.left_out:
        left_out[entry.reason] += entry.count
    _print_counts("found", "studies", taken(source))
    _print_counts("left out", "files, series, studies", dict(left_out.most_common()))


def _print_counts(title: str, unit: str, counts: dict[str, int]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not counts:
        return
    table = Table(title, unit)
    for name, count in counts.items():
        table.add_row(Text(name), str(count))
    Console().print(table)


def print_summary(manifest: Manifest) -> None:
    """Counts by split, and the numbers of studies; the last line is for scripts."""
    for split, total in manifest.totals.items():
        counts = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in total.items()
        )
        print(f"{split}: {counts}")
    left_out = sum(entry.count for entry in manifest.left_out)
    if left_out:
        print(f"left out {left_out}; the manifest says what, and why")
    waiting = sum(e.count for e in manifest.left_out if "--unlabelled" in e.reason)
    if waiting:
        print(f"studies without a reference: {waiting}; --unlabelled takes them")
    imported = sum(total["studies"] for total in manifest.totals.values())
    print(f"imported {imported}, skipped {len(manifest.skipped)}")
