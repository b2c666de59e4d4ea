"""Which of Keras' backends a command computes on, decided before Keras is imported."""

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from jdl_keras.config import Config
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.npz_set import SUFFIX
from tfrecords_tools.quiet_tensorflow import load_tensorflow
from tfrecords_tools.workers import cores

DEFAULT = "tensorflow"
BACKENDS = (DEFAULT, "jax", "torch")

VARIABLE = "KERAS_BACKEND"
"""Where Keras looks when it is imported."""


def add_backend_option(parser: ArgumentParser) -> None:
    """Adds `--backend` to a command."""
    parser.add_argument(
        "--backend",
        type=Literal[BACKENDS],
        default=argparse.SUPPRESS,  # no setting: --print_config leaves it out
        help=f"what Keras computes on; else that of {VARIABLE}, else {DEFAULT}",
    )


def active_backend() -> str:
    """The backend that was chosen."""
    return os.environ.get(VARIABLE) or DEFAULT


def choose_backend(name: str | None) -> None:
    """Makes Keras take a backend when it is imported.

    Args:
        name: of the backend; None for that of the environment.

    Raises:
        RefusedError: if it is unknown, not installed, or Keras runs on another already.
    """
    name = name or active_backend()
    if name not in BACKENDS:
        _refuse("backend", f"expected one of {[*BACKENDS]}, got {name}")
    if importlib.util.find_spec(name) is None:
        others = [other for other in BACKENDS if importlib.util.find_spec(other)]
        _refuse("backend", f"{name} is not installed here; installed: {others}")
    if "keras" in sys.modules:
        loaded = sys.modules["keras"].config.backend()
        if loaded != name:
            _refuse("backend", f"Keras runs on {loaded} already, not on {name}")
    os.environ[VARIABLE] = name


def load_backend(streams: int = 1) -> None:
    """Imports the chosen backend, quietly.

    Args:
        streams: of computation, between which TensorFlow's threads are divided unless
            the environment says otherwise.
    """
    if active_backend() == DEFAULT:
        if streams > 1:
            os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(streams))
            threads = max(1, cores() // streams)
            os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
        load_tensorflow()


def check_training(config: Config, profile: bool = False) -> None:
    """Refuses what the chosen backend cannot train, or profile.

    Raises:
        RefusedError: with the key or the record set, and the way out.
    """
    backend = active_backend()
    if backend == DEFAULT:
        if Path(config.records or "").suffix == SUFFIX:
            reason = "TensorFlow trains from the folder that this file was dumped from"
            _refuse(config.records, f"{reason}; give it, or --backend jax or torch")
        return
    check_records(config.records)
    training = config.training
    if training.strategy in ("mirrored", "multi_worker"):
        reason = f"only TensorFlow has strategies; use single with --backend {backend}"
        _refuse("training.strategy", reason)
    for key in ("micro_batches", "streams"):
        if getattr(training, key) > 1:
            reason = f"only TensorFlow splits batches; use 1 with --backend {backend}"
            _refuse(f"training.{key}", reason)
    if profile:
        _refuse("profile", f"only TensorFlow writes traces; omit with {backend}")


def check_records(records: str | Path | None) -> None:
    """Refuses a record set that only TensorFlow reads, under another backend.

    Raises:
        RefusedError: with the command that makes one file of it.
    """
    backend = active_backend()
    if backend == DEFAULT or Path(records or "").suffix == SUFFIX:
        return
    folder = records or "RECORDS"
    dump = f"python -m tfrecords_tools.dump {folder} FILE{SUFFIX}"
    _refuse(
        records or "records",
        f"under {backend} give --records FILE{SUFFIX}, which `{dump}` writes where "
        "TensorFlow is installed",
    )


def _refuse(subject: object, reason: str) -> None:
    raise RefusedError(subject, "CONFIG", reason)
