"""The TransUNet: hybrid stem, vision transformer, cascaded upsampler, head.

Source: Chen et al. 2021, TransUNet (arXiv 2102.04306); the same function as its
published PyTorch code. Our names against theirs: `skips["s8"]` is `features[0]`,
`cascaded_upsampler` is `DecoderCup`, `hybrid_stem` is `ResNetV2` with the patch
embedding, `decoder_conv_more` is `conv_more`, `head` is `SegmentationHead`. Deviations:
presets with `decoder_norm="group"` have GroupNorm where the original has BatchNorm.
"""

import keras
import keras_hub
from keras import KerasTensor

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


def encode(
    image: KerasTensor,
    sizes: TransUNetPreset,
    dropout: float,
    gate: KerasTensor | None = None,
) -> tuple[KerasTensor, dict[str, KerasTensor]]:
    """Hybrid stem and transformer.

    Args:
        image: (B, H, W, 3), or (B, H, W, 1), which is repeated.
        sizes: the preset.
        dropout: rate in the transformer's embedding, attention and MLP.
        gate: (B, H, W, 1) map that multiplies the stem's features at every scale.

    Returns:
        Feature map (B, H/16, W/16, D), and the skips by stride.
    """
    if image.shape[-1] == 1:
        image = keras.layers.Concatenate(name="rgb")([image] * 3)
    features, skips = hybrid_stem(image, sizes)
    if gate is not None:
        skips = {name: gated(skip, gate, name) for name, skip in skips.items()}
        features = gated(features, gate, "s16")
    rows, columns, channels = features.shape[1:]
    tokens = keras_hub.models.ViTBackbone(
        image_shape=(rows, columns, channels),
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
    )(features)  # (B, N, D), N = H/16 * W/16
    feature_map = keras.layers.Reshape(
        (rows, columns, sizes.token_width), name="feature_map"
    )(tokens)  # (B, H/16, W/16, D)
    return feature_map, skips


def gated(features: KerasTensor, gate: KerasTensor, name: str) -> KerasTensor:
    """Features (B, H/s, W/s, C) times the mean of the gate (B, H, W, 1) over s x s."""
    stride = gate.shape[1] // features.shape[1]
    pooled = keras.layers.AveragePooling2D(stride, name=f"gate_{name}")(gate)
    return keras.layers.Multiply(name=f"gated_{name}")([features, pooled])


def decode(
    feature_map: KerasTensor,
    skips: dict[str, KerasTensor],
    sizes: TransUNetPreset,
    classes: int,
) -> KerasTensor:
    """Cascaded upsampler and head: float32 logits (B, H, W, classes)."""
    head = keras.layers.Conv2D(classes, 3, padding="same", dtype="float32", name="head")
    return head(cascaded_upsampler(feature_map, skips, sizes))


def build_transunet(
    preset: str | TransUNetPreset,
    image_size: int | tuple[int, int] = 224,
    classes: int = 2,
    dropout: float = 0.0,
    channels: int = 1,
    with_gate: bool = False,
    name: str = "transunet",
) -> keras.Model:
    """A functional TransUNet with random weights.

    Args:
        preset: a name in `PRESETS` or sizes of your own.
        image_size: H and W, multiples of 16.
        classes: channels of the logits.
        dropout: rate in the transformer's embedding, attention and MLP.
        channels: of the image, 1 or 3.
        with_gate: take a list of the image and a map (B, H, W, 1), see `encode`.
        name: name of the model.

    Returns:
        A model from (B, H, W, channels) to float32 logits (B, H, W, classes).

    Raises:
        ValueError: for an unknown preset or an image size that does not fit.
    """
    sizes = resolve_preset(preset)
    size = resolve_image_size(image_size)
    image = keras.Input((*size, channels), name="image")
    gate = keras.Input((*size, 1), name="gate") if with_gate else None
    logits = decode(*encode(image, sizes, dropout, gate), sizes, classes)
    return keras.Model([image, gate] if with_gate else image, logits, name=name)


def build_encoder(
    preset: str | TransUNetPreset,
    image_size: int | tuple[int, int],
    dropout: float = 0.0,
    name: str = "encoder",
) -> keras.Model:
    """The TransUNet up to its decoder: from (B, H, W, 1) to what `decode` takes.

    The outputs are a dict of `feature_map` and the skips by stride.
    """
    image = keras.Input((*resolve_image_size(image_size), 1), name="image")
    feature_map, skips = encode(image, resolve_preset(preset), dropout)
    return keras.Model(image, {"feature_map": feature_map, **skips}, name=name)


def build_decoder(
    preset: str | TransUNetPreset,
    encoder: keras.Model,
    classes: int = 2,
    name: str = "decoder",
) -> keras.Model:
    """A decoder for the outputs of `encoder`, to float32 logits (B, H, W, classes)."""
    encoded = {
        key: keras.Input(tensor.shape[1:], name=key)
        for key, tensor in encoder.output.items()
    }
    skips = {key: value for key, value in encoded.items() if key != "feature_map"}
    logits = decode(encoded["feature_map"], skips, resolve_preset(preset), classes)
    return keras.Model(encoded, logits, name=name)
