"""The left ventricle's wall, tabulated: reference label maps and exact areas.

Label map, areas and signal read tables of the same functions, so they agree by
construction.
"""

import dataclasses

import numpy as np

from tfrecords_tools.labels import Tissue
from tfrecords_tools.sources.phantom.anatomy import TURN, Ventricle
from tfrecords_tools.sources.phantom.scars import Scar, wall_thickness_mm
from tfrecords_tools.sources.phantom.stack import Stack

TABLE_ANGLES = 720
"""Steps of a turn in a table: 0.3 mm along the epicardium of a large heart."""

FINE_ANGLES, FINE_DEPTHS = 1440, 100
"""Cells of the polar summation behind `areas_mm2`: about 0.1 mm."""

Intervals = tuple[tuple[np.ndarray, np.ndarray], ...]
"""For each scar the depths where something begins and ends."""


@dataclasses.dataclass(frozen=True, eq=False)
class WallTable:
    """The wall over a turn in some planes; arrays are (planes, angles).

    Attributes:
        endocardium_mm: distance of the endocardium from the centre.
        thickness_mm: wall thickness.
        scars: depths of each scar.
        cores: depths of each scar's no-reflow core.
    """

    endocardium_mm: np.ndarray
    thickness_mm: np.ndarray
    scars: Intervals
    cores: Intervals

    @property
    def reach_mm(self) -> float:
        """The largest distance of the epicardium from the centre."""
        return float((self.endocardium_mm + self.thickness_mm).max())


def tabulate(
    ventricle: Ventricle, scars: tuple[Scar, ...], z_mm: np.ndarray, angles: int
) -> WallTable:
    """The wall in the planes `z_mm` (planes,), at `angles` equal steps of a turn."""
    angle, z = np.meshgrid(np.arange(angles) * (TURN / angles), z_mm)
    return WallTable(
        ventricle.endocardium_mm(angle, z).astype(np.float32),
        wall_thickness_mm(ventricle, scars, angle, z).astype(np.float32),
        tuple(_single(scar.interval(angle, z)) for scar in scars),
        tuple(_single(scar.core(angle, z)) for scar in scars),
    )


def look_up(intervals: Intervals, plane: np.ndarray, step: np.ndarray) -> Intervals:
    """The intervals at the table places (plane, step)."""
    return tuple((start[plane, step], end[plane, step]) for start, end in intervals)


def angle_step(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Nearest step of the table for places x (to the right) and y (up)."""
    step = np.rint(np.arctan2(y, x) * (TABLE_ANGLES / TURN)).astype(np.int32)
    return step % TABLE_ANGLES


def areas_mm2(
    ventricle: Ventricle, scars: tuple[Scar, ...], z_mm: np.ndarray
) -> dict[Tissue, np.ndarray]:
    """Area of each tissue of the wall in each plane, by fine polar summation."""
    table = tabulate(ventricle, scars, z_mm, FINE_ANGLES)
    depth = ((np.arange(FINE_DEPTHS) + 0.5) / FINE_DEPTHS)[:, None, None]
    radius = table.endocardium_mm + depth * table.thickness_mm
    cell = radius * (table.thickness_mm / FINE_DEPTHS) * (TURN / FINE_ANGLES)
    tissue = _tissue(depth, table.scars, table.cores, cell.shape)
    wall = (Tissue.HEALTHY_MYOCARDIUM, Tissue.SCAR, Tissue.MVO)
    return {t: np.where(tissue == t, cell, 0.0).sum(axis=(0, 2)) for t in wall}


def label_map(
    ventricle: Ventricle, scars: tuple[Scar, ...], stack: Stack
) -> np.ndarray:
    """The reference (S, H, W) uint8 of `Tissue`.

    A pixel has the tissue at its centre, in the slice's middle plane. Papillary muscles
    count as blood pool.
    """
    table = tabulate(ventricle, scars, stack.z_mm, TABLE_ANGLES)
    x, y = stack.places_mm()
    radius = np.hypot(x, y)
    near = np.nonzero(radius < table.reach_mm)
    plane, step, radius = near[0], angle_step(x[near], y[near]), radius[near]
    depth = (radius - table.endocardium_mm[plane, step]) / table.thickness_mm[
        plane, step
    ]
    scar, core = look_up(table.scars, plane, step), look_up(table.cores, plane, step)
    tissue = _tissue(depth, scar, core, depth.shape)
    tissue[depth < 0] = Tissue.BLOOD_POOL
    tissue[depth >= 1] = Tissue.BACKGROUND
    labels = np.zeros(x.shape, np.uint8)
    labels[near] = tissue
    return labels


def _tissue(
    depth: np.ndarray, scars: Intervals, cores: Intervals, shape: tuple[int, ...]
) -> np.ndarray:
    """Tissue of the wall at `depth`; a core wins over the scar that it lies in."""
    tissue = np.full(shape, Tissue.HEALTHY_MYOCARDIUM, np.uint8)
    for kind, intervals in ((Tissue.SCAR, scars), (Tissue.MVO, cores)):
        for start, end in intervals:
            tissue[(depth >= start) & (depth < end)] = kind
    return tissue


def _single(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return pair[0].astype(np.float32), pair[1].astype(np.float32)
