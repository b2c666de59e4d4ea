"""The TransUNet: hybrid stem, vision transformer, cascaded upsampler, head.

Source: Chen et al. 2021, TransUNet (arXiv 2102.04306); the same function as its
published PyTorch code. Our names against theirs: `skips["s8"]` is `features[0]`,
`cascaded_upsampler` is `DecoderCup`, `hybrid_stem` is `ResNetV2` with the patch
embedding, `decoder_conv_more` is `conv_more`, `head` is `SegmentationHead`. Deviations:
presets with `decoder_norm="group"` have GroupNorm where the original has BatchNorm.
"""

import keras
import keras_hub

from jdl_keras.models.cascaded_upsampler import cascaded_upsampler
from jdl_keras.models.hybrid_stem import hybrid_stem
from jdl_keras.models.presets import PRESETS, TransUNetPreset

STRIDE = 16
"""Pixels of one token in each direction."""


def resolve_preset(preset: str | TransUNetPreset) -> TransUNetPreset:
    """The preset of that name; a `TransUNetPreset` is returned as it is."""
    if isinstance(preset, TransUNetPreset):
        return preset
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; use one of {[*PRESETS]}")
    return PRESETS[preset]


def resolve_image_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """(H, W), checked to be multiples of the stride."""
    height, width = (
        (image_size, image_size) if isinstance(image_size, int) else image_size
    )
    if min(height, width) < 2 * STRIDE or height % STRIDE or width % STRIDE:
        near = [max(2, round(size / STRIDE)) * STRIDE for size in (height, width)]
        raise ValueError(
            f"image size must be multiples of {STRIDE} and at least {2 * STRIDE}, "
            f"got {height}x{width}; use {near[0]}x{near[1]} (grid.size)"
        )
    return height, width


def build_transunet(
    preset: str | TransUNetPreset,
    image_size: int | tuple[int, int] = 224,
    classes: int = 2,
    dropout: float = 0.0,
    name: str = "transunet",
) -> keras.Model:
    """A functional TransUNet with random weights.

    Args:
        preset: a name in `PRESETS` or sizes of your own.
        image_size: H and W, multiples of 16.
        classes: channels of the logits.
        dropout: rate in the transformer's embedding, attention and MLP.
        name: name of the model.

    Returns:
        A model from (B, H, W, 1) to float32 logits (B, H, W, classes).

    Raises:
        ValueError: for an unknown preset or an image size that does not fit.
    """
    sizes = resolve_preset(preset)
    height, width = resolve_image_size(image_size)

    # === Layers ===
    transformer = keras_hub.models.ViTBackbone(
        image_shape=(height // STRIDE, width // STRIDE, 16 * sizes.width),
        patch_size=1,
        num_layers=sizes.layers,
        num_heads=sizes.heads,
        hidden_dim=sizes.token_width,
        mlp_dim=sizes.mlp_width,
        dropout_rate=dropout,
        attention_dropout=dropout,
        layer_norm_epsilon=1e-6,
        use_class_token=False,
        name="transformer",
    )
    head = keras.layers.Conv2D(classes, 3, padding="same", dtype="float32", name="head")

    # === Functional Model ===
    image = keras.Input((height, width, 1), name="image")
    rgb = keras.layers.Concatenate(name="rgb")([image] * 3)
    features, skips = hybrid_stem(rgb, sizes)
    tokens = transformer(features)  # (B, N, D), N = H/16 * W/16
    feature_map = keras.layers.Reshape(
        (height // STRIDE, width // STRIDE, sizes.token_width), name="feature_map"
    )(tokens)  # (B, H/16, W/16, D)
    decoded = cascaded_upsampler(feature_map, skips, sizes)
    return keras.Model(image, head(decoded), name=name)
