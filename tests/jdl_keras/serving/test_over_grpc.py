"""The gRPC road by the official stubs, against a stand-in with the exported model."""

import json

import grpc
import grpc_stand_in
import nibabel
import numpy as np
import pytest
import tensorflow as tf
from bad_inputs import GOOD, OF_STUDIES
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from jdl_keras.serving import servers
from jdl_keras.serving.client import main
from jdl_keras.serving.over_grpc import GrpcServer
from tfrecords_tools import schema
from tfrecords_tools.errors import DONE, ENVIRONMENT, REFUSED, RefusedError

pytestmark = pytest.mark.slow

CODE = grpc.StatusCode
IMAGES, SPACING_MM = GOOD["images"][0], GOOD["spacing_mm"][0]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(servers.time, "sleep", lambda seconds: None)


@pytest.fixture
def service(exported):
    return grpc_stand_in.PredictionService(exported.call)


@pytest.fixture
def target(service):
    with grpc_stand_in.serve(service) as target:
        yield target


def told(call):
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value


def test_answers_are_those_of_the_model_here(exported, service, target):
    server = GrpcServer(target, "jdl")
    server.check()
    assert server.version == 1
    maps = server.predict(IMAGES, SPACING_MM)
    here = exported.call["study"](**{k: tf.constant(v) for k, v in GOOD.items()})
    assert set(maps) == set(here) == {"myocardium", "scar"}
    for task, values in here.items():
        np.testing.assert_array_equal(maps[task], values[0])
    # Nothing of a patient but pixels and spacing.
    (request,) = service.requests
    assert {field.name for field, _ in request.ListFields()} == {"model_spec", "inputs"}
    spec = request.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("jdl", 1, "study")
    assert set(request.inputs) == {"images", "spacing_mm"}
    np.testing.assert_array_equal(tf.make_ndarray(request.inputs["images"])[0], IMAGES)


def test_a_study_through_the_command(exported, target, draw_patient, tmp_path, capsys):
    path, out = tmp_path / "heart.nii.gz", tmp_path / "out"
    pixels = np.int16(draw_patient(1)[0]).transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(pixels, np.diag([2.0, 2.0, 8.0, 1.0])), path)
    fixed = ["--model", "jdl", "--model_card", str(exported.folder)]
    command = [str(path), str(out), "--grpc", target, *fixed]
    assert main(command) == DONE
    (folder,) = (one for one in out.iterdir() if one.is_dir())
    image = nibabel.load(path)
    labels = nibabel.load(folder / "labels.nii.gz")
    assert labels.shape == image.shape
    np.testing.assert_allclose(labels.affine, image.header.get_best_affine(), atol=1e-5)
    told = json.loads((folder / "prediction.json").read_text())["made_by"]
    card = json.loads((exported.folder / "model_card.json").read_text())
    assert told["mask_rule"] == card["mask_rule"]
    assert main([*command, "--overwrite", "--version", "7"]) == REFUSED
    assert "NOT_FOUND" in capsys.readouterr().err
    nowhere = [*command[:2], "--grpc", "127.0.0.1:1", *fixed]
    assert main(nowhere) == ENVIRONMENT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ERROR 127.0.0.1:1: ENVIRONMENT: ")
    assert "is the server running" in line


def test_only_what_is_unavailable_is_asked_again(service, target):
    server = GrpcServer(target, "jdl", retries=2)
    service.first = [CODE.UNAVAILABLE, CODE.UNAVAILABLE]
    assert server.predict(IMAGES, SPACING_MM)["scar"].shape == IMAGES.shape
    assert len(service.requests) == 3
    service.first = [CODE.UNAVAILABLE] * 3
    with pytest.raises(ConnectionError, match="as the test wants it"):
        server.predict(IMAGES, SPACING_MM)
    for code in (CODE.INTERNAL, CODE.RESOURCE_EXHAUSTED, CODE.FAILED_PRECONDITION):
        service.first = [code]
        asked = len(service.requests)
        error = told(lambda: server.predict(IMAGES, SPACING_MM))
        assert error.reason == f"{code.name}: as the test wants it"
        assert len(service.requests) == asked + 1
    service.first = [CODE.DEADLINE_EXCEEDED]
    assert told(lambda: server.predict(IMAGES, SPACING_MM)).code == "TIMEOUT"


