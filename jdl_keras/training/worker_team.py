"""Several processes, on one machine or many, that train one run together."""

import contextlib
import json
import re
import signal
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from jdl_keras.cluster import Cluster
from jdl_keras.training.meeting import meet, name_of
from jdl_keras.training.team import Plain, Team
from tfrecords_tools.errors import DivergedError, RefusedError

CHUNK = 1 << 17
"""Numbers of 8 bytes in one message; all have this size, as collectives want it."""

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)
"""What a collective raises when another worker has gone."""


@contextlib.contextmanager
def joined(cluster: Cluster) -> Iterator["WorkerTeam"]:
    """The team of a cluster, for as long as all its workers are there.

    To be entered before TensorFlow has computed anything.

    Raises:
        ConnectionAbortedError: if another worker has gone.
        TimeoutError: if another worker does not come.
    """
    meet(cluster)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        # TensorFlow has taken the signal for itself.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        yield WorkerTeam(cluster, strategy)
    except LOST as error:
        if not _is_of_collectives(error):
            raise
        reason = (
            "lost; the run is kept up to its last checkpoint; "
            "give the same command again to all workers"
        )
        raise ConnectionAbortedError(None, reason, _lost(cluster, error)) from None


def _is_of_collectives(error: tf.errors.OpError) -> bool:
    return isinstance(error, tf.errors.UnavailableError) or bool(
        re.search(r"[Cc]ollective|/job:", error.message)
    )


def _lost(cluster: Cluster, error: tf.errors.OpError) -> str:
    """The worker that an error names, if it is another one than this."""
    named = {
        int(task) + (job == "worker" and "/job:chief" in error.message)
        for job, task in re.findall(
            r"/job:(\w+)(?:/replica:\d+)?/task:(\d+)", error.message
        )
    } - {cluster.index}
    known = [index for index in sorted(named) if index < len(cluster.workers)]
    return ", ".join(name_of(cluster, index) for index in known) or "another worker"


class WorkerTeam(Team):
    """This worker of a cluster.

    What the workers tell each other goes through the collectives that also sum the
    gradients, so that no worker but the chief needs the run folder: a shared disk may
    show them what has stood there before.

    Args:
        cluster: the workers.
        strategy: of all of them.
    """

    def __init__(
        self, cluster: Cluster, strategy: tf.distribute.MultiWorkerMirroredStrategy
    ):
        self.cluster, self.strategy = cluster, strategy
        self.is_chief = cluster.is_chief
        self._spread = tf.function(
            self._sum_of_first, input_signature=[tf.TensorSpec([CHUNK], tf.int64)]
        )

    def from_chief(self, make: Callable[[], Plain]) -> Plain:
        """What `make` returns on the chief, or what it raises there."""
        answer = json.dumps(_outcome(make)).encode() if self.is_chief else b""
        kind, value = json.loads(self._broadcast(answer))
        if kind == "refused":
            raise RefusedError(*value)
        if kind == "environment":
            raise OSError(*value)
        if kind == "diverged":
            raise DivergedError(value)
        return value

    def take_from_chief(self, variables: Sequence[keras.Variable]) -> None:
        """Gives all workers the chief's values, bit by bit."""
        values = [keras.ops.convert_to_numpy(variable) for variable in variables]
        own = b"".join(value.tobytes() for value in values) if self.is_chief else b""
        data, start = self._broadcast(own), 0
        for variable, value in zip(variables, values, strict=True):
            part = data[start : start + value.nbytes]
            variable.assign(np.frombuffer(part, value.dtype).reshape(value.shape))
            start += value.nbytes

    def _broadcast(self, data: bytes) -> bytes:
        """The chief's bytes, whatever the others give."""
        size = int(self._sent(np.array([len(data)]))[0])
        numbers = np.frombuffer(data.ljust(-(-size // 8) * 8, b"\0"), np.int64)
        starts = range(0, -(-size // 8), CHUNK)
        parts = [self._sent(numbers[start : start + CHUNK]) for start in starts]
        return b"".join(part.tobytes() for part in parts)[:size]

    def _sent(self, numbers: np.ndarray) -> np.ndarray:
        padded = np.zeros(CHUNK, np.int64)
        if self.is_chief:
            padded[: len(numbers)] = numbers
        return self._spread(tf.constant(padded)).numpy()

    def _sum_of_first(self, numbers: tf.Tensor) -> tf.Tensor:
        """The sum over workers; a worker's further replicas add nothing."""

        def of_replica() -> tf.Tensor:
            replica = tf.distribute.get_replica_context()
            local = len(self.strategy.extended.worker_devices)
            first = replica.replica_id_in_sync_group % local == 0
            own = tf.where(first, numbers, tf.zeros_like(numbers))
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, own)

        results = self.strategy.run(of_replica)
        return self.strategy.experimental_local_results(results)[0]


def _outcome(make: Callable[[], Plain]) -> tuple[str, object]:
    try:
        return "value", make()
    except RefusedError as error:
        return "refused", (error.subject, error.code, error.reason)
    except OSError as error:
        name = None if error.filename is None else str(error.filename)
        return "environment", (error.errno, error.strerror or str(error), name)
    except DivergedError as error:
        return "diverged", str(error)
