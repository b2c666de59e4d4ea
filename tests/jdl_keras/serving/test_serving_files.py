"""What docs/serving gives to servers is what they can read."""

import re
from pathlib import Path

import pytest
import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)
from google.protobuf import wrappers_pb2 as wrappers
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs" / "serving"

BATCHING = {
    "max_batch_size": "Int64Value",
    "batch_timeout_micros": "Int64Value",
    "max_enqueued_batches": "Int64Value",
    "num_batch_threads": "Int64Value",
    "thread_pool_name": "StringValue",
}
"""Of `BatchingParameters` in TensorFlow Serving's session_bundle_config.proto, in its
order from 1; the published stubs leave that file out."""


@pytest.fixture(scope="module")
def batching_parameters():
    """The message, as that file declares it."""
    file = descriptor_pb2.FileDescriptorProto(name="batching.proto", syntax="proto3")
    file.dependency.append(wrappers.DESCRIPTOR.name)
    message = file.message_type.add(name="BatchingParameters")
    for number, (name, kind) in enumerate(BATCHING.items(), start=1):
        type_name = f".google.protobuf.{kind}"
        field = message.field.add(name=name, number=number, type_name=type_name)
        field.type, field.label = field.TYPE_MESSAGE, field.LABEL_OPTIONAL
    sizes = message.field.add(name="allowed_batch_sizes", number=6)
    sizes.type, sizes.label = sizes.TYPE_INT64, sizes.LABEL_REPEATED
    pad = message.field.add(name="pad_variable_length_inputs", number=7)
    pad.type, pad.label = pad.TYPE_BOOL, pad.LABEL_OPTIONAL
    pool = descriptor_pool.Default()
    pool.Add(file)
    found = pool.FindMessageTypeByName("BatchingParameters")
    return message_factory.GetMessageClass(found)


def test_models_config_is_one():
    text = (FOLDER / "models.config").read_text()
    found = text_format.Parse(text, ModelServerConfig())
    (model,) = found.model_config_list.config
    assert (model.name, model.base_path) == ("jdl", "/models/jdl")
    assert model.model_version_policy.latest.num_versions == 1


@pytest.mark.slow  # it loads TensorFlow
def test_batching_joins_equal_shapes_only(batching_parameters):
    text = (FOLDER / "batching_parameters.txt").read_text()
    found = text_format.Parse(text, batching_parameters())
    assert not found.pad_variable_length_inputs
    assert found.batch_timeout_micros.value < 10_000  # a wait that nobody notices
    # Eight studies of 16 slices of 512 x 512: 8 x 16 x 2^18 = 2^25, the graph's limit.
    from jdl_keras.serving.checks import MOST_PIXELS

    assert found.max_batch_size.value * 16 * 512 * 512 <= MOST_PIXELS


def test_unknown_settings_would_be_seen(batching_parameters):
    with pytest.raises(text_format.ParseError):
        text_format.Parse("max_batch_sizes { value: 8 }", batching_parameters())


def test_inference_service_speaks_what_the_client_speaks():
    found = yaml.safe_load((FOLDER / "inference_service.yaml").read_text())
    assert found["apiVersion"] == "serving.kserve.io/v1beta1"
    assert found["kind"] == "InferenceService"
    model = found["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "tensorflow"}
    assert model["protocolVersion"] == "v1"
    assert model["storageUri"].endswith(f"/{found['metadata']['name']}")


def test_docker_line_names_files_that_are_there():
    (line,) = re.findall(r"^docker run (?:.*\\\n)*.*$", _readme(), re.MULTILINE)
    for name in re.findall(r"/config/([\w.]+)", line):
        assert (FOLDER / name).is_file()
    mounts = dict(re.findall(r'-v "\$PWD/([\w/]+)":(/\w+(?:/\w+)?):ro', line))
    assert mounts["docs/serving"] == "/config"
    assert "/models/jdl" in mounts.values()


def _readme():
    return (ROOT / "README.md").read_text()
