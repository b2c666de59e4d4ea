"""The bytes in which an identifier may stand in a file."""

import base64
import dataclasses
import datetime
import html
import itertools
import json
import re
import unicodedata
import urllib.parse
from collections.abc import Iterable, Iterator

from tfrecords_tools.privacy.identifiers import (
    LEAST_LETTERS,
    Identifier,
    is_telling,
)

DATE_FORMS = (
    *("%Y%m%d", "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y_%m_%d", "%Y:%m:%d"),
    *("%d.%m.%Y", "%d/%m/%Y", "%d-%m-%Y", "%m/%d/%Y", "%m-%d-%Y", "%d%m%Y"),
)
MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)

NAME_SEPARATORS = ("^", " ", ", ", ",", "_", "-", ".", "")


@dataclasses.dataclass(frozen=True)
class Spelling:
    """Where some bytes come from.

    Attributes:
        kind: of the identifier.
        encoding: in which it is spelled.
    """

    kind: str
    encoding: str


def spellings(identifiers: Iterable[Identifier]) -> dict[bytes, Spelling]:
    """All bytes that spell the identifiers; of equal ones the first counts."""
    found: dict[bytes, Spelling] = {}
    for identifier in identifiers:
        for text in {case for form in _forms(identifier) for case in _cases(form)}:
            for encoding, data in _encoded(text):
                if len(data) < LEAST_LETTERS:  # little of it is Latin
                    continue
                found.setdefault(data, Spelling(identifier.kind, encoding))
    return found


def _forms(identifier: Identifier) -> Iterator[str]:
    yield identifier.text
    if identifier.form == "date":
        yield from _dates(identifier.text)
    elif identifier.form == "name":
        yield from filter(is_telling, _names(identifier.text))


def _dates(text: str) -> Iterator[str]:
    """Other ways to write YYYYMMDD; none for what is no day of the calendar."""
    try:
        day = datetime.date.fromisoformat(text[:8])
    except ValueError:
        return
    for form in DATE_FORMS:
        yield day.strftime(form)
    month = MONTHS[day.month - 1]
    for number in {f"{day.day}", f"{day.day:02}"}:
        yield f"{number} {month} {day.year}"
        yield f"{number}-{month}-{day.year}"
        yield f"{month} {number}, {day.year}"


def _names(text: str) -> Iterator[str]:
    """Each part of a name, and every two of the first three in either order."""
    for group in text.split("="):
        parts = [part for part in re.split(r"[\^\s,]+", group) if part]
        yield from (group, *parts)
        for one, other in itertools.permutations(parts[:3], 2):
            yield from (one + separator + other for separator in NAME_SEPARATORS)


def _cases(text: str) -> set[str]:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    texts = {text, unicodedata.normalize("NFC", text)}
    if len(plain) == len(text):  # accents go, letters of other alphabets would too
        texts.add(plain)
    return {
        case
        for text in texts
        for case in (text, text.lower(), text.upper(), text.title())
    }


def _encoded(text: str) -> Iterator[tuple[str, bytes]]:
    data = text.encode("utf-8", "surrogateescape")
    yield "as it stands", data
    if not text.isascii():
        yield "Latin-1", text.encode("latin-1", "ignore")
    yield "UTF-16", text.encode("utf-16-le", "surrogatepass")
    yield "UTF-16", text.encode("utf-16-be", "surrogatepass")
    yield "hexadecimal", data.hex().encode()
    yield "hexadecimal", data.hex().upper().encode()
    for code in _base64(data):
        yield "base64", code
    yield "escaped", json.dumps(text)[1:-1].encode()
    yield "escaped", urllib.parse.quote(data).encode()
    yield "escaped", html.escape(text).encode("utf-8", "surrogateescape")


def _base64(data: bytes) -> Iterator[bytes]:
    """What does not depend on the bytes around, for the three places it can start."""
    for skipped in range(3):
        code = base64.b64encode(b"\0" * skipped + data)
        first = -(-skipped * 8 // 6)
        last = (skipped + len(data)) * 8 // 6
        yield code[first:last]
