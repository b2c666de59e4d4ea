"""What the client asks of a server, whatever it speaks."""

import contextlib
import errno
import re
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS

Answer = TypeVar("Answer")
Maps = dict[str, np.ndarray]

LONGEST_WAIT_SECONDS = 8.0
"""Between two tries; the first wait is of one second, and each is twice the last."""

LONGEST_MESSAGE = 300
"""Characters of a server's message that are shown."""

ROUNDING = 1e-6
"""By which a probability may leave [0, 1]: interpolation adds float32 weights."""


SIGNATURE = "study"
"""Of the served model: whole studies, whose slices agree on where the heart is."""


class Server(Protocol):
    """A served model; calls from several threads at once are safe.

    Attributes:
        version: of the model that is asked for; None for the newest.
    """

    version: int | None

    def check(self) -> None:
        """Asks once whether the model is there.

        If the server tells its version, that one is asked for from then on: a model
        that is replaced meanwhile shall not share a folder of results with the next.

        Raises:
            ConnectionError: if there is no answer.
            RefusedError: if the server has no such model.
        """

    def predict(self, images: np.ndarray, spacing_mm: np.ndarray) -> Maps:
        """Probability maps (S, H, W) of a study by task.

        Args:
            images: (S, H, W) float32 intensities as acquired.
            spacing_mm: (2,) float32 of rows and columns.

        Raises:
            ConnectionError: if there is no answer, after all tries.
            RefusedError: `SERVER` if the server refuses, `TIMEOUT`, `ANSWER`.
        """


def unavailable(where: str, reason: object) -> ConnectionError:
    """The error that is worth another try, and in the end is one of the environment."""
    line = f"{one_line(reason)}; is the server running, and its model loaded?"
    return ConnectionError(errno.ECONNREFUSED, line, where)


def refused(where: str, status: object, message: object) -> RefusedError:
    """The error for what a server refuses, in its own words."""
    reason = f"{status}: {one_line(_assertion(str(message)))}"
    return RefusedError(where, "SERVER", reason)


def _assertion(message: str) -> str:
    """What a check in the graph says, without what TensorFlow puts around it."""
    found = re.search(r"assertion failed: (.*)", message)
    return re.sub(r"\] \[|^\[|\]$", " ", found[1]) if found else message


def too_late(where: str, seconds: float) -> RefusedError:
    """The error for an answer that did not come in time; the server may be at it."""
    reason = f"no answer within {seconds:g} seconds; give more by --timeout_seconds"
    return RefusedError(where, "TIMEOUT", reason)


def one_line(text: object) -> str:
    """The beginning of a message, without line breaks."""
    return " ".join(str(text).split())[:LONGEST_MESSAGE]


def retried(call: Callable[[], Answer], retries: int) -> Answer:
    """What `call` returns, called again only while nobody answers.

    Args:
        call: may raise `ConnectionError`.
        retries: further calls after the first.
    """
    wait = 1.0
    for _ in range(retries):
        with contextlib.suppress(ConnectionError):
            return call()
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)
    return call()


def checked(maps: Mapping[str, np.ndarray], shape: tuple, where: str) -> Maps:
    """The maps of an answer, if they are what was asked for.

    Raises:
        RefusedError: `ANSWER`, with the name of the output.
    """
    if "scar" not in maps or not set(maps) <= set(TASKS):
        found = one_line(sorted(map(str, maps)))
        reason = f"expected maps of {[*TASKS]}, got {found}; is this the right model?"
        raise RefusedError(where, "ANSWER", reason)
    for task, values in maps.items():
        if fault := _fault(values, shape):
            raise RefusedError(where, "ANSWER", f"{task}: {fault}")
    return {task: values.astype(np.float32) for task, values in maps.items()}


def _fault(values: np.ndarray, shape: tuple) -> str:
    if values.shape != shape or values.dtype.kind != "f":
        return f"expected numbers {shape}, got {values.dtype} {values.shape}"
    # A NaN fails both comparisons.
    if not ((values >= -ROUNDING) & (values <= 1 + ROUNDING)).all():
        return "expected probabilities in [0, 1]"
    return ""
