"""Scar by thresholds on a given myocardium, to stand beside the model's, never for it.

One threshold serves the whole stack. What cannot be told says so: a threshold against
the brightest scar, and Otsu's, which always divides the wall in two, are applied only
where scar was detected.
"""

import dataclasses

import numpy as np

from jdl_keras.quantification.burden import percent, volume_ml
from jdl_keras.quantification.masks import WallMasks
from jdl_keras.quantification.remote import Remote
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import MYOCARDIAL_DENSITY_G_PER_ML
from tfrecords_tools.references.scar_rules import (
    fwhm_base,
    nsd_threshold,
    share_of_maximum,
)

DEVIATIONS = (2, 3, 5, 6)

BASES = {
    "remote": "the remote mean",
    "minimum": "the minimum of the myocardium",
    "zero": "0 (magnitude images only)",
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """A threshold method.

    Attributes:
        name: such as "5SD".
        kind: `sd` above the remote mean, `share` of the maximum, or `otsu`.
        low: deviations, or share of the height; unused by `otsu`.
        high: the same, where a zone ends that has an upper border too.
        source: where it is from.
    """

    name: str
    kind: str
    low: float
    high: float | None
    source: str


_KIM, _AMADO = "Kim et al., Circulation 1999", "Amado et al., JACC 2004"
_ROES, _YAN = "Roes 2009 (preset)", "Yan 2006 (preset)"

METHODS = (
    *(Rule(f"{n}SD", "sd", n, None, _KIM) for n in DEVIATIONS),
    Rule("FWHM", "share", 0.5, None, _AMADO),
    Rule("Otsu", "otsu", 0, None, "Otsu 1979"),
    Rule("core (Roes)", "share", 0.50, None, _ROES),
    Rule("grey zone (Roes)", "share", 0.35, 0.50, _ROES),
    Rule("core (Yan)", "sd", 3, None, _YAN),
    Rule("grey zone (Yan)", "sd", 2, 3, _YAN),
)


@dataclasses.dataclass(frozen=True, eq=False)
class ThresholdScar:
    """Scar by one method.

    Attributes:
        method: its name.
        rule: in words, with its source.
        threshold: intensity from which wall is scar; None if not assessed.
        base: intensity that heights are measured from; None for other kinds.
        mask: (S, H, W) boolean; None if not assessed.
        scar_g: its mass.
        burden_percent: of the wall.
        not_assessed: why not; empty if it was.
    """

    method: str
    rule: str
    threshold: float | None = None
    base: float | None = None
    mask: np.ndarray | None = None
    scar_g: float | None = None
    burden_percent: float | None = None
    not_assessed: str = ""


def threshold_scars(
    masks: WallMasks, pixels: np.ndarray, remote: Remote, base: str = "remote"
) -> list[ThresholdScar]:
    """Scar by each of `METHODS`.

    Args:
        masks: the wall, and the detected scar.
        pixels: (S, H, W) intensities.
        remote: see `quantification.remote`.
        base: of `BASES`; what the height of the maximum is measured from.

    Raises:
        RefusedError: `SHAPE_MISMATCH`, `NOT_FINITE`, or `CONFIG` for the base zero on
            an image with negative values.
    """
    if pixels.shape != masks.myocardium.shape:
        reason = f"expected {masks.myocardium.shape}, got {pixels.shape}"
        raise RefusedError("image", "SHAPE_MISMATCH", reason)
    wall = pixels[masks.myocardium]
    if not np.isfinite(wall).all():
        raise RefusedError("image", "NOT_FINITE", "NaN or infinity in the myocardium")
    if base == "zero" and wall.min() < 0:
        reason = "zero is for magnitude images; this one has negative values"
        raise RefusedError("fwhm_base", "CONFIG", f"{reason}: use remote or minimum")
    return [_apply(rule, masks, pixels, remote, base) for rule in METHODS]


def otsu_threshold(values: np.ndarray) -> float:
    """The lowest value of the upper class where the variance between two is largest.

    Exact, without a histogram: where bins are wide against the steps of the image, the
    values of the bin at the border fall to either class.

    Args:
        values: (N,), not all equal.
    """
    ordered = np.sort(values)
    count = len(ordered)
    lower = np.arange(1, count)  # size of the lower class
    excess = np.cumsum(ordered - ordered.mean())[:-1]
    between = excess**2 / (lower * (count - lower))
    between[ordered[1:] == ordered[:-1]] = -1  # equal values stay together
    return float(ordered[1 + between.argmax()])


def _apply(
    rule: Rule, masks: WallMasks, pixels: np.ndarray, remote: Remote, base: str
) -> ThresholdScar:
    text = f"{_words(rule, base)}; {rule.source}"
    if rule.kind == "sd" or (rule.kind == "share" and base == "remote"):
        text = f"{text}; {remote.rule}"
    refusal = _refusal(rule, masks, pixels, remote, base)
    if refusal:
        return ThresholdScar(rule.name, text, not_assessed=refusal)
    low, level = _threshold(rule, rule.low, masks, pixels, remote, base)
    mask = masks.myocardium & (pixels >= low)
    if rule.high is not None:
        mask &= pixels < _threshold(rule, rule.high, masks, pixels, remote, base)[0]
    scar_ml = volume_ml(mask, masks)
    return ThresholdScar(
        method=rule.name,
        rule=text,
        threshold=low,
        base=level,
        mask=mask,
        scar_g=scar_ml * MYOCARDIAL_DENSITY_G_PER_ML,
        burden_percent=percent(scar_ml, volume_ml(masks.myocardium, masks)),
    )


def _words(rule: Rule, base: str) -> str:
    if rule.kind == "otsu":
        return "Otsu's threshold of the myocardium, where scar was detected"
    if rule.kind == "sd":
        end = "" if rule.high is None else f" to {rule.high:g}"
        return f"remote mean + {rule.low:g}{end} SD"
    end = "" if rule.high is None else f" to {100 * rule.high:g}"
    share = f"{100 * rule.low:g}{end} % of the height of the detected scar's maximum"
    return f"{share} over {BASES[base]}"


def _refusal(
    rule: Rule, masks: WallMasks, pixels: np.ndarray, remote: Remote, base: str
) -> str:
    """Why a method cannot be applied; empty if it can."""
    if rule.kind != "sd" and not masks.scar.any():
        return "no scar detected" if masks.has_scar else "nobody looked for scar"
    needs_remote = rule.kind == "sd" or (rule.kind == "share" and base == "remote")
    if needs_remote and not remote.mask.any():
        return "no remote wall"
    if rule.kind == "sd" and np.ptp(pixels[remote.mask]) == 0:
        return "the remote wall has no spread"
    if rule.kind == "otsu" and np.ptp(pixels[masks.myocardium]) == 0:
        return "the myocardium has one value only"
    if rule.kind == "share":
        level = fwhm_base(base, pixels[remote.mask], pixels[masks.myocardium])
        if pixels[masks.scar].max() <= level:
            return "the detected scar is not brighter than the base"
    return ""


def _threshold(
    rule: Rule,
    amount: float,
    masks: WallMasks,
    pixels: np.ndarray,
    remote: Remote,
    base: str,
) -> tuple[float, float | None]:
    """The intensity from which wall counts, and the base if there is one."""
    if rule.kind == "sd":
        return nsd_threshold(pixels[remote.mask], amount), None
    wall = pixels[masks.myocardium]
    if rule.kind == "otsu":
        return otsu_threshold(wall), None
    level = fwhm_base(base, pixels[remote.mask], wall)
    return share_of_maximum(level, float(pixels[masks.scar].max()), amount), level
