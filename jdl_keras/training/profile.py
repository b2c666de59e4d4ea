"""A trace of some training steps, and how long they waited for their input."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

WARM_UP, TRACED = 10, 10
"""Steps before the trace, in which graphs are built and buffers filled; and in it."""

STEP = "training_step"
WAIT = "IteratorGetNext"
"""What the steps, and their waits for input, are called in a trace."""

Span = tuple[int, int]
"""Begin and end in picoseconds."""


class Profile(keras.callbacks.Callback):
    """Writes a trace for TensorBoard, and prints the share of the time spent waiting.

    Args:
        log_dir: of TensorBoard.
        steps: of the training that is left; a short one has a short warm-up.
    """

    def __init__(self, log_dir: Path, steps: int):
        super().__init__()
        self.log_dir = log_dir
        self.last = min(WARM_UP + TRACED, steps)
        self.first = max(1, min(WARM_UP, self.last - TRACED)) + 1
        self.count, self.step = 0, contextlib.nullcontext()

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Starts the trace, and marks a step in it."""
        self.count += 1
        if self.count == self.first:
            tf.profiler.experimental.start(str(self.log_dir))
        if self.first <= self.count <= self.last:
            self.step = tf.profiler.experimental.Trace(STEP, step_num=self.count, _r=1)
            self.step.__enter__()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Ends the step, and after the last one the trace."""
        if self.first <= self.count <= self.last:
            self.step.__exit__(None, None, None)
        if self.count == self.last:
            tf.profiler.experimental.stop()
            share = 100 * waiting_share(newest_trace(self.log_dir))
            print(
                f"trace of steps {self.first} to {self.last} in {self.log_dir}: "
                f"{share:.0f} % of their time was spent waiting for input",
                flush=True,
            )


def newest_trace(log_dir: Path) -> Path:
    """The last trace that was written for TensorBoard."""
    traces = log_dir.glob("plugins/profile/*/*.xplane.pb")
    return max(traces, key=lambda path: path.stat().st_mtime_ns)


def waiting_share(trace: Path) -> float:
    """The part, from 0 to 1, of the steps in which at least one device has no input."""
    space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    steps, waits = (_merged(_spans(space, name)) for name in (STEP, WAIT))
    inside = [
        max(0, min(step[1], wait[1]) - max(step[0], wait[0]))
        for step in steps
        for wait in waits
    ]
    return sum(inside) / sum(end - begin for begin, end in steps)


def _spans(space: xplane_pb2.XSpace, name: str) -> Iterable[Span]:
    """When events whose name begins so went on."""
    for plane in space.planes:
        named = {
            key for key, m in plane.event_metadata.items() if m.name.startswith(name)
        }
        for line in plane.lines:
            for event in line.events:
                if event.metadata_id in named:
                    begin = line.timestamp_ns * 1000 + event.offset_ps
                    yield begin, begin + event.duration_ps


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Their union, without overlaps."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged
