"""Finds any of many byte strings in a stream, in bounded memory."""

from collections.abc import Iterator, Mapping
from typing import IO

import numpy as np

from tfrecords_tools.privacy.spellings import Spelling

WINDOW_BYTES = 4 * 2**20

GRAM = 4
"""Bytes by which a place is judged before it is looked at; less than any spelling."""

SURE_BYTES = 8
"""Shorter words and numbers count only where they stand alone."""

_HASH_BITS = 20
_MULTIPLIER = np.uint32(2654435761)


class Needles:
    """Byte strings to search for.

    Args:
        spellings: each with where it comes from; at least `GRAM` bytes long.
    """

    def __init__(self, spellings: Mapping[bytes, Spelling]):
        self._spellings = spellings
        self._lengths: dict[bytes, list[int]] = {}
        for needle in spellings:
            lengths = self._lengths.setdefault(needle[:GRAM], [])
            if len(needle) not in lengths:
                lengths.append(len(needle))
        self._grams = np.frombuffer(b"".join(sorted(self._lengths)), "<u4")
        self._table = np.zeros(2**_HASH_BITS, bool)
        self._table[_hashed(self._grams)] = True
        self._longest = max(map(len, spellings), default=0)

    def found_in(self, stream: IO[bytes]) -> Iterator[Spelling | int]:
        """The spellings in a stream, and after each window how many bytes it had."""
        window, overlap = b"\n", self._longest + 2
        while chunk := stream.read(WINDOW_BYTES):
            window += chunk
            end = max(len(window) - overlap, 1)
            yield from self._found(window, end)
            window = window[end - 1 :]
            yield len(chunk)
        yield from self._found(window, len(window))

    def _found(self, window: bytes, end: int) -> Iterator[Spelling]:
        """The spellings that begin in window[1:end]; the first byte is context."""
        for start in self._candidates(window):
            if not 1 <= start < end:
                continue
            for length in self._lengths.get(window[start : start + GRAM], ()):
                needle = window[start : start + length]
                spelling = self._spellings.get(needle)
                if spelling and _stands_alone(window, start, needle, spelling):
                    yield spelling

    def _candidates(self, window: bytes) -> Iterator[int]:
        for offset in range(GRAM):
            count = (len(window) - offset) // GRAM
            if count > 0:
                grams = np.frombuffer(window, "<u4", count, offset)
                places = np.flatnonzero(self._table[_hashed(grams)])
                places = places[np.isin(grams[places], self._grams)]
                yield from (places * GRAM + offset).tolist()


def _hashed(grams: np.ndarray) -> np.ndarray:
    return (grams * _MULTIPLIER) >> np.uint32(32 - _HASH_BITS)


def _stands_alone(window: bytes, start: int, needle: bytes, spelling: Spelling) -> bool:
    """Whether a short word is no part of a longer one, and digits of no number."""
    if spelling.encoding != "as it stands":
        return True
    end = start + len(needle)
    before, after = window[start - 1 : start], window[end : end + 1]
    if needle.isdigit() and len(needle) < SURE_BYTES:
        is_fraction = after == b"." and window[end + 1 : end + 2].isdigit()
        return not (
            before.isalnum() or before == b"." or after.isalnum() or is_fraction
        )
    if needle[:1].isdigit() and before.isdigit():
        return False
    if needle[-1:].isdigit() and after.isdigit():
        # A date goes on with its time.
        return needle.isdigit() and len(needle) == SURE_BYTES
    if len(needle) >= SURE_BYTES:
        return True
    is_in_word = needle[:1].isalpha() and before.isalpha()
    return not is_in_word and not (needle[-1:].isalpha() and after.isalpha())
