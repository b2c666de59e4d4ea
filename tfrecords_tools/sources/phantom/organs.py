"""Paints what surrounds the left ventricle: chest wall, lung, abdomen, RV, fat.

Organs are painted over one another on the native grid, each with an edge of a pixel or
more. Distances count positive outside a shape. Lengths are typical adult ones in mm.
"""

import dataclasses

import numpy as np

from tfrecords_tools.sources.phantom.anatomy import TURN, Ventricle
from tfrecords_tools.sources.phantom.stack import Stack
from tfrecords_tools.sources.phantom.torso import Torso, Value


@dataclasses.dataclass(frozen=True, eq=False)
class Canvas:
    """What the painters share; all arrays are (S, H, W) float32.

    Attributes:
        image: the signal, painted in place.
        pixel_mm: the least width of an edge.
        signal: signed signal of each tissue.
        fine: texture with grains of a pixel, unit deviation.
        coarse: texture with grains of four pixels, unit deviation.
    """

    image: np.ndarray
    pixel_mm: float
    signal: dict[str, float]
    fine: np.ndarray
    coarse: np.ndarray

    def paint(
        self,
        outside_mm: np.ndarray,
        value: Value,
        within: Value = 1.0,
        edge_mm: float = 0.0,
    ) -> np.ndarray:
        """Paints `value` where `outside_mm` is negative, no further than `within`.

        Returns:
            the cover in [0, 1], to paint other organs within.
        """
        edge_mm = max(edge_mm, self.pixel_mm)
        cover = np.clip(0.5 - outside_mm / edge_mm, 0.0, 1.0) * within
        self.image[:] += cover * (value - self.image)
        return cover


def paint_surroundings(
    canvas: Canvas, torso: Torso, ventricle: Ventricle, stack: Stack
) -> None:
    """Paints everything but the left ventricle, from the skin inward."""
    forward, upward = torso.places_mm(stack)
    chest = _paint_chest(canvas, torso, forward, upward)
    below = upward + torso.diaphragm + ((forward - 15) / 60) ** 2 * 14
    _paint_abdomen(canvas, torso, forward, below, chest)
    _paint_back(canvas, torso, forward, upward, chest)
    _paint_heart(canvas, torso, ventricle, stack, chest)


def _ellipse(u: np.ndarray, v: np.ndarray, a: Value, b: Value) -> np.ndarray:
    """Distance outside an ellipse about the origin, to first order."""
    k = np.hypot(u / a, v / b)
    return (k - 1) * k / np.maximum(np.hypot(u / a**2, v / b**2), 1e-4)


def _paint_chest(
    canvas: Canvas, torso: Torso, forward: np.ndarray, upward: np.ndarray
) -> np.ndarray:
    """Skin, fat, muscle, ribs and lung; returns the cover of the chest's inside."""
    signal, coarse = canvas.signal, canvas.coarse
    u, v = forward - torso.skin + torso.half_depth, upward + 30.0
    skin = _ellipse(u, v, torso.half_depth, torso.half_height)
    turn = np.arctan2(v / torso.half_height, u / torso.half_depth)
    uneven = 0.35 * np.sin(3 * turn + torso.fat) + 0.15 * np.sin(7 * turn)
    muscle_from = skin + torso.fat * (1 + uneven)
    muscle = torso.muscle * (1.6 - 0.9 * np.cos(turn))  # thick at the back
    marbling = np.clip(coarse - 0.6, 0, 1) * signal["fat"]
    canvas.paint(skin, signal["fat"] * (1 + 0.05 * coarse))
    canvas.paint(muscle_from, signal["muscle"] + 0.25 * marbling)
    inner_fat = np.clip(coarse + 0.3, 0, 1)
    canvas.paint(muscle_from + 0.62 * muscle, 0.8 * signal["fat"], inner_fat)
    inside = canvas.paint(muscle_from + muscle, signal["lung"] * (1 + 0.3 * coarse))
    _paint_lung_vessels(canvas, forward, upward, inside)
    between_ribs = 8 * (0.55 - np.cos(v * (TURN / 27.0)))
    rib = np.abs(muscle_from + 0.72 * muscle) - 0.30 * muscle
    rib = np.maximum(rib, between_ribs)
    canvas.paint(rib - 1.5, 0.0)
    canvas.paint(rib, signal["bone"])
    return inside


def _paint_lung_vessels(
    canvas: Canvas, forward: np.ndarray, upward: np.ndarray, inside: np.ndarray
) -> None:
    """Dots where vessels cross the plane, denser towards the hilum."""
    hilum = np.exp(-((upward / 90) ** 2) - ((forward + 20) / 70) ** 2)
    dots = np.clip(1.2 * (canvas.fine + 0.3 * canvas.coarse - 2.3 + 0.6 * hilum), 0, 1)
    canvas.image[:] += dots * inside * (0.8 * canvas.signal["blood"])


