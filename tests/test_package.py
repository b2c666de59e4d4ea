"""What is built and installed is whole: all sub-packages, and the commands start."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PACKAGES = ("jdl_keras", "tfrecords_tools")
FILES = ("pyproject.toml", "setup.py", "requirements.txt", "MANIFEST.in")
TEXTS = ("README.md", "LICENSE")


def packaged(pattern):
    return {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob(pattern)
    }


def modules():
    return packaged("*.py")


def templates():
    return packaged("templates/*")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution, and the wheel that is built from it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in (*FILES, *TEXTS):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return SimpleNamespace(wheel=wheel, archive=archive)


def test_every_folder_of_modules_is_a_package():
    # A folder without __init__.py is left out of the wheel without a word.
    folders = {Path(module).parent for module in modules()}
    missing = [f for f in sorted(folders) if not (ROOT / f / "__init__.py").is_file()]
    assert not missing


def test_wheel_has_all_modules_and_templates_and_nothing_else(built):
    with zipfile.ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert templates()
    assert names == modules() | templates()


def test_source_distribution_can_be_built_again(built):
    with tarfile.open(built.archive) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= modules() | templates() | {*FILES, *TEXTS}


def test_wheel_requires_what_requirements_txt_lists(built):
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("/METADATA")]
        metadata = message_from_bytes(archive.read(name))
        assert any(n.endswith("/LICENSE") for n in archive.namelist())
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = metadata.get_all("Requires-Dist")
    found = {_name(line) for line in required if "extra ==" not in line}
    assert found == {_name(line) for line in lines if line.strip()}
    assert metadata["Name"] == "jdl-keras"


def _name(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower()


@pytest.mark.parametrize("command", ["jdl_keras.train", "tfrecords_tools.build"])
def test_installed_commands_start(built, tmp_path, command):
    done = subprocess.run(
        [sys.executable, "-c", _START, str(built.wheel), command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m {command}" in done.stdout


# Python imports from a wheel as it is.
_START = """
import importlib, sys
wheel, command = sys.argv[1:]
sys.path.insert(0, wheel)
module = importlib.import_module(command)
assert module.__file__.startswith(wheel), module.__file__
module.main(["--help"])
"""
