"""Trials whose score is a formula, for searches in this process and in others."""

import json
import math
import os
import sys
import time
from pathlib import Path

from jdl_keras.config import Config
from jdl_keras.config_file import write_config
from jdl_keras.run_folder import RunFolder
from jdl_keras.tuning.outcome import Outcome, write_outcome
from jdl_keras.tuning.search import Search
from tfrecords_tools.errors import DivergedError

SPACE = {
    "optimizer.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.6},
}
EPOCHS = 2


def score(config: Config) -> float:
    """0.6 at a rate of 1e-3 and dropout 0.2; less with the squared distance."""
    decades = math.log10(config.optimizer.learning_rate) + 3
    return 0.6 - 0.2 * decades**2 - (config.model.dropout - 0.2) ** 2


def train(config: Config, search: Search) -> None:
    """Leaves what a trial leaves, as far as the search looks at it."""
    folder = RunFolder(Path(config.run_dir))
    folder.path.mkdir(parents=True, exist_ok=True)
    write_config(config, folder.config)
    values = [score(config) / 2, score(config)]
    lines = [f"{epoch},{value}" for epoch, value in enumerate(values, 1)]
    folder.history.write_text("\n".join(["epoch,val_scar_dice", *lines]) + "\n")
    folder.checkpoints.mkdir(exist_ok=True)
    folder.model.write_text("weights")
    with (folder.path / "runs").open("a") as runs:
        runs.write(f"{os.getpid()}\n")
    write_outcome(folder.path, Outcome("finished", values[-1], 2, EPOCHS, 1.0, 0.5))


def train_slowly(config: Config, search: Search) -> None:
    time.sleep(float(os.environ.get("PRETENDED_SECONDS", "0.2")))
    train(config, search)


def fail_or_diverge(config: Config, search: Search) -> None:
    """Trial 1 diverges; the process of trial 2 dies each time."""
    number = Path(config.run_dir).name
    if number == "0001":
        raise DivergedError("no finite loss")
    if number == "0002":
        os._exit(7)
    train(config, search)


def train_toys(config: Config, search: Search) -> None:
    """A real training of networks of three convolutions."""
    from toy import toy_method

    from jdl_keras import tune
    from jdl_keras.models import methods

    methods.METHODS |= dict.fromkeys(methods.METHODS, toy_method)
    tune.train_trial(config, search)


def values_and_scores(search: Search) -> list:
    """Of all trials in turn, as the folders have them."""
    return [
        json.loads((folder / name).read_text())
        for folder in sorted((Path(search.out) / "trials").iterdir())
        for name in ("proposal.json", "outcome.json")
    ]


def tuner_of(search, work=train):
    """A search in this process."""
    from jdl_keras.tuning.oracle import make_oracle
    from jdl_keras.tuning.tuner import SearchTuner

    base = Config()

    class Here(SearchTuner):
        def _train(self, folder, config):
            work(config, self.config)

    tuner = Here(make_oracle(search, base), search, base, work)
    tuner.oracle.reload()
    return tuner


def searched(search, **options):
    tuner = tuner_of(search, **options)
    tuner.search()
    return tuner.oracle


def search_in(out, **changes):
    """Four trials that are drawn, and one that the Gaussian process proposes."""
    options = {"trials": 5, "random_trials": 4, "space": SPACE} | changes
    return Search(out=str(out), **options)


if __name__ == "__main__":  # the whole command, with PYTHONPATH at the packages
    from jdl_keras import tune

    tune.train_trial = train_slowly
    sys.exit(tune.main())
