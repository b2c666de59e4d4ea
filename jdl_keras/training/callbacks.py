"""What happens at the end of every epoch."""

import csv
import io
import time

import keras
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from jdl_keras.run_folder import RunFolder
from jdl_keras.training import checkpoint
from jdl_keras.training.checkpoint import TrainingState
from jdl_keras.training.team import ALONE, Team
from tfrecords_tools import files
from tfrecords_tools.errors import DivergedError

SELECTION = "val_scar_dice"
"""The best network is chosen by this, on the validation split."""


class Keeper(keras.callbacks.Callback):
    """Keeps the best network, the history and the checkpoint, in this order.

    Args:
        folder: the run folder.
        state: the state to continue; it is brought up to date.
        variables: what a checkpoint holds.
        patience: epochs without a better score until the run stops; 0 for never.
        team: whose chief decides and writes; the others stop when it does.
    """

    def __init__(
        self,
        folder: RunFolder,
        state: TrainingState,
        variables: list[keras.Variable],
        patience: int,
        team: Team = ALONE,
    ):
        super().__init__()
        self.folder, self.state = folder, state
        self.variables, self.patience, self.team = variables, patience, team

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves what the epoch brought."""
        if self.team.from_chief(lambda: self._keep(epoch, logs)):
            self.model.stop_training = True

    def _keep(self, epoch: int, logs: dict | None) -> bool:
        """Saves, and returns whether the run stops."""
        logs = {name: float(value) for name, value in (logs or {}).items()}
        if not np.isfinite(list(logs.values())).all() or logs["skipped_updates"] > 0.5:
            raise DivergedError(
                f"epoch {epoch + 1} had no finite loss; the last good state is kept; "
                "lower optimizer.learning_rate"
            )
        state = self.state
        state.epoch = epoch + 1
        state.history.append({"epoch": state.epoch, **logs})
        if logs[SELECTION] > state.best:
            state.best, state.best_epoch = logs[SELECTION], state.epoch
            self.folder.save_network(self.model.network)
        if self.patience and state.epoch - state.best_epoch >= self.patience:
            self.model.stop_training = True
        state.stopped = bool(self.model.stop_training)
        files.write_text(self.folder.history, as_csv(state.history))
        checkpoint.save(self.folder.checkpoints, self.variables, state)
        return state.stopped


def as_csv(rows: list[dict]) -> str:
    """Rows of equal keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class ProgressBar(keras.callbacks.Callback):
    """A bar with the time left, or a line an epoch where there is no terminal.

    A context: however the training ends, the terminal gets its cursor back.

    Args:
        epochs: of the whole run.
        first_epoch: finished epochs.
        steps: of one epoch.
        title: what is trained.
    """

    def __init__(
        self, epochs: int, first_epoch: int, steps: int, title: str = "training"
    ):
        super().__init__()
        self.title = title
        self.epochs, self.first_epoch = epochs, first_epoch
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[scores]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task(
            "", total=epochs * steps, completed=first_epoch * steps, scores=""
        )

    def __enter__(self) -> "ProgressBar":
        self.start = time.monotonic()
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Moves the bar."""
        self.bar.advance(self.task)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Shows the scores."""
        scores = ", ".join(
            f"{name} {logs[name]:.3f}"
            for name in ("loss", "val_myocardium_dice", "val_scar_dice")
            if name in logs
        )
        self.bar.update(self.task, scores=scores)
        if self.bar.disable:
            done = epoch + 1 - self.first_epoch
            left = (time.monotonic() - self.start) / done * (self.epochs - epoch - 1)
            place = f"{self.title}, epoch {epoch + 1}/{self.epochs}"
            line = f"{place}: {scores}, {left / 60:.1f} min left"
            self.console.print(line, soft_wrap=True, highlight=False)
