"""Sizes of the TransUNet."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TransUNetPreset:
    """One size of the TransUNet.

    Attributes:
        units: bottleneck units of the three stages of the hybrid stem.
        width: channels after the root convolution.
        token_width: D of the transformer's tokens (B, N, D).
        mlp_width: hidden width of the transformer's MLP.
        heads: attention heads.
        layers: transformer blocks.
        bridge_channels: channels of the convolution that follows the transformer.
        decoder_channels: channels of the four steps of the cascaded upsampler.
        stem_groups: groups of the stem's GroupNorm.
        decoder_norm: `batch` as in the original, or `group`, whose function does not
            depend on the batch and has no averages that lag behind short trainings.
    """

    units: tuple[int, int, int]
    width: int
    token_width: int
    mlp_width: int
    heads: int
    layers: int
    bridge_channels: int
    decoder_channels: tuple[int, int, int, int]
    stem_groups: int
    decoder_norm: str


PRESETS = {
    "r50_vit_b16": TransUNetPreset(
        units=(3, 4, 9),
        width=64,
        token_width=768,
        mlp_width=3072,
        heads=12,
        layers=12,
        bridge_channels=512,
        decoder_channels=(256, 128, 64, 16),
        stem_groups=32,
        decoder_norm="batch",
    ),
    "small": TransUNetPreset(
        units=(2, 2, 2),
        width=24,
        token_width=192,
        mlp_width=384,
        heads=4,
        layers=4,
        bridge_channels=128,
        decoder_channels=(96, 48, 24, 16),
        stem_groups=8,
        decoder_norm="group",
    ),
    "tiny": TransUNetPreset(
        units=(1, 2, 1),
        width=32,
        token_width=64,
        mlp_width=128,
        heads=4,
        layers=2,
        bridge_channels=512,
        decoder_channels=(256, 128, 64, 16),
        stem_groups=32,
        decoder_norm="batch",
    ),
}
"""`r50_vit_b16` is the paper's; `tiny` is the original at test size."""
