"""A run under TensorFlow: from TFRecords, on any number of replicas."""

import math
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from jdl_keras.config import Config
from jdl_keras.data.pipeline import training_batches, validation_batches
from jdl_keras.data.shares import WHOLE, Share, by_replica
from jdl_keras.run_folder import RunFolder
from jdl_keras.training.fused_adam import FusedAdam
from jdl_keras.training.joint_trainer import JointTrainer
from jdl_keras.training.multi_worker_trainer import MultiWorkerTrainer
from jdl_keras.training.panels import Panels
from jdl_keras.training.profile import Profile
from jdl_keras.training.start import learning_rate, starting_network
from jdl_keras.training.strategy import make_strategy
from jdl_keras.training.team import ALONE, Team
from tfrecords_tools.record_set import RecordSet


def make_trainer(
    config: Config, patients: int, steps: int, team: Team = ALONE
) -> JointTrainer:
    """The trainer with all its variables.

    Args:
        config: of the run.
        patients: of the validation split, for its metrics.
        steps: updates of an epoch.
        team: that trains it.
    """
    trainer_class = MultiWorkerTrainer if team.strategy else JointTrainer
    with make_strategy(config.training, team).scope():
        network = starting_network(config)
        trainer = trainer_class(
            network,
            config.loss,
            batch_size=config.training.batch_size,
            micro_batches=config.training.micro_batches,
            streams=config.training.streams,
            clip_norm=config.optimizer.clip_norm,
            patients=patients,
            threshold=config.evaluation.threshold,
            warmup_steps=steps * config.message.warmup_epochs,
        )
        rate = learning_rate(config.optimizer, steps * config.training.epochs)
        trainer.compile(optimizer=FusedAdam(rate))
        trainer.optimizer.build(network.trainable_variables)
    return trainer


def fit(
    trainer: JointTrainer,
    config: Config,
    record_set: RecordSet,
    centres: Mapping[str, np.ndarray],
    folder: RunFolder,
    callbacks: Sequence[keras.callbacks.Callback],
    team: Team,
    profile: bool,
    **options: int,
) -> None:
    """Trains what is left of a run.

    Args:
        trainer: of `make_trainer`.
        config: of the run.
        record_set: a folder of shards.
        centres: for each split (slices, 2) on which the grid is centred.
        folder: of the run.
        callbacks: of every run; TensorBoard comes after them.
        team: that trains it; only the chief writes for TensorBoard.
        profile: whether the chief writes a trace of some steps.
        options: `initial_epoch`, `epochs` and `steps_per_epoch`.
    """
    first_epoch = options["initial_epoch"]

    def training(share: Share = WHOLE) -> tf.data.Dataset:
        slices = record_set, config, centres["train"]
        return training_batches(*slices, first_epoch, share)

    def validation(share: Share = WHOLE) -> tf.data.Dataset:
        slices = record_set, config, centres["validation"]
        return validation_batches(*slices, share=share)

    whole, slices = validation(), record_set.totals("validation")["slices"]
    if team.is_chief:
        log_dir = str(folder.tensorboard)
        board = keras.callbacks.TensorBoard(log_dir, write_graph=False)
        callbacks = [*callbacks, board, Panels(log_dir, whole)]
    if team.is_chief and profile:
        epochs_left = options["epochs"] - first_epoch
        steps = options["steps_per_epoch"] * epochs_left
        callbacks = [*callbacks, Profile(folder.tensorboard, steps)]
    trainer.fit(
        _shared(team, training) if team.strategy else training(),
        validation_data=_shared(team, validation) if team.strategy else whole,
        validation_steps=math.ceil(slices / config.training.batch_size),
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
        **options,
    )


def _shared(
    team: Team, batches: Callable[[Share], tf.data.Dataset]
) -> tf.distribute.DistributedDataset:
    """What each worker feeds its replicas."""

    def own(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers = context.num_input_pipelines
        share = Share(context.input_pipeline_id, workers)
        parts = by_replica(batches(share), context.num_replicas_in_sync // workers)
        return parts.prefetch(tf.data.AUTOTUNE)

    return team.strategy.distribute_datasets_from_function(own)
