"""What surrounds the left ventricle: chest wall, lung, abdomen, right ventricle, fat.

Organs are painted over one another on the native grid, each with an edge of about a
pixel. Places are in mm from the centre of the left ventricle, along the body's own
axes: forward (to the chest wall) and upward (to the head and left).
"""

import dataclasses
import math

import numpy as np
from scipy import ndimage

from tfrecords_tools.sources.phantom.anatomy import TURN, Ventricle
from tfrecords_tools.sources.phantom.stack import Stack


@dataclasses.dataclass(frozen=True, eq=False)
class Torso:
    """One patient's body; lengths in mm at the height of the mitral ring.

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
        warp: (waves, 5) irregularity: wave vector, phase, displacement.
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


def draw_torso(random: np.random.Generator, ventricle: Ventricle) -> Torso:
    """Draws a body around `ventricle`."""
    radius = ventricle.cavity_radius_mm + ventricle.wall_mm
    fat = random.uniform(8.0, 34.0)
    directions = random.uniform(0, TURN, 6)
    lengths = random.uniform(45.0, 160.0, 6)
    waves = np.stack([np.cos(directions), np.sin(directions)], 1) * TURN / lengths[:, None]
    moves = random.normal(0, 0.022, (6, 2)) * lengths[:, None]
    return Torso(
        skin=1.3 * radius + fat + random.uniform(17.0, 30.0),
        half_depth=random.uniform(108.0, 135.0),
        half_height=random.uniform(165.0, 260.0),
        fat=fat,
        muscle=random.uniform(7.0, 14.0),
        heart_fat=random.uniform(0.0, 5.0),
        diaphragm=radius + random.uniform(-2.0, 12.0),
        stomach=(
            random.uniform(-45, 0),
            random.uniform(28, 45),
            random.uniform(22, 42),
            random.uniform(18, 32),
        ),
        gas=bool(random.random() < 0.55),
        warp=np.column_stack([waves, random.uniform(0, TURN, 6), moves]),
    )


class Canvas:
    """An image (S, H, W) that tissues are painted on."""

    def __init__(self, shape: tuple[int, int, int], edge_mm: float):
        self.image = np.zeros(shape, np.float32)
        self._edge_mm = edge_mm

    def paint(
        self,
        outside_mm: np.ndarray,
        value: np.ndarray | float,
        within: np.ndarray | float = 1.0,
        edge_mm: float = 0.0,
    ) -> np.ndarray:
        """Paints `value` where the distance `outside_mm` from a shape is negative.

        Returns:
            The cover in [0, 1], to paint other organs within.
        """
        cover = np.clip(0.5 - outside_mm / max(edge_mm, self._edge_mm), 0.0, 1.0) * within
        self.image += cover * (value - self.image)
        return cover


def paint_torso(
    random: np.random.Generator,
    torso: Torso,
    ventricle: Ventricle,
    stack: Stack,
    signal: dict[str, float],
) -> np.ndarray:
    """Signal (S, H, W) of everything but the left ventricle."""
    x, y = _places(stack)
    canvas = Canvas(x.shape, stack.pixel_mm)
    fine, coarse = textures(random, x.shape)
    wx, wy = _warped(torso, x, y)
    z = stack.z_mm.astype(np.float32)[:, None, None]
    cosine, sine = math.cos(stack.anterior_angle), math.sin(stack.anterior_angle)
    forward = cosine * wx + sine * wy + 0.30 * z  # the apex lies forward and low
    upward = sine * wx - cosine * wy - 0.22 * z
    chest = _paint_chest(canvas, torso, forward, upward, signal, fine, coarse)
    below = upward + torso.diaphragm + ((forward - 15) / 60) ** 2 * 14
    _paint_abdomen(canvas, torso, forward, below, chest, signal, fine, coarse)
    _paint_back(canvas, torso, forward, upward, chest, signal, fine)
    _paint_heart(canvas, torso, ventricle, x, y, z, chest, signal, fine, coarse)
    return canvas.image


def coil_sensitivity(torso: Torso, stack: Stack, depth_mm: float, along_mm: float) -> np.ndarray:
    """Sensitivity (S, H, W) of the receive coils, about 1 at the heart.

    An anterior array on the skin and a weaker one under the back.

    Args:
        depth_mm: distance over which the anterior array loses half of its signal.
        along_mm: place of the anterior array along the skin.
    """
    x, y = _places(stack)
    cosine, sine = math.cos(stack.anterior_angle), math.sin(stack.anterior_angle)
    forward = cosine * x + sine * y + 0.30 * stack.z_mm.astype(np.float32)[:, None, None]
    upward = sine * x - cosine * y

    def sensitivity(forward, upward):
        front = (forward - torso.skin) ** 2 + (0.7 * (upward - along_mm)) ** 2
        back = (forward - torso.skin + 2 * torso.half_depth) ** 2 + (0.4 * upward) ** 2
        return 1 / (1 + front / depth_mm**2) + 0.35 / (1 + back / depth_mm**2)

    return (sensitivity(forward, upward) / sensitivity(10.0, 0.0)).astype(np.float32)


def unevenness(random: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Factor (S, H, W): contrast that washes out from slice to slice, mottled tissue."""
    fine, coarse = textures(random, shape)
    slices = np.exp(random.normal(0, 0.13, (shape[0], 1, 1))).astype(np.float32)
    return slices * (1 + 0.04 * fine + 0.10 * coarse)


