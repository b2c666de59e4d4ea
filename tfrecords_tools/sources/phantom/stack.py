"""Where the slices lie: matrix, pixel size, heart position, and the oblique affine."""

import dataclasses
import math

import numpy as np

from tfrecords_tools.geometry import affine_from_positions
from tfrecords_tools.sources.phantom.anatomy import Ventricle

APEX_CLEARANCE_MM = 3.0
"""The last slice stays this far from the endocardial apex, where the wall closes."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one study, base to apex.

    Attributes:
        shape: (rows, columns).
        pixel_mm: distance of neighbouring rows and of neighbouring columns.
        slice_spacing_mm: from a slice's centre to the next.
        thickness_mm: of the slab that a slice averages.
        z_mm: (S,) heights of the slice centres below the mitral ring.
        centre: (S, 2) row and column of the ventricle's centre in each slice.
        anterior_angle: direction of the chest wall in the image, radians.
        affine: (4, 4), see `tfrecords_tools.geometry`.
    """

    shape: tuple[int, int]
    pixel_mm: float
    slice_spacing_mm: float
    thickness_mm: float
    z_mm: np.ndarray
    centre: np.ndarray
    anterior_angle: float
    affine: np.ndarray

    def places_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """Places x (to the right) and y (up) of the pixels from the centre.

        Returns:
            two (S, H, W) float32 arrays, read-only.
        """
        rows, columns = (np.arange(n, dtype=np.float32) for n in self.shape)
        centre = self.centre.astype(np.float32)[:, :, None, None]
        x = (columns - centre[:, 1]) * np.float32(self.pixel_mm)
        y = (centre[:, 0] - rows[:, None]) * np.float32(self.pixel_mm)
        shape = (len(self.z_mm), *self.shape)
        return np.broadcast_to(x, shape), np.broadcast_to(y, shape)

    def window(self, reach_mm: float) -> tuple[slice, slice]:
        """Rows and columns within `reach_mm` of the centre of some slice."""
        reach = reach_mm / self.pixel_mm
        low = np.maximum(np.floor(self.centre.min(axis=0) - reach), 0).astype(int)
        high = np.ceil(self.centre.max(axis=0) + reach).astype(int) + 1
        return slice(low[0], high[0]), slice(low[1], high[1])

    def body_axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Places along the body: forward to the chest wall, upward to the head.

        The apex lies forward and low, so the body moves back as the slices go there.

        Returns:
            two (S, H, W) float32 arrays of mm from the ventricle's centre.
        """
        x, y = self.places_mm()
        z = self.z_mm.astype(np.float32)[:, None, None]
        cosine, sine = math.cos(self.anterior_angle), math.sin(self.anterior_angle)
        return cosine * x + sine * y + 0.30 * z, sine * x - cosine * y - 0.22 * z


def draw_stack(
    random: np.random.Generator, ventricle: Ventricle, anterior_angle: float
) -> Stack:
    """Draws a stack over `ventricle`; every slice holds a closed ring of wall."""
    pixel_mm = random.uniform(1.2, 1.9)
    shape = _draw_shape(random, pixel_mm, upright=anterior_angle > 2.4)
    spacing_mm = float(random.choice([8.0, 9.0, 10.0]))
    first_mm = random.uniform(3.0, 8.0)
    reach_mm = ventricle.cavity_length_mm - APEX_CLEARANCE_MM - first_mm
    count = int(np.clip(reach_mm // spacing_mm + 1, 5, 10))
    z_mm = first_mm + spacing_mm * np.arange(count)
    place = (random.uniform(-0.08, 0.08), random.uniform(-0.08, 0.08))
    drift_mm = np.multiply.outer(z_mm, ventricle.tilt)
    # Each slice is a breath-hold of its own, so the heart does not stand quite still.
    drift_mm = drift_mm + random.normal(0, 0.7, drift_mm.shape)
    drift = drift_mm[:, ::-1] * (-1, 1) / pixel_mm
    centre = (np.array(shape) - 1) / 2 + np.multiply(place, shape) + drift
    affine = _draw_affine(random, anterior_angle, pixel_mm, spacing_mm, centre[0])
    thickness_mm = min(spacing_mm, random.uniform(6.0, 8.0))
    return Stack(
        shape, pixel_mm, spacing_mm, thickness_mm, z_mm, centre, anterior_angle, affine
    )


def _draw_shape(
    random: np.random.Generator, pixel_mm: float, upright: bool
) -> tuple[int, int]:
    """A field of 280-370 mm, shorter across the phase encoding direction."""
    long = int(np.clip(random.uniform(280, 370) / pixel_mm, 190, 288))
    short = int(np.clip(long * random.uniform(0.60, 1.0), 150, 256))
    long, short = long // 2 * 2, short // 2 * 2
    return (long, short) if upright else (short, long)


def _draw_affine(
    random: np.random.Generator,
    anterior_angle: float,
    pixel_mm: float,
    spacing_mm: float,
    heart: np.ndarray,
) -> np.ndarray:
    """An affine whose anterior direction points to `anterior_angle` in the image.

    The stack runs along the heart's axis from base to apex: left, anterior, down.
    """
    normal = np.array([0.62, -0.55, -0.56]) + random.normal(0, 0.07, 3)
    normal /= np.linalg.norm(normal)
    anterior = np.array([0.0, -1.0, 0.0])
    forward = anterior - (anterior @ normal) * normal
    forward /= np.linalg.norm(forward)
    sideways = np.cross(normal, forward)  # a quarter turn counter-clockwise
    cosine, sine = math.cos(anterior_angle), math.sin(anterior_angle)
    right, up = cosine * forward - sine * sideways, sine * forward + cosine * sideways
    heart_mm = np.array([40.0, -30.0, 20.0]) + random.normal(0, 20, 3)
    first_mm = heart_mm - (heart[1] * right - heart[0] * up) * pixel_mm
    return affine_from_positions(
        first_mm, -up, right, (pixel_mm, pixel_mm), spacing_mm * normal
    )
