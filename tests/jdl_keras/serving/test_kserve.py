"""KServe itself, in an environment of its own, with docs/serving/kserve_server.py.

It needs `JDL_KSERVE_PYTHON`, a Python that has kserve 0.21 and TensorFlow 2.21. Callers
come for `JDL_KSERVE_SECONDS` (default: 4).
"""

import json
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import yaml
from bad_inputs import GOOD, OF_STUDIES

from jdl_keras.serving.over_rest import RestServer
from tfrecords_tools import schema
from tfrecords_tools.errors import RefusedError

PYTHON = os.environ.get("JDL_KSERVE_PYTHON")
SECONDS = float(os.environ.get("JDL_KSERVE_SECONDS", "4"))
FILES = Path(__file__).parents[3] / "docs" / "serving"
CALLERS = 8
MOST_MIB = 4

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON, reason="JDL_KSERVE_PYTHON names no Python with kserve"
    ),
]


@pytest.fixture(scope="module")
def kserve(exported, tmp_path_factory):
    """The server over the exported model; ends with the tests."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    log = tmp_path_factory.mktemp("kserve") / "log"
    command = [
        *(PYTHON, FILES / "kserve_server.py", "--model_dir", exported.folder.parent),
        *("--model_name", "jdl", "--http_port", port, "--most_mib", MOST_MIB),
    ]
    ours = {"PYTHONPATH", "KERAS_BACKEND"}
    environment = {k: v for k, v in os.environ.items() if k not in ours}
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [*map(str, command)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=log.parent,  # it finds nothing of ours
        ) as process,
    ):
        try:
            server = RestServer(f"http://127.0.0.1:{port}", "jdl", timeout_seconds=300)
            _wait(server, process, log)
            yield SimpleNamespace(server=server, process=process, port=port, log=log)
        finally:
            process.terminate()


def _wait(server, process, log, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            return server.check()
        except ConnectionError:
            time.sleep(0.2)
    raise TimeoutError(log.read_text())


def test_it_runs_without_our_packages_and_keras(kserve):
    maps = Path(f"/proc/{kserve.process.pid}/maps")
    if not maps.is_file():
        pytest.skip("this system does not show what a process has loaded")
    loaded = kserve.log.read_text() + maps.read_text()
    assert "/tensorflow/" in loaded
    for name in ("/jdl_keras/", "/tfrecords_tools/", "/keras/", "/keras_hub/"):
        assert name not in loaded


def here(exported, images, spacing_mm):
    inputs = {"images": images[None], "spacing_mm": spacing_mm[None]}
    found = exported.call["study"](**{k: tf.constant(v) for k, v in inputs.items()})
    return {task: values.numpy()[0] for task, values in found.items()}


def test_eight_callers_get_their_own_right_answers(exported, kserve):
    random = np.random.default_rng(1)
    sizes = [(1 + n % 3, 20 + 4 * n, 44 - 3 * n) for n in range(CALLERS)]
    studies = [random.gamma(2, 50, size).astype(np.float32) for size in sizes]
    spacings = [np.float32([1 + n / 10, 2 - n / 10]) for n in range(CALLERS)]
    expected = [here(exported, *one) for one in zip(studies, spacings, strict=True)]
    end = time.monotonic() + SECONDS

    def call(number):
        answers, worst = 0, 0.0
        while not answers or time.monotonic() < end:
            found = kserve.server.predict(studies[number], spacings[number])
            for task, values in expected[number].items():
                worst = max(worst, float(np.abs(found[task] - values).max()))
            answers += 1
        return answers, worst

    with ThreadPoolExecutor(CALLERS) as pool:
        answers, worst = zip(*pool.map(call, range(CALLERS)), strict=True)
    print(
        f"{sum(answers)} answers in {SECONDS:g} s, largest difference {max(worst):.2g}"
    )
    # float32 sums in another order, on another number of threads
    assert max(worst) < 1e-5


def ask(kserve, body, path="/v1/models/jdl:predict", verb="POST", **headers):
    """Status and message of an answer to anything, past our client."""
    connection = HTTPConnection("127.0.0.1", kserve.port, timeout=300)
    try:
        headers = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection.request(verb, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def study_body(inputs, **changes):
    """A request in rows: without the first axis of every input."""
    arrays = {name: np.asarray(values) for name, values in inputs.items()}
    instance = {name: v[0].tolist() if v.ndim else 3.0 for name, v in arrays.items()}
    request = {"signature_name": "study", "instances": [instance]} | changes
    return json.dumps({k: v for k, v in request.items() if v is not None})


GOOD_BODY = study_body(GOOD)


def changed(name, value):
    request = json.loads(GOOD_BODY)
    request["instances"][0][name] = value
    return json.dumps(request)


PIXELS = GOOD["images"][0].tolist()
RAGGED = [PIXELS[0], PIXELS[1][:-1]]
BAD_BODIES = {
    # kind: body, word of the answer
    "no body": ("", "format"),
    "no JSON": ("pixels, please", "format"),
    "half a body": (GOOD_BODY[: len(GOOD_BODY) // 2], "format"),
    "binary": (bytes(range(256)), "format"),
    "nested a hundred thousand times": ("[" * 100_000, "format"),
    "not a number": (GOOD_BODY.replace("[[[", "[[[NaN,", 1), "format"),
    "null": ("null", "body"),
    "a list": ("[1, 2]", "body"),
    "a string": ('"instances"', "body"),
    "another protocol": (json.dumps({"inputs": []}), "inputs"),
    "nothing": ("{}", "instances"),
    "no instance": (study_body(GOOD, instances=[]), "instances"),
    "instances by name": (study_body(GOOD, instances={}), "instances"),
    "instances that are numbers": (study_body(GOOD, instances=[1.0]), "instances"),
    "unknown signature": (study_body(GOOD, signature_name="x"), "signature_name"),
    "signature of no text": (study_body(GOOD, signature_name=[1]), "signature_name"),
    "default signature of one slice": (
        study_body(GOOD, signature_name=None),
        "images: expected shape (?, ?, ?), got (1, 2, 24, 20)",
    ),
    "a key too many": (study_body(GOOD, patient="Doe"), "patient"),
    "ragged rows": (changed("images", RAGGED), "images: ragged"),
    "strings": (changed("images", [[["a", "b"]]]), "images: expected numbers"),
    "numbers as strings": (changed("spacing_mm", ["2", "2"]), "spacing_mm: expected n"),
    "nulls": (changed("images", [[[1, None]]]), "images: expected numbers"),
    "booleans": (changed("images", [[[True, False]]]), "images: expected numbers"),
    "objects": (changed("images", {"b64": "AAAA"}), "images: expected numbers"),
    "larger than float32": (changed("images", [[[1e300, 1]]]), "images: NOT_FINITE"),
    "integers beyond 64 bits": (changed("images", [[[10**40, 1]]]), "images"),
    "forty axes": (changed("images", json.loads("[" * 40 + "]" * 40)), "images"),
    "two studies of two sizes": (
        study_body(
            GOOD,
            instances=[
                {"images": PIXELS, "spacing_mm": [2, 2]},
                {"images": PIXELS[:1], "spacing_mm": [2, 2]},
            ],
        ),
        "images: ragged",
    ),
}


def test_bad_requests_name_the_field_and_the_server_stays(kserve, make_study):
    bodies = {
        name: (study_body(inputs), word)
        for name, (inputs, word) in OF_STUDIES.items()
        # JSON has no infinity, and no study is no instance.
        if name not in {"no study", "infinity", "infinite spacing"}
    }
    bodies |= BAD_BODIES | record_bodies(make_study)
    assert len(bodies) > 50
    for name, (body, word) in bodies.items():
        status, message = ask(kserve, body)
        assert status == 400, (name, status, message)
        assert word in json.loads(message)["error"], (name, message)
        assert ask(kserve, GOOD_BODY)[0] == 200, name
    # Nothing of a request is quoted at length, whatever it holds.
    assert max(len(ask(kserve, body)[1]) for body, _ in bodies.values()) < 400


def record_bodies(make_study):
    import base64

    def body(*records, key="examples"):
        rows = [{key: {"b64": base64.b64encode(one).decode()}} for one in records]
        return json.dumps({"signature_name": "serialized_examples", "instances": rows})

    record = schema.encode(next(iter(make_study(1).slices())))
    bare = {"signature_name": "serialized_examples", "instances": [{"examples": "x"}]}
    wrong = json.dumps(bare), json.dumps(bare).replace('"x"', '{"b64": "???"}')
    return {
        "no record": (body(b"not a record"), "examples"),
        "half a record": (body(record[: len(record) // 2]), "examples"),
        "record of another schema": (body(record.replace(b"pixels", b"p")), "examples"),
        "an empty record": (body(b""), "examples"),
        "record under another name": (body(record, key="records"), "examples"),
        "record without base64": (wrong[0], "examples: expected"),
        "record of no base64": (wrong[1], "examples: expected"),
    }


def test_what_is_refused_by_where_and_how_it_comes(kserve):
    for path in ("/v1/models/other:predict", "/v1/models/jdl/versions/9:predict"):
        status, message = ask(kserve, GOOD_BODY, path)
        assert status == 404, path
    assert "other" in ask(kserve, GOOD_BODY, "/v1/models/other:predict")[1]
    assert ask(kserve, None, verb="GET")[0] == 404
    assert ask(kserve, GOOD_BODY, verb="PUT")[0] == 405
    status, message = ask(kserve, GOOD_BODY, Content_Type="text/plain")
    assert (status, "Content-Type" in message) == (400, True)
    status, message = ask(kserve, b"\x1f\x8b123", Content_Encoding="gzip")
    assert status == 400
    too_long = b" " * (MOST_MIB * 2**20 + 1)
    status, message = ask(kserve, too_long)
    assert (status, "body: over" in message) == (413, True)
    status, message = ask(kserve, iter([too_long]))  # in chunks, of unknown length
    assert (status, "body: over" in message) == (413, True)
    with socket.create_connection(("127.0.0.1", kserve.port)) as gone:
        head = f"POST /v1/models/jdl:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {9}"
        gone.sendall(head.encode() + b"\r\n\r\n{")
    images = np.ones((6, 512, 512), np.float32)
    with pytest.raises(RefusedError, match="413: body: over"):
        kserve.server.predict(images, np.float32([1, 1]))
    assert ask(kserve, GOOD_BODY)[0] == 200


def resident_mib(kserve):
    lines = Path(f"/proc/{kserve.process.pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no /proc here")
def test_memory_does_not_grow_over_a_thousand_bad_requests(kserve, make_study):
    # 8 x 64 x 64 float32: 128 KiB as a tensor, and about as much as text.
    flat = {"images": np.ones((1, 8, 64, 64)), "spacing_mm": np.ones((1, 2))}
    large = study_body(flat)
    ragged = changed("images", [*np.ones((7, 64, 64)).tolist(), [[1.0]]])
    others = [ragged, *(body for body, _ in BAD_BODIES.values())]
    others += [body for body, _ in record_bodies(make_study).values()]

    def send(count):
        asked = (large if n % 2 else others[n // 2 % len(others)] for n in range(count))
        with ThreadPoolExecutor(2) as pool:
            answers = pool.map(lambda body: ask(kserve, body), asked)
            assert all(status == 400 for status, _ in answers)

    send(200)  # pools and caches fill
    before = resident_mib(kserve)
    send(1000)
    grown = resident_mib(kserve) - before
    print(f"{before:.0f} MiB, after 1,000 bad requests {grown:+.1f} MiB")
    # A server that was made to keep the tensors of all requests grew by 22 MiB; one
    # that keeps nothing by 1 MiB at most, which are the allocator's own.
    assert grown < 8


KNOWN_NAMES = """
import json, sys, kserve
classes = sys.argv[1:]
json.dump([[*getattr(kserve, c).attribute_map.values()] for c in classes], sys.stdout)
"""


def test_inference_service_has_names_that_kserve_knows():
    service = yaml.safe_load((FILES / "inference_service.yaml").read_text())
    predictor = service["spec"]["predictor"]
    parts = {
        "V1beta1InferenceService": service,
        "V1beta1InferenceServiceSpec": service["spec"],
        "V1beta1PredictorSpec": predictor,
        "V1beta1ModelSpec": predictor["model"],
        "V1beta1ModelFormat": predictor["model"]["modelFormat"],
    }
    done = subprocess.run(
        [PYTHON, "-c", KNOWN_NAMES, *parts], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for part, known in zip(parts.values(), json.loads(done.stdout), strict=True):
        assert set(part) <= set(known)
