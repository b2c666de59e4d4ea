"""What a build reads: studies that are listed first, then read one by one, anywhere."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tfrecords_tools.study import Study


class Item(Protocol):
    """One study that is not read yet: a frozen dataclass of paths and plain values."""

    @property
    def key(self) -> str:
        """Names the study in messages and files: that of public data, or a pseudonym.

        Never what an identifier can be read from.
        """

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is read from; when one changes, it is read again."""


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """What the input holds and the build does not take.

    Attributes:
        what: a pseudonym, or a kind of file; never an identifier.
        reason: why not, in one line.
        count: of files or series.
    """

    what: str
    reason: str
    count: int = 1


@dataclasses.dataclass(frozen=True)
class Source:
    """The studies of one input.

    Attributes:
        name: of the source module, kept in the manifest.
        items: the studies, in any order.
        read: one item to its study, in whatever process; raises `RefusedError`. It can
            be pickled: a function of a module, or a `functools.partial` of one.
        settings: what decides the bits of the result, kept in the manifest.
        left_out: what is no item, and why.
        private: whether paths of the input may carry identifiers: then messages name
            the item's key in place of a path.
    """

    name: str
    items: Sequence[Item]
    read: Callable[[Any], Study]
    settings: dict[str, str | int | float]
    left_out: Sequence[LeftOut] = ()
    private: bool = False
