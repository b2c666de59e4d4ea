"""Scar as a threshold inside the wall, by a rule that has a name.

Formulas: Kim et al., Circulation 1999 (n-SD); Amado et al., JACC 2004 (FWHM). Where a
slice has no contour of remote or enhanced wall of its own, those of all slices serve.
"""

import numpy as np

from tfrecords_tools.references.config import ReferenceConfig


def scar_by_rule(
    pixels: np.ndarray,
    wall: np.ndarray,
    remote: np.ndarray,
    enhanced: np.ndarray,
    config: ReferenceConfig,
) -> tuple[np.ndarray, str] | None:
    """Scar in the wall, exclusions not yet taken out.

    Args:
        pixels: (S, H, W) intensities.
        wall: (S, H, W) boolean.
        remote: (S, H, W) boolean, wall without enhancement.
        enhanced: (S, H, W) boolean, a region that is enhanced.
        config: the rule.

    Returns:
        (S, H, W) boolean, and the rule in words; None if its contours are missing.
    """
    needs_remote = config.scar_rule == "nsd" or config.fwhm_base == "remote"
    if config.scar_rule == "none" or (needs_remote and not remote.any()):
        return None
    if config.scar_rule == "fwhm" and not enhanced.any():
        return None
    scar = np.zeros_like(wall)
    thresholds = []
    for index in np.flatnonzero(wall.any(axis=(1, 2))).tolist():
        near = _values(pixels, remote, index), _values(pixels, enhanced, index)
        threshold = _threshold(*near, pixels[index][wall[index]], config)
        scar[index] = wall[index] & (pixels[index] >= threshold)
        thresholds.append(threshold)
    rule = (
        f"remote mean + {config.scar_sd:g} SD"
        if config.scar_rule == "nsd"
        else f"half maximum over the base '{config.fwhm_base}'"
    )
    limits = f"{min(thresholds):.4g} to {max(thresholds):.4g}" if thresholds else "none"
    return scar, f"scar rebuilt by {rule}, thresholds {limits}"


def _values(pixels: np.ndarray, mask: np.ndarray, index: int) -> np.ndarray:
    """Of the slice's own region, or of the regions of all slices."""
    own = mask[index]
    return pixels[index][own] if own.any() else pixels[mask]


def _threshold(
    remote: np.ndarray, enhanced: np.ndarray, wall: np.ndarray, config: ReferenceConfig
) -> float:
    if config.scar_rule == "nsd":
        return nsd_threshold(remote, config.scar_sd)
    base = fwhm_base(config.fwhm_base, remote, wall)
    return share_of_maximum(base, float(enhanced.max()), 0.5)


def nsd_threshold(remote: np.ndarray, sd: float) -> float:
    """Mean of the remote intensities and `sd` of their deviations above it."""
    return float(remote.mean() + sd * remote.std())


def fwhm_base(name: str, remote: np.ndarray, wall: np.ndarray) -> float:
    """Level that heights are measured from: `remote`, `minimum` or `zero`.

    Args:
        name: mean of the remote wall, minimum of the wall, or 0 (magnitude only).
        remote: its intensities; only needed for `remote`.
        wall: intensities of the whole wall; only needed for `minimum`.
    """
    if name == "remote":
        return float(remote.mean())
    return float(wall.min()) if name == "minimum" else 0.0


def share_of_maximum(base: float, maximum: float, share: float) -> float:
    """The level at `share` of the height of `maximum` over `base`; 0.5 is FWHM."""
    return base + share * (maximum - base)
