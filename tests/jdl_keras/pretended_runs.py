"""Runs that sleep, fail or die where a training would be, for processes to import."""

import os
import signal
import time

from jdl_keras.config import Config, GridConfig
from jdl_keras.experiment import Experiment, PlannedRun, plan
from jdl_keras.run_folder import RunFolder, checksum_file
from tfrecords_tools.errors import RefusedError

SHORT = 0.3
"""Seconds of a pretended training."""


def planned(out, centre="image"):
    """Four runs; with the localiser for a centre the first one makes it for all."""
    variants = {f"entry{i}": {} for i in (1, 2, 3)}
    experiment = Experiment(out=str(out), methods=["jdl"], variants=variants, seeds=[0])
    return plan(experiment, Config(grid=GridConfig(centre=centre)))


def times(run):
    """When a run started and ended."""
    return [float(t) for t in (run.folder / "times").read_text().split()]


def sleep(run):
    start = time.time()
    time.sleep(SHORT)
    (run.folder / "times").write_text(f"{start} {time.time()}")
    print("slept with", os.environ["TF_NUM_INTRAOP_THREADS"])


def sleep_then_make_localiser(run):
    sleep(run)
    checksum_file(RunFolder(run.folder).localiser).touch()


def fail_by_name(run):
    if run.entry == "entry1":
        raise RefusedError("records", "SPLIT", "too few")
    if run.entry == "entry2":
        os.kill(os.getpid(), signal.SIGKILL)
    sleep(run)


def never_end(run: PlannedRun):
    (run.folder / f"pid-{os.getpid()}").touch()
    time.sleep(600)
