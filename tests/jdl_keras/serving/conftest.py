"""Stand-ins for servers, and cards of models."""

import json
import shutil
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

# As in the folder above: modules that are no tests are found by their own path.
sys.path.append(str(Path(__file__).parent))

BRIGHTEST = 400.0
"""More than any pixel of the cohort."""


def maps_of(images):
    """What the stand-in finds: a function of each pixel, so that a turned map shows."""
    bright = np.clip(np.float32(images) / np.float32(BRIGHTEST), 0, 1)
    return {"myocardium": bright, "scar": bright * bright}


class Handler(BaseHTTPRequestHandler):
    """The V1 protocol as TensorFlow Serving speaks it."""

    def do_GET(self):
        self.answer(self.server.script.status)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        script = self.server.script
        script.requests.append((self.path, dict(self.headers), body))
        self.answer(script.next_answer(json.loads(body)))

    def answer(self, given):
        status, content = given
        content = (
            content if isinstance(content, bytes) else json.dumps(content).encode()
        )
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Script:
    """What a stand-in answers, and what it was asked.

    Args:
        answers: in place of predictions, in this order; None for a prediction.
    """

    def __init__(self, answers=()):
        state = {"version": "1", "state": "AVAILABLE", "status": {}}
        self.status = (200, {"model_version_status": [state]})
        self.answers, self.requests = [*answers], []

    def next_answer(self, request):
        given = self.answers.pop(0) if self.answers else None
        return given or (200, predictions(request))


def predictions(request):
    rows = [maps_of(one["images"]) for one in request["instances"]]
    return {"predictions": [{k: v.tolist() for k, v in row.items()} for row in rows]}


@pytest.fixture(scope="session")
def rest_stand_in():
    """Serves a script on the loopback address for as long as the context lasts."""

    @contextmanager
    def serve(script):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.script, server.daemon_threads = script, True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    return serve


@pytest.fixture(scope="session")
def stand_in_maps():
    return maps_of


@pytest.fixture(scope="session")
def script():
    return Script


@pytest.fixture(scope="session")
def card_file(tmp_path_factory):
    """The card of version 1 of a model that no file has."""
    from jdl_keras.inference.mask_rule import MaskRule
    from jdl_keras.serving.model_card import ModelCard, write_card

    card = ModelCard(
        version=1,
        package_version="0",
        method="jdl",
        preset="tiny",
        message={},
        parameters=0,
        grid={},
        rotations=1,
        signatures={},
        inputs={},
        outputs={},
        mask_rule=MaskRule(0.5, 0.3, 0.0),
        calibration=None,
        metrics={},
        weights_sha256="0" * 64,
        record_set_sha256="0" * 64,
        files={},
    )
    folder = tmp_path_factory.mktemp("card")
    write_card(folder, card)
    return folder / "model_card.json"


@pytest.fixture(scope="session")
def exported(trained_run, tmp_path_factory):
    """The only version of the trained run, made for two rotations."""
    import tensorflow as tf

    from jdl_keras.export import main
    from jdl_keras.inference.trained_run import TrainedRun
    from jdl_keras.run_folder import RunFolder

    root = tmp_path_factory.mktemp("exported")
    run = shutil.copytree(trained_run.folder, root / "run")
    config = (run / "config.yaml").read_text()
    assert "rotations: 1" in config
    (run / "config.yaml").write_text(config.replace("rotations: 1", "rotations: 2"))
    assert main([str(run), str(root / "model"), "--onnx"]) == 0
    folder = root / "model" / "1"
    loaded = tf.saved_model.load(str(folder))
    return SimpleNamespace(
        run=TrainedRun(RunFolder(run)),
        folder=folder,
        model=loaded,  # its signatures live as long as it does
        call=loaded.signatures,
    )
