"""Remote wall: the part without enhancement that thresholds are measured against."""

import dataclasses

import numpy as np
from scipy import ndimage

from jdl_keras.quantification.chords import any_anchor
from jdl_keras.quantification.config import RemoteRule
from jdl_keras.quantification.masks import WallMasks
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.label_shapes import distance_mm

REMOTE_FROM_SCAR_MM = 5.0
"""Keeps the grey border of scar, one to three pixels wide, out of the remote wall."""

SECTORS = 6

LEAST_PIXELS = 20
"""Fewer do not tell a deviation."""


RULES = {
    "given": "remote mask as given",
    "beyond_scar": (
        f"remote: wall at least {REMOTE_FROM_SCAR_MM:g} mm from the scar of its slice, "
        "without its outermost pixels, all slices together"
    ),
    "darkest_sector": (
        f"remote: of {SECTORS} sectors around the slices' centres the one with the "
        "lowest mean, without the wall's outermost pixels, all slices together"
    ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Remote:
    """Remote wall and the rule that found it; empty where there is none."""

    mask: np.ndarray
    rule: str


def given_remote(masks: WallMasks, mask: np.ndarray) -> Remote:
    """The part of a mask (S, H, W), drawn by somebody, that lies in the wall.

    Raises:
        RefusedError: `SHAPE_MISMATCH`, or `LABELS` if it does not meet the wall.
    """
    if mask.shape != masks.myocardium.shape or mask.dtype != bool:
        reason = f"expected boolean {masks.myocardium.shape}, got {mask.shape}"
        raise RefusedError("remote", "SHAPE_MISMATCH", reason)
    inside = mask & masks.myocardium
    if not inside.any():
        raise RefusedError("remote", "LABELS", "no pixel of it lies in the myocardium")
    return Remote(inside, RULES["given"])


def automatic_remote(
    masks: WallMasks, pixels: np.ndarray, rule: RemoteRule = "auto"
) -> Remote:
    """Remote wall by one of `RULES`; `auto` is beyond the scar, if it is known.

    Args:
        masks: the stack.
        pixels: (S, H, W) intensities.
        rule: which.

    Raises:
        RefusedError: `CONFIG`, if the rule needs scar and nobody looked for it.
    """
    if rule == "beyond_scar" and not masks.has_scar:
        reason = "the masks have no scar; use darkest_sector, or give a remote mask"
        raise RefusedError("remote_rule", "CONFIG", reason)
    if rule == "auto":
        rule = "beyond_scar" if masks.has_scar else "darkest_sector"
    inner = _without_rim(masks.myocardium)
    if rule == "beyond_scar":
        found = _beyond_scar(masks, inner)
    else:
        found = _darkest_sector(masks, inner, pixels)
    return Remote(found, RULES[rule])


def _without_rim(wall: np.ndarray) -> np.ndarray:
    """The rim holds blood or fat too; where the wall is all rim, it must do."""
    cross = ndimage.generate_binary_structure(2, 1)
    inner = np.stack([ndimage.binary_erosion(one, cross) for one in wall])
    return inner if np.count_nonzero(inner) >= LEAST_PIXELS else wall


def _beyond_scar(masks: WallMasks, inner: np.ndarray) -> np.ndarray:
    far = np.ones_like(inner)
    for index in np.flatnonzero(masks.scar.any(axis=(1, 2))):
        away_mm = distance_mm(masks.scar[index], masks.spacing_mm)
        far[index] = away_mm >= REMOTE_FROM_SCAR_MM
    found = inner & far
    return found if np.count_nonzero(found) >= LEAST_PIXELS else np.zeros_like(found)


def _darkest_sector(
    masks: WallMasks, inner: np.ndarray, pixels: np.ndarray
) -> np.ndarray:
    sectors = np.full(inner.shape, SECTORS)
    anchor = any_anchor(masks)
    across = np.cross(masks.long_axis, anchor)
    for index in np.flatnonzero(inner.any(axis=(1, 2))):
        shape = masks.shapes[index]
        assert shape is not None  # it has wall
        places = np.argwhere(inner[index])
        offsets_mm = (places - shape.centre) @ masks.affine[:3, :2].T
        turn = np.arctan2(offsets_mm @ across, offsets_mm @ anchor) / (2 * np.pi)
        sectors[index][tuple(places.T)] = np.floor(turn % 1 * SECTORS) % SECTORS
    candidates = [sectors == number for number in range(SECTORS)]
    large = [one for one in candidates if np.count_nonzero(one) >= LEAST_PIXELS]
    if not large:
        return np.zeros_like(inner)
    return min(large, key=lambda one: pixels[one].mean())
