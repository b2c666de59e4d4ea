"""A run under TensorFlow: from TFRecords, on any number of replicas."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from jdl_keras.config import Config
from jdl_keras.data.pipeline import training_batches, validation_batches
from jdl_keras.run_folder import RunFolder
from jdl_keras.training.joint_trainer import JointTrainer
from jdl_keras.training.panels import Panels
from jdl_keras.training.start import learning_rate, starting_network
from jdl_keras.training.strategy import make_strategy
from tfrecords_tools.record_set import RecordSet


def make_trainer(config: Config, record_set: RecordSet, steps: int) -> JointTrainer:
    """The trainer with all its variables.

    Args:
        config: of the run.
        record_set: whose validation split the metrics are for.
        steps: updates of an epoch.
    """
    with make_strategy(config.training).scope():
        network = starting_network(config)
        trainer = JointTrainer(
            network,
            config.loss,
            batch_size=config.training.batch_size,
            micro_batches=config.training.micro_batches,
            clip_norm=config.optimizer.clip_norm,
            patients=len(record_set.patients("validation")),
            threshold=config.evaluation.threshold,
            warmup_steps=steps * config.message.warmup_epochs,
        )
        rate = learning_rate(config.optimizer, steps * config.training.epochs)
        trainer.compile(optimizer=keras.optimizers.Adam(rate))
        trainer.optimizer.build(network.trainable_variables)
    return trainer


def fit(
    trainer: JointTrainer,
    config: Config,
    record_set: RecordSet,
    centres: Mapping[str, np.ndarray],
    folder: RunFolder,
    callbacks: Sequence[keras.callbacks.Callback],
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
        options: `initial_epoch`, `epochs` and `steps_per_epoch`.
    """
    first_epoch = options["initial_epoch"]
    validation = validation_batches(record_set, config, centres["validation"])
    log_dir = str(folder.tensorboard)
    board = keras.callbacks.TensorBoard(log_dir, write_graph=False)
    trainer.fit(
        training_batches(record_set, config, centres["train"], first_epoch),
        validation_data=validation,
        callbacks=[*callbacks, board, Panels(log_dir, validation)],
        shuffle=False,
        verbose=0,
        **options,
    )
