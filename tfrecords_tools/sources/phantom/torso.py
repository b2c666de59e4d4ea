"""The body around the heart: its measures, its textures, and the receive coils."""

import dataclasses

import numpy as np
from scipy import ndimage

from tfrecords_tools.sources.phantom.anatomy import TURN, Ventricle
from tfrecords_tools.sources.phantom.stack import Stack

Value = np.ndarray | float


@dataclasses.dataclass(frozen=True, eq=False)
class Torso:
    """One patient's body; lengths in mm in the plane of the mitral ring.

    Args:
        skin: from the ventricle's centre forward to the skin.
        half_depth: half of the chest's depth.
        half_height: half of the body's extent across.
        fat: thickness of the fat under the skin.
        muscle: thickness of the chest wall's muscle.
        heart_fat: thickness of the fat around the heart.
        diaphragm: from the ventricle's centre down to the diaphragm.
        stomach: (forward, below the diaphragm, two half axes).
        gas: whether the stomach holds gas rather than fluid.
        warp: (waves, 5) irregularity: wave vector (2), phase, displacement (2).
    """

    skin: float
    half_depth: float
    half_height: float
    fat: float
    muscle: float
    heart_fat: float
    diaphragm: float
    stomach: tuple[float, float, float, float]
    gas: bool
    warp: np.ndarray

    def places_mm(self, stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        """Forward and upward places (S, H, W), bent so that no organ is an ellipse."""
        forward, upward = stack.body_axes()
        bend_f, bend_u = np.zeros_like(forward[:1]), np.zeros_like(forward[:1])
        for k_f, k_u, phase, d_f, d_u in self.warp.astype(np.float32):
            wave = np.sin(k_f * forward[:1] + k_u * upward[:1] + phase)
            bend_f += d_f * wave
            bend_u += d_u * wave
        return forward + bend_f, upward + bend_u


def draw_torso(random: np.random.Generator, ventricle: Ventricle) -> Torso:
    """Draws a body around `ventricle`."""
    radius = ventricle.cavity_radius_mm + ventricle.wall_mm
    fat = random.uniform(8.0, 34.0)
    return Torso(
        skin=1.3 * radius + fat + random.uniform(17.0, 30.0),
        half_depth=random.uniform(108.0, 132.0),
        half_height=random.uniform(190.0, 280.0),
        fat=fat,
        muscle=random.uniform(7.0, 14.0),
        heart_fat=random.uniform(0.0, 4.0),
        diaphragm=radius + random.uniform(-6.0, 9.0),
        stomach=tuple(random.uniform((-45, 28, 22, 18), (0, 45, 42, 32))),
        gas=bool(random.random() < 0.55),
        warp=_draw_warp(random),
    )


def _draw_warp(random: np.random.Generator) -> np.ndarray:
    directions, phases = random.uniform(0, TURN, (2, 6))
    lengths = random.uniform(45.0, 160.0, 6)
    waves = np.stack([np.cos(directions), np.sin(directions)]) * TURN / lengths
    moves = random.normal(0, 0.020, (2, 6)) * lengths
    return np.stack([*waves, phases, *moves], axis=1)


def textures(
    random: np.random.Generator, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth noise (S, H, W) of unit deviation, with grains of 1 and of 4 pixels."""
    noise = random.standard_normal(shape, dtype=np.float32)
    fine = ndimage.gaussian_filter(noise, (0, 1.0, 1.0), truncate=2.0)
    coarse = ndimage.gaussian_filter(fine, (0.6, 4.0, 4.0), truncate=2.0)
    return fine / fine.std(), coarse / coarse.std()


def unevenness(random: np.random.Generator, fine: np.ndarray) -> np.ndarray:
    """Factor (S, H, W): contrast that washes out between slices, mottled tissue.

    Args:
        random: source of the slices' brightness.
        fine: (S, H, W) texture.
    """
    slices = np.exp(random.normal(0, 0.13, (len(fine), 1, 1))).astype(np.float32)
    cloudy = ndimage.uniform_filter(fine, (0, 9, 9))
    return slices * (1 + 0.05 * fine + 0.13 * cloudy / cloudy.std())


def coil_sensitivity(
    torso: Torso, stack: Stack, depth_mm: float, along_mm: float
) -> np.ndarray:
    """Sensitivity (S, H, W) of an anterior array and a weaker one under the back.

    Args:
        torso: where the skin is.
        stack: the slices.
        depth_mm: distance over which the anterior array loses half of its signal.
        along_mm: place of the anterior array along the skin.

    Returns:
        float32, about 1 at the heart.
    """

    def sensitivity(forward: Value, upward: Value) -> Value:
        front = (forward - torso.skin) ** 2 + (0.7 * (upward - along_mm)) ** 2
        back = (forward - torso.skin + 2 * torso.half_depth) ** 2 + (0.4 * upward) ** 2
        return 1 / (1 + front / depth_mm**2) + 0.4 / (1 + back / depth_mm**2)

    at_heart = sensitivity(10.0, 0.0)
    return np.asarray(sensitivity(*stack.body_axes()) / at_heart, np.float32)
