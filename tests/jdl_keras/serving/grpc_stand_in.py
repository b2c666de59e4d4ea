"""A stand-in for TensorFlow Serving's gRPC half, made of its stubs and TensorFlow."""

from concurrent import futures
from contextlib import contextmanager

import grpc
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT


class PredictionService(PredictionServiceServicer):
    """Serves one version of a model.

    Args:
        signatures: of a loaded SavedModel.
        first: status codes that the first predictions end with, None for an answer.
    """

    def __init__(self, signatures, first=()):
        self.signatures, self.first, self.requests = signatures, [*first], []
        self.alter = lambda outputs: outputs

    def GetModelMetadata(self, request, context):  # noqa: N802
        self.check_model(request.model_spec, context)
        found = get_model_metadata_pb2.SignatureDefMap()
        for name, function in self.signatures.items():
            inputs = found.signature_def[name].inputs
            for key, spec in function.structured_input_signature[1].items():
                inputs[key].name = f"{name}_{key}"
                inputs[key].dtype = spec.dtype.as_datatype_enum
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name, answer.model_spec.version.value = "jdl", 1
        answer.metadata["signature_def"].Pack(found)
        return answer

    def Predict(self, request, context):  # noqa: N802
        self.requests.append(request)
        code = self.first.pop(0) if self.first else None
        if code:
            context.abort(code, "as the test wants it")
        self.check_model(request.model_spec, context)
        name = request.model_spec.signature_name or "serving_default"
        if name not in self.signatures:
            context.abort(INVALID, f"Serving signature name: {name!r} not found")
        function = self.signatures[name]
        specs = function.structured_input_signature[1]
        if set(specs) != set(request.inputs):
            names = f"{sorted(request.inputs)}, expected {sorted(specs)}"
            context.abort(INVALID, f"inputs are {names}")
        inputs = {}
        for key, spec in specs.items():
            try:
                inputs[key] = tf.constant(tf.make_ndarray(request.inputs[key]))
            except (TypeError, ValueError) as error:
                context.abort(INVALID, f"{key}: tensor parsing error: {error}")
            if inputs[key].dtype != spec.dtype:
                reason = f"{inputs[key].dtype.name}, expected {spec.dtype.name}"
                context.abort(INVALID, f"{key} is of {reason}")
        try:
            outputs = function(**inputs)
        except (tf.errors.InvalidArgumentError, TypeError) as error:
            context.abort(INVALID, str(error))
        except UnicodeDecodeError:  # its message quotes the record, which is no text
            context.abort(INVALID, "Could not parse example input")
        answer = predict_pb2.PredictResponse()
        for key, value in self.alter(outputs).items():
            answer.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return answer

    @staticmethod
    def check_model(spec, context):
        if spec.name != "jdl" or spec.version.value not in {0, 1}:
            context.abort(NOT_FOUND, f"Servable not found: {spec.name}")


@contextmanager
def serve(service):
    """Serves on the loopback address; gives HOST:PORT."""
    options = [("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
