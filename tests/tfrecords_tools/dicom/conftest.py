"""Reading what a folder holds, as the source does."""

import pytest

from tfrecords_tools.dicom.config import DicomConfig
from tfrecords_tools.sources import dicom

KEY = b"key of the tests"


@pytest.fixture
def open_source():
    """The source of a folder; settings by name."""

    def open_source(folder, unlabelled=True, references=None, workers=1, **settings):
        config = DicomConfig(**settings)
        return dicom.source(
            folder,
            config,
            KEY,
            references=references,
            unlabelled=unlabelled,
            workers=workers,
        )

    return open_source


@pytest.fixture
def read_only(open_source):
    """The one study of a folder, read."""

    def read_only(folder, **options):
        source = open_source(folder, **options)
        (item,) = source.items
        return source.read(item)

    return read_only
