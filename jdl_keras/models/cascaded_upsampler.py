"""The cascaded upsampler: tokens back to the resolution of the image."""

import keras
import numpy as np
from keras import KerasTensor, ops

from jdl_keras.models.normalization import GroupNormalization
from jdl_keras.models.presets import TransUNetPreset

BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM = 1e-5, 0.9
SKIPS = ("s8", "s4", "s2", None)
"""The skip that joins at each of the four steps."""


def aligned_weights(size: int) -> np.ndarray:
    """(2 * size, size) linear interpolation whose first and last samples coincide."""
    position = np.arange(2 * size) * (size - 1) / (2 * size - 1)
    distance = np.abs(position[:, None] - np.arange(size)[None, :])
    return np.maximum(0.0, 1.0 - distance).astype("float32")


@keras.saving.register_keras_serializable("jdl_keras")
class AlignedUpsampling2D(keras.layers.Layer):
    """Doubles (B, H, W, C) by bilinear interpolation with aligned corners.

    `keras.ops.image.resize` has no aligned corners, which the original uses. Rows and
    columns are interpolated by one matrix multiplication each.
    """

    def build(self, input_shape: tuple[int | None, int, int, int]) -> None:
        """Computes the interpolation matrices of this height and width."""
        self.row_weights = aligned_weights(input_shape[1])
        self.column_weights = aligned_weights(input_shape[2])

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """Returns (B, 2H, 2W, C)."""
        _, height, width, channels = inputs.shape
        rows = ops.cast(self.row_weights, inputs.dtype)
        columns = ops.cast(self.column_weights, inputs.dtype)
        x = ops.reshape(inputs, (-1, height, width * channels))
        x = ops.matmul(rows, x)  # (B, 2H, W * C)
        x = ops.reshape(x, (-1, width, channels))
        x = ops.matmul(columns, x)  # (B * 2H, 2W, C)
        return ops.reshape(x, (-1, 2 * height, 2 * width, channels))

    def compute_output_shape(
        self, input_shape: tuple[int | None, int, int, int]
    ) -> tuple[int | None, int, int, int]:
        """Returns the shape (B, 2H, 2W, C)."""
        batch, height, width, channels = input_shape
        return batch, 2 * height, 2 * width, channels


def convolve(x: KerasTensor, channels: int, norm: str, name: str) -> KerasTensor:
    """3x3 convolution without bias, normalisation, ReLU."""
    x = keras.layers.Conv2D(
        channels, 3, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    if norm == "batch":
        # Synchronised, so that a batch split over replicas has the same statistics;
        # Keras has that, and we have replicas, on TensorFlow only.
        x = keras.layers.BatchNormalization(
            epsilon=BATCH_NORM_EPSILON,
            momentum=BATCH_NORM_MOMENTUM,
            synchronized=keras.config.backend() == "tensorflow",
            name=f"{name}_bn",
        )(x)
    else:
        x = GroupNormalization(groups=8, epsilon=1e-5, name=f"{name}_gn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def cascaded_upsampler(
    feature_map: KerasTensor,
    skips: dict[str, KerasTensor],
    preset: TransUNetPreset,
) -> KerasTensor:
    """Decodes (B, H/16, W/16, D) with its skips to (B, H, W, decoder_channels[-1])."""
    norm = preset.decoder_norm
    x = convolve(feature_map, preset.bridge_channels, norm, "decoder_conv_more")
    for step, channels in enumerate(preset.decoder_channels, start=1):
        name, skip = f"decoder_block{step}", SKIPS[step - 1]
        x = AlignedUpsampling2D(name=f"{name}_up")(x)
        if skip is not None:
            x = keras.layers.Concatenate(name=f"{name}_{skip}")([x, skips[skip]])
        x = convolve(x, channels, norm, f"{name}_conv1")
        x = convolve(x, channels, norm, f"{name}_conv2")
    return x
