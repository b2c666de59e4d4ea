"""KerasTuner's oracles, with a memory that no kill can damage.

KerasTuner overwrites its JSON files in place, several for one step. Here a trial is
kept as `outcome.py` describes, and an oracle is built from the trials' folders. What it
proposes is a function of the seed, the trial's number and the trials before it, so that
a search which was killed goes on as it would have gone on.
"""

import sys
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.oracles import BayesianOptimizationOracle, RandomSearchOracle

from jdl_keras.config import Config
from jdl_keras.config_file import flat
from jdl_keras.tuning.outcome import (
    numbers,
    read_outcome,
    read_proposal,
    write_proposal,
)
from jdl_keras.tuning.search import Range, Search, rounded, space_of, trial_folder

OBJECTIVE = "scar_dice"

RETRIES = 2
"""How often a trial is tried again whose process died."""

GIVE_UP_AFTER = 3
"""So many trials in a row that failed are no accident."""

DRAWS = 10_000
"""More than one trial draws, so that trials do not share their random numbers."""


def make_oracle(search: Search, base: Config) -> "FolderMemory":
    """The oracle of a search, without its memory (`reload`)."""
    space = hyperparameters(space_of(search, base), flat(base))
    options = {
        "objective": keras_tuner.Objective(OBJECTIVE, "max"),
        "max_trials": search.trials,
        # KerasTuner takes 0 for no seed.
        "seed": search.oracle_seed + 1,
        "hyperparameters": space,
        "max_retries_per_trial": RETRIES,
        # Beyond its own number it raises and keeps its lock for ever.
        "max_consecutive_failed_trials": sys.maxsize,
    }
    if search.oracle == "random":
        return RandomOracle(search.out, **options)
    return BayesianOracle(
        search.out,
        num_initial_points=search.random_trials,
        alpha=search.noise,
        beta=search.exploration,
        **options,
    )


def hyperparameters(
    space: dict[str, Range], settings: dict[str, Any]
) -> keras_tuner.HyperParameters:
    """A space as KerasTuner knows it.

    Args:
        space: by dotted key.
        settings: of which the types are taken: whole numbers stay whole.
    """
    found = keras_tuner.HyperParameters()
    for key, scope in space.items():
        sampling = "log" if scope.log else "linear"
        if scope.choices is not None and isinstance(settings[key], bool):
            found.Boolean(key)  # Of a Choice they come back as numbers.
        elif scope.choices is not None:
            found.Choice(key, scope.choices)
        elif isinstance(settings[key], int):
            found.Int(key, int(scope.low), int(scope.high), sampling=sampling)
        else:
            found.Float(key, scope.low, scope.high, sampling=sampling)
    return found


class FolderMemory(keras_tuner.Oracle):
    """What both oracles have in common.

    Args:
        out: folder of the search.
        options: of KerasTuner's oracle.

    Attributes:
        fault: what kept a trial from being written, for another thread to raise.
        exhausted: whether all there is has been tried.
    """

    def __init__(self, out: Path | str, **options: object):
        super().__init__(**options)
        self.out, self.fault, self.exhausted = Path(out), None, False
        self.verbose = 0

    def _save_trial(self, trial: Trial) -> None:
        """Keeps a new trial; what came of it is in its folder before it ends."""
        if trial.status != TrialStatus.RUNNING:
            return
        try:
            folder = trial_folder(self.out, int(trial.trial_id))
            write_proposal(folder, trial.hyperparameters.values)
        except OSError as error:
            self.fault = error
            raise

    def save(self) -> None:
        """Nothing is left to keep."""

    def reload(self) -> None:
        """Reads the trials' folders; those that are not over come first again."""
        for number in range(max(numbers(self.out), default=-1) + 1):
            self._recall(number)

    def _recall(self, number: int) -> None:
        folder = trial_folder(self.out, number)
        trial_id = str(number).zfill(len(str(self.max_trials)))
        values = read_proposal(folder, [hp.name for hp in self.hyperparameters.space])
        outcome = read_outcome(folder)
        if values is None:  # Damaged beyond what can be known: another one.
            outcome, values = None, self._drawn(number)
        space = self.hyperparameters.copy()
        space.values = values
        trial = Trial(space, trial_id, TrialStatus.RUNNING)
        self.trials[trial_id] = trial
        self.start_order.append(trial_id)
        self._record_values(trial)
        self._save_trial(trial)
        if outcome is None:
            self._retry_queue.insert(0, trial_id)  # It is taken from the end.
            return
        trial.metrics.register(OBJECTIVE, "max")
        trial.metrics.update(OBJECTIVE, outcome.scar_dice)
        self.score_trial(trial)
        trial.status = TrialStatus.COMPLETED
        self.end_order.append(trial_id)

    def _drawn(self, number: int) -> dict[str, Any]:
        self._seed_state = (self.seed * 1_000_003 + number) * DRAWS
        return rounded(self._random_values() or {})

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """What a new trial tries; drawn anew where it was tried before."""
        number = int(trial_id)
        self._seed_state = (self.seed * 1_000_003 + number) * DRAWS
        self._random_state = np.random.RandomState([self.seed, number])
        proposal = super().populate_space(trial_id)
        values = rounded(proposal["values"] or {})
        if values and self._duplicate(values):
            values = self._drawn(number)
        self.exhausted = not values
        status = TrialStatus.STOPPED if self.exhausted else TrialStatus.RUNNING
        return {"status": status, "values": values}

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """A trial; idle while the last trials of others may come back for a retry."""
        if tuner_id not in self.ongoing_trials:
            if self.gave_up:
                return self._none(tuner_id, TrialStatus.STOPPED)
            all_begun = len(self.trials) >= self.max_trials and not self._retry_queue
            if all_begun and self.ongoing_trials:
                return self._none(tuner_id, TrialStatus.IDLE)
        return super().create_trial(tuner_id)

    def _none(self, tuner_id: str, status: str) -> Trial:
        if status == TrialStatus.STOPPED:
            self.tuner_ids.discard(tuner_id)
        return Trial(self.hyperparameters.copy(), "none", status)

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        """Ends a trial, once."""
        known = self.trials[trial.trial_id]
        if trial.trial_id in self.end_order:
            return
        # On its way from a worker numbers lost digits.
        trial.hyperparameters = known.hyperparameters
        # A worker that had it before the chief was started anew.
        if trial.trial_id in self._retry_queue:
            self._retry_queue.remove(trial.trial_id)
        super().end_trial(trial)

    @property
    def gave_up(self) -> bool:
        """Whether the last trials failed, one after another."""
        last = [self.trials[one].status for one in self.end_order[-GIVE_UP_AFTER:]]
        return last == [TrialStatus.FAILED] * GIVE_UP_AFTER

    @property
    def over(self) -> bool:
        """Whether nothing is left to try."""
        ended = not self.ongoing_trials and not self._retry_queue
        all_begun = self.exhausted or len(self.trials) >= self.max_trials
        return ended and (self.gave_up or all_begun)

    @property
    def failed(self) -> list[int]:
        """The trials whose process died again and again."""
        states = self.trials.items()
        return [int(i) for i, trial in states if trial.status == TrialStatus.FAILED]


class BayesianOracle(FolderMemory, BayesianOptimizationOracle):
    """Upper confidence bounds of a Gaussian process."""


class RandomOracle(FolderMemory, RandomSearchOracle):
    """Every trial is drawn."""
