"""The ventricle sampled: label maps, exact masses, and supersampled signal.

All three read one table of the same continuous wall, so they agree by construction.
"""

import dataclasses

import numpy as np

from tfrecords_tools.labels import Tissue
from tfrecords_tools.sources.phantom.anatomy import TURN, Ripple, Ventricle
from tfrecords_tools.sources.phantom.scars import Scar, wall_thickness_mm
from tfrecords_tools.sources.phantom.stack import Stack

TABLE_ANGLES = 720
"""Steps of a turn in the tables: 0.4 mm on the epicardium of a large heart."""

SCAR_BORDER_MM = 3.0
"""Width over which scar signal blends into healthy wall; its label ends half-way."""

EDGE_MM = 3.0
"""Width over which blood blends into wall, and wall into its surroundings."""


@dataclasses.dataclass(frozen=True, eq=False)
class WallTable:
    """The wall on `angles` in some planes; arrays are (planes, angles).

    Attributes:
        endocardium_mm: distance of the endocardium from the centre.
        thickness_mm: wall thickness.
        scars: for each scar the depths where it begins and ends.
        cores: for each scar the depths where its no-reflow core begins and ends.
    """

    endocardium_mm: np.ndarray
    thickness_mm: np.ndarray
    scars: tuple[tuple[np.ndarray, np.ndarray], ...]
    cores: tuple[tuple[np.ndarray, np.ndarray], ...]


def tabulate(
    ventricle: Ventricle, scars: tuple[Scar, ...], z_mm: np.ndarray, angles: int
) -> WallTable:
    """The wall in the planes `z_mm`, at `angles` equal steps of a turn."""
    grid = np.arange(angles) * (TURN / angles), np.asarray(z_mm)
    angle, z = np.meshgrid(*grid)
    return WallTable(
        ventricle.endocardium_mm(angle, z),
        wall_thickness_mm(ventricle, scars, angle, z),
        tuple(scar.interval(angle, z) for scar in scars),
        tuple(scar.core(angle, z) for scar in scars),
    )


def areas_mm2(
    ventricle: Ventricle, scars: tuple[Scar, ...], z_mm: np.ndarray
) -> dict[Tissue, np.ndarray]:
    """Area of each tissue of the wall in each plane, by fine polar summation."""
    angles, depths = 2880, (np.arange(120) + 0.5) / 120
    table = tabulate(ventricle, scars, z_mm, angles)
    depth = depths[:, None, None]
    radius = table.endocardium_mm + depth * table.thickness_mm
    cell = radius * (table.thickness_mm / len(depths)) * (TURN / angles)
    tissue = _tissue(depth, table.scars, table.cores)
    return {
        kind: np.where(tissue == kind, cell, 0.0).sum(axis=(0, 2))
        for kind in (Tissue.HEALTHY_MYOCARDIUM, Tissue.SCAR, Tissue.MVO)
    }


