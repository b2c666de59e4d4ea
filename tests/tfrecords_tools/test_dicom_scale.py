"""A folder of DICOM gives the same record set however it is worked on."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from independent_references import reordered, write_nifti

from tfrecords_tools.build import main
from tfrecords_tools.sources.phantom import PhantomConfig, studies

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PATIENTS = 8


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def archive(tmp_path_factory, dicom_writing):
    """Eight patients with label maps beside their images, and a key that is kept."""
    folder = tmp_path_factory.mktemp("archive")
    for number, study in enumerate(studies(PhantomConfig(patients=PATIENTS, seed=5))):
        stored = np.rint(study.pixels).astype(np.int16)
        place = folder / "in" / f"P{number}"
        dicom_writing.clinical_study(stored, study.affine, place, (f"P{number}", "S1"))
        turned = reordered(study.label_map, study.affine, (1, 0, 2), (0, 1, 1))
        write_nifti(place / "labels.nii.gz", *turned)
    (folder / "key").write_text("0123456789abcdef" * 4 + "\n")
    (folder / "key").chmod(0o600)
    return folder


def arguments(archive, out, *options):
    key = ["--key", str(archive / "key")]
    return ["dicom", str(archive / "in"), str(out), *key, *options]


@pytest.fixture(scope="module")
def uninterrupted(archive):
    out = archive / "uninterrupted"
    assert main(arguments(archive, out, "--workers", "1")) == 0
    return content(out)


def test_number_of_workers_changes_no_byte(archive, uninterrupted, tmp_path):
    assert main(arguments(archive, tmp_path / "out", "--workers", "2")) == 0
    assert content(tmp_path / "out") == uninterrupted


def test_place_and_order_of_the_files_change_no_byte(archive, uninterrupted, tmp_path):
    """Each patient's folder has another name, and is copied in another order."""
    for number in range(PATIENTS):
        shutil.copytree(
            archive / "in" / f"P{number}", tmp_path / "in" / f"{PATIENTS - number}x"
        )
    options = ["--key", str(archive / "key"), "--workers", "1"]
    assert main(["dicom", str(tmp_path / "in"), str(tmp_path / "out"), *options]) == 0
    assert content(tmp_path / "out") == uninterrupted


def test_beam_makes_the_same_set(archive, uninterrupted, tmp_path):
    pytest.importorskip("apache_beam", reason="Apache Beam (extra [beam]) is not here")
    command = arguments(archive, tmp_path / "out", "--engine", "beam")
    module = [sys.executable, "-m", "tfrecords_tools.build"]
    assert subprocess.run([*module, *command], cwd=ROOT, check=False).returncode == 0
    assert content(tmp_path / "out") == uninterrupted


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_command_goes_on(workers, archive, uninterrupted, tmp_path):
    """The whole group of processes is killed while some studies are read."""
    out = tmp_path / "out"
    command = arguments(archive, out, "--workers", workers)
    process = subprocess.Popen(
        [sys.executable, "-m", "tfrecords_tools.build", *command],
        cwd=ROOT,
        start_new_session=True,
    )
    while len(read(out)) < 3 and process.poll() is None:
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    before = read(out)
    assert before
    assert main(command) == 0
    assert content(out) == uninterrupted


def read(out):
    """Studies that were read and wait to be joined."""
    return [*out.glob(".tmp-build/**/*.npz")]
