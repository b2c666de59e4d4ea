"""One file for machines without TensorFlow: whole, checked, and the same set."""

import hashlib
import subprocess
import sys
import zipfile
from collections import Counter

import numpy as np
import pytest

from tfrecords_tools import build as build_command
from tfrecords_tools import dump, npz_set, show, verify
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.npz_set import open_npz, write_npz
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.splits import SPLITS

pytestmark = pytest.mark.slow


@pytest.fixture
def file(records, tmp_path):
    path = tmp_path / "set.npz"
    write_npz(open_record_set(records), path)
    return path


def fields(path):
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def rewrite(path, changes, seal):
    """Saves other fields; `seal` gives them the checksum that belongs to them."""
    arrays = {k: v for k, v in (fields(path) | changes).items() if v is not None}
    if seal:
        arrays["sha256"] = np.array(npz_set._digest(arrays))
    np.savez(path, **arrays)


def test_studies_come_back_as_written(file, make_study):
    file_set = open_npz(file)
    found = {s.study_key: s for split in SPLITS for s in file_set.studies(split)}
    assert sorted(found) == [f"study-{n:02}" for n in range(8)]
    for number in range(8):
        written, read = make_study(number), found[f"study-{number:02}"]
        np.testing.assert_array_equal(read.pixels, written.pixels)
        np.testing.assert_array_equal(read.label_map, written.label_map)
        np.testing.assert_array_equal(read.affine, written.affine)
        assert read.labelled == written.labelled
        assert read.patient_key == written.patient_key
        assert read.source == "handmade"


def test_slices_of_different_sizes(tmp_path, build, make_study):
    small, large = make_study(0), make_study(1)
    wide = np.random.default_rng(9).normal(size=(2, 5, 40)).astype(np.float32)
    labels = np.zeros(wide.shape, np.uint8)
    labels[0, 1, 7] = 3
    other = make_study(2, slices=2, pixels=wide, label_map=labels)
    build(tmp_path / "out", [small, other, large, make_study(3)])
    write_npz(open_record_set(tmp_path / "out"), tmp_path / "set.npz")
    file_set = open_npz(tmp_path / "set.npz")
    found = {s.study_key: s for split in SPLITS for s in file_set.studies(split)}
    np.testing.assert_array_equal(found["study-02"].pixels, wide)
    np.testing.assert_array_equal(found["study-02"].label_map, labels)
    np.testing.assert_array_equal(found["study-01"].pixels, large.pixels)
    # 3 studies of 3 slices of 12 x 10 pixels, and 2 slices of 5 x 40
    assert file_set.arrays["pixels"].size == 3 * 3 * 120 + 2 * 200


def test_identity_is_that_of_the_folder(file, records):
    file_set, record_set = open_npz(file), open_record_set(records)
    assert file_set.sha256 == record_set.sha256
    assert file_set.manifest == record_set.manifest
    assert open_record_set(file).sha256 == record_set.sha256


def test_same_set_gives_the_same_bytes(file, records, tmp_path):
    write_npz(open_record_set(records), tmp_path / "again.npz")
    assert file.read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_view_is_not_written(records, tmp_path):
    view = open_record_set(records).with_splits({"patient-00": "test"})
    with pytest.raises(ValueError, match="as stored"):
        write_npz(view, tmp_path / "view.npz")
    assert not (tmp_path / "view.npz").exists()


def test_failed_writing_leaves_the_earlier_file(file, records, monkeypatch):
    before = file.read_bytes()

    def full(stream, **arrays):
        stream.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        write_npz(open_record_set(records), file)
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir() if "tmp" in p.name] == []


# Damage


def test_flipped_byte_is_refused_or_means_nothing(file):
    """Of the file's bytes a few, such as times of day, carry no content."""
    content, expected = file.read_bytes(), fields(file)
    codes = Counter()
    for place in range(0, len(content), 61):
        changed = bytearray(content)
        changed[place] ^= 0x10
        file.write_bytes(changed)
        code, arrays = opened(file)
        codes[code] += 1
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[name])
    assert set(codes) <= {"CORRUPT", "NOT_A_RECORD_SET", "FIELDS", "harmless"}
    assert codes["CORRUPT"] > 0.95 * codes.total()


def opened(path):
    try:
        return "harmless", open_npz(path).arrays
    except RefusedError as error:
        return error.code, {}


