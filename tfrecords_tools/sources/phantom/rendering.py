"""Signal of the left ventricle with partial volume, in the plane and through the slab.

Signal is sampled finer than the pixel and at several heights of the slab, and averaged.
The borders are soft as well: muscle moves while k-space is filled, and infarcts end in
islands of living cells.
"""

import dataclasses

import numpy as np

from tfrecords_tools.sources.phantom.anatomy import Papillary, Ventricle
from tfrecords_tools.sources.phantom.scars import Scar
from tfrecords_tools.sources.phantom.stack import Stack
from tfrecords_tools.sources.phantom.wall import (
    TABLE_ANGLES,
    WallTable,
    angle_step,
    look_up,
    tabulate,
)

EDGE_MM = 3.4
"""Blending of blood with wall, and of wall with its surroundings: motion."""

SCAR_BORDER_MM = 3.2
"""Blending of scar with healthy wall; the reference ends half-way."""

TRABECULAR_DEPTH_MM = 4.0
"""Depth of the cavity over which trabeculae fade out."""

SUB_PIXELS, SUB_PLANES = 2, 3
"""Samples along a pixel's side, and planes in a slab."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Samples:
    """Where signal is sampled: arrays (S, h, w, samples), float32 mm."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    step: np.ndarray


def paint_ventricle(
    image: np.ndarray,
    ventricle: Ventricle,
    scars: tuple[Scar, ...],
    stack: Stack,
    signal: dict[str, float],
    texture: np.ndarray,
) -> None:
    """Draws the left ventricle over `image`.

    Args:
        image: (S, H, W) float32 signal, changed in place.
        ventricle: the ventricle.
        scars: its scars.
        stack: the slices.
        signal: signed signal of each tissue.
        texture: (S, H, W) unit noise that says where trabeculae are.
    """
    shifts = (np.arange(SUB_PLANES) + 0.5) / SUB_PLANES - 0.5
    z_mm = np.add.outer(stack.z_mm, shifts * stack.thickness_mm)  # (S, SUB_PLANES)
    table = tabulate(ventricle, scars, z_mm.ravel(), TABLE_ANGLES)
    window = stack.window(table.reach_mm + EDGE_MM)
    samples = _sample_places(stack, window)
    part = image[:, *window]
    trabeculae = np.clip(0.15 + 0.45 * texture[:, *window], 0.0, 0.9)[..., None]
    total = np.zeros_like(part)
    for plane in range(SUB_PLANES):
        rows = np.arange(len(z_mm))[:, None, None, None] * SUB_PLANES + plane
        wall, depth_mm, left_mm = _wall_signal(table, rows, samples, signal)
        cavity = trabeculae * np.exp(np.minimum(depth_mm, 0) / TRABECULAR_DEPTH_MM)
        for papillary in ventricle.papillaries:
            cover = _papillary_cover(ventricle, papillary, samples, z_mm[:, plane])
            cavity = np.maximum(cavity, cover)
        cavity = signal["blood"] + cavity * (signal["myocardium"] - signal["blood"])
        value = wall + _share(-depth_mm, EDGE_MM) * (cavity - wall)
        inside = _share(left_mm, EDGE_MM)
        total += (inside * value + (1 - inside) * part[..., None]).mean(axis=3)
    image[:, *window] = total / SUB_PLANES


def _wall_signal(
    table: WallTable, plane: np.ndarray, samples: _Samples, signal: dict[str, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signal of the wall, and the distances from endocardium and to epicardium."""
    thickness = table.thickness_mm[plane, samples.step]
    depth_mm = samples.radius - table.endocardium_mm[plane, samples.step]
    wall = np.full_like(depth_mm, signal["myocardium"])
    for name, intervals in (("scar", table.scars), ("mvo", table.cores)):
        for start, end in look_up(intervals, plane, samples.step):
            inner_mm = end * thickness - depth_mm
            # Scar that reaches the endocardium has no border of its own there.
            begun_mm = np.where(start <= 0, inner_mm, depth_mm - start * thickness)
            share = _share(np.minimum(inner_mm, begun_mm), SCAR_BORDER_MM)
            wall += share * (signal[name] - wall)
    return wall, depth_mm, thickness - depth_mm


def _papillary_cover(
    ventricle: Ventricle, papillary: Papillary, samples: _Samples, z_mm: np.ndarray
) -> np.ndarray:
    """Share of a papillary muscle in each sample; z_mm is (S,)."""
    endocardium = ventricle.endocardium_mm(np.full_like(z_mm, papillary.angle), z_mm)
    # The muscle thickens from its chordae down to its root.
    grown = np.sqrt(np.clip((z_mm - papillary.top_mm) / 14.0, 0.0, 1.0))
    centre, radius = (
        v.astype(np.float32)[:, None, None, None]
        for v in (papillary.share_of_radius * endocardium, papillary.radius_mm * grown)
    )
    cosine, sine = np.cos(papillary.angle), np.sin(papillary.angle)
    along = (cosine * samples.x + sine * samples.y - centre) / papillary.stretch
    across = cosine * samples.y - sine * samples.x
    cover = _share(radius - np.hypot(along, across), 2.5)
    return papillary.density * cover * (radius > 0)


def _share(inside_mm: np.ndarray, border_mm: float) -> np.ndarray:
    """0 outside, 1 inside, 0.5 on the border."""
    return np.clip(0.5 + inside_mm / border_mm, 0.0, 1.0)


def _sample_places(stack: Stack, window: tuple[slice, slice]) -> _Samples:
    x, y = (v[:, *window][..., None] for v in stack.places_mm())
    shifts = ((np.arange(SUB_PIXELS) + 0.5) / SUB_PIXELS - 0.5) * stack.pixel_mm
    up, right = np.meshgrid(shifts.astype(np.float32), shifts.astype(np.float32))
    x, y = x + right.ravel(), y + up.ravel()  # (S, h, w, SUB_PIXELS ** 2)
    return _Samples(x, y, np.hypot(x, y), angle_step(x, y))
