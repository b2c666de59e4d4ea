"""Times that can be compared, on a machine that does other things too."""

import statistics
import time
from collections.abc import Callable, Mapping

from keras import ops, random

Call = Callable[[], object]
"""Does some work, and has done it when it returns."""

WARM_UPS = 2
"""The first call compiles."""

LEAST_ROUNDS = 5
PRODUCT_SECONDS = 0.02
LARGEST_PRODUCT = 8192


def interleaved(calls: Mapping[str, Call], seconds: float) -> dict[str, float]:
    """Median time of each call, in seconds.

    The calls take turns, so that whatever disturbs the machine disturbs all of them.

    Args:
        calls: by name.
        seconds: how long to go on, after the warm-up.
    """
    for call in calls.values():
        for _ in range(WARM_UPS):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    while (
        len(next(iter(times.values()))) < LEAST_ROUNDS
        or time.perf_counter() - start < seconds
    ):
        for name, call in calls.items():
            times[name].append(elapsed(call))
    return {name: statistics.median(found) for name, found in times.items()}


def elapsed(call: Call) -> float:
    """Time of one call, in seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def as_long_as(call: Call, unit: Call) -> int:
    """How many times `unit` takes about as long as one `call`.

    On a machine that does other things too, what is short is seldom interrupted, and
    what is long is always: only works of one length compare.
    """
    for _ in range(WARM_UPS):
        call()
    return max(1, round(elapsed(call) / elapsed(unit)))


def repeated(call: Call, times: int) -> Call:
    """So many calls as one."""

    def calls() -> None:
        for _ in range(times):
            call()

    return calls


def matrix_product() -> tuple[Call, int]:
    """A product of square float32 matrices, and its floating-point operations.

    The matrices grow until a product takes long enough to be timed.
    """
    size = 512
    while True:
        call = _product(size)
        call()
        if size == LARGEST_PRODUCT or elapsed(call) > PRODUCT_SECONDS:
            return call, 2 * size**3
        size *= 2


def _product(size: int) -> Call:
    matrix = random.normal((size, size), seed=1)
    # One number is fetched, so that the device has finished.
    return lambda: float(ops.matmul(matrix, matrix)[0, 0])
