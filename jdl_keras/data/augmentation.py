"""Random affine and intensity changes, each a pure function of the numbers drawn.

One sample or a batch of them: leading axes are written `...`.
"""

import math

from keras import KerasTensor, ops

from jdl_keras.config import AugmentationConfig


def random_affine(u: KerasTensor, config: AugmentationConfig) -> KerasTensor:
    """One composed affine: scale, shear, rotation, translation.

    Args:
        u: (..., 5) uniform in [-1, 1): scale, rotation, shear, shifts along columns and
            along rows.
        config: the ranges.

    Returns:
        (..., 3, 3) from output (x, y, 1) to input, in millimetres around the centre.
    """
    low, high = (math.log(limit) for limit in config.scale)
    zoom = ops.exp(-((high + low) / 2 + u[..., 0] * (high - low) / 2))
    angle = u[..., 1] * math.radians(config.rotation_degrees)
    shear = ops.tan(u[..., 2] * math.radians(config.shear_degrees))
    shift = u[..., 3:] * config.translation_mm

    cos, sin = ops.cos(angle), ops.sin(angle)
    zero = ops.zeros_like(zoom)
    rows = [
        [zoom * cos, zoom * (cos * shear - sin), shift[..., 0]],
        [zoom * sin, zoom * (sin * shear + cos), shift[..., 1]],
        [zero, zero, zero + 1],
    ]
    return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2)


def random_intensity(
    image: KerasTensor,
    u: KerasTensor,
    noise: KerasTensor,
    config: AugmentationConfig,
) -> KerasTensor:
    """Changes gamma and adds noise to images in [0, 1].

    Args:
        image: (..., any axes of one sample).
        u: (..., 2) uniform in [0, 1): exponent, amount of noise.
        noise: standard normal, of the image's shape.
        config: the ranges.
    """
    own_axes = tuple(range(-(len(image.shape) - len(u.shape) + 1), 0))
    exponent, amount = (ops.expand_dims(u[..., i], own_axes) for i in (0, 1))
    low, high = (math.log(limit) for limit in config.gamma)
    gamma = ops.exp(low + exponent * (high - low))
    # exp and log are vectorised on a CPU, pow is not: 0.1 against 0.5 ms at 224x224.
    powered = ops.exp(gamma * ops.log(image))
    return ops.clip(powered + noise * (amount * config.noise_sd), 0.0, 1.0)
