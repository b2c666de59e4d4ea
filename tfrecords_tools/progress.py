"""How far a long work is: a bar with the time left, on a terminal only."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Thing = TypeVar("Thing")


def shown(things: Iterable[Thing], doing: str, total: int) -> Iterator[Thing]:
    """The things as they come.

    Args:
        things: worked on by whoever takes them.
        doing: what stands before the bar.
        total: how many they are.
    """
    console = Console(stderr=True)
    yield from track(
        things,
        doing,
        total=total,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
