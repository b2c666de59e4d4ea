"""Compiles a function of native slices by the means of the backend."""

from collections.abc import Callable

import keras


def compiled(function: Callable, network: keras.Model) -> Callable:
    """A compiled function of (images, spacing_mm, centre, rotation_degrees).

    Args:
        function: of images (B, H, W), spacing (B, 2), centre (B, 2) and a number.
        network: what the function applies; its weights are read at every call.
    """
    by_backend = {"tensorflow": _by_tensorflow, "jax": _by_jax, "torch": _by_torch}
    return by_backend[keras.config.backend()](function, network)


def _by_tensorflow(function: Callable, _: keras.Model) -> Callable:
    import tensorflow as tf

    # One graph for images of any size and number. Nothing branches on a tensor's value:
    # rewriting the source for that would cost a fifth of a second at every start.
    shapes = ([None, None, None], [None, 2], [None, 2], [])
    signature = [tf.TensorSpec(shape) for shape in shapes]
    return tf.function(function, input_signature=signature, autograph=False)


def _by_jax(function: Callable, network: keras.Model) -> Callable:
    import jax

    @jax.jit
    def run(weights: list, *inputs: jax.Array) -> tuple:
        # As arguments: captured weights would be constants of every compiled shape.
        with keras.StatelessScope(list(zip(network.variables, weights, strict=True))):
            return function(*inputs)

    return lambda *inputs: run([v.value for v in network.variables], *inputs)


def _by_torch(function: Callable, _: keras.Model) -> Callable:
    import torch

    # Nothing to compile: operations run one by one, without a record for gradients.
    return torch.no_grad()(function)
