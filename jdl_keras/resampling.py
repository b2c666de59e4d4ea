"""Sampling of images at positions between their pixels, the same on every backend."""

import keras
from keras import KerasTensor, ops


def sample(
    images: KerasTensor,
    output_to_input: KerasTensor,
    size: tuple[int, int] | KerasTensor,
    interpolation: str,
    fill: str,
) -> KerasTensor:
    """Samples images (B, H, W, 1) at positions given by an affine map of the output.

    Args:
        images: float32 or uint8.
        output_to_input: (B, 3, 3) from output (column, row, 1) to input.
        size: rows and columns of the output; a tensor under TensorFlow only.
        interpolation: `BILINEAR`, of float32, or `NEAREST`, a half away from zero.
        fill: beyond the edge, `NEAREST` repeats it and `CONSTANT` is 0.
    """
    if keras.config.backend() != "tensorflow":
        return _gathered(images, output_to_input, size, interpolation, fill)
    import tensorflow as tf

    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.reshape(output_to_input, [-1, 9])[:, :8],
        output_shape=size,
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode=fill,
    )


def _gathered(
    images: KerasTensor,
    output_to_input: KerasTensor,
    size: tuple[int, int],
    interpolation: str,
    fill: str,
) -> KerasTensor:
    """`sample` without an operation of TensorFlow, in its order of float32 sums."""
    x, y = _positions(output_to_input, size)
    if fill == "NEAREST":
        x = ops.clip(x, 0, images.shape[2] - 1)
        y = ops.clip(y, 0, images.shape[1] - 1)
    if interpolation == "NEAREST":
        return _read(images, _rounded(y), _rounded(x))
    left, top = ops.floor(x), ops.floor(y)
    right, bottom = x - left, y - top

    def along_row(row: KerasTensor) -> KerasTensor:
        before, after = _read(images, row, left), _read(images, row, left + 1)
        return (1 - right)[..., None] * before + right[..., None] * after

    upper, lower = along_row(top), along_row(top + 1)
    return (1 - bottom)[..., None] * upper + bottom[..., None] * lower


def _positions(
    output_to_input: KerasTensor, size: tuple[int, int]
) -> tuple[KerasTensor, KerasTensor]:
    """Input columns and rows (B, rows, columns) of all output pixels."""
    rows, columns = (ops.arange(n, dtype="float32") for n in size)
    maps = output_to_input[:, :, :, None, None]
    return tuple(
        maps[:, axis, 0] * columns + maps[:, axis, 1] * rows[:, None] + maps[:, axis, 2]
        for axis in (0, 1)
    )


def _rounded(position: KerasTensor) -> KerasTensor:
    """The nearest whole number, of two the one farther from zero."""
    size = ops.abs(position)
    whole = ops.floor(size)
    nearest = whole + ops.cast(size - whole >= 0.5, "float32")
    return ops.sign(position) * nearest


def _read(images: KerasTensor, row: KerasTensor, column: KerasTensor) -> KerasTensor:
    """Pixels (B, rows, columns, 1) at whole positions; 0 beyond the edge."""
    batch, height, width, _ = images.shape
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    first = ops.arange(batch, dtype="int32")[:, None, None] * (height * width)
    # Held inside before the cast: no integer holds every float.
    row = ops.cast(ops.clip(row, 0, height - 1), "int32")
    column = ops.cast(ops.clip(column, 0, width - 1), "int32")
    pixels = ops.take(ops.reshape(images, [-1]), first + row * width + column, axis=0)
    return ops.where(inside, pixels, ops.zeros_like(pixels))[..., None]