def label_map(
    ventricle: Ventricle, scars: tuple[Scar, ...], stack: Stack
) -> np.ndarray:
    """(S, H, W) uint8: the tissue at each pixel's centre, in the slice's middle plane.

    Papillary muscles count as blood pool.
    """
    table = tabulate(ventricle, scars, stack.z_mm, TABLE_ANGLES)
    rows, columns = np.indices(stack.shape, dtype=np.float32)
    x = (columns - stack.centre[:, 1, None, None]) * stack.pixel_mm
    y = (stack.centre[:, 0, None, None] - rows) * stack.pixel_mm
    labels = np.zeros(x.shape, np.uint8)
    near = np.hypot(x, y) < (table.endocardium_mm + table.thickness_mm).max()
    plane = np.nonzero(near)[0]
    radius, step = _polar(x[near], y[near])
    depth = (radius - table.endocardium_mm[plane, step]) / table.thickness_mm[plane, step]
    scar, core = _look_up(table.scars, plane, step), _look_up(table.cores, plane, step)
    tissue = _tissue(depth, scar, core)
    tissue[depth < 0] = Tissue.BLOOD_POOL
    tissue[depth >= 1] = Tissue.BACKGROUND
    labels[near] = tissue
    return labels


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How finely signal is rendered: samples a pixel side, and planes a slab."""

    in_plane: int = 2
    through_plane: int = 3


def signal_layer(
    ventricle: Ventricle,
    scars: tuple[Scar, ...],
    texture: np.ndarray,
    stack: Stack,
    signal: dict[str, float],
    sampling: Sampling,
) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
    """Signal and cover (S, h, w) of the ventricle, and the window that they fill.

    Every pixel averages sub-pixels over the thickness of the slab.
    """
    shifts = (np.arange(sampling.through_plane) + 0.5) / sampling.through_plane - 0.5
    z_mm = np.add.outer(stack.z_mm, shifts * stack.thickness_mm)  # (S, planes)
    table = tabulate(ventricle, scars, z_mm.ravel(), TABLE_ANGLES)
    reach_mm = (table.endocardium_mm + table.thickness_mm).max() + EDGE_MM
    window = _window(stack, reach_mm)
    x, y = _sub_pixels(stack, window, sampling.in_plane)  # (S, h, w, sub-pixels)
    total, cover = 0.0, 0.0
    trabeculae = np.clip(0.15 + 0.45 * texture[:, *window], 0.0, 0.9)[..., None]
    radius, step = _polar(x, y)
    first = np.arange(len(stack.z_mm))[:, None, None, None] * sampling.through_plane
    for plane in range(sampling.through_plane):
        heights = z_mm[:, plane]
        value, inside = _sample(
            ventricle, table, trabeculae, first + plane, step, radius, x, y, heights, signal
        )
        total = total + (value * inside).sum(axis=3)
        cover = cover + inside.sum(axis=3)
    samples = sampling.through_plane * sampling.in_plane**2
    return total / np.maximum(cover, 1e-6), cover / samples, window


def _sample(ventricle, table, trabeculae, plane, step, radius, x, y, z_mm, signal):
    endocardium = table.endocardium_mm.astype(np.float32)[plane, step]
    thickness = table.thickness_mm.astype(np.float32)[plane, step]
    depth = (radius - endocardium) / thickness
    wall = np.full_like(depth, signal["myocardium"])
    for name, intervals in (("scar", table.scars), ("mvo", table.cores)):
        for start, end in _look_up(intervals, plane, step):
            inner = np.minimum(depth - start, end - depth) * thickness
            # An endocardial scar has no soft border towards the blood.
            inner = np.where(start <= 0, (end - depth) * thickness, inner)
            share = np.clip(0.5 + inner / SCAR_BORDER_MM, 0.0, 1.0)
            wall += share * (signal[name] - wall)
    inward = endocardium - radius
    muscle = trabeculae * np.exp(-np.maximum(inward, 0.0) / 4.0)
    for papillary in ventricle.papillaries:
        muscle = np.maximum(muscle, _papillary_cover(ventricle, papillary, x, y, z_mm))
    cavity = signal["blood"] + muscle * (signal["myocardium"] - signal["blood"])
    blood = np.clip(0.5 + inward / EDGE_MM, 0.0, 1.0)
    inside = np.clip(0.5 + (1 - depth) * thickness / EDGE_MM, 0.0, 1.0)
    return wall + blood * (cavity - wall), inside


def _papillary_cover(ventricle, papillary, x, y, z_mm):
    radius = ventricle.endocardium_mm(np.full_like(z_mm, papillary.angle), z_mm)
    place = (papillary.share_of_radius * radius)[:, None, None, None]
    # The muscle thickens from its chordae down to its root.
    grown = np.clip((z_mm - papillary.top_mm) / 12.0, 0.0, 1.0) ** 0.5
    size = (papillary.radius_mm * grown)[:, None, None, None].astype(np.float32)
    cosine, sine = np.cos(papillary.angle), np.sin(papillary.angle)
    along = (cosine * x + sine * y - place) / 1.5
    across = cosine * y - sine * x
    away = np.hypot(along, across) + 0.25 * np.abs(across)
    return 0.85 * np.clip(0.5 + (size - away) / 2.4, 0.0, 1.0) * (size > 0)


def _tissue(depth, scars, cores):
    """Tissue of the wall at `depth`, given the intervals there."""
    tissue = np.full(np.broadcast(depth, *[s for s, _ in scars]).shape, 2, np.uint8)
    for kind, intervals in ((Tissue.SCAR, scars), (Tissue.MVO, cores)):
        for start, end in intervals:
            tissue[(depth >= start) & (depth < end)] = kind
    return tissue


def _look_up(intervals, plane, step):
    return tuple((start[plane, step], end[plane, step]) for start, end in intervals)


def _polar(x, y):
    radius = np.hypot(x, y)
    step = np.rint(np.arctan2(y, x) * (TABLE_ANGLES / TURN)).astype(np.int32)
    return radius, step % TABLE_ANGLES


def _window(stack: Stack, reach_mm: float) -> tuple[slice, slice]:
    """Rows and columns within `reach_mm` of the ventricle's centre in any slice."""
    reach = reach_mm / stack.pixel_mm
    low = np.maximum(np.floor(stack.centre.min(axis=0) - reach), 0).astype(int)
    high = np.ceil(stack.centre.max(axis=0) + reach).astype(int) + 1
    high = np.minimum(high, stack.shape)
    return slice(low[0], high[0]), slice(low[1], high[1])


def _sub_pixels(stack: Stack, window: tuple[slice, slice], side: int):
    """Places x (to the right) and y (up) in mm of every sub-pixel from the centre."""
    offsets = (np.arange(side) + 0.5) / side - 0.5
    down, right = (o.ravel() for o in np.meshgrid(offsets, offsets, indexing="ij"))
    rows, columns = (np.arange(w.start, w.stop, dtype=float) for w in window)
    centre = stack.centre[:, :, None, None, None]
    y = centre[:, 0] - (rows[:, None, None] + down)
    x = columns[None, :, None] + right - centre[:, 1]
    shape = (len(stack.z_mm), len(rows), len(columns), side**2)
    scale = stack.pixel_mm
    return tuple((np.broadcast_to(v, shape) * scale).astype(np.float32) for v in (x, y))
