"""What is read for a prediction: the images, whatever lies beside them."""

import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "tfrecords_tools"))
import dicom_writing

from jdl_keras.inference.inputs import (
    InputConfig,
    dicom_slices,
    is_records,
    nifti_image,
    open_files_input,
)
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.geometry import RAS_TO_LPS
from tfrecords_tools.study import Study

KEY = b"key"
AFFINE = dicom_writing.short_axis_affine()


def write_nifti(path, voxels):
    image = nibabel.Nifti1Image(voxels, RAS_TO_LPS @ AFFINE[:, [1, 0, 2, 3]])
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def studies_in(path, **settings):
    return list(open_files_input(path, InputConfig(**settings), KEY).studies)


@pytest.mark.parametrize("source", ["auto", "dicom"])
def test_bad_reference_beside_dicom_is_not_read(tmp_path, source):
    stored = dicom_writing.small_stack()
    series = dicom_writing.classic(stored, AFFINE, **dicom_writing.LGE)
    dicom_writing.save_all(series, tmp_path)
    write_nifti(tmp_path / "labels.nii.gz", np.full((24, 20, 5), 77, np.uint8))
    (one,) = studies_in(tmp_path, source=source)
    study = one.read()
    assert isinstance(study, Study)
    np.testing.assert_array_equal(study.pixels, stored)
    assert not study.label_map.any()
    assert {path.parent for path, _ in dicom_slices(one.item)} == {tmp_path}
    assert len(dicom_slices(one.item)) == 5
    assert nifti_image(one.item) is None


def test_bad_mask_beside_nifti_is_not_read(tmp_path):
    pixels = dicom_writing.small_stack().transpose(2, 1, 0)
    write_nifti(tmp_path / "heart" / "image.nii.gz", pixels)
    write_nifti(tmp_path / "heart" / "mask.nii.gz", pixels[:5].astype(np.uint8))
    (one,) = studies_in(tmp_path)
    study = one.read()
    # Turned as a scanner shows it: the same values in another order.
    np.testing.assert_array_equal(np.sort(study.pixels, None), np.sort(pixels, None))
    assert not study.label_map.any()
    assert nifti_image(one.item) == tmp_path / "heart" / "image.nii.gz"
    assert dicom_slices(one.item) == ()


def test_what_cannot_be_read_is_said_under_the_pseudonym(tmp_path):
    path = tmp_path / "Jane Doe.nii.gz"
    path.write_bytes(b"nothing")
    (one,) = studies_in(path)
    found = one.read()
    assert isinstance(found, RefusedError)
    assert "Doe" not in str(found)
    assert one.key in str(found)


def test_record_sets_are_told_from_folders(tmp_path):
    assert not is_records(tmp_path)
    (tmp_path / "manifest.json").touch()
    assert is_records(tmp_path)
    assert is_records(tmp_path / "set.npz")
