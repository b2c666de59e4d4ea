"""Work on many items in processes of their own, each of which may die."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.sources.source import Item

Work = Callable[[Any], Any]
Outcomes = Generator[tuple[Item, Any], None, None]
"""Items with what came of them. Closing it ends the work."""


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def in_processes(work: Work, items: Sequence[Item], workers: int) -> Outcomes:
    """Yields each item with what `work` makes of it, in the order in which it is done.

    When a process dies, as the system lets it die that runs out of memory, the items
    that it may have worked on are tried once more, one at a time.

    Args:
        work: can be pickled; what it raises ends all.
        items: can be pickled.
        workers: processes; one works in this process.

    Yields:
        Item and outcome: `RefusedError` `KILLED` for one that killed its process.
    """
    workers = min(workers, len(items))
    if workers < 2:
        yield from ((item, work(item)) for item in items)
        return
    # What an executor has handed out: one item a process, and its queue.
    in_hand = 2 * workers + 1
    while items:
        lost = yield from _pooled(work, items, workers)
        yield from _one_by_one(work, lost[:in_hand])
        items = lost[in_hand:]


def _one_by_one(work: Work, items: Sequence[Item]) -> Outcomes:
    while items:
        lost = yield from _pooled(work, items, 1)
        if lost:
            reason = "the process that read it was killed; too little memory?"
            yield lost[0], RefusedError(lost[0].key, "KILLED", reason)
        items = lost[1:]


def _pooled(
    work: Work, items: Sequence[Item], workers: int
) -> Generator[tuple[Item, Any], None, list[Item]]:
    """Yields the outcomes until a process dies; returns the items without one."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(work,))
    futures = {}
    try:
        with suppress(BrokenProcessPool):
            for item in items:
                futures[pool.submit(_do, item)] = item
        for future in as_completed(futures):
            with suppress(BrokenProcessPool):
                outcome = future.result()
                yield futures[future], outcome
    finally:
        pool.shutdown(cancel_futures=True)
    lost = [item for future, item in futures.items() if future.exception()]
    return [*lost, *items[len(futures) :]]


_work: Work


def _start(work: Work) -> None:
    """In a new process: what it will do, given once and not with every item."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    threading.Thread(target=die_with_parent, daemon=True).start()


def die_with_parent() -> None:
    """Waits in a thread for the parent process: one that is killed tells nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(item: Item) -> object:
    return _work(item)
