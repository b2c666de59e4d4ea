"""A build that ended early goes on where it ended, to the same bytes.

`KILLS=20 python -m pytest tests/tfrecords_tools/test_resumed_build.py` kills more.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfrecords_tools import build as command
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.record_set import open_record_set

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("KILLS", "3"))


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def spooled(folder):
    """The studies that wait; a build may be taking them away meanwhile."""
    walk = os.walk(folder / ".tmp-build")
    return [name for _, _, names in walk for name in names if name.endswith(".npz")]


class Reader:
    """Reads ready items, notes which, and raises when it comes to one."""

    def __init__(self):
        self.numbers, self.stop_at, self.error = [], None, None

    def read(self, item):
        number = int(item.key[6:8])
        if number == self.stop_at:
            raise self.error
        self.numbers.append(number)
        return item.outcome


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def source(source_of, make_study, reader):
    return source_of(map(make_study, range(8)), settings={"seed": 0}, read=reader.read)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_interrupted_build_reads_only_the_rest(
    records, tmp_path, build, source, reader, error
):
    reader.stop_at, reader.error = 5, error
    out = tmp_path / "out"
    with pytest.raises(type(error)):
        build(out, source)
    assert len(spooled(out)) == 5
    reader.stop_at, reader.numbers = None, []
    build(out, source)
    assert reader.numbers == [5, 6, 7]
    assert content(out) == content(records)


def test_full_disk_keeps_what_was_read(
    records, tmp_path, build, source, reader, monkeypatch
):
    real, out = os.replace, tmp_path / "out"

    def full(old, new):
        if "train-" in Path(new).name:
            raise OSError(28, "No space left on device")
        real(old, new)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        build(out, source)
    monkeypatch.undo()
    assert len(spooled(out)) == 8
    assert [path.name for path in out.iterdir()] == [".tmp-build"]
    reader.numbers = []
    build(out, source)
    assert reader.numbers == []
    assert content(out) == content(records)


def test_other_settings_start_anew(
    tmp_path, build, source_of, make_study, source, reader
):
    reader.stop_at, reader.error = 5, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "out", source)
    reader.stop_at, reader.numbers = None, []
    studies = map(make_study, range(8))
    build(tmp_path / "out", source_of(studies, settings={"seed": 1}, read=reader.read))
    assert reader.numbers == [*range(8)]
    assert not spooled(tmp_path / "out")


def test_strict_stops_at_the_first_refused_study(
    records, tmp_path, build, source, reader
):
    out = tmp_path / "out"
    reader.stop_at, reader.error = 2, RefusedError("file", "GAP", "a slice is missing")
    with pytest.raises(RefusedError, match="GAP"):
        build(out, source, strict=True)
    assert reader.numbers == [0, 1]
    assert not (out / "manifest.json").exists()
    reader.stop_at = None
    build(out, source, strict=True)
    assert reader.numbers == [*range(8)]
    assert content(out) == content(records)


def test_old_set_stays_until_the_end(records, build, source, reader):
    before = content(records)
    reader.stop_at, reader.error = 2, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        build(records, source, overwrite=True)
    (records / ".tmp-build").rename(records.parent / "aside")
    assert content(records) == before


# The command, in processes


def phantom(out, *options):
    module = ("-m", "tfrecords_tools.build", "phantom")
    return [sys.executable, *module, str(out), "--patients", "8", *options]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    assert command.main([*phantom(out)[3:], "--workers", "1"]) == 0
    return out


@pytest.mark.slow
def test_number_of_workers_changes_no_byte(tmp_path, uninterrupted):
    assert command.main([*phantom(tmp_path / "out")[3:], "--workers", "3"]) == 0
    assert content(tmp_path / "out") == content(uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_command_goes_on(tmp_path, uninterrupted, workers):
    """Each kill comes after one study more, and at last while they are joined."""
    out, waits, codes = tmp_path / "out", random.Random(3), []
    while len(codes) < KILLS and not (out / "manifest.json").exists():
        process = subprocess.Popen(phantom(out, "--workers", workers), cwd=ROOT)
        before = len(spooled(out))
        while before == len(spooled(out)) < 8 and process.poll() is None:
            time.sleep(0.01)
        time.sleep(waits.uniform(0, 0.5 if before < 8 else 6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        codes.append(process.returncode)
    assert codes[0] == -signal.SIGKILL
    assert set(codes) <= {0, -signal.SIGKILL}
    options = ["--workers", workers, "--overwrite"]
    assert command.main([*phantom(out)[3:], *options]) == 0
    assert content(out) == content(uninterrupted)
    open_record_set(out)


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_at_once(tmp_path):
    """As the terminal does it: the signal goes to the whole group."""
    process = subprocess.Popen(
        phantom(tmp_path / "out", "--workers", "2", "--patients", "200"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(spooled(tmp_path / "out")) < 3:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "interrupted; the same command continues\n"


# Apache Beam


@pytest.mark.slow
def test_beam_makes_the_same_set(tmp_path, uninterrupted):
    pytest.importorskip("apache_beam", reason="Apache Beam (extra [beam]) is not here")
    done = subprocess.run(
        phantom(tmp_path / "out", "--engine", "beam"), cwd=ROOT, check=False
    )
    assert done.returncode == 0
    assert content(tmp_path / "out") == content(uninterrupted)


def test_beam_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arguments = ["phantom", str(tmp_path / "out"), "--engine", "beam"]
    assert command.main(arguments) == 2
    assert "pip install 'jdl-keras[beam]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
