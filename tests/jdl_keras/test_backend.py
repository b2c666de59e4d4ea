"""The backend is chosen once, and what it cannot do is refused in one line."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest

from jdl_keras import backend, compare, evaluate, train
from jdl_keras.run_folder import RunFolder
from tfrecords_tools.errors import REFUSED, RefusedError


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.delenv(backend.VARIABLE, raising=False)
    # So that whatever is chosen is forgotten afterwards.
    monkeypatch.setenv(backend.VARIABLE, "tensorflow")


@pytest.fixture
def _all_installed(monkeypatch):
    """As if all backends were, and Keras not loaded yet."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.delitem(sys.modules, "keras", raising=False)


@pytest.mark.usefixtures("_all_installed")
@pytest.mark.parametrize(
    ("option", "variable", "expected"),
    [
        (None, None, "tensorflow"),
        (None, "", "tensorflow"),
        (None, "torch", "torch"),
        ("jax", None, "jax"),
        ("jax", "torch", "jax"),
    ],
)
def test_option_comes_before_the_environment(monkeypatch, option, variable, expected):
    if variable is None:
        monkeypatch.delenv(backend.VARIABLE)
    else:
        monkeypatch.setenv(backend.VARIABLE, variable)
    backend.choose_backend(option)
    assert backend.active_backend() == expected


def test_backend_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: {"tensorflow": name}.get(name)
    )
    with pytest.raises(RefusedError, match="jax is not .*: .'tensorflow'."):
        backend.choose_backend("jax")


def test_unknown_backend_of_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv(backend.VARIABLE, "theano")
    with pytest.raises(RefusedError, match="backend: CONFIG: .*torch.* got theano"):
        backend.choose_backend(None)


def test_keras_cannot_change_its_backend(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    loaded = SimpleNamespace(config=SimpleNamespace(backend=lambda: "tensorflow"))
    monkeypatch.setitem(sys.modules, "keras", loaded)
    with pytest.raises(RefusedError, match="runs on tensorflow already, not on jax"):
        backend.choose_backend("jax")


@pytest.mark.parametrize(
    ("streams", "given", "expected"),
    [
        (1, {}, (None, None)),
        (2, {}, ("2", "3")),
        (8, {}, ("8", "1")),
        (2, {"TF_NUM_INTRAOP_THREADS": "1"}, ("2", "1")),
    ],
)
def test_streams_divide_the_threads(monkeypatch, streams, given, expected):
    monkeypatch.setattr(backend, "load_tensorflow", lambda: None)
    monkeypatch.setattr(backend, "cores", lambda: 6)
    environment = {backend.VARIABLE: "tensorflow", **given}
    monkeypatch.setattr(backend.os, "environ", environment)
    backend.load_backend(streams)
    names = ("TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS")
    assert tuple(environment.get(name) for name in names) == expected


COMMANDS = {"train": (train, "--run_dir"), "compare": (compare, "--out")}

REFUSED_TRAINING = {
    # options: the subject, and words of the reason
    ("--backend=jax",): ("records", "tfrecords_tools.dump RECORDS FILE.npz"),
    ("--backend=torch", "--records=sets/emidec"): (
        "sets/emidec",
        "tfrecords_tools.dump sets/emidec FILE.npz",
    ),
    ("--backend=torch", "--records=x.npz", "--training.strategy=mirrored"): (
        "training.strategy",
        "use single with --backend torch",
    ),
    ("--backend=jax", "--records=x.npz", "--training.micro_batches=2"): (
        "training.micro_batches",
        "use 1 with --backend jax",
    ),
    ("--backend=torch", "--records=x.npz", "--training.streams=2"): (
        "training.streams",
        "use 1 with --backend torch",
    ),
    ("--backend=torch", "--records=x.npz", "--training.strategy=multi_worker"): (
        "training.strategy",
        "use single with --backend torch",
    ),
    ("--backend=tensorflow", "--records=x.npz"): ("x.npz", "--backend jax or torch"),
    ("--records=x.npz",): ("x.npz", "TensorFlow trains from the folder"),
    ("--backend=theano",): ("backend", "theano"),
}


@pytest.mark.usefixtures("_all_installed")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("options", "expected"), REFUSED_TRAINING.items())
def test_what_a_backend_cannot_train_is_refused(
    command, options, expected, tmp_path, capsys
):
    module, out = COMMANDS[command]
    assert module.main([*options, out, str(tmp_path / "out")]) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    subject, words = expected
    assert line.startswith(f"ERROR {subject}: CONFIG: ")
    assert words in line
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_all_installed")
@pytest.mark.parametrize("given", [True, False])
def test_folder_cannot_be_measured_on_without_tensorflow(given, tmp_path, capsys):
    RunFolder(tmp_path).config.write_text("records: sets/emidec\n")
    options = ["--records=sets/emidec"] if given else []
    argv = [str(tmp_path), "--backend=torch", *options]
    assert evaluate.main(argv) == REFUSED
    assert "ERROR sets/emidec: CONFIG: under torch" in capsys.readouterr().err
