"""The hybrid stem: a weight-standardised ResNet that feeds the transformer."""

import keras
from keras import KerasTensor

from jdl_keras.models.normalization import GroupNormalization, StandardizedConv2D
from jdl_keras.models.presets import TransUNetPreset

GROUP_NORM_EPSILON = 1e-6
SHORTCUT_EPSILON = 1e-5


def convolve(
    x: KerasTensor, channels: int, kernel: int, stride: int, name: str
) -> KerasTensor:
    """Convolution padded symmetrically, as PyTorch pads; without bias."""
    if kernel > 1:
        x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return StandardizedConv2D(
        channels, kernel, strides=stride, use_bias=False, name=name
    )(x)


def bottleneck(
    x: KerasTensor, channels: int, stride: int, groups: int, name: str
) -> KerasTensor:
    """ResNet unit: reduce, convolve with `stride`, expand fourfold, add, ReLU."""

    def normalize(
        x: KerasTensor,
        tag: str,
        groups: int = groups,
        epsilon: float = GROUP_NORM_EPSILON,
    ) -> KerasTensor:
        return GroupNormalization(groups, epsilon=epsilon, name=f"{name}_{tag}")(x)

    shortcut = x
    if stride > 1 or x.shape[-1] != 4 * channels:
        shortcut = convolve(x, 4 * channels, 1, stride, f"{name}_conv_proj")
        shortcut = normalize(shortcut, "gn_proj", 4 * channels, SHORTCUT_EPSILON)
    x = convolve(x, channels, 1, 1, f"{name}_conv1")
    x = keras.layers.ReLU(name=f"{name}_relu1")(normalize(x, "gn1"))
    x = convolve(x, channels, 3, stride, f"{name}_conv2")
    x = keras.layers.ReLU(name=f"{name}_relu2")(normalize(x, "gn2"))
    x = normalize(convolve(x, 4 * channels, 1, 1, f"{name}_conv3"), "gn3")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu3")(x)


def hybrid_stem(
    image: KerasTensor, preset: TransUNetPreset
) -> tuple[KerasTensor, dict[str, KerasTensor]]:
    """Features of an image of three channels, and the skips of the decoder.

    Args:
        image: (B, H, W, 3), H and W multiples of 16.
        preset: the sizes.

    Returns:
        (B, H/16, W/16, 16 * width) and the skips by stride: `s2` (B, H/2, W/2, width),
        `s4` (B, H/4, W/4, 4 * width), `s8` (B, H/8, W/8, 8 * width).
    """
    x = convolve(image, preset.width, 7, 2, "conv_root")
    x = GroupNormalization(
        preset.stem_groups, epsilon=GROUP_NORM_EPSILON, name="gn_root"
    )(x)
    x = keras.layers.ReLU(name="relu_root")(x)
    skips = {"s2": x}

    x = keras.layers.MaxPooling2D(3, strides=2, name="pool_root")(x)
    for stage, units in enumerate(preset.units, start=1):
        channels = preset.width * 2 ** (stage - 1)
        for unit in range(1, units + 1):
            stride = 2 if stage > 1 and unit == 1 else 1
            name = f"block{stage}_unit{unit}"
            x = bottleneck(x, channels, stride, preset.stem_groups, name)
        if stage == 1:
            # Pooling without padding leaves H/4 - 1 rows and columns; only the skip
            # is filled up, the next stage reads the unpadded features.
            skips["s4"] = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name="pad_s4")(x)
        elif stage == 2:
            skips["s8"] = x
    return x, skips
