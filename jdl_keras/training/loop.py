"""A run from a configuration and a record set to a trained network."""

import math
from pathlib import Path

import keras
import tensorflow as tf

from jdl_keras.config import Config
from jdl_keras.config_file import flat
from jdl_keras.data.centring import slice_centres
from jdl_keras.data.pipeline import training_batches, validation_batches
from jdl_keras.models.methods import build_network, parts
from jdl_keras.models.pretrained import load_npz
from jdl_keras.run_folder import RunFolder, versions
from jdl_keras.training import checkpoint
from jdl_keras.training.callbacks import Keeper, Panels, ProgressBar
from jdl_keras.training.checkpoint import TrainingState
from jdl_keras.training.joint_trainer import JointTrainer
from jdl_keras.training.localiser import train_localiser
from jdl_keras.training.strategy import make_strategy
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.record_set import RecordSet
from tfrecords_tools.study_set import StudySet

FREE_KEYS = (
    "records",
    "run_dir",
    "evaluation.split",
    "evaluation.smallest_scar_ml",
    "evaluation.rotations",
    "evaluation.choose_operating_point",
    "evaluation.figures",
)
"""Settings that may change when a run continues."""


def train(config: Config, record_set: RecordSet, folder: RunFolder) -> TrainingState:
    """Trains, or continues where the folder's newest checkpoint stands.

    Args:
        config: of the run.
        record_set: as `data.views.configured_view` shows it.
        folder: of the run.

    Returns:
        The state at the end; the best network is `folder.model`.

    Raises:
        RefusedError: if the folder holds another run, or a split is empty.
        DivergedError: if an epoch has no finite loss.
    """
    check_splits(config, record_set)
    tf.config.experimental.enable_op_determinism()
    if config.grid.centre == "localiser" and not checkpoint.found(folder.checkpoints):
        folder.save_localiser(_make_localiser(config, record_set))
    # Not 0: only then does tf.data's shuffle take a tensor as its own seed.
    keras.utils.set_random_seed(config.seed + 1)
    steps = math.ceil(record_set.totals("train")["slices"] / config.training.batch_size)
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


def check_splits(config: Config, record_set: StudySet) -> None:
    """Refuses a set that a run cannot learn from, or cannot be measured on."""
    for split in ("train", "validation"):
        if not record_set.totals(split)["with_scar"]:
            reason = f"the {split} split has no patient with scar; build a larger set"
            raise RefusedError(record_set.path, "SPLIT", reason)
    if not record_set.totals(config.evaluation.split)["patients"]:
        reason = f"the {config.evaluation.split} split has no patients to measure"
        raise RefusedError(record_set.path, "SPLIT", reason)


def _make_localiser(config: Config, record_set: StudySet) -> keras.Model:
    # A run before this one in the same process may have left another.
    keras.config.set_dtype_policy("float32")
    if config.localiser.run:
        return RunFolder(Path(config.localiser.run)).load_localiser().network
    with ProgressBar(1, 0, config.localiser.steps, "localiser") as progress:
        return train_localiser(config, record_set, [progress])


def fingerprint(config: Config, record_set: StudySet) -> dict:
    """What decides the bits of a run, as flat keys."""
    settings = {key: v for key, v in flat(config).items() if key not in FREE_KEYS}
    return {
        "record set": record_set.sha256,
        **record_set.view,
        **versions(),
        **settings,
    }


def _make_trainer(config: Config, patients: int, steps: int) -> JointTrainer:
    network = build_network(config)
    if config.model.initial_weights:
        RunFolder(Path(config.model.initial_weights)).load_weights(network)
    if config.model.pretrained:
        for name, part in parts(network).items():
            if not name.endswith("decoder"):
                load_npz(part, config.model.pretrained)
    trainer = JointTrainer(
        network,
        config.loss,
        batch_size=config.training.batch_size,
        micro_batches=config.training.micro_batches,
        clip_norm=config.optimizer.clip_norm,
        patients=patients,
        threshold=config.evaluation.threshold,
        warmup_steps=steps * config.message.warmup_epochs,
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
    # The networks learn around the reference, moved about by the augmentation, and are
    # validated on what a user will have.
    centre = config.grid.centre
    places = {
        "train": "reference" if centre == "localiser" else centre,
        "validation": centre,
    }
    centres = {
        split: slice_centres(record_set.studies(split), folder.locate(place))
        for split, place in places.items()
    }
    validation = validation_batches(record_set, config, centres["validation"])
    log_dir = str(folder.tensorboard)
    with ProgressBar(config.training.epochs, state.epoch, steps) as progress:
        trainer.fit(
            training_batches(record_set, config, centres["train"], state.epoch),
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
