"""The arithmetic that a network needs, counted over its layers."""

import math

import keras
import keras_hub

STEP_FORWARDS = 3
"""A train step is counted as three forward passes: the gradients of the inputs and of
the weights take one each. Update, clipping and L2 are counted as nothing."""


def forward_flop(network: keras.Model) -> int:
    """Floating-point operations of one sample's forward pass.

    Convolutions and matrix products count, two operations for a multiplication with
    its addition. What a lean implementation does without counts as nothing:
    normalisation, activations, and the interpolation of the cascaded upsampler.

    Args:
        network: in which every layer is used once.
    """
    return sum(_flop(layer) for layer in network.layers)


def _flop(layer: keras.Layer) -> int:
    if isinstance(layer, keras_hub.models.ViTBackbone):
        return _transformer_flop(layer)
    if isinstance(layer, keras.Model):
        return forward_flop(layer)
    if isinstance(layer, keras.layers.Conv2D):
        # The kernel (rows, columns, in, out) meets every pixel of the output once.
        return 2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
    return 0


def _transformer_flop(transformer: keras_hub.models.ViTBackbone) -> int:
    """Patch embedding and blocks: four projections, two layers, two products."""
    tokens, width = transformer.output.shape[1:]
    channels, hidden = transformer.image_shape[-1], transformer.mlp_dim
    weights = 4 * width * width + 2 * width * hidden
    block = tokens * weights + 2 * tokens * tokens * width
    return 2 * (tokens * channels * width + transformer.num_layers * block)