def _paint_abdomen(
    canvas: Canvas,
    torso: Torso,
    forward: np.ndarray,
    below: np.ndarray,
    chest: np.ndarray,
) -> None:
    """Bowel, liver, spleen, kidney, stomach; `below` counts up from the diaphragm."""
    signal, fine, coarse = canvas.signal, canvas.fine, canvas.coarse
    fatty = np.clip(coarse, 0, 1) * (signal["fat"] - signal["bowel"])
    abdomen = canvas.paint(below, signal["bowel"] + 0.9 * fatty, chest, edge_mm=3.0)
    vessels = np.clip(2 * coarse - 2.6, 0, 1) * (signal["blood"] - signal["liver"])
    liver = signal["liver"] * (1 + 0.05 * fine) + vessels
    canvas.paint(_ellipse(forward - 32, below + 74, 84, 73), liver, abdomen)
    spleen = signal["spleen"] * (1 + 0.05 * fine)
    canvas.paint(_ellipse(forward + 72, below + 34, 34, 24), spleen, abdomen)
    kidney = _ellipse(forward + 62, below + 92, 26, 36)
    canvas.paint(kidney - 5, signal["fat"], abdomen)
    canvas.paint(kidney, signal["kidney"], abdomen)
    medulla = 0.5 * signal["kidney"] * (1 + 0.5 * coarse)
    canvas.paint(kidney + 12, medulla, abdomen)
    place, under, a, b = torso.stomach
    stomach = _ellipse(forward - place, below + under, a, b)
    canvas.paint(stomach - 3, signal["bowel"], abdomen)
    meal = 0.0 if torso.gas else signal["gastric"] * (0.5 + 0.25 * coarse)
    canvas.paint(stomach + coarse, meal, abdomen, edge_mm=2.5)


def _paint_back(
    canvas: Canvas,
    torso: Torso,
    forward: np.ndarray,
    upward: np.ndarray,
    chest: np.ndarray,
) -> None:
    """Spine with its canal and muscles, and the descending aorta beside it."""
    signal = canvas.signal
    spine = torso.skin - 2 * torso.half_depth + torso.fat + 38
    u, v = forward - spine, upward + 45
    around = np.maximum(chest, 0.2)
    column = canvas.paint(_ellipse(u, v, 24, 30), signal["muscle"], around)
    marrow = signal["bone"] * (1 + 0.15 * canvas.fine)
    canvas.paint(_ellipse(u - 4, v, 17, 20), marrow, column)
    canvas.paint(_ellipse(u + 18, v, 7, 8), 0.0, column)
    aorta = _ellipse(u - 22, v - 32, 11.5, 11.5)
    canvas.paint(aorta - 8 - 3 * canvas.coarse, signal["fat"], chest)
    canvas.paint(aorta, signal["blood"], chest)


def _paint_heart(
    canvas: Canvas,
    torso: Torso,
    ventricle: Ventricle,
    stack: Stack,
    chest: np.ndarray,
) -> None:
    """Fat around the heart, the left atrium at the base, and the right ventricle."""
    signal, fine, coarse = canvas.signal, canvas.fine, canvas.coarse
    x, y = stack.places_mm()
    z = stack.z_mm.astype(np.float32)[:, None, None]
    height = np.minimum(z / ventricle.cavity_length_mm, 1.0)
    radius = ventricle.cavity_radius_mm * np.sqrt(np.clip(1 - height**2.4, 0.02, 1))
    radius = radius + ventricle.wall_mm * (1 - 0.2 * height**2)
    left = np.hypot(x, y) - radius
    cosine, sine = np.cos(ventricle.septum_angle), np.sin(ventricle.septum_angle)
    u, v = cosine * x + sine * y - 0.68 * radius, cosine * y - sine * x
    size = radius * ventricle.rv_size * np.sqrt(np.clip(1.02 - height**2, 0.02, 1))
    # A crescent with a blunt lower and a drawn-out upper horn.
    right = _ellipse(u + 0.006 * v * v, 0.94 * v + 0.18 * u, 0.95 * size, 0.98 * size)
    right = right + 1.5 * coarse
    # A smooth union of the ventricles: fat fills the grooves between them.
    blend = np.clip(0.5 + (right - left) / 22, 0, 1)
    heart = right + blend * (left - right) - 11 * blend * (1 - blend)
    chest = np.maximum(chest, (left < 30) * np.float32(0.9))  # the heart beats the lung
    fat = _heart_fat_mm(torso, ventricle, np.arctan2(y, x), height) + 2.5 * coarse
    fat_signal = signal["fat"] * (0.7 + 0.08 * coarse)
    canvas.paint(heart - np.maximum(fat, 0), fat_signal, chest, edge_mm=2.5)
    atrium = _ellipse(u + 1.55 * radius, v + 0.5 * radius, 0.9 * radius, 0.8 * radius)
    canvas.paint(atrium + 1.6 * z + 2 * coarse, signal["blood"], chest, edge_mm=5.0)
    canvas.paint(heart - 0.5, 0.6 * signal["myocardium"], chest, edge_mm=2.5)
    trabeculae = 1.2 * np.clip(0.8 * fine + coarse, 0, 2)
    blood = signal["blood"] * (1 + 0.05 * coarse)
    canvas.paint(right + 1.5 + trabeculae, blood, chest, edge_mm=2.5)


def _heart_fat_mm(
    torso: Torso, ventricle: Ventricle, angle: np.ndarray, height: np.ndarray
) -> np.ndarray:
    """Thickness of the fat around the heart: most in front of the right ventricle."""
    turned = angle - ventricle.septum_angle
    everywhere = torso.heart_fat * (1 + np.sin(2 * angle + torso.fat))
    in_front = 7 * np.clip(np.cos(turned + 0.9), 0, 1) ** 2
    over_right = 5 * np.clip(np.cos(turned), 0, 1) * (1 - height)
    return everywhere + in_front + over_right
