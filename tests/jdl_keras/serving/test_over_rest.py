"""The client's half of the V1 protocol, against a stand-in that plays every part."""

import json
import socket
import threading
import time

import numpy as np
import pytest

from jdl_keras.serving import servers
from jdl_keras.serving.over_rest import RestServer, encode
from tfrecords_tools.errors import RefusedError

SPACING_MM = np.float32([1.5, 1.25])
GOOD = [[[0.5, 0.25]]]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(servers.time, "sleep", lambda seconds: None)


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    return random.gamma(2, 50, (3, 7, 5)).astype(np.float32)


def told(call):
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value


def test_numbers_keep_every_bit(images, rest_stand_in, script, stand_in_maps):
    images[0, 0, :4] = [1e-45, 3.4e38, 1 / 3, -0.0]  # the smallest and the largest
    played = script()
    with rest_stand_in(played) as url:
        maps = RestServer(url, "jdl").predict(images, SPACING_MM)
    for task, expected in stand_in_maps(images).items():
        np.testing.assert_array_equal(maps[task], expected)
        assert maps[task].dtype == np.float32
    (_, _, body) = played.requests[0]
    sent = np.float32(json.loads(body)["instances"][0]["images"])
    np.testing.assert_array_equal(sent.view(np.uint32), images.view(np.uint32))


def test_a_request_holds_pixels_and_spacing_and_no_more(images, rest_stand_in, script):
    played = script()
    with rest_stand_in(played) as url:
        RestServer(url + "/prefix/", "jdl", version=7).predict(images, SPACING_MM)
    ((path, headers, body),) = played.requests
    assert path == "/prefix/v1/models/jdl/versions/7:predict"
    # What HTTP needs to find and to delimit a message.
    http = {"Host", "Accept-Encoding", "Content-Length", "Content-Type"}
    assert set(headers) == http
    assert json.loads(body) == {
        "signature_name": "study",
        "instances": [{"images": images.tolist(), "spacing_mm": [1.5, 1.25]}],
    }


def test_proxies_of_the_environment_see_no_pixels(
    images, rest_stand_in, script, monkeypatch
):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    played = script()
    with rest_stand_in(played) as url:
        RestServer(url, "jdl").predict(images, SPACING_MM)
    assert len(played.requests) == 1


@pytest.mark.parametrize(("failures", "asked"), [(2, 3), (3, 4)])
def test_busy_server_is_asked_again(images, rest_stand_in, script, failures, asked):
    played = script([(503, {"error": "busy"})] * failures)
    with rest_stand_in(played) as url:
        maps = RestServer(url, "jdl", retries=3).predict(images, SPACING_MM)
    assert maps["scar"].shape == images.shape
    assert len(played.requests) == asked


def test_server_that_stays_busy_is_the_environments_fault(
    images, rest_stand_in, script
):
    played = script([(503, {"error": "busy"})] * 9)
    with rest_stand_in(played) as url:
        server = RestServer(url, "jdl", retries=2)
        with pytest.raises(ConnectionError, match="busy.*is the server running"):
            server.predict(images, SPACING_MM)
    assert len(played.requests) == 3


@pytest.mark.parametrize("status", [400, 404, 413, 429, 500, 501])
def test_refusal_is_told_and_not_repeated(images, rest_stand_in, script, status):
    words = "{{x}} assertion failed: [images: CONSTANT: in slice] [0]\n\t [[{{y}}]]"
    played = script([(status, {"error": words})])
    with rest_stand_in(played) as url:
        error = told(lambda: RestServer(url, "jdl").predict(images, SPACING_MM))
    assert error.code == "SERVER"
    assert error.reason == f"{status}: images: CONSTANT: in slice 0"
    assert len(played.requests) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>", "no predictions"),
        (b"", "no predictions"),
        (b"[" * 100_000, "no predictions"),
        ([], "no predictions"),
        ({"predictions": []}, "no predictions"),
        ({"predictions": [{"scar": GOOD}] * 2}, "no predictions"),
        ({"predictions": [{"scar": [[[1.0], [1.0, 2.0]]]}]}, "no predictions"),
        ({"predictions": [{"myocardium": GOOD}]}, "expected maps"),
        ({"predictions": [{"scar": GOOD, "x": GOOD}]}, "expected maps"),
        ({"predictions": [{"scar": [[0.5, 0.5]]}]}, "scar: expected numbers"),
        ({"predictions": [{"scar": [[[0.5, None]]]}]}, "scar: expected numbers"),
        ({"predictions": [{"scar": [[["a", "b"]]]}]}, "scar: expected numbers"),
        ({"predictions": [{"scar": [[[0.5, 1.01]]]}]}, "scar: expected prob"),
        ({"predictions": [{"scar": [[[0.5, -0.01]]]}]}, "scar: expected prob"),
        (b'{"predictions": [{"scar": [[[0.5, NaN]]]}]}', "scar: expected prob"),
        (b"0" * (2**20 + 2 * 2 * 100 + 1), "over"),
    ],
)
def test_answers_that_are_none(rest_stand_in, script, content, reason):
    images = np.float32([[[1, 2]]])
    with rest_stand_in(script([(200, content)])) as url:
        error = told(lambda: RestServer(url, "jdl").predict(images, SPACING_MM))
    assert error.code == "ANSWER"
    assert reason in error.reason


