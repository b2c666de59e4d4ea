"""A run from a configuration and a record set to a trained network."""

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import keras
import numpy as np

from jdl_keras.config import Config, LocaliserConfig
from jdl_keras.config_file import flat
from jdl_keras.data.centring import slice_centres
from jdl_keras.run_folder import RunFolder, versions
from jdl_keras.training import checkpoint
from jdl_keras.training.callbacks import Keeper, ProgressBar
from jdl_keras.training.checkpoint import TrainingState
from jdl_keras.training.localiser import train_localiser
from jdl_keras.training.team import ALONE, Team
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.study_set import StudySet

FREE_KEYS = (
    "records",
    "run_dir",
    "training.strategy",
    "evaluation.split",
    "evaluation.smallest_scar_ml",
    "evaluation.rotations",
    "evaluation.choose_operating_point",
    "evaluation.figures",
)
"""Settings that may change when a run continues."""


def train(
    config: Config,
    record_set: StudySet,
    folder: RunFolder,
    team: Team = ALONE,
    watchers: Sequence[keras.callbacks.Callback] = (),
    profile: bool = False,
) -> TrainingState:
    """Trains, or continues where the folder's newest checkpoint stands.

    Args:
        config: of the run.
        record_set: as `data.views.configured_view` shows it.
        folder: of the run; only the chief of the team reads and writes it.
        team: the processes that train it together, each of which calls this.
        watchers: called at the end of an epoch before it is kept, so that one that
            sets `stop_training` has stopped the run for good.
        profile: whether TensorFlow writes a trace of some steps.

    Returns:
        The state at the end; the best network is `folder.model`.

    Raises:
        RefusedError: if the folder holds another run, or a split is empty.
        DivergedError: if an epoch has no finite loss.
    """
    check_splits(config, record_set)
    road = choose_road()
    mark = fingerprint(config, record_set)
    team.check_same(mark)
    team.from_chief(lambda: _prepare_localiser(config, record_set, folder))
    # Not 0: only then does tf.data's shuffle take a tensor as its own seed.
    keras.utils.set_random_seed(config.seed + 1)
    steps = math.ceil(record_set.totals("train")["slices"] / config.training.batch_size)
    patients = len(record_set.patients("validation"))
    trainer = road.make_trainer(config, patients, steps, team)
    variables = [*trainer.network.variables, *trainer.optimizer.variables]
    state = _restored(folder, variables, mark, team)
    team.from_chief(lambda: folder.describe(config, record_set.sha256))
    if state.stopped or state.epoch == config.training.epochs:
        return state
    centres = _centres(config, record_set, folder, team)
    bar = ProgressBar(config.training.epochs, state.epoch, steps)
    with bar if team.is_chief else contextlib.nullcontext():
        keeper = Keeper(folder, state, variables, config.training.patience, team)
        road.fit(
            trainer,
            config,
            record_set,
            centres,
            folder,
            [*watchers, keeper, *([bar] if team.is_chief else [])],
            team,
            profile,
            initial_epoch=state.epoch,
            epochs=config.training.epochs,
            steps_per_epoch=steps,
        )
    return state


def _restored(
    folder: RunFolder, variables: Sequence[keras.Variable], mark: dict, team: Team
) -> TrainingState:
    """The state to start from; the variables of all workers are the chief's."""
    state = team.from_chief(
        lambda: dataclasses.asdict(
            checkpoint.restore(folder.checkpoints, variables, mark)
        )
    )
    team.take_from_chief(variables)
    return TrainingState(**state)


def make_localiser(config: Config, record_set: StudySet, folder: RunFolder) -> None:
    """Trains only the localiser of a run, for others to take (`localiser.run`)."""
    choose_road()
    folder.save_localiser(_make_localiser(config, record_set))
    folder.describe(config, record_set.sha256)


def choose_road() -> ModuleType:
    """How a run is trained on the active backend."""
    if keras.config.backend() != "tensorflow":
        from jdl_keras.training import portable_road

        return portable_road
    import tensorflow as tf

    from jdl_keras.training import tensorflow_road

    # From here on, so that the localiser's bits are repeatable too.
    tf.config.experimental.enable_op_determinism()
    return tensorflow_road


def check_splits(config: Config, record_set: StudySet) -> None:
    """Refuses a set that a run cannot learn from, or cannot be measured on."""
    for split in ("train", "validation"):
        if not record_set.totals(split)["with_scar"]:
            reason = f"the {split} split has no patient with scar; build a larger set"
            raise RefusedError(record_set.path, "SPLIT", reason)
    if not record_set.can_measure(config.evaluation.split):
        reason = f"the {config.evaluation.split} split has no patients to measure"
        raise RefusedError(record_set.path, "SPLIT", reason)


def _prepare_localiser(config: Config, record_set: StudySet, folder: RunFolder) -> None:
    """A run that has a checkpoint has its localiser too."""
    if config.grid.centre == "localiser" and not checkpoint.found(folder.checkpoints):
        folder.save_localiser(_make_localiser(config, record_set))


def _make_localiser(config: Config, record_set: StudySet) -> keras.Model:
    # A run before this one in the same process may have left another.
    keras.config.set_dtype_policy("float32")
    if config.localiser.run:
        return _other_localiser(config.localiser)
    with ProgressBar(1, 0, config.localiser.steps, "localiser") as progress:
        return train_localiser(config, record_set, [progress])


def _other_localiser(config: LocaliserConfig) -> keras.Model:
    """The localiser of another run, if it is the one that is configured."""
    other = RunFolder(Path(str(config.run)))
    theirs = dataclasses.replace(other.load_config().localiser, run=config.run)
    if theirs != config:
        reason = f"has other settings: {theirs}; give the same, or no run"
        raise RefusedError("localiser.run", "CONFIG", reason)
    return other.load_localiser().network


def fingerprint(config: Config, record_set: StudySet) -> dict:
    """What decides the bits of a run, as flat keys."""
    settings = {key: v for key, v in flat(config).items() if key not in FREE_KEYS}
    return {
        "record set": record_set.sha256,
        **record_set.view,
        **versions(),
        **settings,
    }


def _centres(
    config: Config, record_set: StudySet, folder: RunFolder, team: Team
) -> dict[str, np.ndarray]:
    """For each split (slices, 2), on which the grid is centred.

    The networks learn around the reference, moved about by the augmentation, and are
    validated on what a user will have.
    """
    centre = config.grid.centre
    places = {
        "train": "reference" if centre == "localiser" else centre,
        "validation": centre,
    }

    def found() -> dict[str, list]:
        return {
            split: slice_centres(
                record_set.studies(split), folder.locate(place)
            ).tolist()
            for split, place in places.items()
        }

    return {split: np.array(rows) for split, rows in team.from_chief(found).items()}
