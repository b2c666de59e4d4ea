"""From the native grid to the networks' grid and back, on any backend and in graph.

Training, evaluation and the served model share these functions. Positions are measured
from a centre in millimetres: `x` along columns, `y` along rows.
"""

import dataclasses
import math

import numpy as np
from keras import KerasTensor, ops

from jdl_keras.config import GridConfig
from jdl_keras.resampling import sample

LARGEST = 1e37
"""Intensities whose differences are finite in float32 too."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """A grid of `size` (rows, columns) at `spacing_mm` around a centre."""

    size: tuple[int, int]
    spacing_mm: tuple[float, float]
    percentiles: tuple[float, float] = (1.0, 99.0)

    @classmethod
    def from_config(cls, config: GridConfig) -> "Grid":
        """The grid of a configuration."""
        return cls(config.size, config.spacing_mm, config.percentiles)


def image_centre(images: KerasTensor) -> KerasTensor:
    """Centre (B, 2) as (row, column) of images (B, H, W)."""
    batch, *size = ops.shape(images)
    centre = [(ops.cast(n, "float32") - 1) / 2 for n in size]
    return ops.tile(ops.stack(centre)[None], [batch, 1])


def _pixel_map(
    spacing_mm: KerasTensor,
    centre: KerasTensor,
    to_spacing_mm: KerasTensor,
    to_centre: KerasTensor,
    rotation_degrees: KerasTensor | float,
) -> KerasTensor:
    """(B, 3, 3) from pixels (column, row, 1) around a centre to those around another.

    The product of three matrices, written out: accelerators multiply matrices in fewer
    bits, which would move pixels by tenths.
    """
    angle = ops.multiply(rotation_degrees, math.pi / 180)
    cos, sin = ops.cos(angle), ops.sin(angle)
    row_mm, column_mm = spacing_mm[:, 0], spacing_mm[:, 1]
    to_row_mm, to_column_mm = to_spacing_mm[:, 0], to_spacing_mm[:, 1]
    a, b = cos * (column_mm / to_column_mm), -sin * (row_mm / to_column_mm)
    c, d = sin * (column_mm / to_row_mm), cos * (row_mm / to_row_mm)
    rows = [
        [a, b, to_centre[:, 1] - a * centre[:, 1] - b * centre[:, 0]],
        [c, d, to_centre[:, 0] - c * centre[:, 1] - d * centre[:, 0]],
        [ops.zeros_like(a), ops.zeros_like(a), ops.ones_like(a)],
    ]
    return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2)


def _of_grid(grid: Grid) -> tuple[KerasTensor, KerasTensor]:
    """Spacing and centre of the grid itself, each (1, 2)."""
    middle = [(n - 1) / 2 for n in grid.size]
    return (
        ops.convert_to_tensor([grid.spacing_mm], "float32"),
        ops.convert_to_tensor([middle], "float32"),
    )


def grid_to_native(
    grid: Grid,
    spacing_mm: KerasTensor,
    centre: KerasTensor,
    rotation_degrees: KerasTensor | float = 0.0,
) -> KerasTensor:
    """(B, 3, 3) from pixels of the grid to pixels of the native image.

    Args:
        grid: the grid.
        spacing_mm: (B, 2) of the native (rows, columns).
        centre: (B, 2) native (row, column) on which the grid is centred.
        rotation_degrees: by which the grid is turned about its centre, from the columns
            towards the rows; a scalar, or (B,).
    """
    return _pixel_map(*_of_grid(grid), spacing_mm, centre, rotation_degrees)


def finite(images: KerasTensor) -> KerasTensor:
    """Images (B, H, W) whose non-finite pixels take the slice's smallest finite value.

    A slice without a finite pixel becomes 0. Values are held within `LARGEST`.
    """
    is_finite = ops.isfinite(images)
    candidates = ops.where(is_finite, images, float(np.finfo("float32").max))
    lowest = ops.min(candidates, axis=[1, 2], keepdims=True)
    exists = ops.any(is_finite, axis=[1, 2], keepdims=True)
    filled = ops.where(is_finite, images, ops.where(exists, lowest, 0.0))
    return ops.clip(filled, -LARGEST, LARGEST)


def intensity_range(
    images: KerasTensor, percentiles: tuple[float, float]
) -> KerasTensor:
    """(B, 2): the percentiles of each image (B, H, W), nearest rank."""
    batch, rows, columns = ops.shape(images)
    pixels = ops.sort(ops.reshape(images, [batch, rows * columns]), axis=1)
    last = ops.cast(rows * columns - 1, "float32")
    shares = ops.convert_to_tensor(percentiles, "float32") / 100
    return ops.take(pixels, ops.cast(ops.round(shares * last), "int32"), axis=1)


def scale_intensities(images: KerasTensor, limits: KerasTensor) -> KerasTensor:
    """Maps `limits` (B, 2) of images (B, H, W, 1) to 0 and 1, and clips.

    A slice whose limits coincide, a constant one, becomes 0.
    """
    low, high = limits[:, 0, None, None, None], limits[:, 1, None, None, None]
    # Interpolation leaves rounding errors of 1e-7 in a constant; they are no image.
    rounding = 1e-6 * ops.maximum(ops.abs(low), ops.abs(high))
    width = ops.where(high - low > rounding, high - low, 0.0)
    scaled = ops.divide_no_nan(images - low, width)
    return ops.clip(scaled, 0.0, 1.0)


def preprocess(
    images: KerasTensor,
    spacing_mm: KerasTensor,
    grid: Grid,
    centre: KerasTensor,
    rotation_degrees: KerasTensor | float = 0.0,
) -> KerasTensor:
    """What the networks see of native slices.

    Args:
        images: (B, H, W) float32 intensities as acquired.
        spacing_mm: (B, 2) of rows and columns.
        grid: the networks' grid.
        centre: (B, 2) native (row, column) on which to centre the grid.
        rotation_degrees: see `grid_to_native`.

    Returns:
        (B, rows, columns, 1) in [0, 1].
    """
    transform = grid_to_native(grid, spacing_mm, centre, rotation_degrees)
    images = finite(images)[..., None]
    resampled = sample(images, transform, grid.size, "BILINEAR", "NEAREST")
    limits = intensity_range(resampled[..., 0], grid.percentiles)
    return scale_intensities(resampled, limits)


def to_native(
    maps: KerasTensor,
    spacing_mm: KerasTensor,
    grid: Grid,
    centre: KerasTensor,
    size: tuple[int, int] | KerasTensor,
    rotation_degrees: KerasTensor | float = 0.0,
) -> KerasTensor:
    """The inverse of `preprocess` for probability maps.

    Args:
        maps: (B, rows, columns, 1) on the networks' grid.
        spacing_mm: as given to `preprocess`.
        grid: as given to `preprocess`.
        centre: as given to `preprocess`.
        size: native rows and columns.
        rotation_degrees: as given to `preprocess`.

    Returns:
        (B, H, W); 0 where the grid did not reach.
    """
    # A tensor's minus: a number would be turned back to other bits than a tensor.
    back_degrees = ops.negative(rotation_degrees)
    transform = _pixel_map(spacing_mm, centre, *_of_grid(grid), back_degrees)
    return sample(maps, transform, size, "BILINEAR", "CONSTANT")[..., 0]
