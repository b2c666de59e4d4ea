import os
import pickle

import nibabel
import numpy as np
import pytest

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.geometry import RAS_TO_LPS
from tfrecords_tools.references.config import ReferenceConfig, Structure
from tfrecords_tools.references.matching import index


def write_labels(path, stack, known, shift_mm=0.0):
    affine = stack.affine.copy()
    affine[:3, 3] += shift_mm
    volume = known.transpose(1, 2, 0)
    nibabel.save(nibabel.Nifti1Image(volume, RAS_TO_LPS @ affine), path)


def test_no_candidates_are_no_reference(stack, read, tmp_path):
    (tmp_path / "notes.txt").write_text("no contour")
    assert index(tmp_path) == []
    assert read(stack, tmp_path) is None


def test_two_that_match_are_refused(stack, known, read, tmp_path):
    write_labels(tmp_path / "a.nii", stack, known)
    write_labels(tmp_path / "b.nii.gz", stack, known)
    with pytest.raises(RefusedError, match=r"LABELS: 2 references .*\(nifti and nifti"):
        read(stack, tmp_path)


def test_of_two_the_one_that_lies_on_the_images(stack, known, read, tmp_path):
    write_labels(tmp_path / "a.nii", stack, known, shift_mm=30)
    write_labels(tmp_path / "b.nii", stack, known)
    reference = read(stack, tmp_path)
    assert np.array_equal(reference.label_map, known)
    warning = "1 other references are not taken (GEOMETRY_MISMATCH)"
    assert reference.warnings == (warning,)


def test_names_do_not_matter(stack, known, read, tmp_path):
    """The reference of another study, named as if it were this one's."""
    write_labels(tmp_path / "a.nii", stack, known, shift_mm=30)
    with pytest.raises(RefusedError, match="GEOMETRY_MISMATCH"):
        read(stack, tmp_path)


def test_one_that_cannot_be_read_is_told(stack, known, read, tmp_path):
    (tmp_path / "a.cvi42wsx").write_text("<a>")
    with pytest.raises(RefusedError, match=r"a\.cvi42wsx: CORRUPT"):
        read(stack, tmp_path)
    write_labels(tmp_path / "b.nii", stack, known)
    (warning,) = read(stack, tmp_path).warnings
    assert warning == "1 other references are not taken (CORRUPT)"


def test_a_label_map_with_a_wrong_value_is_not_another_studys(
    stack, known, read, tmp_path
):
    wrong = np.where(known == 4, 7, known).astype(np.uint8)
    write_labels(tmp_path / "a.nii", stack, wrong)
    with pytest.raises(RefusedError, match="LABELS: value 7"):
        read(stack, tmp_path)


def test_links_and_pipes_are_passed_over(stack, known, tmp_path):
    write_labels(tmp_path / "outside.nii", stack, known)
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "link.nii").symlink_to(tmp_path / "outside.nii")
    os.mkfifo(folder / "pipe.nii")
    assert index(folder) == []


def test_listing_is_sorted_and_travels_to_workers(stack, known, tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
        write_labels(tmp_path / name / "x.nii", stack, known)
    found = index(tmp_path)
    assert [file.path.parent.name for file in found] == ["a", "b", "c"]
    assert pickle.loads(pickle.dumps(found)) == found


def test_files_that_are_not_dicom_are_passed_over(tmp_path):
    (tmp_path / "short").write_bytes(b"DICM")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "damaged.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 300)
    assert index(tmp_path) == []


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"tasks": []}, "tasks"),
        ({"tasks": ["heart"]}, "tasks"),
        ({"scar_sd": 0.0}, "scar_sd"),
        ({"scar_sd": float("nan")}, "scar_sd"),
        ({"values": {0: Structure.SCAR}}, "values.0"),
    ],
)
def test_settings_that_cannot_be_meant(settings, key):
    with pytest.raises(RefusedError, match=f"ERROR {key}: CONFIG"):
        ReferenceConfig(**settings)


def test_settings_are_read_from_a_command_line():
    from tfrecords_tools import command_line

    parser = command_line.make_parser("x", "x", config=True)
    parser.add_class_arguments(ReferenceConfig, "reference")
    arguments = command_line.parse(
        parser,
        [
            '--reference.names={"Heart muscle": "MYOCARDIUM"}',
            '--reference.values={"7": "SCAR"}',
            "--reference.scar_rule=nsd",
        ],
    )
    config = arguments.reference
    assert config.structure("x", "heart-muscle") is Structure.MYOCARDIUM
    assert config.structure("x", "infarct") is Structure.SCAR
    assert config.structure_of_value("x", 7) is Structure.SCAR
    assert config.scar_rule == "nsd"
