"""The latency of an exported model, inside the process."""

import functools
from pathlib import Path

import numpy as np
import tensorflow as tf

from jdl_keras.benchmarking.rows import Row
from jdl_keras.benchmarking.timing import interleaved
from tfrecords_tools.errors import RefusedError

SIZE = (256, 256)
SPACING_MM = 1.5
BATCHES = (1, 8)
"""Slices of a request: one alone, and about those of a study."""


def served_rows(folder: Path, seconds: float) -> list[Row]:
    """A row for requests of one slice, one for those of several.

    Args:
        folder: of a version, or of a model, whose newest version is taken.
        seconds: how long they are measured.

    Raises:
        RefusedError: `NOT_A_MODEL`, if nothing was exported there.
    """
    version = newest_version(folder)
    # Loaded models run what they hold: give only what you exported.
    signature = tf.saved_model.load(str(version)).signatures["serving_default"]
    random = np.random.default_rng(1)
    calls = {}
    for slices in BATCHES:
        images = tf.constant(1000 * random.random((slices, *SIZE), np.float32))
        spacing_mm = tf.fill((slices, 2), SPACING_MM)
        calls[str(slices)] = functools.partial(_answer, signature, images, spacing_mm)
    median = interleaved(calls, seconds)
    name = f"served {version.parent.name}/{version.name}"
    return [Row(name, "", SIZE, n, median[str(n)] / n) for n in BATCHES]


def newest_version(folder: Path) -> Path:
    """The folder itself if it is a version, else its highest number."""
    versions = [one for one in folder.glob("*") if one.name.isdecimal()]
    version = max(versions, key=lambda one: int(one.name), default=folder)
    if not (version / "saved_model.pb").is_file():
        reason = "no saved_model.pb here; give the folder that export wrote"
        raise RefusedError(folder, "NOT_A_MODEL", reason)
    return version


def _answer(
    signature: tf.types.experimental.ConcreteFunction,
    images: tf.Tensor,
    spacing_mm: tf.Tensor,
) -> None:
    for maps in signature(images=images, spacing_mm=spacing_mm).values():
        maps.numpy()
