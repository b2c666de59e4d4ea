"""The masks that are measured: wall, scar and MVO of one stack, base first."""

import dataclasses
from functools import cached_property

import numpy as np
from scipy import ndimage

from jdl_keras.quantification.config import SliceOrder
from tfrecords_tools import geometry
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.label_shapes import (
    SliceShape,
    enclosed_holes,
    shape_of_labels,
)
from tfrecords_tools.labels import MYOCARDIUM, SCAR, Tissue, region_mask
from tfrecords_tools.sources.volume_study import apex_first, flipped_affine

HOLE_RULE = (
    "areas of wall without scar that scar of the same slice encloses are counted as "
    "MVO, and so as scar"
)


@dataclasses.dataclass(frozen=True, eq=False)
class WallMasks(geometry.Placed):
    """The masks of one stack, base to apex.

    Attributes:
        label_map: (S, H, W) uint8 of `Tissue`. What is labelled as scar or MVO is wall
            wherever it lies.
        affine: (4, 4), see `tfrecords_tools.geometry`.
        has_scar: whether scar was looked for; if not, its absence means nothing.

    Raises:
        RefusedError: `SHAPE_MISMATCH`, `LABELS` or `BAD_GEOMETRY`.
    """

    label_map: np.ndarray
    affine: np.ndarray
    has_scar: bool = True

    def __post_init__(self):
        if self.label_map.ndim != 3 or self.label_map.dtype != np.uint8:
            found = f"{self.label_map.dtype} {self.label_map.shape}"
            reason = f"expected uint8 (S, H, W), got {found}"
            raise RefusedError("masks", "SHAPE_MISMATCH", reason)
        if self.label_map.max(initial=0) > max(Tissue):
            raise RefusedError("masks", "LABELS", f"expected 0 to {max(Tissue)}")
        fault = geometry.fault(self.affine)
        if fault:
            raise RefusedError("masks", "BAD_GEOMETRY", fault)
        if not self.myocardium.any():
            raise RefusedError("masks", "LABELS", "no myocardium in any slice")

    @cached_property
    def myocardium(self) -> np.ndarray:
        """(S, H, W) boolean: the whole wall, scar and MVO included."""
        return region_mask(self.label_map, MYOCARDIUM)

    @cached_property
    def scar(self) -> np.ndarray:
        """(S, H, W) boolean: enhanced wall, MVO included."""
        return region_mask(self.label_map, SCAR)

    @cached_property
    def mvo(self) -> np.ndarray:
        """(S, H, W) boolean: the dark core of scar."""
        return self.label_map == Tissue.MVO

    @cached_property
    def shapes(self) -> tuple[SliceShape | None, ...]:
        """The shape of each slice; None where there is neither wall nor blood."""
        return tuple(shape_of_labels(one, self.spacing_mm) for one in self.label_map)

    @property
    def pixel_mm2(self) -> float:
        """Area of one pixel."""
        return self.spacing_mm[0] * self.spacing_mm[1]

    @property
    def voxel_ml(self) -> float:
        """Volume that one pixel of a slice stands for."""
        return geometry.voxel_volume_ml(self.spacing_mm, self.slice_spacing_mm)

    @cached_property
    def long_axis(self) -> np.ndarray:
        """Unit vector (3,) across the slices, from the first, basal one to the last."""
        normal = geometry.stack_normal(self.affine)
        return normal * np.sign(self.affine[:3, 2] @ normal)


def masks_of(
    myocardium: np.ndarray,
    scar: np.ndarray | None,
    affine: np.ndarray,
    mvo: np.ndarray | None = None,
) -> WallMasks:
    """Masks of separate structures, scar laid over the wall and MVO over scar.

    Args:
        myocardium: (S, H, W) boolean, with or without what is scar.
        scar: the same; None if nobody looked for it.
        affine: (4, 4), see `tfrecords_tools.geometry`; slices base first.
        mvo: the same, if it is told apart.

    Raises:
        RefusedError: see `WallMasks`, and `SHAPE_MISMATCH` if shapes differ.
    """
    label_map = np.zeros(myocardium.shape, np.uint8)
    layers = (myocardium, scar, mvo)
    for tissue, mask in zip((2, 3, 4), layers, strict=True):
        if mask is None:
            continue
        if mask.shape != label_map.shape or mask.dtype != bool:
            reason = f"expected boolean {label_map.shape}, got {mask.dtype} "
            raise RefusedError("masks", "SHAPE_MISMATCH", f"{reason}{mask.shape}")
        label_map[mask] = Tissue(tissue)
    return WallMasks(label_map, affine, scar is not None)


def base_first(
    array: np.ndarray, affine: np.ndarray, order: SliceOrder = "auto"
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A volume and its affine with the base first, and what is doubtful about it.

    Args:
        array: (S, ...).
        affine: (4, 4), see `tfrecords_tools.geometry`.
        order: which slice comes first; `auto` goes by the directions in the affine.
    """
    turn, told = apex_first(order, affine, len(array))
    if not turn:
        return array, affine, told
    return np.flip(array, 0), flipped_affine(affine, 2, len(array)), told


def with_filled_holes(masks: WallMasks) -> WallMasks:
    """The masks with holes of scar as MVO, by `HOLE_RULE`.

    A hole that holds anything but wall is the cavity inside scar all round it.
    """
    label_map = masks.label_map.copy()
    for index, scar in enumerate(masks.scar):
        numbers, count = ndimage.label(enclosed_holes(scar))
        for number in range(1, count + 1):
            hole = numbers == number
            if masks.myocardium[index][hole].all():
                label_map[index][hole] = Tissue.MVO
    return dataclasses.replace(masks, label_map=label_map)
