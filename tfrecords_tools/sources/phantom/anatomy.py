"""The left ventricle as smooth functions of angle and height.

Everything is measured in a short-axis plane z mm below the mitral ring: from the centre
of the ventricle the wall runs, at each angle, from the endocardium outward over the
wall thickness. Angles are radians, counter-clockwise as the image is seen, 0 to the
right.
"""

import dataclasses
import math

import numpy as np

TURN = 2 * math.pi


@dataclasses.dataclass(frozen=True)
class Ripple:
    """A smooth random function of angle and height: a few travelling waves.

    Args:
        orders: waves around the circle, whole numbers so that a turn closes.
        amplitudes: their heights.
        phases: radians.
        twists: radians by which a wave turns per mm of height.
    """

    orders: np.ndarray
    amplitudes: np.ndarray
    phases: np.ndarray
    twists: np.ndarray

    def __call__(self, angle: np.ndarray, z_mm: np.ndarray) -> np.ndarray:
        """Values at broadcast `angle` and `z_mm`; their standard deviation is 1."""
        turns = np.multiply.outer(angle, self.orders)
        turns = turns + self.phases + np.multiply.outer(z_mm, self.twists)
        return np.cos(turns) @ self.amplitudes


def draw_ripple(
    random: np.random.Generator, orders: range, twist_per_mm: float
) -> Ripple:
    """Draws a ripple whose finer waves are lower."""
    order = np.array(orders)
    amplitudes = random.standard_normal(len(order)) / np.sqrt(order)
    amplitudes *= math.sqrt(2) / np.linalg.norm(amplitudes)
    phases = random.uniform(0, TURN, len(order))
    return Ripple(
        order, amplitudes, phases, twist_per_mm * random.normal(size=len(order))
    )


@dataclasses.dataclass(frozen=True)
class Papillary:
    """A papillary muscle: lies in the cavity, labelled as blood pool.

    Args:
        angle: direction from the centre.
        share_of_radius: its place between centre (0) and endocardium (1).
        radius_mm: half of its width at the root.
        top_mm: height below the mitral ring where it begins.
        stretch: its length along the radius, in widths.
        density: share of muscle in it; blood runs between its strands.
    """

    angle: float
    share_of_radius: float
    radius_mm: float
    top_mm: float
    stretch: float
    density: float


@dataclasses.dataclass(frozen=True)
class Ventricle:
    """Shape of one left ventricle, and where the right one lies.

    Args:
        cavity_radius_mm: endocardial radius below the mitral ring.
        cavity_length_mm: mitral ring to endocardial apex.
        wall_mm: mean thickness of the wall at the base.
        oval: share by which the section departs from a circle.
        oval_angle: direction of the section's long axis.
        septum_angle: direction of the middle of the septum, and so of the RV.
        rv_size: size of the right ventricle, 1 as usual.
        tilt: (x, y) mm by which the centre moves per mm of height.
        shape: irregularity of the cavity.
        thickness: irregularity of the wall.
        papillaries: muscles in the cavity.
    """

    cavity_radius_mm: float
    cavity_length_mm: float
    wall_mm: float
    oval: float
    oval_angle: float
    septum_angle: float
    rv_size: float
    tilt: tuple[float, float]
    shape: Ripple
    thickness: Ripple
    papillaries: tuple[Papillary, ...]

    def endocardium_mm(self, angle: np.ndarray, z_mm: np.ndarray) -> np.ndarray:
        """Distance of the endocardium from the centre."""
        height = np.clip(z_mm / self.cavity_length_mm, 0.0, 0.995)
        taper = np.sqrt(1 - height**2.4) * (0.94 + 0.1 * np.sin(2.2 * height))
        oval = 1 + self.oval * np.cos(2 * (angle - self.oval_angle))
        ragged = 1 + 0.025 * self.shape(angle, z_mm)
        return self.cavity_radius_mm * taper * oval * ragged

    def thickness_mm(self, angle: np.ndarray, z_mm: np.ndarray) -> np.ndarray:
        """Thickness of the healthy wall: septum thick, apex thin."""
        septal = 1 + 0.08 * np.cos(angle - self.septum_angle)
        height = np.clip(z_mm / self.cavity_length_mm, 0.0, 1.0)
        ragged = 1 + 0.07 * self.thickness(angle, z_mm)
        return self.wall_mm * septal * ragged * (1 - 0.2 * height**2)


def draw_ventricle(
    random: np.random.Generator, septum_angle: float, infarcted: bool
) -> Ventricle:
    """Draws a ventricle; an infarcted one tends to be dilated."""
    radius = random.normal(24.0 if infarcted else 22.0, 3.4)
    radius = float(np.clip(radius, 16.0, 31.0))
    wall = float(np.clip(random.normal(10.6, 1.4), 7.5, 14.0))
    return Ventricle(
        cavity_radius_mm=radius,
        cavity_length_mm=max(2.1 * radius + random.uniform(14.0, 26.0), 58.0),
        wall_mm=wall,
        oval=random.uniform(0.015, 0.085),
        oval_angle=septum_angle + math.pi / 2 + random.normal(0, 0.4),
        septum_angle=septum_angle,
        rv_size=random.uniform(0.85, 1.15),
        tilt=(random.normal(0.0, 0.05), random.normal(-0.03, 0.05)),
        shape=draw_ripple(random, range(3, 9), 0.03),
        thickness=draw_ripple(random, range(1, 6), 0.03),
        papillaries=_draw_papillaries(random, septum_angle, radius),
    )


def _draw_papillaries(
    random: np.random.Generator, septum_angle: float, cavity_radius_mm: float
) -> tuple[Papillary, ...]:
    """Anterolateral and posteromedial muscles, the second one often split in two."""
    offsets = [-2.3, 2.0] + ([2.6] if random.random() < 0.5 else [])
    return tuple(
        Papillary(
            angle=septum_angle + offset + random.normal(0, 0.25),
            share_of_radius=random.uniform(0.72, 0.93),
            radius_mm=cavity_radius_mm * random.uniform(0.08, 0.18),
            top_mm=random.uniform(10.0, 32.0),
            stretch=random.uniform(0.8, 1.5),
            density=random.uniform(0.45, 0.9),
        )
        for offset in offsets
    )
