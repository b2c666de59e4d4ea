"""A run from a configuration and a record set to a trained network."""

import math

import keras
import tensorflow as tf

from jdl_keras.config import Config
from jdl_keras.config_file import plain
from jdl_keras.data.pipeline import training_batches, validation_batches
from jdl_keras.models.methods import build_network
from jdl_keras.models.pretrained import load_npz
from jdl_keras.run_folder import RunFolder, versions
from jdl_keras.training import checkpoint
from jdl_keras.training.callbacks import Keeper, Panels, ProgressBar
from jdl_keras.training.checkpoint import TrainingState
from jdl_keras.training.joint_trainer import JointTrainer
from jdl_keras.training.strategy import make_strategy
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.record_set import RecordSet

FREE_KEYS = ("records", "run_dir", "evaluation.split", "evaluation.figures")
"""Settings that may change when a run continues."""


def train(config: Config, record_set: RecordSet, folder: RunFolder) -> TrainingState:
    """Trains, or continues where the folder's newest checkpoint stands.

    Returns:
        The state at the end; the best network is `folder.model`.

    Raises:
        RefusedError: if the folder holds another run, or a split is empty.
        DivergedError: if an epoch has no finite loss.
    """
    totals = record_set.manifest.totals
    for split in ("train", "validation"):
        if not totals[split]["with_scar"]:
            reason = f"the {split} split has no patient with scar; build a larger set"
            raise RefusedError(record_set.folder, "SPLIT", reason)
    if not totals[config.evaluation.split]["patients"]:
        reason = f"the {config.evaluation.split} split has no patients to measure"
        raise RefusedError(record_set.folder, "SPLIT", reason)
    # Not 0: only then does tf.data's shuffle take a tensor as its own seed.
    keras.utils.set_random_seed(config.seed + 1)
    tf.config.experimental.enable_op_determinism()
    steps = math.ceil(totals["train"]["slices"] / config.training.batch_size)
    with make_strategy(config.training).scope():
        trainer = _make_trainer(config, len(record_set.patients("validation")), steps)
    variables = [*trainer.network.variables, *trainer.optimizer.variables]
    state = checkpoint.restore(
        folder.checkpoints, variables, fingerprint(config, record_set)
    )
    folder.describe(config, record_set.sha256)
    if not state.stopped and state.epoch < config.training.epochs:
        _fit(trainer, config, record_set, folder, state, variables, steps)
    return state


def fingerprint(config: Config, record_set: RecordSet) -> dict:
    """What decides the bits of a run, as flat keys."""
    flat: dict = {"record set": record_set.sha256, **versions()}
    for key, value in plain(config).items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            flat[key] = value
    return {key: value for key, value in flat.items() if key not in FREE_KEYS}


def _make_trainer(config: Config, patients: int, steps: int) -> JointTrainer:
    network = build_network(config)
    if config.model.pretrained:
        for task in network.output:
            load_npz(network.get_layer(f"{task}_network"), config.model.pretrained)
    trainer = JointTrainer(
        network,
        config.loss,
        batch_size=config.training.batch_size,
        micro_batches=config.training.micro_batches,
        clip_norm=config.optimizer.clip_norm,
        patients=patients,
        threshold=config.evaluation.threshold,
    )
    rate = config.optimizer.learning_rate
    if config.optimizer.schedule == "cosine":
        total = steps * config.training.epochs
        rate = keras.optimizers.schedules.CosineDecay(rate, total)
    trainer.compile(optimizer=keras.optimizers.Adam(rate))
    trainer.optimizer.build(network.trainable_variables)
    return trainer


def _fit(
    trainer: JointTrainer,
    config: Config,
    record_set: RecordSet,
    folder: RunFolder,
    state: TrainingState,
    variables: list[keras.Variable],
    steps: int,
) -> None:
    validation = validation_batches(record_set, config)
    log_dir = str(folder.tensorboard)
    with ProgressBar(config.training.epochs, state.epoch, steps) as progress:
        trainer.fit(
            training_batches(record_set, config, first_epoch=state.epoch),
            validation_data=validation,
            initial_epoch=state.epoch,
            epochs=config.training.epochs,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
            callbacks=[
                Keeper(folder, state, variables, config.training.patience),
                keras.callbacks.TensorBoard(log_dir, write_graph=False),
                Panels(log_dir, validation),
                progress,
            ],
        )
