"""The networks as ONNX compute what they compute under Keras."""

import importlib.util
import json

import numpy as np
import onnxruntime
import pytest

from jdl_keras.export import main
from tfrecords_tools.errors import REFUSED


@pytest.mark.slow
def test_onnx_gives_the_maps_of_the_run(exported):
    path = str(exported.folder / "networks.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    network = exported.run.folder.load_network()
    random = np.random.default_rng(0)
    for count in (1, 3):
        image = random.random((count, *network.input_shape[1:]), np.float32)
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(None, {"image": image}), strict=True))
        expected = network.predict_on_batch(image)
        assert found.keys() == expected.keys()
        for task, values in expected.items():
            # float32 sums in another order: the promise of the served model
            np.testing.assert_allclose(found[task], values, atol=1e-5)
    grid = exported.run.folder.load_config().grid
    assert json.loads(session.get_modelmeta().custom_metadata_map["grid"]) == {
        "size": [*grid.size],
        "spacing_mm": [*grid.spacing_mm],
        "percentiles": [*grid.percentiles],
    }


@pytest.mark.parametrize(
    ("options", "installed", "way_out"),
    [
        (["--precision", "mixed_bfloat16"], True, "leave out --onnx or --precision"),
        ([], False, "pip install 'jdl-keras[onnx]'"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    monkeypatch, tmp_path, capsys, options, installed, way_out
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: installed or None)
    command = [str(tmp_path / "run"), str(tmp_path / "model"), "--onnx", *options]
    assert main(command) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert "onnx: CONFIG" in line
    assert way_out in line
