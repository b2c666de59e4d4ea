import dataclasses
import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK

from jdl_keras.evaluation.masks import mask_path, read_mask, write_mask
from tfrecords_tools import files
from tfrecords_tools.errors import RefusedError

OBLIQUE = np.array(
    [
        # one row: 2 mm along (0.6, 0.8, 0); one column: 3 mm along (0, 0, -1);
        # one slice: 10 mm along their cross product (-0.8, 0.6, 0)
        [1.2, 0.0, -8.0, 5.0],
        [1.6, 0.0, 6.0, -7.0],
        [0.0, -3.0, 0.0, 11.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
FLOAT32_MM = 1e-5
"""The header holds float32; positions are of 10 mm."""


@pytest.fixture
def study(make_study):
    plain = make_study(np.zeros((4, 5, 6)), patient="ab12", study="cd34")
    return dataclasses.replace(plain, affine=OBLIQUE)


@pytest.fixture
def marker(study):
    mask = np.zeros(study.pixels.shape, bool)
    mask[2, 3, 4] = True
    return mask


def test_a_mask_comes_back(study, tmp_path):
    mask = np.random.default_rng(5).random(study.pixels.shape) < 0.5
    path = write_mask(tmp_path / "masks", study, "scar", mask)
    assert path == tmp_path / "masks" / "ab12-cd34-scar.nii.gz"
    assert path == mask_path(tmp_path / "masks", study, "scar")
    found = read_mask(path)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, mask)


def test_an_empty_mask_comes_back(study, tmp_path):
    path = write_mask(tmp_path, study, "scar", np.zeros(study.pixels.shape, bool))
    assert read_mask(path).shape == (4, 5, 6)
    assert not read_mask(path).any()


def test_a_marker_stays_where_it_was_in_the_patient(study, marker, tmp_path):
    path = write_mask(tmp_path, study, "scar", marker)
    # Slice 2, row 3, column 4 lies, in LPS, at
    # (5 + 3 x 1.2 - 2 x 8, -7 + 3 x 1.6 + 2 x 6, 11 - 4 x 3) = (-7.4, 9.8, -1)
    lps_mm = np.array([-7.4, 9.8, -1])
    image = nibabel.load(path)
    (index,) = np.argwhere(image.get_fdata())
    assert [*index] == [4, 3, 2]
    ras_mm = (image.affine @ [*index, 1])[:3]
    np.testing.assert_allclose(ras_mm, lps_mm * [-1, -1, 1], atol=FLOAT32_MM)
    # ITK speaks LPS, and reads the header with code of its own.
    volume = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(volume), marker)
    found_mm = volume.TransformIndexToPhysicalPoint([4, 3, 2])
    np.testing.assert_allclose(found_mm, lps_mm, atol=FLOAT32_MM)
    np.testing.assert_allclose(volume.GetSpacing(), [3, 2, 10], atol=FLOAT32_MM)


def test_a_stack_that_is_sheared_keeps_its_positions(study, marker, tmp_path):
    sheared = OBLIQUE.copy()
    sheared[:3, 2] += [0.6, 0.8, 0]  # each slice 1 mm further along the rows
    path = write_mask(
        tmp_path, dataclasses.replace(study, affine=sheared), "scar", marker
    )
    # As above, and 2 slices x (0.6, 0.8, 0) further; RAS
    position_mm = (nibabel.load(path).affine @ [4, 3, 2, 1])[:3]
    np.testing.assert_allclose(position_mm, [6.2, -11.4, -1], atol=FLOAT32_MM)


def test_the_header_is_fresh(study, marker, tmp_path):
    image = nibabel.load(write_mask(tmp_path, study, "scar", marker))
    header = image.header
    assert (header.get_data_dtype(), header.get_xyzt_units()[0]) == (np.uint8, "mm")
    np.testing.assert_allclose(header.get_zooms(), [3, 2, 10], atol=FLOAT32_MM)
    for field in ("descrip", "aux_file", "intent_name", "db_name", "data_type"):
        assert header[field].item() == b""
    assert not header.extensions


def test_the_same_mask_gives_the_same_bytes_and_no_key_inside(study, marker, tmp_path):
    one, other = (
        write_mask(tmp_path / name, study, "scar", marker).read_bytes() for name in "ab"
    )
    assert one == other
    # The gzip header: no file name (flags), no time.
    assert one[3:8] == bytes(5)
    content = gzip.decompress(one)
    assert content.count(1, 352) == 1  # the marker, after header and magic number
    assert not [key for key in (b"ab12", b"cd34") if key in one + content]


def test_a_mask_is_there_whole_or_not_at_all(study, marker, tmp_path, monkeypatch):
    def full(path):
        raise OSError("disk full")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError, match="disk full"):
        write_mask(tmp_path, study, "scar", marker)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("key", ["../x", "a/b", "a b", ""])
def test_a_key_cannot_steer_the_file_elsewhere(study, marker, tmp_path, key):
    hostile = dataclasses.replace(study, patient_key=key, study_key=f"{key}.")
    with pytest.raises(ValueError, match="expected letters"):
        write_mask(tmp_path / "masks", hostile, "scar", marker)
    assert not [*tmp_path.rglob("*")]


def test_what_is_no_mask_of_the_study_is_an_error(study, marker, tmp_path):
    with pytest.raises(ValueError, match="got float32"):
        write_mask(tmp_path, study, "scar", marker.astype(np.float32))
    with pytest.raises(ValueError, match=r"mask \(4, 5, 6\), got bool \(5, 4, 6\)"):
        write_mask(tmp_path, study, "scar", marker.transpose(1, 0, 2))
    assert not [*tmp_path.iterdir()]


def test_a_file_that_is_no_mask_is_refused(study, marker, tmp_path):
    path = write_mask(tmp_path, study, "scar", marker)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum of gzip
    path.write_bytes(content)
    with pytest.raises(RefusedError, match="CORRUPT"):
        read_mask(path)
    nibabel.save(nibabel.Nifti1Image(np.full((2, 2, 2), 2, np.uint8), np.eye(4)), path)
    with pytest.raises(RefusedError, match="LABELS: expected a mask of 0 and 1"):
        read_mask(path)
    with pytest.raises(RefusedError, match="NOT_A_FILE"):
        read_mask(tmp_path / "absent.nii.gz")
