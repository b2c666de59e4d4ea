"""One folder of several kinds: each study is read as what it is, and read once."""

import pickle

import nibabel
import numpy as np
import pytest

from tfrecords_tools.build import main
from tfrecords_tools.errors import DONE, REFUSED, RefusedError
from tfrecords_tools.manifest import load_manifest
from tfrecords_tools.sources.auto import read, source
from tfrecords_tools.sources.config import AutoConfig

KEY = b"a key"
AFFINE = np.diag([-1.25, -1.25, 10.0, 1.0])
PICTURE = [3, 1, 4, 1, 5, 9]
# Tissues: 1 blood pool, 2 healthy myocardium, 3 scar.
LABELS = [0, 2, 1, 1, 3, 0]
MYOPS_LABELS = [0, 200, 500, 500, 2221, 0]


def write(path, row):
    """A volume (6, 5, 3) whose rows along x are all `row`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.broadcast_to(np.array(row, np.int16)[:, None, None], (6, 5, 3))
    nibabel.save(nibabel.Nifti1Image(voxels.copy(), AFFINE), path)


def write_case(folder, name, labels=LABELS):
    write(folder / name / "image.nii.gz", PICTURE)
    write(folder / name / "contours.nii.gz", labels)


@pytest.fixture
def mixed(tmp_path, dicom_writing):
    """EMIDEC, MyoPS, two ways to name pairs, and DICOM without a reference."""
    for part in ("Images", "Contours"):
        row = PICTURE if part == "Images" else LABELS
        write(tmp_path / "Case_P001" / part / "Case_P001.nii.gz", row)
    write(tmp_path / "myops" / "myops_training_101_DE.nii.gz", PICTURE)
    write(
        tmp_path / "myops" / "myops_training_101_gd.nii.gz", [0, 200, 500, 500, 2221, 0]
    )
    write_case(tmp_path / "ours", "one")
    write(tmp_path / "theirs" / "images" / "two.nii", PICTURE)
    write(tmp_path / "theirs" / "labels" / "two.nii", LABELS)
    dicom_writing.clinical_study(
        dicom_writing.small_stack(), dicom_writing.short_axis_affine(), tmp_path / "PA1"
    )
    return tmp_path


def kinds(found):
    return sorted(item.description.partition(":")[0] for item in found.items)


def test_each_kind_is_found_and_read_as_what_it_is(mixed):
    found = source(mixed, AutoConfig(unlabelled=True, workers=1), KEY)
    assert kinds(found) == ["dicom", "emidec", "myops", "nifti", "nifti"]
    studies = {study.source: study for study in map(found.read, found.items)}
    assert studies["myops"].pixels.shape == (3, 5, 6)
    assert studies["dicom"].pixels.shape == (5, 20, 24)
    assert not any(studies["dicom"].labelled)
    assert all(studies["nifti"].labelled)


def test_without_reference_is_left_out_unless_asked_for(mixed):
    found = source(mixed, AutoConfig(workers=1), KEY)
    assert kinds(found) == ["emidec", "myops", "nifti", "nifti"]
    assert any("no reference" in entry.reason for entry in found.left_out)


def test_no_file_is_read_for_two_kinds(mixed):
    found = source(mixed, AutoConfig(unlabelled=True, workers=1), KEY)
    files = [path for item in found.items for path in item.files]
    assert len(files) == len({*files})


def unknown_files(folder):
    left_out = source(folder, AutoConfig(workers=1), KEY).left_out
    kinds = ("file", "reference (nifti)")
    return sum(entry.count for entry in left_out if entry.what in kinds)


def test_files_of_no_kind_are_counted_once(mixed, tmp_path_factory):
    assert unknown_files(mixed) == 0
    (mixed / "notes.txt").write_text("hello")
    assert unknown_files(mixed) == 1
    alone = tmp_path_factory.mktemp("alone")
    write_case(alone, "one")
    assert unknown_files(alone) == 0
    write(alone / "odd" / "a_img.nii", PICTURE)
    assert unknown_files(alone) == 1


def test_source_can_be_sent_to_another_process(mixed):
    found = source(mixed, AutoConfig(workers=1), KEY)
    again = pickle.loads(pickle.dumps(found))
    for item in again.items:
        assert again.read(item).study_key == item.key


def test_mask_of_0_and_1_is_not_guessed_at(tmp_path):
    write_case(tmp_path, "one", [0, 1, 1, 1, 1, 0])
    (item,) = (found := source(tmp_path, AutoConfig(workers=1), KEY)).items
    with pytest.raises(RefusedError, match="a mask of 0 and 1") as error:
        read(item)
    assert error.value.code == "LABELS"
    assert found.private


def test_folder_of_nothing_known_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(RefusedError, match="name the source") as error:
        source(tmp_path, AutoConfig(workers=1), KEY)
    assert error.value.code == "NO_STUDIES"


def test_build_takes_a_mixed_folder(mixed, tmp_path_factory, capsys):
    out = tmp_path_factory.mktemp("built") / "records"
    fractions = ("--fractions.train", "2", "--fractions.validation", "1")
    command = ("auto", str(mixed), str(out), *fractions, "--fractions.test", "1")
    assert main([*command, "--workers", "1"]) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert f"which study is which: {out}.key.studies.csv" in lines
    assert lines[-1] == "imported 4, skipped 0"
    assert load_manifest(out).taken == {"emidec": 1, "myops": 1, "nifti": 2}
    write_case(mixed / "ours", "odd", [0, 1, 1, 1, 1, 0])
    assert main([*command, "--workers", "1", "--overwrite"]) == REFUSED
    lines = capsys.readouterr()
    assert "imported 4, skipped 1" in lines.out
    assert "LABELS" in lines.err
    assert "odd" not in lines.err
