"""What in a source can tell who a patient is, and what of it can be searched for."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator

LEAST_LETTERS = 5
"""Shorter values stand in any large file by chance."""

PIECE_LETTERS = 64
"""Longer texts are searched for in pieces: a part of a comment may leak alone."""

MOST_TEXTS = 1000
"""Of one binary element; blocks of scanner makers have thousands of settings."""

_WORDS = """
abdomen activation apex axial axis basal batch bias black blood body brown build built
cardiac case checkpoint chest cine class config contour contours coronal data dataset
default delayed dense derived dicom dicomdir dtype enhanced enhancement epoch export
false field files filter float frame functional gated gradient green group head
healthcare healthineers healthy heart height hospital image images infarct infarction
infinity initializer input inputs keras kernel label labels late layer layers lge
linear localiser localizer long loss magnitude manual mask masks medical method metric
metrics model module mri multi mvo myocardial myocardium names nifti nodes none normal
null numpy original other output outputs pathology patient phantom phase philips pixel
point pool primary psir random reference reflow regularizer retro rows sagittal sample
sax scan scanner scar scout secondary seed segment segmentation sequence series shape
short siemens signal single size slice slices small spacing stack standard step string
structure studies study subject table task test thickness trace train trainable
training true trufi ungated unknown validation value values variable variables
ventricle version view volume weight white width young
"""
ORDINARY = frozenset(_WORDS.split())
"""Words that record sets and run folders use themselves, and makers of scanners. A
value of such words only is left out, also where it is somebody's name."""


@dataclasses.dataclass(frozen=True)
class Identifier:
    """A value to search for.

    Attributes:
        kind: the element or place it came from, such as `PatientID`.
        text: the value; never printed.
        form: `text`, `name` (family^given), `date` (YYYYMMDD) or `time`
            (with a fraction of a second, which is no decimal fraction).
    """

    kind: str
    text: str
    form: str = "text"


def searchable(identifiers: Iterable[Identifier]) -> Iterator[Identifier]:
    """The pieces that can be searched for: see `is_telling` for what is left out."""
    for identifier in identifiers:
        for line in identifier.text.splitlines():
            for start in range(0, len(line), PIECE_LETTERS):
                piece = line[start : start + PIECE_LETTERS].strip(" \t\0")
                is_time = identifier.form == "time" and len(set(piece) - {"."}) > 1
                if is_telling(piece) or (is_time and len(piece) > LEAST_LETTERS):
                    yield dataclasses.replace(identifier, text=piece)


def is_telling(text: str) -> bool:
    """Whether a value stands for itself wherever it is found.

    Not told apart from chance, and left out: less than five characters, one character
    repeated (00000000), decimal fractions (a spacing), ordinary words.
    """
    if len(text) < LEAST_LETTERS or len(set(text)) < 2:
        return False
    if re.fullmatch(r"[-+]?\d*\.\d+(e[-+]?\d+)?", text, re.IGNORECASE):
        return False
    return re.search(r"\d", text) is not None or not is_ordinary(text)


def is_ordinary(text: str) -> bool:
    """Whether a text has no word but those of `ORDINARY` and single letters."""
    words = re.findall(r"[^\W\d_]{2,}", text.lower())
    return all(word in ORDINARY for word in words)


def texts_in(data: bytes, least: int = LEAST_LETTERS + 1) -> list[str]:
    """Texts in binary data that are no single words: those name fields and formats."""
    runs = re.findall(rb"[\x20-\x7e]{%d,}" % least, data)
    texts = (run.decode("ascii").strip() for run in runs)
    telling = (text for text in texts if re.search(r"[\d^,=]|\w \w", text))
    return [*itertools.islice(telling, MOST_TEXTS)]


def from_name(kind: str, name: str) -> Iterator[Identifier]:
    """What the name of a file or folder tells: all of it, and its parts."""
    stem = re.sub(r"(\.[A-Za-z]\w{0,9}){1,2}$", "", name)
    yield Identifier(kind, stem)
    for part in re.split(r"[\s_.,-]+", stem):
        if is_date(part):
            yield Identifier(kind, part, "date")
        elif not (part.isdigit() and len(part) <= LEAST_LETTERS):  # a counter
            yield Identifier(kind, part)


def is_date(text: str) -> bool:
    """Whether eight digits are a date of the last two centuries."""
    pattern = r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
    return re.fullmatch(pattern, text) is not None
