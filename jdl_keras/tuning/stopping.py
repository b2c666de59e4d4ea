"""Early end of trials that will not be the best."""

import csv
import statistics
from pathlib import Path

import keras

from jdl_keras.run_folder import RunFolder
from jdl_keras.training.callbacks import SELECTION
from jdl_keras.tuning.outcome import OUTCOME, numbers
from jdl_keras.tuning.search import trial_folder
from tfrecords_tools import files

ENOUGH = 3
"""Finished trials that a median is taken of, at least."""

MARK = "stopped.txt"
"""In the folder of a trial that was stopped: why."""


class MedianRule(keras.callbacks.Callback):
    """Stops a trial whose best score is below what others had on the way to here.

    The median stopping rule of Golovin et al., "Google Vizier" (KDD 2017), section
    3.2.1: the best score until an epoch against the median, over finished trials, of
    the mean of their scores until that epoch. At least half of these trials had a
    better score than one that is stopped, so the best trial never is.

    Args:
        out: folder of the search.
        number: of this trial.
        after_epochs: no trial is stopped before it has so many.
    """

    def __init__(self, out: Path | str, number: int, after_epochs: int):
        super().__init__()
        self.out, self.number, self.after_epochs = Path(out), number, after_epochs
        self.best = -1.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Takes the scores from before an interruption."""
        self.best = max([self.best, *scores(trial_folder(self.out, self.number))])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Compares."""
        self.best = max(self.best, float((logs or {})[SELECTION]))
        epochs = epoch + 1
        median = median_of_means(self.out, self.number, epochs)
        if epochs < self.after_epochs or median is None or self.best >= median:
            return
        self.model.stop_training = True
        reason = (
            f"after epoch {epochs} the best scar Dice is {self.best:.3f}; the median "
            f"of the mean scores of finished trials until there is {median:.3f}"
        )
        files.write_text(trial_folder(self.out, self.number) / MARK, reason + "\n")
        print(f"stopped: {reason}")


def median_of_means(out: Path, number: int, epochs: int) -> float | None:
    """The median over the other trials of their mean score until an epoch.

    Args:
        out: folder of the search.
        number: of the trial that is left out.
        epochs: until which scores count; trials with fewer are left out.

    Returns:
        None while there are too few trials.
    """
    others = [trial_folder(out, n) for n in numbers(out) if n != number]
    histories = [scores(one) for one in others if (one / OUTCOME).is_file()]
    means = [statistics.fmean(h[:epochs]) for h in histories if len(h) >= epochs]
    return statistics.median(means) if len(means) >= ENOUGH else None


def scores(folder: Path) -> list[float]:
    """The validation scores of a run, epoch by epoch."""
    history = RunFolder(folder).history
    if not history.is_file():
        return []
    rows = csv.DictReader(history.read_text().splitlines())
    return [float(row[SELECTION]) for row in rows]
