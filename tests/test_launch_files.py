"""The launch files give every worker the TF_CONFIG that the command reads."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from jdl_keras.cluster import VARIABLE, Cluster, parse_cluster

FOLDER = Path(__file__).parents[1] / "docs" / "launch"
SLURM, KUBERNETES = FOLDER / "slurm.sbatch", FOLDER / "kubernetes.yaml"
PYTHON = """#!/bin/sh
printf '%s\\n' "$TF_CONFIG" "$*"
"""
SCONTROL = """#!/bin/sh
[ "$*" = "show hostnames gpu[07-08]" ] && printf 'gpu07\\ngpu08\\n'
"""
SRUN = """#!/bin/sh
shift  # --kill-on-bad-exit=1
for SLURM_PROCID in 0 1; do SLURM_PROCID=$SLURM_PROCID "$@"; done
"""


@pytest.fixture
def bash(tmp_path):
    """Runs bash with programs of our own in place of a cluster's; its lines."""
    for name, text in {"python": PYTHON, "scontrol": SCONTROL, "srun": SRUN}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def bash(*arguments, **variables):
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
        done = subprocess.run(
            ["bash", *map(str, arguments)],
            env=environment | {"PATH": path} | variables,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    return bash


def test_slurm(bash):
    lines = bash(
        *(SLURM, "--config", "a b.yaml"),
        SLURM_JOB_NODELIST="gpu[07-08]",
        SLURM_JOB_ID="50007",
    )
    # 20000 + 50007 - 2 x 20000
    workers = ("gpu07:30007", "gpu08:30007")
    assert [parse_cluster(line) for line in lines[::2]] == [
        Cluster(workers, 0),
        Cluster(workers, 1),
    ]
    command = "-m jdl_keras.train --training.strategy multi_worker --config a b.yaml"
    assert lines[1::2] == [command] * 2


def test_kubernetes(bash):
    service, job = yaml.safe_load_all(KUBERNETES.read_text())
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    (variable,) = container["env"]
    count = int(variable["value"])
    assert spec["completions"] == spec["parallelism"] == count
    for index in range(count):
        lines = bash(
            *(*container["command"][1:], *container["args"]),
            JOB_COMPLETION_INDEX=str(index),
            **{variable["name"]: variable["value"]},
        )
        # How an Indexed Job and a headless service name a pod: JOB-INDEX.SERVICE
        job_name, service_name = (x["metadata"]["name"] for x in (job, service))
        port = container["ports"][0]["containerPort"]
        workers = tuple(f"{job_name}-{i}.{service_name}:{port}" for i in range(count))
        assert parse_cluster(lines[0]) == Cluster(workers, index)
        assert lines[1].startswith("-m jdl_keras.train --training.strategy multi_work")
    assert pod["subdomain"] == service_name
    assert service["spec"]["selector"] == {"job-name": job_name}
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2, 4]
    assert pod["restartPolicy"] == "Never"  # which a failure policy asks for
