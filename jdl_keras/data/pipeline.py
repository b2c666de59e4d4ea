"""TFRecords to batches of samples, deterministic under a seed and new in every epoch.

See `data.samples` for what a sample is.
"""

import numpy as np
import tensorflow as tf

from jdl_keras.config import Config
from jdl_keras.data.augmentation import random_affine, random_intensity
from jdl_keras.data.samples import limits_on_grid, millimetres_to_grid, resampled
from jdl_keras.data.shares import WHOLE, Share
from jdl_keras.preprocessing import Grid, finite, grid_to_native
from tfrecords_tools.labels import TASKS
from tfrecords_tools.record_set import RecordSet


def _prepare(record: dict, centre: tf.Tensor, patients: list[str], grid: Grid) -> dict:
    """A record with its map from the grid and its intensity range on the grid."""
    pixels = finite(record["pixels"][None])
    spacing_mm = record["spacing_mm"][None]
    transform = grid_to_native(grid, spacing_mm, centre[None])
    return {
        "pixels": pixels[0],
        "label_map": record["label_map"],
        "transform": transform[0],
        "limits": limits_on_grid(pixels, transform, grid)[0],
        "labelled": tf.cast(record["labelled"], tf.float32),
        "patient": tf.argmax(tf.equal(patients, record["patient_key"])),
    }


def _to_sample(prepared: dict, transform: tf.Tensor, grid: Grid) -> dict:
    """Resamples image and label map together, once."""
    native = [prepared[name][None] for name in ("pixels", "label_map")]
    on_grid = resampled(*native, transform[None], prepared["limits"][None], grid)
    labelled = dict(zip(TASKS, tf.unstack(prepared["labelled"]), strict=True))
    return {
        **{name: values[0] for name, values in on_grid.items()},
        "labelled": labelled,
        "patient": prepared["patient"],
    }


def _augmented(prepared: dict, seed: tf.Tensor, grid: Grid, config: Config) -> dict:
    mm_to_grid = millimetres_to_grid(grid)
    grid_to_mm = np.linalg.inv(mm_to_grid)
    affine_seed, intensity_seed = tf.unstack(tf.random.split(seed, 2))
    u = tf.random.stateless_uniform([5], affine_seed, -1.0, 1.0)
    change = random_affine(u, config.augmentation)
    on_grid = np.float32(mm_to_grid) @ change @ np.float32(grid_to_mm)
    result = _to_sample(prepared, prepared["transform"] @ on_grid, grid)
    amount_seed, noise_seed = tf.unstack(tf.random.split(intensity_seed, 2))
    u = tf.random.stateless_uniform([2], amount_seed)
    noise = tf.random.stateless_normal(tf.shape(result["image"]), noise_seed)
    result["image"] = random_intensity(result["image"], u, noise, config.augmentation)
    return result


def _prepared(
    record_set: RecordSet, split: str, config: Config, centres: np.ndarray
) -> tf.data.Dataset:
    grid = Grid.from_config(config.grid)
    patients = record_set.patients(split)
    places = tf.data.Dataset.from_tensor_slices(np.float32(centres))
    return tf.data.Dataset.zip(record_set.examples(split), places).map(
        lambda serialized, centre: _prepare(
            record_set.parse(serialized), centre, patients, grid
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def training_batches(
    record_set: RecordSet,
    config: Config,
    centres: np.ndarray,
    first_epoch: int = 0,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """Augmented, shuffled batches of all epochs from `first_epoch` on, in one row.

    Order and augmentation are functions of (seed, epoch, place in the record set), so
    that a run that continues sees what it would have seen. The last batch of an epoch
    holds what is left.

    Args:
        record_set: whose training split is read.
        config: of the run.
        centres: (slices, 2) native (row, column) on which the grid is centred.
        first_epoch: finished epochs.
        share: of every batch; nothing else is augmented, though all slices are read.
    """
    grid, seed = Grid.from_config(config.grid), config.seed
    slices = _prepared(record_set, "train", config, centres)
    if config.training.cache:
        slices = slices.cache()
    slices = slices.enumerate()
    count = record_set.totals("train")["slices"]

    def epoch_of_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        epoch_key = tf.random.fold_in([seed, 0], epoch)

        def augment(index: tf.Tensor, prepared: dict) -> dict:
            key = tf.random.fold_in(epoch_key, index)
            return _augmented(prepared, key, grid, config)

        shuffled = slices.shuffle(count, seed + epoch, reshuffle_each_iteration=False)
        own = share.samples(shuffled, config.training.batch_size)
        samples = own.map(augment, num_parallel_calls=tf.data.AUTOTUNE)
        return share.batches(samples, count, config.training.batch_size)

    epochs = tf.data.Dataset.range(first_epoch, config.training.epochs)
    return epochs.flat_map(epoch_of_batches).prefetch(tf.data.AUTOTUNE)


def validation_batches(
    record_set: RecordSet,
    config: Config,
    centres: np.ndarray,
    split: str = "validation",
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """The samples of a split in order, as they are, cached in memory."""
    grid, batch_size = Grid.from_config(config.grid), config.training.batch_size
    prepared = _prepared(record_set, split, config, centres)
    samples = share.samples(prepared, batch_size).map(
        lambda prepared: _to_sample(prepared, prepared["transform"], grid),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    count = record_set.totals(split)["slices"]
    batches = share.batches(samples, count, batch_size)
    return batches.cache().prefetch(tf.data.AUTOTUNE)
