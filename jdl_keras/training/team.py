"""The processes that train one run together; here, one alone."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras

from tfrecords_tools.errors import RefusedError

Plain = TypeVar("Plain", bound=Any)
"""What JSON can hold."""


class Team:
    """A process that trains alone, and so is its own chief.

    Only the chief reads and writes the run folder; others learn from it what is there.

    Attributes:
        is_chief: whether this process is the chief.
        strategy: that all of them compute with, if it is there before the network.
    """

    is_chief = True
    strategy = None

    def from_chief(self, make: Callable[[], Plain]) -> Plain:
        """What `make` returns on the chief; it is called there only.

        Raises:
            RefusedError: if it is raised there; likewise `OSError`, `DivergedError`.
        """
        return make()

    def check_same(self, fingerprint: dict) -> None:
        """Refuses what is not the chief's configuration, record set or version.

        Raises:
            RefusedError: `OTHER_RUN`, with the key.
        """
        chiefs = self.from_chief(lambda: fingerprint)
        for key, value in fingerprint.items():
            if chiefs.get(key) != value:
                reason = f"the chief has {chiefs.get(key)}, this worker {value}"
                raise RefusedError(key, "OTHER_RUN", f"{reason}; give all the same")

    def take_from_chief(self, variables: Sequence[keras.Variable]) -> None:
        """Gives all workers the chief's values."""


ALONE = Team()
