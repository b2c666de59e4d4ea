"""What stands in a report, as text: the same for the browser and for print."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from jdl_keras.inference.report_numbers import (
    NOT_KNOWN,
    amount,
    bounds,
    decimals,
    intensity,
    plain,
    width_percent,
)
from jdl_keras.inference.study_prediction import (
    Interval,
    Provenance,
    StudyPrediction,
    Verdict,
)
from jdl_keras.quantification import burden, transmurality
from jdl_keras.quantification.measurement import Measurements
from jdl_keras.quantification.thresholds import ThresholdScar

TITLE = "Myocardial scar on LGE"
QUALITY = "Quality check"
USE_AFTER_REVIEW = "Not reviewed: do not use"
COMPARISON = "For comparison: thresholds on the same wall"
COMPARISON_COLUMNS = ("", "burden", "scar", "intensity")
BULLSEYES = (
    "Bullseyes: seen from the apex; bold: value, small: segment, thick lines: usual "
    "territories of the arteries, hatched: not assessed."
)
RESEARCH_USE_ONLY = "Research use only. Not for diagnosis."
COMPARED = ("2SD", "3SD", "5SD", "6SD", "FWHM", "Otsu")
"""Of the threshold methods; zones within scar stand in measurements.csv."""

MOST_LINES = 6
"""Of concerns, warnings and identifiers: so many that the page stays one page."""
LONGEST, LONGEST_KEY = 170, 70
HASH_DIGITS = 12


@dataclasses.dataclass(frozen=True)
class Line:
    """A number with its name.

    Attributes:
        name: what it is.
        value: with its unit.
        note: in small letters.
    """

    name: str
    value: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class ReportContent:
    """All text of a report.

    Attributes:
        key: pseudonym of the study.
        stack: size and spacing of the images.
        identifiers: name and value, only those that were asked for.
        verdict: `PASS` or `REVIEW`.
        verdict_text: what that asks of the reader.
        concerns: why it is not a PASS.
        burden: the scar burden.
        interval: of it, or that there is none.
        interval_note: what the interval means.
        numbers: the further ones.
        thresholds: method, burden, mass, and where the threshold lies or why there is
            none.
        segments_not_assessed: why not; empty if they were.
        warnings: what is doubtful.
        made_by: name, short and full text.
        rules: what the numbers mean.
    """

    key: str
    stack: str
    identifiers: tuple[tuple[str, str], ...]
    verdict: str
    verdict_text: str
    concerns: tuple[str, ...]
    burden: str
    interval: str
    interval_note: str
    numbers: tuple[Line, ...]
    thresholds: tuple[tuple[str, str, str, str], ...]
    segments_not_assessed: str
    warnings: tuple[str, ...]
    made_by: tuple[tuple[str, str, str], ...]
    rules: str


def report_content(
    prediction: StudyPrediction,
    found: Measurements,
    interval: Interval | None,
    verdict: Verdict,
    provenance: Provenance,
    identifiers: Mapping[str, str] | None = None,
) -> ReportContent:
    """Words everything that was found; see `report.write_report`."""
    width = width_percent(interval)
    own = found.burden.burden_percent
    text, note = _interval(interval)
    warnings = dict.fromkeys((*prediction.study.warnings, *found.warnings))
    return ReportContent(
        key=plain(prediction.study.study_key, LONGEST_KEY),
        stack=_stack(prediction),
        identifiers=tuple(_identifiers(identifiers or {})),
        verdict=verdict.name,
        verdict_text=_verdict_text(verdict),
        concerns=_first([one.text for one in verdict.concerns], "reasons"),
        burden=amount(own, "%", decimals(width)),
        interval=text,
        interval_note=note,
        numbers=tuple(_numbers(found, width)),
        thresholds=tuple(_thresholds(found, width)),
        segments_not_assessed=plain(found.segments_not_assessed, LONGEST),
        warnings=_first([*warnings], "warnings"),
        made_by=tuple(_made_by(provenance)),
        rules=_rules(found),
    )


def _stack(prediction: StudyPrediction) -> str:
    study = prediction.study
    row_mm, column_mm = study.spacing_mm
    return (
        f"{len(study.pixels)} slices {study.slice_spacing_mm:.3g} mm apart, "
        f"pixels {row_mm:.3g} × {column_mm:.3g} mm"
    )


def _identifiers(given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in [*given.items()][:MOST_LINES]:
        yield plain(name, LONGEST_KEY), plain(value, LONGEST_KEY)


def _verdict_text(verdict: Verdict) -> str:
    if not verdict.concerns:
        return "The automatic checks found nothing to object to. Look at the contours."
    text = "A person must look before any number of this page is used."
    if verdict.slices:
        numbers = ", ".join(str(i) for i in verdict.slices)
        plural = "s" if len(verdict.slices) > 1 else ""
        text += f" Look first at slice{plural} {numbers}."
    return text


def _first(lines: Sequence[str], kind: str) -> tuple[str, ...]:
    """The first lines; the rest is counted, not passed over in silence."""
    shown = [plain(line, LONGEST) for line in lines[:MOST_LINES]]
    more = len(lines) - len(shown)
    return (*shown, *([f"and {more} more {kind}"] if more else []))


def _interval(interval: Interval | None) -> tuple[str, str]:
    if interval is None:
        return "no interval", "How sure the number is was not measured."
    rule = plain(interval.rule, LONGEST)
    if interval.coverage_percent is None:
        text = f"{bounds(interval)}, NOT CALIBRATED"
        return text, f"Spread only: says nothing of how often it is right. {rule}"
    share = f"{interval.coverage_percent:.0f} %"
    return (
        f"{share} interval {bounds(interval)}",
        f"Held a reader's value in {share} of calibration patients. {rule}",
    )


def _numbers(found: Measurements, width: float | None) -> Iterator[Line]:
    own = found.burden
    wall_ml = f"{_ml(own.myocardium_ml)}, of these slices only"
    yield Line("LV wall mass", amount(own.myocardium_g, "g"), wall_ml)
    places = _mass_decimals(found, width)
    yield Line(
        "Scar mass", amount(own.scar_g, "g", places), _ml(own.scar_ml, decimals=places)
    )
    yield _mvo(found, places)
    depth = amount(found.transmurality_percent, "%")
    yield Line("Transmurality of scar", depth, "of wall thickness, where there is scar")
    yield _layers(found)
    rings = len(found.completeness.full_rings)
    yield Line("Slices with a full ring", f"{rings} of {len(found.slices)}")


def _ml(value: float | None, decimals: int = 0) -> str:
    return "" if value is None else amount(value, "ml", decimals)


def _mass_decimals(found: Measurements, width: float | None) -> int:
    """Of the mass of scar: no finer than the interval is in grams."""
    return decimals(None if width is None else width / 100 * found.burden.myocardium_g)


def _mvo(found: Measurements, places: int) -> Line:
    """No-reflow: the network does not tell it apart, holes of scar may be it."""
    if found.hole_ml is None:
        return Line("MVO", NOT_KNOWN, "nobody looked for scar")
    if found.burden.mvo_ml:
        mass = amount(found.burden.mvo_g, "g", places)
        return Line("MVO (wall enclosed by scar)", mass, "counted as scar")
    if found.hole_ml:
        volume = amount(found.hole_ml, "ml", places)
        return Line("Wall enclosed by scar", volume, "may be MVO; not counted as scar")
    return Line("Wall enclosed by scar", "none", "no sign of MVO in the masks")


def _layers(found: Measurements) -> Line:
    shares = [one.share_of_scar_percent for one in found.layers]
    if not found.burden.scar_ml or None in shares:
        return Line("Scar by layer", NOT_KNOWN, "endocardial / mid-wall / epicardial")
    value = " / ".join(amount(share, "").strip() for share in shares)
    names = " / ".join(one.name for one in found.layers)
    return Line("Scar by layer", f"{value} %", names)


def _thresholds(
    found: Measurements, width: float | None
) -> Iterator[tuple[str, str, str, str]]:
    places = decimals(width), _mass_decimals(found, width)
    for one in found.thresholds:
        if one.method in COMPARED:
            burden_text = amount(one.burden_percent, "%", places[0])
            mass = amount(one.scar_g, "g", places[1])
            yield one.method, burden_text, mass, _threshold_note(one)


def _threshold_note(one: ThresholdScar) -> str:
    if one.threshold is None:
        return one.not_assessed
    base = "" if one.base is None else f" (base {intensity(one.base)})"
    return f"≥ {intensity(one.threshold)}{base}"


def _made_by(provenance: Provenance) -> Iterator[tuple[str, str, str]]:
    kind = f"{provenance.method}, {provenance.preset}"
    runs = len(provenance.weights_sha256)
    if runs > 1:
        kind += f", ensemble of {runs}"
    yield "method", plain(kind, LONGEST_KEY), ""
    yield "jdl_keras", plain(provenance.version, LONGEST_KEY), ""
    if provenance.exports:
        yield "exported version", ", ".join(map(str, provenance.exports)), ""
    yield "weights", *_hashes(provenance.weights_sha256)
    yield "record set", *_hashes(provenance.record_set_sha256)


def _hashes(every: Sequence[str]) -> tuple[str, str]:
    """Short and in full, each once."""
    different = [*dict.fromkeys(every)]
    return _first_hashes(different), ", ".join(different)


def _first_hashes(hashes: Sequence[str]) -> str:
    shown = [one[:HASH_DIGITS] for one in hashes[:MOST_LINES]]
    more = len(hashes) - len(shown)
    return ", ".join([*shown, *([f"{more} more"] if more else [])])


def _rules(found: Measurements) -> str:
    parts = [
        f"Mass: {burden.MASS_RULE}",
        f"Volume: {burden.VOLUME_RULE}",
        f"Scar burden: {burden.BURDEN_RULE}",
        f"Transmurality: {transmurality.TRANSMURALITY_RULE} that meet scar",
        f"Layers: {transmurality.LAYER_RULE}",
        "Slices are numbered from 0 at the base",
        "Unrounded numbers and all rules: measurements.csv",
    ]
    return ". ".join(parts) + "."
