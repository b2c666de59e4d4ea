"""What several test modules write: DICOM files and references."""

import importlib
import sys
from pathlib import Path

import pytest

# pytest's import mode leaves modules that are no tests to be found by their own path.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def dicom_writing():
    """The module `dicom_writing.py`, which lies beside this file."""
    return importlib.import_module("dicom_writing")
