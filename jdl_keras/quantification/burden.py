"""Volumes, masses and scar burden, of the stack and of each slice."""

import dataclasses

import numpy as np

from jdl_keras.quantification.masks import WallMasks
from tfrecords_tools.labels import MYOCARDIAL_DENSITY_G_PER_ML

VOLUME_RULE = (
    "sum over slices of area x distance of slice centres along the stack's normal "
    "(thickness plus gap)"
)
MASS_RULE = f"volume x {MYOCARDIAL_DENSITY_G_PER_ML} g/ml"
BURDEN_RULE = "100 x scar volume / myocardial volume, both with scar and MVO"


@dataclasses.dataclass(frozen=True)
class Burden:
    """Volumes and masses; what was not looked for is None.

    Attributes:
        myocardium_ml: the whole wall, scar and MVO included.
        scar_ml: scar, MVO included.
        mvo_ml: MVO alone.
    """

    myocardium_ml: float
    scar_ml: float | None
    mvo_ml: float | None

    @property
    def myocardium_g(self) -> float:
        """Mass of the whole wall."""
        return self.myocardium_ml * MYOCARDIAL_DENSITY_G_PER_ML

    @property
    def scar_g(self) -> float | None:
        """Mass of the scar."""
        return _mass_g(self.scar_ml)

    @property
    def mvo_g(self) -> float | None:
        """Mass of the MVO."""
        return _mass_g(self.mvo_ml)

    @property
    def burden_percent(self) -> float | None:
        """Scar as a share of the wall; None without wall or where not looked for."""
        if self.scar_ml is None:
            return None
        return percent(self.scar_ml, self.myocardium_ml)


def burden(masks: WallMasks) -> Burden:
    """Volumes and masses of the stack."""
    return _burden(masks, slice(None))


def slice_burdens(masks: WallMasks) -> list[Burden]:
    """The same of each slice; they add up to that of the stack."""
    return [_burden(masks, slice(i, i + 1)) for i in range(len(masks.label_map))]


def volume_ml(mask: np.ndarray, masks: WallMasks) -> float:
    """Volume of a boolean mask, any part of the stack of `masks`."""
    return int(np.count_nonzero(mask)) * masks.voxel_ml


def percent(part: float, whole: float) -> float | None:
    """100 x part / whole; None if there is no whole."""
    return 100 * part / whole if whole else None


def _burden(masks: WallMasks, slices: slice) -> Burden:
    return Burden(
        volume_ml(masks.myocardium[slices], masks),
        volume_ml(masks.scar[slices], masks) if masks.has_scar else None,
        volume_ml(masks.mvo[slices], masks) if masks.has_scar else None,
    )


def _mass_g(ml: float | None) -> float | None:
    return None if ml is None else ml * MYOCARDIAL_DENSITY_G_PER_ML