def _places(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    """x (to the right) and y (up), (S, H, W) float32 mm from the ventricle's centre."""
    rows, columns = (np.arange(n, dtype=np.float32) for n in stack.shape)
    centre = stack.centre.astype(np.float32)[:, :, None, None]
    x = (columns - centre[:, 1]) * np.float32(stack.pixel_mm)
    y = (centre[:, 0] - rows[:, None]) * np.float32(stack.pixel_mm)
    shape = (len(centre), *stack.shape)
    return np.broadcast_to(x, shape), np.broadcast_to(y, shape)


def _warped(torso: Torso, x, y):
    wx, wy = x[:1].copy(), y[:1].copy()
    for kx, ky, phase, dx, dy in torso.warp.astype(np.float32):
        wave = np.sin(kx * x[:1] + ky * y[:1] + phase)
        wx += dx * wave
        wy += dy * wave
    return x + (wx - x[:1]), y + (wy - y[:1])


def textures(random, shape):
    """Smooth noise (S, H, W) of unit deviation, grains of 1 and of 4 pixels."""
    noise = random.standard_normal(shape, dtype=np.float32)
    fine = ndimage.gaussian_filter(noise, (0, 1.0, 1.0), truncate=2.0)
    coarse = ndimage.gaussian_filter(fine, (0.6, 4.0, 4.0), truncate=2.0)
    return fine / fine.std(), coarse / coarse.std()


def _ellipse(u, v, a, b):
    """Distance outside an ellipse about the origin, to first order."""
    k = np.hypot(u / a, v / b)
    return (k - 1) * k / np.maximum(np.hypot(u / a**2, v / b**2), 1e-4)


def _paint_chest(canvas, torso, forward, upward, signal, fine, coarse):
    """Skin to lung; returns the cover of the chest's inside."""
    u = forward - torso.skin + torso.half_depth
    v = upward + 30.0
    skin = _ellipse(u, v, torso.half_depth, torso.half_height)
    turn = np.arctan2(v / torso.half_height, u / torso.half_depth)
    fat = torso.fat * (1 + 0.35 * np.sin(3 * turn + torso.fat) + 0.15 * np.sin(7 * turn))
    muscle = torso.muscle * (1.6 - 0.9 * np.cos(turn))
    canvas.paint(skin, signal["fat"] * (1 + 0.05 * coarse))
    canvas.paint(skin + fat, signal["muscle"] + 0.25 * signal["fat"] * np.clip(coarse - 0.6, 0, 1))
    canvas.paint(skin + fat + 0.62 * muscle, signal["fat"] * 0.8, np.clip(coarse + 0.3, 0, 1))
    inside = canvas.paint(
        skin + fat + muscle, signal["lung"] * (1 + 0.3 * coarse) 
    )
    near = np.exp(-((upward / 90) ** 2) - ((forward + 20) / 70) ** 2)
    vessels = np.clip((fine + 0.3 * coarse - 2.6 + 0.6 * near) * 1.2, 0, 1) * inside
    canvas.image += vessels * 0.8 * signal["blood"]
    ribs = np.cos(v * (TURN / 27.0)) - 0.55
    rib = np.maximum(np.abs(skin + fat + 0.72 * muscle) - 0.30 * muscle, -ribs * 8)
    canvas.paint(rib - 1.5, 0.0)
    canvas.paint(rib, signal["bone"])
    return inside


def _paint_abdomen(canvas, torso, forward, below, chest, signal, fine, coarse):
    bowel = signal["bowel"] + 0.5 * (signal["fat"] - signal["bowel"]) * np.clip(coarse, 0, 1)
    abdomen = canvas.paint(below, bowel, chest, edge_mm=3.0)
    liver = _ellipse(forward - 32, below + 74, 84, 73)
    vessels = np.clip((coarse - 1.3) * 2, 0, 1) * (signal["blood"] - signal["liver"])
    canvas.paint(liver, signal["liver"] * (1 + 0.05 * fine) + vessels, abdomen)
    canvas.paint(
        _ellipse(forward + 72, below + 34, 34, 24), signal["spleen"] * (1 + 0.05 * fine), abdomen
    )
    kidney = _ellipse(forward + 62, below + 92, 26, 36)
    canvas.paint(kidney - 5, signal["fat"], abdomen)
    canvas.paint(kidney, signal["kidney"], abdomen)
    canvas.paint(kidney + 12, 0.5 * signal["kidney"] * (1 + 0.5 * coarse), abdomen)
    at, under, a, b = torso.stomach
    stomach = _ellipse(forward - at, below + under, a, b)
    canvas.paint(stomach - 3, signal["bowel"], abdomen)
    filling = 0.0 if torso.gas else signal["gastric"] * (0.5 + 0.25 * coarse)
    canvas.paint(stomach, filling, abdomen, edge_mm=2.5)


def _paint_back(canvas, torso, forward, upward, chest, signal, fine):
    spine = torso.skin - 2 * torso.half_depth + torso.fat + 44
    u, v = forward - spine, upward + 45
    column = canvas.paint(_ellipse(u, v, 24, 30), signal["muscle"], np.maximum(chest, 0.2))
    canvas.paint(_ellipse(u - 4, v, 17, 20), signal["bone"] * (1 + 0.15 * fine), column)
    canvas.paint(_ellipse(u + 18, v, 7, 8), 0.0, column)
    canvas.paint(_ellipse(u - 22, v - 30, 15, 15), signal["fat"], chest)
    canvas.paint(_ellipse(u - 24, v - 32, 11.5, 11.5), signal["blood"], chest)


def _paint_heart(canvas, torso, ventricle, x, y, z, chest, signal, fine, coarse):
    """Fat around the heart and the right ventricle; the left one is drawn over it."""
    angle = np.arctan2(y, x)
    height = np.minimum(z / ventricle.cavity_length_mm, 1.0)
    radius = ventricle.cavity_radius_mm * np.sqrt(np.clip(1 - height**2.4, 0.02, 1))
    radius = radius + ventricle.wall_mm * (1 - 0.2 * height**2)
    left = np.hypot(x, y) - radius
    size = radius * ventricle.rv_size * np.sqrt(np.clip(1.02 - height**2, 0.02, 1))
    cosine, sine = math.cos(ventricle.septum_angle), math.sin(ventricle.septum_angle)
    u, v = cosine * x + sine * y - 0.68 * radius, cosine * y - sine * x
    # A crescent with a blunt lower and a drawn-out upper horn.
    right = _ellipse(u + 0.006 * v * v, v * 0.94 + 0.18 * u, size * 0.95, size * 0.98)
    right = right + 1.3 * coarse
    blend = np.clip(0.5 + (right - left) / 22, 0, 1)
    heart = right + blend * (left - right) - 11 * blend * (1 - blend)
    septal = np.cos(angle - ventricle.septum_angle)
    fat = torso.heart_fat * (1 + np.sin(2 * angle + torso.fat)) + 1.5 * coarse
    fat = fat + 7 * np.clip(np.cos(angle - ventricle.septum_angle + 0.9), 0, 1) ** 2
    fat = np.maximum(fat + 5 * np.clip(septal, 0, 1) * (1 - height), 0)
    chest = np.maximum(chest, (left < 30) * 0.9)
    canvas.paint(heart - fat, signal["fat"] * (0.7 + 0.08 * coarse), chest, edge_mm=2.5)
    atrium = _ellipse(u + 1.6 * radius, v + 0.5 * radius, 0.9 * radius, 0.8 * radius)
    canvas.paint(atrium + 1.6 * z, signal["blood"], chest, edge_mm=4.0)
    canvas.paint(heart - 0.5, 0.6 * signal["myocardium"], chest, edge_mm=2.5)
    ragged = 1.2 * np.clip(0.8 * fine + coarse, 0, 2)
    blood = signal["blood"] * (1 + 0.05 * coarse)
    canvas.paint(right + 1.5 + ragged, blood, chest, edge_mm=2.5)
