"""The workers that train one run together, as `TF_CONFIG` names them."""

import dataclasses
import json
import os
import re
from typing import Any

from tfrecords_tools.errors import RefusedError

VARIABLE = "TF_CONFIG"
"""Where TensorFlow looks for the workers, and launchers put them."""

EXAMPLE = (
    '{"cluster": {"worker": ["a:2222", "b:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)

JOBS = ("chief", "worker")
"""In this order; without a chief, the first worker is it."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run, and which of them this process is.

    Attributes:
        workers: `host:port` of each, the chief first; empty for a process alone.
        index: of this process among them.
    """

    workers: tuple[str, ...] = ()
    index: int = 0

    several = property(lambda self: len(self.workers) > 1)
    is_chief = property(lambda self: self.index == 0)


ALONE = Cluster()


def cluster_of(strategy: str) -> Cluster:
    """The workers that a strategy of the configuration asks for.

    `auto` takes those of `TF_CONFIG`, where it is set; `multi_worker` insists on them.

    Raises:
        RefusedError: if `TF_CONFIG` is needed and missing, or is malformed.
    """
    text = os.environ.get(VARIABLE)
    if strategy not in ("auto", "multi_worker"):
        return ALONE
    if text:
        return parse_cluster(text)
    if strategy == "multi_worker":
        reason = f"{VARIABLE} is not set; set it, such as {EXAMPLE}, or use auto"
        raise RefusedError("training.strategy", "CONFIG", reason)
    return ALONE


def parse_cluster(text: str) -> Cluster:
    """The content of `TF_CONFIG`.

    Raises:
        RefusedError: unless it names workers by host and port, and one of them as this.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    _require(isinstance(content, dict), "a JSON object", text)
    if not content.get("cluster"):
        return ALONE
    jobs = _jobs(content["cluster"])
    workers = tuple(address for job in JOBS for address in jobs.get(job, ()))
    _require(len({*workers}) == len(workers), "every address once", [*workers])
    return Cluster(workers, _index(content.get("task"), jobs))


def _jobs(cluster: Any) -> dict[str, list[str]]:  # noqa: ANN401
    known = isinstance(cluster, dict) and {*cluster} <= {*JOBS}
    _require(known, f"cluster to be a table of {' and '.join(JOBS)} only", cluster)
    for job, addresses in cluster.items():
        _require(
            isinstance(addresses, list) and all(map(_is_address, addresses)),
            f"cluster.{job} to be a list of host:port",
            addresses,
        )
    _require(len(cluster.get("chief", ())) <= 1, "one chief", cluster)
    return cluster


def _is_address(address: Any) -> bool:  # noqa: ANN401
    match = isinstance(address, str) and re.fullmatch(r"\S+:(\d{1,5})", address)
    return bool(match) and 0 < int(match[1]) < 2**16


def _index(task: Any, jobs: dict[str, list[str]]) -> int:  # noqa: ANN401
    """The place of a task among all workers."""
    _require(isinstance(task, dict), "task with type and index", task)
    job, index = task.get("type"), task.get("index")
    _require(job in jobs, f"task.type to be one of {[*jobs]}", job)
    # Launchers write it as text too, and TensorFlow takes that.
    number = int(index) if re.fullmatch(r"\d{1,6}", str(index)) else -1
    last = len(jobs[job]) - 1
    _require(0 <= number <= last, f"task.index of a {job} from 0 to {last}", index)
    return number + (len(jobs.get("chief", ())) if job == "worker" else 0)


def _require(holds: bool, expected: str, value: object) -> None:
    if not holds:
        shown = value if isinstance(value, str) else json.dumps(value)
        reason = f"expected {expected}, got {shown[:200]}; such as {EXAMPLE}"
        raise RefusedError(VARIABLE, "CONFIG", reason)