def test_one_output_comes_without_its_name(rest_stand_in, script):
    answer = (200, {"predictions": [GOOD]})
    with rest_stand_in(script([answer])) as url:
        maps = RestServer(url, "jdl").predict(np.float32([[[1, 2]]]), SPACING_MM)
    np.testing.assert_array_equal(maps["scar"], GOOD)
    assert set(maps) == {"scar"}


@pytest.fixture
def listening():
    """Listens, and lets a function do what it likes with whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(act):
            def accept():
                connection, _ = listener.accept()
                with connection:
                    act(connection)

            threading.Thread(target=accept, daemon=True).start()
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield serve


def test_silence_has_a_limit(images, listening):
    enough = threading.Event()
    url = listening(lambda connection: enough.wait(10))
    start = time.monotonic()
    server = RestServer(url, "jdl", timeout_seconds=0.2)
    error = told(lambda: server.predict(images, SPACING_MM))
    enough.set()
    assert error.code == "TIMEOUT"
    assert time.monotonic() - start < 5  # one try, and a busy machine


def test_what_speaks_no_http(images, listening):
    url = listening(lambda connection: connection.sendall(b"220 mail ready\r\n\r\n"))
    error = told(lambda: RestServer(url, "jdl").predict(images, SPACING_MM))
    assert (error.code, error.reason) == ("ANSWER", "not HTTP: BadStatusLine")


def test_refusal_of_a_long_body_is_heard(listening):
    # It answers at once and stops listening, as servers do to a body beyond limits.
    def refuse(connection):
        connection.recv(100)
        answer = b'{"error": "body: too long"}'
        head = b"HTTP/1.1 413 x\r\nContent-Length: %d\r\n\r\n" % len(answer)
        connection.sendall(head + answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(2**16):
            pass

    images = np.ones((20, 200, 200), np.float32)
    server = RestServer(listening(refuse), "jdl")
    error = told(lambda: server.predict(images, SPACING_MM))
    assert error.reason == "413: body: too long"


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionError, match="refused"):
        RestServer(f"http://127.0.0.1:{port}", "jdl").check()


def state(number, name):
    return {"version": str(number), "state": name}


def test_check_pins_the_newest_loaded_version(rest_stand_in, script):
    played = script()
    states = [state(3, "LOADING"), state(2, "AVAILABLE"), state(1, "AVAILABLE")]
    played.status = (200, {"model_version_status": states})
    with rest_stand_in(played) as url:
        server = RestServer(url, "jdl")
        server.check()
        assert server.version == 2
        played.status = (200, {"model_version_status": [state(3, "LOADING")]})
        with pytest.raises(ConnectionError, match="no version"):
            RestServer(url, "jdl").check()
        played.status = (200, {"name": "jdl", "ready": True})
        server = RestServer(url, "jdl")
        server.check()
        assert server.version is None
        played.status = (404, {"error": "Could not find any versions of model x"})
        assert "Could not find" in told(RestServer(url, "x").check).reason


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1:8501", "ftp://host", "http://", "http://host:99999", "http://h:x"),
        *("http://host?x=1", "http://user@host", "http://[::1"),
    ],
)
def test_addresses_that_are_none(url):
    assert told(lambda: RestServer(url, "jdl")).subject == "url"


def test_nothing_that_is_no_number_is_sent(images):
    images[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="JSON"):
        encode(images, SPACING_MM)
