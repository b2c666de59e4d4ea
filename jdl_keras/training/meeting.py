"""Waits until all workers of a run are there, before TensorFlow waits for them.

TensorFlow waits for an hour, cannot be interrupted meanwhile, and does not say for
whom.
"""

import contextlib
import json
import socket
import sys
import time
from collections.abc import Iterator

from jdl_keras.cluster import Cluster

SECONDS = 600.0
"""In which all workers must be there."""

PAUSE_SECONDS = 0.5
LIMIT = 1 << 16
"""Bytes of a message."""

GO = b"go\n"


def meet(cluster: Cluster, seconds: float = SECONDS) -> None:
    """Returns on every worker once all of them have called it.

    Args:
        cluster: of several workers; the chief listens at its own address.
        seconds: until the wait is given up.

    Raises:
        TimeoutError: with the workers that did not come, or the chief.
    """
    end = time.monotonic() + seconds
    if cluster.is_chief:
        _receive(cluster, end)
    else:
        _report(cluster, end)


def _receive(cluster: Cluster, end: float) -> None:
    """The chief: waits for all others and then tells them to go."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listening(cluster.workers[0]))
        here: dict[int, socket.socket] = {}
        told = False
        while missing := {*range(1, len(cluster.workers))} - here.keys():
            names = ", ".join(name_of(cluster, index) for index in sorted(missing))
            if time.monotonic() > end:
                raise TimeoutError(None, "did not come; start all workers", names)
            told = told or _tell(f"waiting for {names}")
            with contextlib.suppress(OSError, ValueError, TypeError):
                connection, _ = server.accept()
                stack.enter_context(connection)
                connection.settimeout(PAUSE_SECONDS)
                workers, index = json.loads(connection.makefile("rb").readline(LIMIT))
                if tuple(workers) == cluster.workers:
                    here[index] = connection  # one that came again replaces itself
        for connection in here.values():
            connection.sendall(GO)


def _report(cluster: Cluster, end: float) -> None:
    """Another worker: tells the chief that it is there, until told to go."""
    host, _, port = cluster.workers[0].rpartition(":")
    message = json.dumps([cluster.workers, cluster.index]).encode() + b"\n"
    told = False
    while time.monotonic() < end:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host.strip("[]"), int(port)), 5.0) as connection,
        ):
            connection.sendall(message)
            connection.settimeout(max(0.1, end - time.monotonic()))
            if connection.recv(len(GO)) == GO:
                return
        told = told or _tell(f"waiting for {name_of(cluster, 0)}")
        time.sleep(PAUSE_SECONDS)
    raise TimeoutError(None, "is not there; start all workers", name_of(cluster, 0))


@contextlib.contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    try:
        server = socket.create_server(("", int(address.rpartition(":")[2])))
    except OSError as error:
        raise OSError(error.errno, error.strerror, address) from None
    with server:
        server.settimeout(PAUSE_SECONDS)
        yield server


def name_of(cluster: Cluster, index: int) -> str:
    """A worker, as messages name it."""
    return f"worker {index} ({cluster.workers[index]})"


def _tell(line: str) -> bool:
    print(line, file=sys.stderr, flush=True)
    return True
