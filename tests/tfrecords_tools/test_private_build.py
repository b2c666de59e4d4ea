"""Input that names people: keys in all messages, and the names in one private table."""

import csv
import gzip
import json
import re

import nibabel
import numpy as np
import pytest

from tfrecords_tools import build as command
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.pseudonyms import load_key, pseudonym
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.sources.source import LeftOut
from tfrecords_tools.study_table import add_to_table, table_path

NAMES = ["Smith^John", "Doe^Jane", "Müller^Ärne", "=cmd()", "Roe^Richard"]


def write(folder, study):
    folder.mkdir(parents=True)
    for name, array in (("image", study.pixels), ("mask", study.label_map)):
        affine = np.diag([1.25, 1.5, 8.0, 1.0])
        image = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
        nibabel.save(image, folder / f"{name}.nii.gz")


@pytest.fixture
def hospital(tmp_path, make_study):
    """Five studies in folders that name the patients; the second image is cut."""
    folder = tmp_path / "archive"
    for number, name in enumerate(NAMES):
        write(folder / name, make_study(number))
    broken = folder / NAMES[1] / "image.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-9])
    return folder


@pytest.fixture
def run(hospital, tmp_path, capsys):
    def run(*options):
        arguments = ["nifti", str(hospital), str(tmp_path / "set"), "--workers", "1"]
        code = command.main([*arguments, "--slice_order", "base_first", *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def names_in(text):
    parts = [part for name in NAMES for part in re.split(r"\W+", name) if len(part) > 2]
    return [part for part in parts if part in text]


def test_messages_tell_keys_and_the_table_tells_who(run, tmp_path, hospital):
    code, out, err = run()
    assert code == 2
    key = load_key(tmp_path / "set.key")
    study = pseudonym(NAMES[1], key)
    (error,) = (line for line in err.splitlines() if line.startswith("ERROR"))
    assert error.startswith(f"ERROR {study}: TRUNCATED: ")
    assert out.splitlines()[0].startswith("made the key")
    assert f"which study is which: {tmp_path / 'set.key.studies.csv'}\n" in out
    assert out.splitlines()[-1] == "imported 4, skipped 1"
    assert names_in(out + err) == []
    table = (tmp_path / "set.key.studies.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(table.splitlines()))
    assert [study, str(hospital / NAMES[1] / "image.nii.gz")] in rows
    assert len(rows) == 1 + 5 * 2  # the header; an image and a mask for each


def test_record_set_holds_no_name_and_no_path(run, tmp_path, hospital):
    run()
    for path in (tmp_path / "set").rglob("*"):
        text = path.name + path.read_bytes().decode("latin-1")
        assert names_in(text) == []
        assert str(hospital) not in text
    stage = tmp_path / "set" / ".tmp-build"
    assert not stage.exists()


def test_files_beside_the_set_are_for_their_owner(run, tmp_path):
    run()
    for name in ("set.key", "set.key.studies.csv"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_same_key_gives_the_same_pseudonyms(run, tmp_path):
    run("--key", str(tmp_path / "keys" / "a"))
    first = open_record_set(tmp_path / "set").assignment
    _, out, _ = run("--key", str(tmp_path / "keys" / "a"), "--overwrite")
    assert "made the key" not in out
    assert open_record_set(tmp_path / "set").assignment == first
    run("--key", str(tmp_path / "keys" / "b"), "--overwrite")
    assert not set(open_record_set(tmp_path / "set").assignment) & set(first)


def test_strict_build_still_says_which_study(run, tmp_path):
    code, out, err = run("--strict")
    assert code == 2
    assert "which study is which" in out
    assert "TRUNCATED" in err
    assert not (tmp_path / "set" / "manifest.json").exists()


@pytest.mark.parametrize("place", ["set/key", "set/deeper/key", "set"])
def test_key_inside_the_set_is_refused(run, tmp_path, place):
    code, _, err = run("--key", str(tmp_path / place))
    assert code == 2
    assert ": KEY: lies inside" in err
    assert not (tmp_path / "set").exists()


def test_absent_input_is_refused_by_its_path_before_a_key_is_made(tmp_path, capsys):
    arguments = ["nifti", "/absent/archive", str(tmp_path / "set")]
    assert command.main(arguments) == 2
    assert capsys.readouterr().err.startswith("ERROR /absent/archive: NO_STUDIES: ")
    assert not list(tmp_path.iterdir())


def test_what_is_left_out_is_told_and_kept(run, hospital, tmp_path):
    (hospital / NAMES[0] / "mask.nii.gz").unlink()
    (hospital / "notes.txt").write_text("x")
    code, out, _ = run()
    assert code == 2
    manifest = open_record_set(tmp_path / "set").manifest
    assert sum(entry.count for entry in manifest.left_out) == 2
    assert all(entry.reason.split()[0] in out for entry in manifest.left_out)
    assert "left out 2; the manifest says what, and why" in out
    assert names_in(json.dumps([entry.what for entry in manifest.left_out])) == []


def test_unlabelled_studies_are_taken_for_the_test_split(run, hospital, tmp_path):
    for name in NAMES[2:4]:
        (hospital / name / "mask.nii.gz").unlink()
    code, out, _ = run("--unlabelled")
    assert code == 2
    record_set = open_record_set(tmp_path / "set")
    key = load_key(tmp_path / "set.key")
    unlabelled = {pseudonym(name, key) for name in NAMES[2:4]}
    assert record_set.without_reference == unlabelled
    assert unlabelled <= set(record_set.patients("test"))
    assert out.splitlines()[-1] == "imported 4, skipped 1"


# The key file


def test_key_is_made_once(tmp_path):
    key = load_key(tmp_path / "key")
    assert len(key) == 32
    assert load_key(tmp_path / "key") == key
    assert load_key(tmp_path / "other") != key
    assert bytes.fromhex((tmp_path / "key").read_text()) == key


@pytest.mark.parametrize(
    "content", [b"", b"12", b"g" * 64, b"0" * 63, b"0" * 66, b"\xff" * 64, bytes(10**6)]
)
def test_malformed_key_is_refused(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(RefusedError, match="KEY: expected 64 hexadecimal digits"):
        load_key(tmp_path / "key")


def test_folder_is_no_key(tmp_path):
    with pytest.raises(RefusedError, match="KEY: not a file"):
        load_key(tmp_path)


def test_key_that_others_can_read_is_warned_of(tmp_path, capsys):
    load_key(tmp_path / "key")
    assert capsys.readouterr().err == ""
    (tmp_path / "key").chmod(0o640)
    load_key(tmp_path / "key")
    assert "KEY: others can read it" in capsys.readouterr().err


# The table


class Item:
    def __init__(self, key, *files):
        self.key, self.files = key, files


def test_table_keeps_earlier_builds_and_no_formula(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.absolute", lambda path: path)
    path, folder = table_path(tmp_path / "k"), tmp_path.relative_to("/")
    add_to_table(path, [Item("b", folder / "2"), Item("a", folder / "1")])
    add_to_table(path, [Item("c", type(path)("=cmd()")), Item("a", folder / "1")])
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows == [
        ["study_key", "path"],
        ["a", str(folder / "1")],
        ["b", str(folder / "2")],
        ["c", "'=cmd()"],
    ]


def test_left_out_entries_are_merged(tmp_path, build, make_study, source_of):
    left_out = [LeftOut("scout", "not short-axis"), LeftOut("scout", "not short-axis")]
    left_out.append(LeftOut("cine", "no LGE", 4))
    source = source_of(map(make_study, range(4)), settings={}, left_out=left_out)
    manifest = build(tmp_path / "out", source)
    expected = [LeftOut("cine", "no LGE", 4), LeftOut("scout", "not short-axis", 2)]
    assert manifest.left_out == expected
    assert open_record_set(tmp_path / "out").manifest == manifest


def test_gzip_of_the_fixture_is_what_breaks(hospital):
    with pytest.raises(EOFError):
        gzip.decompress((hospital / NAMES[1] / "image.nii.gz").read_bytes())
