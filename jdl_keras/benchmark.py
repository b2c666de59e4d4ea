"""Measures the input pipeline: `python -m jdl_keras.benchmark --records DIR`."""

import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrecords_tools.errors import RefusedError, run_command
from tfrecords_tools.quiet_tensorflow import load_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf

SECONDS = 5.0
"""Each rate is measured over at least this long, after a warm-up."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return run_command(lambda: _benchmark(argv))


def _benchmark(argv: Sequence[str] | None) -> None:
    from jdl_keras.config_file import parse_config

    description = "Measures the input pipeline of a configuration."
    config = parse_config("jdl_keras.benchmark", description, argv)
    if config.records is None:
        raise RefusedError("records", "CONFIG", "give the folder of a record set")

    from tfrecords_tools.record_set import open_record_set

    record_set = open_record_set(Path(config.records))
    load_tensorflow()

    import keras
    import tensorflow as tf

    from jdl_keras.data.centring import image_middle, slice_centres
    from jdl_keras.data.pipeline import training_batches
    from tfrecords_tools import schema

    keras.utils.set_random_seed(1)  # see training.loop
    records = record_set.examples("train").repeat()
    parsed = records.map(schema.parse, num_parallel_calls=tf.data.AUTOTUNE)
    rate = _per_second(parsed, 1)
    print(f"reading and parsing, native grid: {rate:.0f} records/s")
    centres = slice_centres(record_set.studies("train"), image_middle)
    batches = training_batches(record_set, config, centres)
    rate = _per_second(batches, config.training.batch_size)
    size = "x".join(str(n) for n in config.grid.size)
    print(f"resampling and augmentation, grid {size}: {rate:.0f} samples/s")


def _per_second(dataset: "tf.data.Dataset", samples: int) -> float:
    """Samples a second after one second of warm-up."""
    elements = iter(dataset)
    start = time.monotonic()
    while time.monotonic() - start < 1:
        next(elements)
    start, count = time.monotonic(), 0
    while (elapsed := time.monotonic() - start) < SECONDS:
        for _ in itertools.islice(elements, 16):
            count += samples
    return count / elapsed


if __name__ == "__main__":
    sys.exit(main())
