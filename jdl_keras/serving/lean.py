"""The same network with less arithmetic: what is constant is computed once."""

from collections.abc import Iterator

import keras
from keras import KerasTensor, ops

from jdl_keras.models.normalization import StandardizedConv2D, standardised


def lean(network: keras.Model) -> keras.Model:
    """A network for inference that computes what `network` does, to rounding errors.

    Standardised kernels become kernels of plain convolutions, and BatchNorm becomes
    part of the convolution before it. All other layers are shared, with their weights.

    Args:
        network: of `models.methods`; in it, convolutions alone feed BatchNorms, and
            nothing else takes what they give.
    """
    normalised = {
        layer.input._keras_history.operation: layer
        for layer in every_layer(network)
        if isinstance(layer, keras.layers.BatchNormalization)
    }

    def folded(layer: keras.Operation) -> keras.Operation:
        if isinstance(layer, StandardizedConv2D):
            kernel = standardised(ops.convert_to_tensor(layer.kernel))
            return _plain(layer, kernel, layer.bias)
        if layer in normalised:
            return _normalised(layer, normalised[layer])
        return layer

    def call(
        layer: keras.Operation, *inputs: KerasTensor, **options: object
    ) -> KerasTensor:
        if isinstance(layer, keras.layers.BatchNormalization):
            return inputs[0]
        return layer(*inputs, **options)

    return keras.models.clone_model(
        network, clone_function=folded, call_function=call, recursive=True
    )


def every_layer(network: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a network, and of the networks in it."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from every_layer(layer)
        else:
            yield layer


def _normalised(
    layer: keras.layers.Conv2D, norm: keras.layers.BatchNormalization
) -> keras.layers.Conv2D:
    """A convolution without bias, and the BatchNorm behind it, as one convolution."""
    scale = norm.gamma * ops.rsqrt(norm.moving_variance + norm.epsilon)
    return _plain(layer, layer.kernel * scale, norm.beta - norm.moving_mean * scale)


def _plain(
    layer: keras.layers.Conv2D, kernel: KerasTensor, bias: KerasTensor | None
) -> keras.layers.Conv2D:
    """A convolution like `layer`, with these weights."""
    config = {**layer.get_config(), "use_bias": bias is not None}
    plain = keras.layers.Conv2D.from_config(config)
    plain.build((None, None, None, kernel.shape[2]))
    plain.kernel.assign(kernel)
    if bias is not None:
        plain.bias.assign(bias)
    return plain
