"""DICOM files written by the tests."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def dicom_writing():
    """The module `dicom_writing.py`, which lies beside this file."""
    path = Path(__file__).with_name("dicom_writing.py")
    spec = importlib.util.spec_from_file_location("dicom_writing", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
