"""The networks alone as ONNX, for servers and devices that do not run TensorFlow."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from onnx.helper import set_model_props
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)
from tf2onnx.graph import Graph, Node
from tf2onnx.utils import make_name

from jdl_keras.preprocessing import Grid

OPSET = 18
"""Of ONNX; ONNX Runtime, Triton and OpenVINO have it since 2023."""


def write_onnx(network: keras.Model, grid: Grid, path: Path) -> None:
    """Writes a network from images on the grid to maps on the grid.

    Resampling has no counterpart in ONNX: callers crop and scale by themselves, as
    `preprocessing.preprocess` does. The file's properties hold the grid.

    Args:
        network: whose weights are written; `serving.lean` makes the fastest.
        grid: of its images.
        path: of a file from `image` (B, H, W, 1) in [0, 1] to maps (B, H, W, 1) by
            task.
    """
    image = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32, name="image")
    maps = tf.function(
        lambda image: network(image, training=False),
        input_signature=[image],
        autograph=False,
    ).get_concrete_function()
    with _errors_only():
        # tf2onnx's own way from a function leaves the positions of tokens as inputs.
        frozen = convert_variables_to_constants_v2(maps)
        outputs = [tensor.name for tensor in frozen.outputs]
        # TensorFlow flattens a dictionary in the order of its keys.
        names = dict(zip(outputs, sorted(maps.structured_outputs), strict=True))
        model, _ = tf2onnx.convert.from_graph_def(
            frozen.graph.as_graph_def(),
            input_names=["image:0"],
            output_names=outputs,
            opset=OPSET,
            custom_op_handlers={"Erfc": (_erfc, [])},
            tensors_to_rename={"image:0": "image", **names},
        )
    set_model_props(model, {"grid": json.dumps(dataclasses.asdict(grid))})
    path.write_bytes(model.SerializeToString())


@contextmanager
def _errors_only() -> Iterator[None]:
    """Without TensorFlow's warnings that tf2onnx calls what is deprecated."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def _erfc(graph: Graph, node: Node, _: str, __: list) -> None:
    """1 - erf, of the exact GELU; tf2onnx knows erf only."""
    one = graph.make_const(make_name("one"), np.float32(1)).output[0]
    erf = graph.make_node("Erf", node.input).output[0]
    kept = {"shapes": node.output_shapes, "dtypes": node.output_dtypes}
    graph.remove_node(node.name)
    graph.make_node("Sub", [one, erf], outputs=node.output, name=node.name, **kept)
