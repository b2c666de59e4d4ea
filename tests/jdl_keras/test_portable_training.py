"""The real commands where TensorFlow is not installed."""

import csv
import dataclasses
import importlib.util
import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jdl_keras.inference.trained_run import TrainedRun
from jdl_keras.run_folder import RunFolder
from tfrecords_tools.npz_set import write_npz
from tfrecords_tools.record_set import open_record_set

pytestmark = pytest.mark.slow
TOY = Path(__file__).with_name("toy.py")
EPOCHS = 3

WITHOUT_TENSORFLOW = """
import os, runpy, sys

sys.modules["tensorflow"] = None  # importing it fails, as where it is not installed
backend, script, *arguments = sys.argv[1:]
os.environ["KERAS_BACKEND"] = backend
sys.argv = [script, *arguments]
runpy.run_path(script, run_name="__main__")
"""

EVALUATE_TOY = f"""
import runpy
from jdl_keras.models import methods
methods.METHODS["jdl"] = runpy.run_path({str(TOY)!r})["toy_method"]
from jdl_keras.evaluate import main
raise SystemExit(main())
"""


@pytest.fixture(scope="module")
def npz(cohort_records, tmp_path_factory):
    path = tmp_path_factory.mktemp("dumped") / "cohort.npz"
    write_npz(open_record_set(cohort_records), path)
    return path


@pytest.fixture(scope="module", params=["torch", "jax"])
def backend(request):
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


def options(records):
    return (
        *("--records", str(records), "--grid.size", "[32, 32]"),
        *("--grid.spacing_mm", "[3.0, 3.0]", "--training.batch_size", "4"),
        *("--training.epochs", str(EPOCHS), "--model.dropout", "0.2"),
        *("--localiser.size", "[32, 32]", "--localiser.spacing_mm", "[6.0, 6.0]"),
        *("--localiser.width", "8", "--localiser.steps", "5"),
        *("--evaluation.figures", "false"),
    )


@pytest.fixture(scope="module")
def trained(backend, npz, run, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp(backend) / "run")
    command = ("-c", WITHOUT_TENSORFLOW, backend, TOY, *options(npz), "--run_dir")
    done = run(*command, folder.path)
    assert done.code == 0, done.err
    return SimpleNamespace(folder=folder, command=command, out=done.out)


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def summary_of(folder):
    return json.loads((folder.evaluation("test") / "summary.json").read_text())


def test_run_folder_is_complete(trained, backend, npz):
    folder = trained.folder
    found = {
        str(path.relative_to(folder.path))
        for path in folder.path.rglob("*")
        if path.is_file() and path.suffix != ".gz"
    }
    assert found == {
        f"checkpoints/epoch-0000{epoch}/{name}"
        for epoch in (EPOCHS - 1, EPOCHS)
        for name in ("manifest.json", "state.json", "variables.npz")
    } | {
        *("config.yaml", "environment.json", "history.csv", "operating_point.json"),
        *("model.keras", "model.keras.sha256"),
        *("localiser.keras", "localiser.keras.sha256"),
        *(f"evaluation/test/{n}.csv" for n in ("per_slice", "per_patient")),
        *(f"evaluation/test/{n}.json" for n in ("summary", "localiser")),
    }
    environment = json.loads(folder.environment.read_text())
    assert environment["keras_backend"] == backend
    assert environment["record_set_sha256"] == open_record_set(npz).sha256
    assert "tensorflow" not in environment
    assert f"curves: {folder.history}" in trained.out


def test_history_shows_learning(trained):
    rows = rows_of(trained.folder.history)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    for row in rows:
        assert float(row["skipped_updates"]) == 0
        assert 0 < float(row["val_myocardium_dice"]) < 1
        assert float(row["val_scar_loss"]) > 0


def test_killed_run_ends_with_the_same_bits(trained, start, run, tmp_path):
    folder = RunFolder(tmp_path / "run")
    with start(*trained.command, folder.path) as process:
        while not list(folder.checkpoints.glob("epoch-*")):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.001)
        process.kill()
    assert not folder.evaluation("test").exists()
    done = run(*trained.command, folder.path)
    assert done.code == 0, done.err
    assert folder.history.read_bytes() == trained.folder.history.read_bytes()
    assert summary_of(folder) == summary_of(trained.folder)
    name = f"epoch-{EPOCHS:05}/variables.npz"
    one, other = (np.load(f.checkpoints / name) for f in (folder, trained.folder))
    assert one.files == other.files
    for key in one.files:
        assert one[key].tobytes() == other[key].tobytes()


@pytest.fixture(scope="module")
def trained_by_tensorflow(cohort_records, run, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("tensorflow") / "run")
    done = run(TOY, *options(cohort_records), "--run_dir", folder.path)
    assert done.code == 0, done.err
    return folder


def test_run_of_tensorflow_is_measured_alike(
    trained_by_tensorflow, backend, npz, run, tmp_path
):
    skip = shutil.ignore_patterns("checkpoints", "evaluation", "tensorboard")
    copy = shutil.copytree(trained_by_tensorflow.path, tmp_path / "run", ignore=skip)
    script = tmp_path / "evaluate.py"
    script.write_text(EVALUATE_TOY)
    done = run("-c", WITHOUT_TENSORFLOW, backend, script, copy, "--records", npz)
    assert done.code == 0, done.err
    found, expected = summary_of(RunFolder(copy)), summary_of(trained_by_tensorflow)
    for task, values in expected["tasks"].items():
        for name in ("dice", "precision", "recall"):
            # A pixel of some thousands may fall on the other side of the threshold.
            for key in ("mean", "median", "patients"):
                assert found["tasks"][task][name][key] == pytest.approx(
                    values[name][key], abs=1e-3
                ), (task, name, key)


def test_own_record_set_is_seen_as_in_training(trained_by_tensorflow, npz, tmp_path):
    folder = RunFolder(tmp_path)
    config = trained_by_tensorflow.load_config()
    split = dataclasses.replace(config.split, folds=3, fold=1)
    record_set = open_record_set(npz)
    folder.describe(dataclasses.replace(config, split=split), record_set.sha256)
    seen, own = TrainedRun(folder).records(npz), TrainedRun(folder).records()
    assert seen.patients("test") == own.patients("test")
    # A third of 12 patients, where the manifest has 3.
    assert len(seen.patients("test")) == 4
    folder.describe(dataclasses.replace(config, split=split), "another record set")
    assert TrainedRun(folder).records(npz).assignment == record_set.assignment


def test_command_trains_in_mixed_precision(npz, run, tmp_path):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    script = "import sys; sys.modules['tensorflow'] = None\n"
    script += "from jdl_keras.train import main; sys.exit(main())"
    changes = ("--model.preset=tiny", "--training.mixed_precision=mixed_bfloat16")
    small = ("--training.epochs=1", "--model.dropout=0", "--backend=torch")
    done = run(
        "-c", script, *options(npz), *changes, *small, "--run_dir", tmp_path / "run"
    )
    assert done.code == 0, done.err
    (row,) = rows_of(RunFolder(tmp_path / "run").history)
    assert 0 < float(row["loss"]) < 10
