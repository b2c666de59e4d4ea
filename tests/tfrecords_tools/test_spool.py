"""What was read once is not read again, unless something has changed."""

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np
import pytest

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.sources.source import Source
from tfrecords_tools.spool import import_study, load_spooled, spool_name


@dataclasses.dataclass(frozen=True)
class FileItem:
    key: str
    files: tuple[Path, ...]


@pytest.fixture
def item(tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"one")
    return FileItem("key", (path,))


@pytest.fixture
def spool(tmp_path, make_study):
    """Imports an item; counts how often it was read."""
    folder = tmp_path / "spool"
    folder.mkdir()

    def spool(item):
        return import_study(read, folder, item)

    def read(_):
        spool.reads += 1
        return make_study(1, warnings=("GAP",))

    spool.reads, spool.folder = 0, folder
    return spool


def test_study_comes_back_to_the_bit(spool, item, make_study):
    labelled = (frozenset({"scar"}), frozenset(), frozenset({"myocardium", "scar"}))
    study = make_study(1, labelled=labelled, warnings=("GAP",))
    spooled = import_study(lambda _: study, spool.folder, item)
    # 3 slices, of which one has the myocardium's reference and two have the scar's
    assert (spooled.slices, spooled.labelled) == (3, {"myocardium": 1, "scar": 2})
    assert spooled.has_scar
    found = load_spooled(spooled)
    for field in dataclasses.fields(study):
        expected = getattr(study, field.name)
        np.testing.assert_array_equal(getattr(found, field.name), expected)
    assert found.pixels.dtype == np.float32
    assert found.label_map.dtype == np.uint8


def test_same_item_is_read_once(spool, item):
    first = spool(item)
    assert spool(item) == first
    assert spool.reads == 1


@pytest.mark.parametrize("change", ["content", "time", "gone", "key"])
def test_changed_item_is_read_again(spool, item, change):
    spool(item)
    path = item.files[0]
    status = path.stat()
    if change == "content":
        path.write_bytes(b"longer")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "gone":
        path.unlink()
    else:
        item = dataclasses.replace(item, key="other")
    spool(item)
    assert spool.reads == 2


def test_damaged_spool_is_read_again(spool, item):
    spooled = spool(item)
    spooled.path.write_bytes(spooled.path.read_bytes()[:-1])
    spool(item)
    assert spool.reads == 2


def test_pixels_that_rotted_on_the_disk_are_found(spool, item):
    spooled = spool(item)
    content = bytearray(spooled.path.read_bytes())
    pixels = load_spooled(spooled).pixels.tobytes()
    content[content.index(pixels)] ^= 1
    spooled.path.write_bytes(content)
    with pytest.raises(RefusedError, match="CORRUPT.*the same command reads it again"):
        load_spooled(spooled)
    spool(item)
    load_spooled(spool(item))
    assert spool.reads == 2


def read_with(item, setting=0):
    raise NotImplementedError


def read_otherwise(item):
    raise NotImplementedError


def test_folder_follows_from_source_settings_and_reader():
    sources = [
        Source("a", [], read_with, {"x": 1, "y": 2}),
        Source("b", [], read_with, {"x": 1, "y": 2}),
        Source("a", [], read_with, {"x": 2, "y": 2}),
        Source("a", [], read_otherwise, {"x": 1, "y": 2}),
        Source("a", [], functools.partial(read_with, setting=1), {"x": 1, "y": 2}),
        Source("a", [], functools.partial(read_with, setting=2), {"x": 1, "y": 2}),
    ]
    names = [spool_name(source) for source in sources]
    assert len(set(names)) == len(names)
    assert spool_name(Source("a", [], read_with, {"y": 2, "x": 1})) == names[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefusedError("in/file", "GAP", "a slice is missing"), "GAP"),
        (PermissionError(13, "Permission denied", "in/file"), "UNREADABLE"),
        (MemoryError(), "TOO_LARGE"),
        (KeyError("Smith^John"), "FAULT"),
        (RecursionError("Smith^John"), "FAULT"),
    ],
)
def test_whatever_a_reader_raises_costs_one_study(spool, item, error, code):
    def read(_):
        raise error

    outcome = import_study(read, spool.folder, item)
    assert outcome.code == code
    assert "Smith" not in str(outcome)
    assert not any(spool.folder.iterdir())


def test_full_disk_is_no_fault_of_the_study(spool, item, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        spool(item)
    assert not any(spool.folder.iterdir())
