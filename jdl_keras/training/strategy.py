"""Where a run computes."""

import keras
import tensorflow as tf

from jdl_keras.config import TrainingConfig
from jdl_keras.training.team import Team
from tfrecords_tools.errors import RefusedError


def make_strategy(config: TrainingConfig, team: Team) -> tf.distribute.Strategy:
    """The strategy of a run, after the global dtype policy has been set.

    Several workers have theirs already. One process mirrors over the visible GPUs with
    `auto`, if there are several, or over all logical devices of the best kind with
    `mirrored`; `single` uses one.

    Raises:
        RefusedError: if a batch has fewer samples than there are replicas.
    """
    keras.config.set_dtype_policy(config.mixed_precision)
    strategy = team.strategy or _of_one_process(config)
    replicas = strategy.num_replicas_in_sync
    if config.batch_size < replicas:
        reason = f"expected at least {replicas}, one sample for each replica"
        raise RefusedError("training.batch_size", "CONFIG", reason)
    return strategy


def _of_one_process(config: TrainingConfig) -> tf.distribute.Strategy:
    gpus = tf.config.list_logical_devices("GPU")
    if config.strategy == "single" or (config.strategy != "mirrored" and len(gpus) < 2):
        return tf.distribute.get_strategy()
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(devices)
