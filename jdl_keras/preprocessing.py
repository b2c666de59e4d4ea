"""From the native grid to the networks' grid and back, inside the graph.

Training, evaluation and the served model share these functions. Positions are measured
from a centre in millimetres: `x` along columns, `y` along rows.
"""

import dataclasses

import tensorflow as tf

from jdl_keras.config import GridConfig

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
        return cls(**dataclasses.asdict(config))


def image_centre(images: tf.Tensor) -> tf.Tensor:
    """Centre (B, 2) as (row, column) of images (B, H, W)."""
    shape = tf.shape(images)
    size = tf.cast(shape[1:3], tf.float32)
    return tf.tile((size[None] - 1) / 2, [shape[0], 1])


def _pixel_to_mm(spacing_mm: tf.Tensor, centre: tf.Tensor) -> tf.Tensor:
    """(B, 3, 3) from pixels (column, row, 1) to (x, y, 1)."""
    zero, one = tf.zeros_like(centre[:, 0]), tf.ones_like(centre[:, 0])
    y, x = spacing_mm[:, 0], spacing_mm[:, 1]
    rows = [[x, zero, -x * centre[:, 1]], [zero, y, -y * centre[:, 0]]]
    rows.append([zero, zero, one])
    return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=-2)


def _mm_to_pixel(spacing_mm: tf.Tensor, centre: tf.Tensor) -> tf.Tensor:
    """(B, 3, 3) from (x, y, 1) to pixels (column, row, 1)."""
    zero, one = tf.zeros_like(centre[:, 0]), tf.ones_like(centre[:, 0])
    y, x = spacing_mm[:, 0], spacing_mm[:, 1]
    rows = [[1 / x, zero, centre[:, 1]], [zero, 1 / y, centre[:, 0]]]
    rows.append([zero, zero, one])
    return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=-2)


def _grid_geometry(grid: Grid, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Spacing (B, 2) and centre (B, 2) of the grid itself."""
    centre = [(grid.size[0] - 1) / 2, (grid.size[1] - 1) / 2]
    return tf.tile([grid.spacing_mm], [batch, 1]), tf.tile([centre], [batch, 1])


def sample(
    images: tf.Tensor,
    output_to_input: tf.Tensor,
    size: tuple[int, int] | tf.Tensor,
    interpolation: str,
    fill: str,
) -> tf.Tensor:
    """Samples images (B, H, W, 1) at positions given by an affine map of the output.

    Args:
        images: float32 or uint8.
        output_to_input: (B, 3, 3) from output (column, row, 1) to input.
        size: rows and columns of the output.
        interpolation: `BILINEAR` or `NEAREST`.
        fill: beyond the edge, `NEAREST` repeats it and `CONSTANT` is 0.
    """
    flat = tf.reshape(output_to_input, [-1, 9])[:, :8]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=flat,
        output_shape=size,
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode=fill,
    )


def grid_to_native(grid: Grid, spacing_mm: tf.Tensor, centre: tf.Tensor) -> tf.Tensor:
    """(B, 3, 3) from pixels of the grid to pixels of the native image.

    Args:
        grid: the grid.
        spacing_mm: (B, 2) of the native (rows, columns).
        centre: (B, 2) native (row, column) on which the grid is centred.
    """
    spacing, middle = _grid_geometry(grid, tf.shape(centre)[0])
    return tf.matmul(_mm_to_pixel(spacing_mm, centre), _pixel_to_mm(spacing, middle))


def finite(images: tf.Tensor) -> tf.Tensor:
    """Images (B, H, W) whose non-finite pixels take the slice's smallest finite value.

    A slice without a finite pixel becomes 0. Values are held within `LARGEST`.
    """
    is_finite = tf.math.is_finite(images)
    candidates = tf.where(is_finite, images, images.dtype.max)
    lowest = tf.reduce_min(candidates, axis=[1, 2], keepdims=True)
    exists = tf.reduce_any(is_finite, axis=[1, 2], keepdims=True)
    filled = tf.where(is_finite, images, tf.where(exists, lowest, 0.0))
    return tf.clip_by_value(filled, -LARGEST, LARGEST)


def intensity_range(images: tf.Tensor, percentiles: tuple[float, float]) -> tf.Tensor:
    """(B, 2): the percentiles of each image (B, H, W), nearest rank."""
    pixels = tf.sort(tf.reshape(images, [tf.shape(images)[0], -1]), axis=1)
    last = tf.cast(tf.shape(pixels)[1] - 1, tf.float32)
    ranks = tf.cast(tf.round(tf.constant(percentiles) / 100 * last), tf.int32)
    return tf.gather(pixels, ranks, axis=1)


def scale_intensities(images: tf.Tensor, limits: tf.Tensor) -> tf.Tensor:
    """Maps `limits` (B, 2) of images (B, H, W, 1) to 0 and 1, and clips.

    A slice whose limits coincide, a constant one, becomes 0.
    """
    low, high = limits[:, 0, None, None, None], limits[:, 1, None, None, None]
    # Interpolation leaves rounding errors of 1e-7 in a constant; they are no image.
    rounding = 1e-6 * tf.maximum(tf.abs(low), tf.abs(high))
    width = tf.where(high - low > rounding, high - low, 0.0)
    scaled = tf.math.divide_no_nan(images - low, width)
    return tf.clip_by_value(scaled, 0.0, 1.0)


def preprocess(
    images: tf.Tensor, spacing_mm: tf.Tensor, grid: Grid, centre: tf.Tensor
) -> tf.Tensor:
    """What the networks see of native slices.

    Args:
        images: (B, H, W) float32 intensities as acquired.
        spacing_mm: (B, 2) of rows and columns.
        grid: the networks' grid.
        centre: (B, 2) native (row, column) on which to centre the grid.

    Returns:
        (B, rows, columns, 1) in [0, 1].
    """
    transform = grid_to_native(grid, spacing_mm, centre)
    images = finite(images)[..., None]
    resampled = sample(images, transform, grid.size, "BILINEAR", "NEAREST")
    limits = intensity_range(resampled[..., 0], grid.percentiles)
    return scale_intensities(resampled, limits)


def to_native(
    maps: tf.Tensor,
    spacing_mm: tf.Tensor,
    grid: Grid,
    centre: tf.Tensor,
    size: tuple[int, int] | tf.Tensor,
) -> tf.Tensor:
    """The inverse of `preprocess` for probability maps.

    Args:
        maps: (B, rows, columns, 1) on the networks' grid.
        spacing_mm: as given to `preprocess`.
        grid: as given to `preprocess`.
        centre: as given to `preprocess`.
        size: native rows and columns.

    Returns:
        (B, H, W); 0 where the grid did not reach.
    """
    spacing, middle = _grid_geometry(grid, tf.shape(centre)[0])
    transform = tf.matmul(
        _mm_to_pixel(spacing, middle), _pixel_to_mm(spacing_mm, centre)
    )
    return sample(maps, transform, size, "BILINEAR", "CONSTANT")[..., 0]
