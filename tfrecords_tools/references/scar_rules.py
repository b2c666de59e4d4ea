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
        return float(remote.mean() + config.scar_sd * remote.std())
    base = {"zero": 0.0, "minimum": float(wall.min())}.get(config.fwhm_base)
    base = float(remote.mean()) if base is None else base
    return base + (float(enhanced.max()) - base) / 2