def test_flipped_pixel_is_corrupt(file):
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo("pixels.npy")
    # 64 bytes of names and 128 of headers come first, then 4 bytes a pixel
    content[member.header_offset + 1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(RefusedError, match="CORRUPT"):
        open_npz(file)


@pytest.mark.parametrize("name", ["pixels", "labelled", "manifest", "patient_keys"])
def test_changed_field_is_not_what_was_sealed(file, name):
    array = fields(file)[name].copy()
    array[0] = ~array[0] if array.dtype == bool else array[1]
    array.flat[-1] = array.flat[0]
    rewrite(file, {name: array}, seal=False)
    with pytest.raises(RefusedError, match="CORRUPT.*content has changed"):
        open_npz(file)


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_cut_file_is_refused(file, keep):
    content = file.read_bytes()
    kept = int(len(content) * keep) if isinstance(keep, float) else keep
    file.write_bytes(content[:kept])
    with pytest.raises(RefusedError, match="CORRUPT"):
        open_npz(file)


FAULTS = {
    "no version": ({"version": None}, "NOT_A_RECORD_SET"),
    "another version": ({"version": np.array(2)}, "VERSION"),
    "version of another type": ({"version": np.array("1")}, "VERSION"),
    "no field": ({"affines": None}, "FIELDS"),
    "one field more": ({"extra": np.zeros(3)}, "FIELDS"),
    "another type": ({"labelled": np.zeros((24, 2), np.uint8)}, "FIELDS"),
    "another byte order": ({"slice_counts": np.full(24, 3, ">i8")}, "FIELDS"),
    "another length": ({"slice_counts": np.full(23, 3)}, "FIELDS"),
    "another rank": ({"affines": np.zeros((24, 16))}, "FIELDS"),
    "columns first": ({"shapes": np.asfortranarray([[12, 10]] * 24)}, "CORRUPT"),
    "other sizes": ({"shapes": np.full((24, 2), 10)}, "FIELDS"),
    "objects": ({"sources": np.array([None] * 24)}, "CORRUPT"),
    "other patients": ({"patient_keys": np.full(24, "patient-00")}, "COUNTS"),
    "no manifest": ({"manifest": np.zeros(5, np.uint8)}, "MANIFEST"),
    "another manifest": (
        {"manifest": np.frombuffer(b'{"schema_version": 0}', np.uint8)},
        "VERSION",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_sealed_faults_are_refused_by_name(file, fault):
    changes, code = FAULTS[fault]
    rewrite(file, changes, seal=fault != "objects")  # their bytes are addresses
    with pytest.raises(RefusedError) as refused:
        open_npz(file)
    assert refused.value.code == code
    assert len(str(refused.value).splitlines()) == 1


def test_compressed_file_is_refused_before_it_grows(file):
    arrays = fields(file)
    np.savez_compressed(file, **arrays)
    with pytest.raises(RefusedError, match="CORRUPT.*compressed"):
        open_npz(file)


def test_absent_file_and_folder(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    for name in ("absent.npz", "folder.npz"):
        with pytest.raises(RefusedError, match="NOT_A_RECORD_SET"):
            open_record_set(tmp_path / name)


# Machines without TensorFlow, and commands


def test_everything_works_without_tensorflow(file, records):
    program = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "from pathlib import Path\n"
        "from tfrecords_tools import show, verify\n"
        "from tfrecords_tools.record_set import open_record_set\n"
        "from tfrecords_tools.splits import fold_splits\n"
        f"file_set = open_record_set(Path({str(file)!r}))\n"
        "splits = fold_splits(file_set.has_scar, 2, 0, 0)\n"
        "view = file_set.with_splits(splits).without_labels('scar', ['patient-01'])\n"
        "print(sum(len(s.pixels) for k in view.totals('test') and "
        "('train', 'validation', 'test') for s in view.studies(k)), view.sha256)\n"
        f"assert show.main([{str(file)!r}]) == verify.main([{str(file)!r}]) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    sha256 = hashlib.sha256((records / "manifest.json").read_bytes()).hexdigest()
    assert done.stdout.startswith(f"24 {sha256}\n")  # 8 patients x 3 slices
    assert done.stdout.splitlines()[-1].startswith("ok: 8 patients, 24 slices, one ")


def test_verify_finds_one_image_under_two_patients(tmp_path, build, make_study, capsys):
    twin = make_study(5, pixels=make_study(2).pixels)
    build(tmp_path / "out", [*(make_study(n) for n in range(5)), twin])
    write_npz(open_record_set(tmp_path / "out"), tmp_path / "set.npz")
    assert verify.main([str(tmp_path / "set.npz")]) == 2
    assert capsys.readouterr().err.count("DUP_PIXELS") == 3


def test_show_tells_the_same_of_folder_and_file(file, records, capsys):
    assert show.main([str(records)]) == 0
    of_folder = capsys.readouterr().out
    assert show.main([str(file)]) == 0
    assert capsys.readouterr().out == of_folder


def test_dump_command(file, records, tmp_path, capsys):
    out = tmp_path / "folder" / "dumped.npz"
    assert dump.main([str(records), str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 8 patients, ")
    assert out.read_bytes() == file.read_bytes()
    assert dump.main([str(records), str(out)]) == 2
    assert "EXISTS" in capsys.readouterr().err
    assert dump.main([str(records), str(out), "--overwrite"]) == 0


@pytest.mark.parametrize("arguments", [["set.npz", "b.npz"], ["records", "b.np"]])
def test_impossible_dumps_are_refused(file, records, capsys, arguments):
    folder = file.parent
    assert dump.main([str(folder / name) for name in arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (folder / arguments[1]).exists()


def test_build_writes_the_file_too(tmp_path, capsys):
    out, file = tmp_path / "out", tmp_path / "set.npz"
    arguments = ["phantom", str(out), "--patients", "3", "--shards", "1"]
    arguments += ["--fractions.train", "0.4", "--fractions.validation", "0.3"]
    arguments += ["--fractions.test", "0.3", "--npz", str(file)]
    assert build_command.main(arguments) == 0
    assert open_npz(file).sha256 == open_record_set(out).sha256
    file_slices = sum(open_npz(file).totals(split)["slices"] for split in SPLITS)
    assert len(open_npz(file).arrays["shapes"]) == file_slices
    assert build_command.main([*arguments[:-1], str(tmp_path / "set.zip")]) == 2
    assert "must end in .npz" in capsys.readouterr().err


def test_build_refuses_a_file_that_is_there_before_it_begins(file, tmp_path, capsys):
    arguments = ["phantom", str(tmp_path / "new"), "--npz", str(file)]
    assert build_command.main(arguments) == 2
    assert "EXISTS" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
