"""Numbers of a report as text: with units, and no finer than they are known."""

import math

from jdl_keras.inference.study_prediction import Interval

NOT_KNOWN = "–"
WIDE = 2.0
"""From this width of the interval on, numbers stand without decimals."""


def decimals(width: float | None) -> int:
    """How many decimals a value deserves that is known to within `width`.

    One, or none where it is known to 2 units or less well. None is not known how well,
    and deserves none either.
    """
    return 0 if width is None or width >= WIDE else 1


def amount(value: float | None, unit: str, places: int = 0) -> str:
    """Such as `14 %`; what is there but rounds to nothing is `< 1 %`, never `0 %`."""
    if value is None:
        return NOT_KNOWN
    if value == 0:
        return f"0 {unit}"
    least = 10.0**-places
    # Half up: Python would round 0.5 to 0 and 2.5 to 2.
    rounded = math.floor(value / least + 0.5) * least
    text = f"{rounded:.{places}f}" if rounded else f"< {least:.{places}f}"
    return f"{text} {unit}"


def bounds(interval: Interval) -> str:
    """Such as `9 to 20 %`: rounded outward, so that it never looks narrower."""
    places = decimals(width_percent(interval))
    scale = 10**places
    # A bound of 14.000000001 is 14: the arithmetic that made it is not exact.
    low = math.floor(round(interval.low_percent * scale, 6)) / scale
    high = math.ceil(round(interval.high_percent * scale, 6)) / scale
    return f"{low:.{places}f} to {high:.{places}f} %"


def width_percent(interval: Interval | None) -> float | None:
    """Of a calibrated interval, in percent of the wall.

    How far passes spread says nothing of how well the value is known.
    """
    if interval is None or interval.coverage_percent is None:
        return None
    return interval.high_percent - interval.low_percent


def intensity(value: float) -> str:
    """Such as `2254` or `1.35`: three digits, and all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def plain(text: str, longest: int) -> str:
    """Text from outside on one line, without control characters and not too long."""
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
