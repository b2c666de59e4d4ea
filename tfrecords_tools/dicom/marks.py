"""What the names in a header hint at; the names themselves are dropped.

Series descriptions and protocol names are free text and may hold anything, so they
leave this module as marks only.
"""

import enum
import re
from collections.abc import Collection, Iterable


class Mark(enum.StrEnum):
    """A hint in a header."""

    SCOUT = "scout"
    MAP = "map"
    FLOW = "flow"
    PERFUSION = "perfusion"
    CINE = "cine"
    LGE = "LGE"
    PSIR = "PSIR"
    MAGNITUDE = "magnitude"
    PHASE = "phase"
    REAL = "real"
    REFORMATTED = "reformatted"
    SPIN_ECHO = "spin echo"
    INVERSION = "inversion recovery"


_WORDS = {
    Mark.SCOUT: r"scout|tiscout|survey|locali[sz]er|locator|look ?locker|ll|cine ir",
    Mark.MAP: r"\w*maps?|mapa|mapping|molli\w*|shmolli|sasha|ecv",
    Mark.FLOW: r"\w*flow|venc|phase contrast",
    Mark.PERFUSION: r"perf\w*|first ?pass|dynamic|dyn",
    Mark.CINE: r"cine\w*|retro",
    Mark.LGE: r"lge|\w*psir\w*|late|delayed|viab\w*|p?mde|dhe|de|tardi\w*",
    Mark.PSIR: r"\w*psir\w*|phase sensitive",
    Mark.MAGNITUDE: r"magn?|magnitude",
}
_PATTERNS = {mark: re.compile(rf"\b(?:{words})\b") for mark, words in _WORDS.items()}

_CODE_STRINGS = {
    Mark.SCOUT: {"localizer"},
    Mark.MAP: {"map", "t1 map", "t2 map", "t1 mapping", "t2 mapping", "ecv"},
    Mark.FLOW: {"velocity", "flow encoded", "phase contrast"},
    Mark.PERFUSION: {"perfusion", "dynamic"},
    Mark.CINE: {"cine", "retro"},
    Mark.PSIR: {"psir", "ps", "phase sensitive", "cr", "cr ir"},
    Mark.MAGNITUDE: {"m", "mag", "magnitude", "m ir", "m ffe", "m se", "modulus"},
    Mark.PHASE: {"p", "phase", "phase map", "p ir", "i", "imaginary"},
    Mark.REAL: {"r", "real", "r ir", "r ffe"},
    Mark.REFORMATTED: {"mpr", "mip", "projection image", "subtraction", "csa mpr"},
    Mark.SPIN_ECHO: {"se", "spin"},
    Mark.INVERSION: {"ir"},
}


class Contrast(enum.StrEnum):
    """How an inversion recovery image was reconstructed."""

    PSIR = "PSIR"
    MAGNITUDE = "magnitude"
    PHASE = "phase"


def contrast_of(
    series: Collection[Mark],
    codes: Collection[Mark],
    acquisition: Collection[Mark],
    below_zero: bool,
) -> Contrast:
    """PSIR or magnitude, by the first of these that says it.

    What the series is called (of Siemens' pair, PSIR_SA_MAG is the magnitude); a phase
    image; code strings of a real or phase-sensitive image; values below zero; code
    strings of a magnitude image; the name of the protocol, which a pair shares.
    Nothing at all is a magnitude.

    Args:
        series: marks of the series description.
        codes: marks of Image Type and the like.
        acquisition: marks of protocol and sequence names.
        below_zero: whether values go below zero by what the header says.
    """
    if Mark.MAGNITUDE in series:
        return Contrast.MAGNITUDE
    if Mark.PHASE in codes and not {Mark.MAGNITUDE, Mark.REAL, Mark.PSIR} & {*codes}:
        return Contrast.PHASE
    if Mark.PSIR in series or {Mark.PSIR, Mark.REAL} & {*codes} or below_zero:
        return Contrast.PSIR
    if Mark.MAGNITUDE in codes or Mark.PSIR not in acquisition:
        return Contrast.MAGNITUDE
    return Contrast.PSIR


def marks_of_text(text: str) -> frozenset[Mark]:
    """Marks in free text: whole words, whatever their case and separators."""
    words = _plain(text)
    return frozenset(m for m, pattern in _PATTERNS.items() if pattern.search(words))


def marks_of_codes(values: Iterable[str]) -> frozenset[Mark]:
    """Marks in code strings (Image Type and others), each compared as a whole."""
    found = {_plain(value) for value in values}
    return frozenset(mark for mark, known in _CODE_STRINGS.items() if known & found)


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9]+", " ", text.lower()).split())
