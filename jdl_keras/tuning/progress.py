"""How far a search is."""

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from jdl_keras.run_processes import finished_epochs
from jdl_keras.tuning.outcome import OUTCOME, numbers, read_outcome
from jdl_keras.tuning.search import trial_folder


class SearchView:
    """A bar over the epochs of all trials, or a line a trial where is no terminal.

    Args:
        out: folder of the search.
        trials: in all.
        epochs: of a trial.
    """

    def __init__(self, out: Path | str, trials: int, epochs: int):
        self.out, self.trials, self.epochs = Path(out), trials, epochs
        self.over = {n: self._score(n) for n in numbers(self.out) if self._is_over(n)}
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.fields[over]} of {task.fields[trials]} trials"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(
            "",
            total=trials * epochs,
            completed=self._epochs(),
            over=len(self.over),
            trials=trials,
            now="",
        )

    def __enter__(self) -> "SearchView":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def look(self) -> bool:
        """Counts anew; true if a trial is over that was not."""
        begun = numbers(self.out)
        new = [n for n in begun if n not in self.over and self._is_over(n)]
        self.over |= {number: self._score(number) for number in new}
        active = [n for n in begun if n not in self.over]
        now = ", ".join(f"{n}: {self._count(n)}/{self.epochs}" for n in active)
        best = f"best {max(self.over.values()):.3f}; " if self.over else ""
        self.bar.update(
            self.task, completed=self._epochs(), over=len(self.over), now=best + now
        )
        if self.bar.disable:
            for number in new:
                self._say(number)
        return bool(new)

    def _say(self, number: int) -> None:
        left = self.bar.tasks[0].time_remaining
        estimate = f", about {left / 60:.0f} min left" if left else ""
        best = max(self.over.values())
        line = (
            f"{len(self.over)} of {self.trials} trials: trial {number} has scar Dice "
        )
        line += f"{self.over[number]:.3f}, best {best:.3f}{estimate}"
        print(line, file=sys.stderr, flush=True)

    def _is_over(self, number: int) -> bool:
        return (trial_folder(self.out, number) / OUTCOME).is_file()

    def _score(self, number: int) -> float:
        outcome = read_outcome(trial_folder(self.out, number))
        return outcome.scar_dice if outcome else 0.0

    def _count(self, number: int) -> int:
        return finished_epochs(trial_folder(self.out, number))

    def _epochs(self) -> int:
        """Those of trials that are over count whole, stopped ones too."""
        active = [n for n in numbers(self.out) if n not in self.over]
        return len(self.over) * self.epochs + sum(map(self._count, active))
