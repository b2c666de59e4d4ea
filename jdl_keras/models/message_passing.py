"""The message from the myocardium network to the scar network."""

import math

import keras
from keras import KerasTensor, ops

from jdl_keras.config import MessageConfig

HARD_THRESHOLD = 0.5
"""Probability from which a pixel belongs to a hard mask."""

SMALLEST_DEVIATION = 0.02
"""Of the remote wall, in shares of the intensity range: about its noise."""


def pass_message(image: KerasTensor, myocardium: KerasTensor) -> KerasTensor:
    """Masks the image softly by the myocardium's probability map.

    Gradients of the scar loss flow through the product into the myocardium network.

    Args:
        image: (B, H, W, 1) in [0, 1].
        myocardium: (B, H, W, 1) probability map.

    Returns:
        (B, H, W, 1), the element-wise product.
    """
    return keras.layers.Multiply(name="message")([image, myocardium])


def hardened(myocardium: KerasTensor) -> KerasTensor:
    """The mask of 0 and 1 of a probability map; it has no gradient."""
    return ops.cast(myocardium >= HARD_THRESHOLD, "float32")


def mask_of(
    myocardium: KerasTensor, message: MessageConfig, spacing_mm: tuple[float, float]
) -> KerasTensor:
    """What the message makes of the probability map (B, H, W, 1) before it is used."""
    if message.stop_gradient:
        myocardium = ops.stop_gradient(myocardium)
    if message.hard:
        myocardium = hardened(myocardium)
    if message.widen_mm:
        # The maximum over a window is the dilation of a map.
        window = [1 + 2 * math.ceil(message.widen_mm / mm) for mm in spacing_mm]
        widen = keras.layers.MaxPooling2D(window, 1, padding="same", name="widened")
        myocardium = widen(myocardium)
    return myocardium


def remote_deviations(image: KerasTensor, mask: KerasTensor) -> KerasTensor:
    """How far every pixel is from the remote wall, in its standard deviations.

    What n-SD thresholding looks at. Remote is the darker part of the wall: its pixels
    below the wall's mean. No gradient flows through its mean and deviation.

    Args:
        image: (B, H, W, 1) in [0, 1].
        mask: (B, H, W, 1) map of the wall.

    Returns:
        (B, H, W, 1) in [-1, 1]: 0 at the remote mean, `tanh` of a fifth of the
        deviations from it.
    """
    weight = ops.stop_gradient(mask)
    darker = ops.cast(image <= _mean(image, weight), "float32")
    mean = _mean(image, weight * darker)
    variance = _mean(ops.square(image - mean), weight * darker)
    deviation = ops.sqrt(variance + SMALLEST_DEVIATION**2)
    return ops.tanh((image - mean) / (5 * deviation))


def _mean(values: KerasTensor, weight: KerasTensor) -> KerasTensor:
    """Weighted mean over rows and columns, (B, 1, 1, 1); 0 without weight."""
    total = ops.sum(weight, axis=(1, 2), keepdims=True)
    return ops.sum(values * weight, axis=(1, 2), keepdims=True) / (total + 1e-6)
