"""Requests that TensorFlow Serving answers before a version gets its first caller."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from jdl_keras.serving.signatures import Signatures, input_specs
from tfrecords_tools.shards import write_records

WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"
"""Where servers look for it in a version."""

SIZE, SPACING_MM = 192, 1.5
"""Of the warm-up's images; any size will do."""


def write_warmup(folder: Path, signatures: Signatures) -> None:
    """Writes one request for each signature of images: the other one computes the same.

    Args:
        folder: of the version.
        signatures: of the model in it.
    """
    requests = []
    for name, signature in signatures.items():
        specs = input_specs(signature)
        if "images" in specs:
            inputs = {key: _sample(spec) for key, spec in specs.items()}
            requests.append(_request(name, inputs))
    path = folder / WARMUP
    path.parent.mkdir(exist_ok=True)
    write_records(path, requests)


def _sample(spec: tf.TensorSpec) -> np.ndarray:
    """A bright ring for an image, one of each for all other axes."""
    if spec.name == "images":
        rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
        ring = np.exp(-(((np.hypot(rows, columns) - SIZE / 8) / 5) ** 2))
        return np.float32(ring.reshape((1,) * (spec.shape.rank - 2) + ring.shape))
    values = {"spacing_mm": [[SPACING_MM, SPACING_MM]], "rotation_degrees": [0.0]}
    return np.float32(values[spec.name])


def _request(signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    for name, values in inputs.items():
        tensor = tf.make_tensor_proto(values)
        log.predict_log.request.inputs[name].CopyFrom(tensor)
    return log.SerializeToString(deterministic=True)
