"""A small cohort on disk, commands in processes of their own, and one trained run."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from tfrecords_tools.labels import Tissue

# pytest's import mode leaves modules that are no tests to be found by their own path.
sys.path.append(str(Path(__file__).parent))

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).with_name("toy.py")
FIRST_CASE = 73451000
"""The first six digits of all cases are a string that no file holds by chance."""


def _draw_patient(number, slices=3):
    """Image and label map (S, H, W): a ring; odd numbers have an arc of scar."""
    random = np.random.default_rng(number)
    rows, columns = np.ogrid[:48, :40]
    row, column = random.uniform(-4, 4, 2) + (24, 20)
    radius = np.hypot(rows - row, columns - column)
    angle = np.arctan2(rows - row, columns - column)
    label_map = np.zeros((slices, 48, 40), np.uint8)
    label_map[:, radius < 11] = Tissue.HEALTHY_MYOCARDIUM
    if number % 2:
        label_map[:2, (radius < 11) & (np.abs(angle) < 1)] = Tissue.SCAR
    label_map[:, radius < 6] = Tissue.BLOOD_POOL
    signal = np.array([40, 150, 60, 220, 60])[label_map]
    return signal + random.normal(0, 10, label_map.shape), label_map


def _write_nifti(path, voxels):
    # EMIDEC's files run from the apex, and only their header has the voxel size.
    voxels = voxels[::-1].transpose(2, 1, 0).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.header.set_zooms((2.0, 2.0, 10.0))
    path.parent.mkdir(parents=True)
    nibabel.save(image, path)


@pytest.fixture(scope="session")
def draw_patient():
    """Image and label map (S, H, W) of a number; odd ones have scar."""
    return _draw_patient


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Twelve cases in the layout of EMIDEC; those with odd numbers have scar."""
    folder = tmp_path_factory.mktemp("cohort")
    names = [f"Case_{'NP'[n % 2]}{FIRST_CASE + n}" for n in range(12)]
    for number, name in enumerate(names):
        image, label_map = _draw_patient(number)
        _write_nifti(folder / name / "Images" / f"{name}.nii.gz", image)
        _write_nifti(folder / name / "Contours" / f"{name}.nii.gz", label_map)
    return SimpleNamespace(folder=folder, names=names)


@pytest.fixture(scope="session")
def cohort_records(cohort, tmp_path_factory):
    """The record set of the cohort: 18, 9 and 9 slices; not to be changed."""
    from tfrecords_tools.build import main

    out = tmp_path_factory.mktemp("built") / "records"
    fractions = {"train": 6, "validation": 3, "test": 3}
    options = [f"--fractions.{split}={count}" for split, count in fractions.items()]
    assert main(["emidec", str(cohort.folder), str(out), "--shards=2", *options]) == 0
    return out


@pytest.fixture(scope="session")
def start():
    """Starts Python in a process of its own, with the packages of this tree."""

    def start(*arguments, **options):
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return start


@pytest.fixture(scope="session")
def run(start):
    """Runs Python to its end: exit code, standard output, standard error."""

    def run(*arguments):
        with start(*arguments) as process:
            out, err = process.communicate(timeout=600)
        return SimpleNamespace(code=process.returncode, out=out, err=err)

    return run


@pytest.fixture(scope="session")
def build_toy():
    return runpy.run_path(str(TOY))["build_toy"]


@pytest.fixture(scope="session")
def toy_method():
    return runpy.run_path(str(TOY))["toy_method"]


@pytest.fixture(scope="session")
def trained_run(cohort_records, run, tmp_path_factory):
    """The real command with the smallest real networks, two epochs."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    command = (
        *("-m", "jdl_keras.train", "--records", cohort_records, "--run_dir", folder),
        *("--model.preset", "tiny", "--grid.size", "[32, 32]"),
        *("--grid.spacing_mm", "[3.0, 3.0]", "--training.batch_size", "4"),
        *("--training.epochs", "2", "--localiser.steps", "20"),
        *("--localiser.size", "[32, 32]", "--localiser.width", "8"),
    )
    # A trace changes nothing, and spares a run of its own.
    done = run(*command, "--profile")
    assert done.code == 0, done.err
    return SimpleNamespace(folder=folder, command=command, out=done.out, err=done.err)
