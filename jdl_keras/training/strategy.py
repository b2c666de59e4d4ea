"""Where a run computes."""

import keras
import tensorflow as tf

from jdl_keras.config import TrainingConfig
from tfrecords_tools.errors import RefusedError


def make_strategy(config: TrainingConfig) -> tf.distribute.Strategy:
    """The strategy of a run, after the global dtype policy has been set.

    `auto` mirrors over the visible GPUs if there are several; `mirrored` mirrors over
    all logical devices of the best kind; `single` uses one.

    Raises:
        RefusedError: if a batch has fewer samples than there are replicas.
    """
    keras.config.set_dtype_policy(config.mixed_precision)
    gpus = tf.config.list_logical_devices("GPU")
    if config.strategy == "single" or (config.strategy == "auto" and len(gpus) < 2):
        return tf.distribute.get_strategy()
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if config.batch_size < len(devices):
        reason = f"expected at least {len(devices)}, one sample for each replica"
        raise RefusedError("training.batch_size", "CONFIG", reason)
    return tf.distribute.MirroredStrategy(devices)
