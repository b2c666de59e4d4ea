"""A run under any backend: from slices in memory, on one device."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from jdl_keras.config import Config
from jdl_keras.data.portable_batches import training_batches, validation_batches
from jdl_keras.run_folder import RunFolder
from jdl_keras.training.portable_trainer import EpochFrame, PortableTrainer, skipping
from jdl_keras.training.start import learning_rate, starting_network
from jdl_keras.training.team import ALONE, Team
from tfrecords_tools.study_set import StudySet


def make_trainer(
    config: Config, _: int, steps: int, __: Team = ALONE
) -> PortableTrainer:
    """The trainer with all its variables; see `tensorflow_road.make_trainer`."""
    keras.config.set_dtype_policy(config.training.mixed_precision)
    network = starting_network(config)
    trainer = PortableTrainer(network, config.loss, config.training.batch_size)
    rate = learning_rate(config.optimizer, steps * config.training.epochs)
    clip_norm = config.optimizer.clip_norm or None
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=clip_norm)
    trainer.compile(optimizer=skipping(optimizer))
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


def fit(
    trainer: PortableTrainer,
    config: Config,
    record_set: StudySet,
    centres: Mapping[str, np.ndarray],
    _: RunFolder,
    callbacks: Sequence[keras.callbacks.Callback],
    __: Team,
    ___: bool,
    **options: int,
) -> None:
    """Trains what is left of a run; see `tensorflow_road.fit`."""
    first_epoch, steps = options["initial_epoch"], options["steps_per_epoch"]
    validation = validation_batches(record_set, config, centres["validation"])
    patients = len(record_set.patients("validation"))
    frame = EpochFrame(config, validation, patients, steps)
    trainer.fit(
        training_batches(record_set, config, centres["train"], first_epoch),
        callbacks=[frame, *callbacks],
        shuffle=False,
        verbose=0,
        **options,
    )
