"""The predict protocol of TensorFlow Serving over gRPC, by its official stubs."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from jdl_keras.serving.servers import (
    SIGNATURE,
    Maps,
    checked,
    refused,
    retried,
    too_late,
    unavailable,
)
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.quiet_tensorflow import load_tensorflow

INPUTS = {"images", "spacing_mm"}

OPTIONS = (
    # The default of 4 MiB holds no study.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Pixels of patients go to the server and nowhere else.
    ("grpc.enable_http_proxy", 0),
)


class GrpcServer:
    """A server that speaks the gRPC protocol of TensorFlow Serving.

    Args:
        target: its address, `HOST:PORT`.
        model: name of the model.
        version: of the model; None for the newest.
        timeout_seconds: for each answer.
        retries: further tries while nobody answers.
        ca_file: certificates that the server is checked against; without them the
            connection is not encrypted.

    Raises:
        RefusedError: if the stubs are not installed.
    """

    def __init__(
        self,
        target: str,
        model: str,
        version: int | None = None,
        timeout_seconds: float = 120.0,
        retries: int = 3,
        ca_file: Path | None = None,
    ):
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        try:
            load_tensorflow()
            from tensorflow_serving.apis import prediction_service_pb2_grpc
        except ImportError:
            reason = "needs tensorflow-serving-api; install it, or give --url"
            raise RefusedError("grpc", "CONFIG", reason) from None
        self.target, self.model, self.version = target, model, version
        self.timeout_seconds, self.retries = timeout_seconds, retries
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(
            _channel(target, ca_file)
        )

    def check(self) -> None:
        """See `Server`; also looks whether the model takes what will be sent."""
        from tensorflow_serving.apis import get_model_metadata_pb2 as messages

        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._specify(request.model_spec)
        found = messages.SignatureDefMap()
        answer = self._call(self._stub.GetModelMetadata, request)
        answer.metadata["signature_def"].Unpack(found)
        inputs = set(found.signature_def[SIGNATURE].inputs)
        if inputs != INPUTS:
            reason = f"signature {SIGNATURE} of {self.model} takes {sorted(inputs)}, "
            reason += f"expected {sorted(INPUTS)}; is this the right model?"
            raise RefusedError(self.target, "ANSWER", reason)
        self.version = answer.model_spec.version.value

    def predict(self, images: np.ndarray, spacing_mm: np.ndarray) -> Maps:
        """See `Server`."""
        import tensorflow as tf
        from tensorflow_serving.apis.predict_pb2 import PredictRequest

        request = PredictRequest()
        self._specify(request.model_spec)
        request.model_spec.signature_name = SIGNATURE
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(images[None]))
        request.inputs["spacing_mm"].CopyFrom(tf.make_tensor_proto(spacing_mm[None]))
        answer = retried(lambda: self._call(self._stub.Predict, request), self.retries)
        try:
            found = {name: tf.make_ndarray(m) for name, m in answer.outputs.items()}
            maps = {name: values[0] for name, values in found.items()}
        except (TypeError, ValueError, IndexError) as error:
            reason = f"no tensors of TensorFlow: {error}"
            raise RefusedError(self.target, "ANSWER", reason) from None
        return checked(maps, images.shape, self.target)

    def _specify(self, model_spec: Any) -> None:  # noqa: ANN401
        model_spec.name = self.model
        if self.version is not None:
            model_spec.version.value = self.version

    def _call(self, method: Any, request: Any) -> Any:  # noqa: ANN401
        import grpc

        try:
            return method(request, timeout=self.timeout_seconds)
        except grpc.RpcError as error:
            code, said = error.code(), error.details()
            if code == grpc.StatusCode.UNAVAILABLE:
                raise unavailable(self.target, said) from None
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise too_late(self.target, self.timeout_seconds) from None
            raise refused(self.target, code.name, said) from None


def _channel(target: str, ca_file: Path | None) -> Any:  # noqa: ANN401
    import grpc

    if ca_file is None:
        return grpc.insecure_channel(target, OPTIONS)
    credentials = grpc.ssl_channel_credentials(ca_file.read_bytes())
    return grpc.secure_channel(target, credentials, OPTIONS)