def test_other_models_are_known_by_their_answers(exported, service, target):
    error = told(GrpcServer(target, "other").check)
    assert error.reason.startswith("NOT_FOUND")
    service.signatures = {"study": exported.call["serialized_examples"]}
    assert "takes ['examples']" in told(GrpcServer(target, "jdl").check).reason
    service.signatures = exported.call
    service.alter = lambda outputs: {"scar": outputs["scar"][:, :1]}
    error = told(lambda: GrpcServer(target, "jdl").predict(IMAGES, SPACING_MM))
    assert error.code == "ANSWER"
    assert error.reason.startswith("scar: expected numbers")


def ask(target, inputs, signature="study"):
    """Status and message of an answer to anything, past our client."""
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "jdl", signature
    for name, values in inputs.items():
        proto = isinstance(values, TensorProto)
        request.inputs[name].CopyFrom(values if proto else tf.make_tensor_proto(values))
    with grpc.insecure_channel(target) as channel:
        try:
            PredictionServiceStub(channel).Predict(request, timeout=60)
        except grpc.RpcError as error:
            return error.code(), error.details()
    return CODE.OK, ""


def one_number(*shape):
    """A tensor that is small to send: what is left out repeats the last number."""
    axes = [{"size": size} for size in shape]
    return TensorProto(
        dtype=tf.float32.as_datatype_enum, tensor_shape={"dim": axes}, float_val=[7.0]
    )


def with_pixel_nan():
    images = GOOD["images"].copy()
    images[0, 0, 0, 0] = np.nan
    return images


def test_bad_requests_name_the_input_and_the_server_stays(target, make_study):
    only_here = {
        "not a number": (GOOD | {"images": with_pixel_nan()}, "images: NOT_FINITE"),
        "spacing no number": (
            GOOD | {"spacing_mm": np.float32([[np.nan, 2]])},
            "spacing_mm: BAD_GEOMETRY",
        ),
        "a spacing too many": (
            GOOD | {"spacing_mm": np.float32([[2, 2]] * 2)},
            "spacing_mm: SHAPE_MISMATCH: expected 2 numbers for each of 1",
        ),
        "integers": (GOOD | {"images": np.int32(GOOD["images"])}, "images"),
        "doubles": (GOOD | {"spacing_mm": np.float64([[2, 2]])}, "spacing_mm"),
        "strings": (GOOD | {"images": np.array([[[["x"]]]])}, "images"),
        "too large": (
            GOOD | {"images": one_number(1, 1, 2**12, 2**13 + 1)},
            "TOO_LARGE",
        ),
    }
    for name, (inputs, word) in (OF_STUDIES | only_here).items():
        code, message = ask(target, inputs)
        assert code == CODE.INVALID_ARGUMENT, name
        assert word in servers.refused("", "", message).reason, (name, message)
        assert ask(target, GOOD) == (CODE.OK, ""), name
    one, other = (schema.encode([*make_study(n).slices()][0]) for n in (1, 2))
    small = make_study(3, **_sized((8, 6)))
    records = {
        "no record": [b"not a record"],
        "half a record": [one[: len(one) // 2]],
        "nothing": [b""],
        "none": np.array([], object),
        "pixels under another name": [one.replace(b"pixels", b"pixel_")],
        "a larger size than there are pixels": [_lying(make_study(1))],
        "records of two sizes": [one, schema.encode([*small.slices()][0])],
    }
    for name, examples in records.items():
        inputs = {"examples": np.array(examples, object)}
        code, message = ask(target, inputs, "serialized_examples")
        assert code == CODE.INVALID_ARGUMENT, (name, message)
    good = {"examples": np.array([one, other], object)}
    assert ask(target, good, "serialized_examples") == (CODE.OK, "")


def _sized(size):
    shape = (3, *size)
    pixels = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return {"pixels": pixels, "label_map": np.zeros(shape, np.uint8)}


def _lying(study):
    """A record that says it has more rows than it has."""
    example = tf.train.Example.FromString(schema.encode([*study.slices()][0]))
    example.features.feature["shape"].int64_list.value[0] += 1
    return example.SerializeToString()
