"""Scar patterns inside the wall, and the wall that they leave behind.

Depth runs through the wall from 0 (endocardium) to 1 (epicardium). At each angle and
height a scar fills one interval of depth. Ischaemic scar starts at the endocardium,
because the wavefront of necrosis does, and lies in a coronary territory; mid-wall and
epicardial scar are the non-ischaemic patterns.
"""

import dataclasses
import math

import numpy as np

from tfrecords_tools.sources.phantom.anatomy import Ripple, Ventricle, draw_ripple

TERRITORIES: dict[str, tuple[float, float, float]] = {
    "LAD": (-0.85, 0.62, 0.95),
    "RCA": (1.45, 0.35, 0.65),
    "LCX": (2.70, 0.40, 0.65),
}
"""Centre angle from mid-septum (radians), centre height (share of the cavity), reach.

Counter-clockwise from the septum lies the inferior wall: as seen from the apex the wall
runs anterior, septal, inferior, lateral (AHA 17 segments, Cerqueira 2002).
"""

PATTERNS = {"ischaemic": 0.78, "mid_wall": 0.13, "epicardial": 0.09}
"""How often each pattern is drawn among patients with scar."""


@dataclasses.dataclass(frozen=True)
class Scar:
    """One scar.

    Args:
        pattern: "ischaemic", "mid_wall" or "epicardial".
        angle: direction of its middle.
        half_angle: half of its angular width.
        centre_mm: height of its middle below the mitral ring.
        half_height_mm: half of its extent along the ventricle.
        reach: depth that it fills at its middle; above 1 is transmural.
        border: raggedness of its border.
        mvo: depth of the no-reflow core at the middle, 0 for none.
        thinning: share by which the wall has thinned at its middle.
    """

    pattern: str
    angle: float
    half_angle: float
    centre_mm: float
    half_height_mm: float
    reach: float
    border: Ripple
    mvo: float
    thinning: float

    def bump(self, angle: np.ndarray, z_mm: np.ndarray) -> np.ndarray:
        """1 at the middle of the scar, 0 on its rim, negative outside."""
        turned = np.angle(np.exp(1j * (angle - self.angle))) / self.half_angle
        raised = (z_mm - self.centre_mm) / self.half_height_mm
        ragged = 0.14 * self.border(angle, z_mm)
        return 1 - np.abs(turned) ** 2.5 - np.abs(raised) ** 2.5 + ragged

    def interval(
        self, angle: np.ndarray, z_mm: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Depths where the scar begins and ends; empty where the end is not greater."""
        bump = self.bump(angle, z_mm)
        filled = self.reach * np.sqrt(np.clip(bump, 0.0, 1.0))
        filled = filled * (1 + 0.10 * self.border(2 * angle, z_mm))
        if self.pattern == "ischaemic":
            return np.zeros_like(filled), np.where(bump > 0, filled, -1.0)
        if self.pattern == "epicardial":
            return np.where(bump > 0, 1 - filled, 2.0), np.ones_like(filled)
        middle = 0.5 + 0.06 * self.border(angle, z_mm)
        return middle - filled / 2, middle + filled / 2

    def core(
        self, angle: np.ndarray, z_mm: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Depths where the no-reflow core begins and ends, within `interval`."""
        bump = np.clip((self.bump(angle, z_mm) - 0.35) / 0.65, 0.0, 1.0)
        end = 0.14 + self.mvo * np.sqrt(bump) * (
            1 + 0.15 * self.border(3 * angle, z_mm)
        )
        _, scar_end = self.interval(angle, z_mm)
        end = np.minimum(end, scar_end - 0.12)
        return np.full_like(end, 0.10), np.where((bump > 0) & (self.mvo > 0), end, -1.0)


def wall_thickness_mm(
    ventricle: Ventricle, scars: tuple[Scar, ...], angle: np.ndarray, z_mm: np.ndarray
) -> np.ndarray:
    """Thickness of the wall, thinned where scar has replaced it; at least 4.5 mm."""
    thickness = ventricle.thickness_mm(angle, z_mm)
    for scar in scars:
        bump = np.clip(scar.bump(angle, z_mm), 0.0, 1.0)
        thickness = thickness * (1 - scar.thinning * bump)
    return np.maximum(thickness, 4.5)


def draw_scars(
    random: np.random.Generator, septum_angle: float, cavity_length_mm: float
) -> tuple[Scar, ...]:
    """Draws the scars of a patient with scar: one pattern, sometimes two infarcts."""
    pattern = str(random.choice([*PATTERNS], p=[*PATTERNS.values()]))
    if pattern != "ischaemic":
        return (_draw_non_ischaemic(random, pattern, septum_angle, cavity_length_mm),)
    count = 2 if random.random() < 0.15 else 1
    names = random.choice([*TERRITORIES], count, replace=False, p=[0.45, 0.33, 0.22])
    return tuple(
        _draw_infarct(random, name, septum_angle, cavity_length_mm) for name in names
    )


def _draw_infarct(
    random: np.random.Generator, name: str, septum_angle: float, length_mm: float
) -> Scar:
    angle, height, extent = TERRITORIES[name]
    size = random.uniform(0.7, 1.5)
    reach = random.uniform(0.5, 1.7)
    fresh = reach > 0.75 and random.random() < 0.45
    return Scar(
        pattern="ischaemic",
        angle=septum_angle + angle + random.normal(0, 0.2),
        half_angle=math.radians(random.uniform(56.0, 86.0)) * size,
        centre_mm=length_mm * (height + random.normal(0, 0.06)),
        half_height_mm=length_mm * extent * random.uniform(0.6, 0.9) * size,
        reach=reach,
        border=draw_ripple(random, range(2, 11), 0.12),
        mvo=random.uniform(0.25, 0.6) if fresh else 0.0,
        thinning=0.0 if fresh else max(0.0, random.uniform(0.0, 0.4) * min(reach, 1.0)),
    )


def _draw_non_ischaemic(
    random: np.random.Generator, pattern: str, septum_angle: float, length_mm: float
) -> Scar:
    """Mid-wall scar is a septal stripe, epicardial scar lies inferolaterally."""
    middle = 0.0 if pattern == "mid_wall" else 2.7
    return Scar(
        pattern=pattern,
        angle=septum_angle + middle + random.normal(0, 0.25),
        half_angle=math.radians(random.uniform(30.0, 65.0)),
        centre_mm=length_mm * random.uniform(0.25, 0.45),
        half_height_mm=length_mm * random.uniform(0.25, 0.45),
        reach=random.uniform(0.35, 0.55),
        border=draw_ripple(random, range(2, 11), 0.12),
        mvo=0.0,
        thinning=0.0,
    )
