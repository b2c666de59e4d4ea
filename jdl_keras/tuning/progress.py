"""How far a search is."""

import sys
from pathlib import Path

from jdl_keras.run_processes import EpochsBar, finished_epochs
from jdl_keras.tuning.outcome import OUTCOME, numbers, read_outcome
from jdl_keras.tuning.search import trial_folder


class SearchView(EpochsBar):
    """A bar over the epochs of all trials, or a line a trial where is no terminal.

    Args:
        out: folder of the search.
        trials: in all.
        epochs: of a trial.
    """

    def __init__(self, out: Path | str, trials: int, epochs: int):
        self.out, self.trials, self.epochs = Path(out), trials, epochs
        self.over = {n: self._score(n) for n in numbers(self.out) if self._is_over(n)}
        over = len(self.over)
        super().__init__("trials", trials, trials * epochs, self._epochs(), over)

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
        best = max(self.over.values())
        line = (
            f"{len(self.over)} of {self.trials} trials: trial {number} has scar Dice "
        )
        line += f"{self.over[number]:.3f}, best {best:.3f}{self.time_left()}"
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
