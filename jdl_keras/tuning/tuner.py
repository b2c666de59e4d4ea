"""A worker of a search: takes trials from the oracle and runs each in a process."""

import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial

from jdl_keras.config import Config
from jdl_keras.run_processes import LOG, start_process
from jdl_keras.tuning.oracle import OBJECTIVE, FolderMemory
from jdl_keras.tuning.outcome import Outcome, read_outcome, write_outcome
from jdl_keras.tuning.search import Search, trial_config, trial_folder
from tfrecords_tools.errors import DIVERGED

Train = Callable[[Config, Search], None]
"""Trains a trial and writes its outcome; a function that can be pickled."""

SECONDS = 0.5
"""Between two looks at a trial."""


LOST = float("nan")
"""The score of a trial whose process died: KerasTuner tries it again."""


class SearchTuner(BaseTuner):
    """KerasTuner's loop over trials, each of which is a run folder.

    Args:
        oracle: of the search; in a worker a mere description of it, since KerasTuner
            asks the chief.
        search: what is searched.
        base: the settings that all trials share.
        train: what the process of a trial does.
        look: called while a trial runs, and after it.
    """

    def __init__(
        self,
        oracle: FolderMemory,
        search: Search,
        base: Config,
        train: Train,
        look: Callable[[], None] = lambda: None,
    ):
        self.config, self.base, self.train, self.look = search, base, train, look
        super().__init__(oracle, directory=search.out, project_name="trials")

    def save(self) -> None:
        """Nothing: the trials' folders say it all."""

    def pre_create_trial(self) -> None:
        """Asks for work once a second at most."""
        if self._is_worker():
            time.sleep(1.0)

    def run_trial(self, trial: Trial) -> dict[str, float]:
        """Trains a trial, or what is left of it, unless it is over."""
        number = int(trial.trial_id)
        folder = trial_folder(self.config.out, number)
        config = trial_config(
            self.config, self.base, number, trial.hyperparameters.values
        )
        if read_outcome(folder) is None:
            self._train(folder, config)
        outcome = read_outcome(folder)
        return {OBJECTIVE: outcome.scar_dice if outcome else LOST}

    def on_trial_end(self, trial: Trial) -> None:
        """Tells the oracle."""
        super().on_trial_end(trial)
        self.look()

    def _train(self, folder: Path, config: Config) -> None:
        work = partial(self.train, config, self.config)
        process = start_process(folder, self.config.workers, work)
        try:
            while process.is_alive():
                process.join(SECONDS)
                self.look()
        finally:
            _end(process)
        if process.exitcode == DIVERGED:
            write_outcome(folder, Outcome("diverged", 0.0))
        elif process.exitcode:
            tell_exit(folder / LOG, process.exitcode)


def tell_exit(log: Path, code: int | None) -> None:
    """Says how a process ended that did not end well."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    (*_, said) = ["", *text.splitlines()]
    print(f"WARNING {log}: exit code {code}: {said}", file=sys.stderr)


def _end(process: BaseProcess) -> None:
    if process.is_alive():
        process.terminate()
    process.join()
