"""The input pipeline of training, under TensorFlow."""

import itertools
import time
from pathlib import Path

import keras
import tensorflow as tf

from jdl_keras.benchmarking.rows import Row
from jdl_keras.config import Config, GridConfig
from jdl_keras.data.centring import image_middle, slice_centres
from jdl_keras.data.pipeline import training_batches
from tfrecords_tools import schema
from tfrecords_tools.record_set import RecordSet, open_record_set

SIZES = ((96, 96), (224, 224))
"""Grids of the default configuration and of the paper's."""


def pipeline_rows(records: Path, seconds: float) -> list[Row]:
    """A row for reading and parsing, one for resampling and augmentation by grid.

    Args:
        records: a record set; its training split is read.
        seconds: how long each of them is measured.
    """
    keras.utils.set_random_seed(1)  # see training.loop
    record_set = open_record_set(records)
    assert isinstance(record_set, RecordSet)
    examples = record_set.examples("train").repeat()
    parsed = examples.map(schema.parse, num_parallel_calls=tf.data.AUTOTUNE)
    centres = slice_centres(record_set.studies("train"), image_middle)
    largest = max(one.pixels.shape for one in record_set.slices("train"))
    rows = [Row("read and parse", "", largest, 1, _per_element(parsed, seconds))]
    for size in SIZES:
        config = Config(grid=GridConfig(size))
        batch_size = config.training.batch_size
        batches = training_batches(record_set, config, centres).repeat()
        per_slice = _per_element(batches, seconds) / batch_size
        rows.append(Row("resample and augment", "", size, batch_size, per_slice))
    return rows


def _per_element(dataset: tf.data.Dataset, seconds: float) -> float:
    """Seconds for an element, after one second of warm-up."""
    elements = iter(dataset)
    start = time.monotonic()
    while time.monotonic() - start < 1:
        next(elements)
    start, count = time.monotonic(), 0
    while (elapsed := time.monotonic() - start) < seconds:
        count += len([*itertools.islice(elements, 16)])
    return elapsed / count
