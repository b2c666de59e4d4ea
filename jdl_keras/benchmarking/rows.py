"""What was measured, as a table and as JSON."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jdl_keras.run_folder import versions
from tfrecords_tools.files import write_text

if TYPE_CHECKING:
    from rich.table import Table

THREAD_SETTINGS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        what: was done.
        network: its preset and method, or nothing.
        size: rows and columns.
        batch_size: slices that are computed together.
        seconds_per_slice: median over the batches, divided by their size.
        gflop_per_second: arithmetic that a lean implementation needs, over the time;
            None where it is not counted.
        peak_gflop_per_second: of float32 matrix products between the same batches.
    """

    what: str
    network: str
    size: tuple[int, int]
    batch_size: int
    seconds_per_slice: float
    gflop_per_second: float | None = None
    peak_gflop_per_second: float | None = None

    @property
    def peak_percent(self) -> float | None:
        """Share of the machine's matrix products."""
        if self.gflop_per_second is None or self.peak_gflop_per_second is None:
            return None
        return 100 * self.gflop_per_second / self.peak_gflop_per_second


def table(rows: Sequence[Row]) -> "Table":
    """The rows, for a terminal."""
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE)
    for name in ("measured", "network", "grid", "batch"):
        grid.add_column(name)
    for name in ("ms/slice", "GFLOP/s", "peak", "share"):
        grid.add_column(name, justify="right")
    for row in rows:
        numbers = (row.gflop_per_second, row.peak_gflop_per_second, row.peak_percent)
        texts = ["" if one is None else f"{one:.0f}" for one in numbers]
        texts[-1] += " %" if texts[-1] else ""
        size = "x".join(str(n) for n in row.size)
        time = f"{1000 * row.seconds_per_slice:.3g}"
        grid.add_row(row.what, row.network, size, str(row.batch_size), time, *texts)
    return grid


def write_rows(rows: Sequence[Row], backend: str, path: Path) -> None:
    """Writes the rows, and on what they were measured."""
    found = {
        "backend": backend,
        "versions": versions(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": {name: os.environ.get(name) for name in THREAD_SETTINGS},
        "rows": [
            dataclasses.asdict(row) | {"peak_percent": row.peak_percent} for row in rows
        ],
    }
    write_text(path, json.dumps(found, indent=1) + "\n")
