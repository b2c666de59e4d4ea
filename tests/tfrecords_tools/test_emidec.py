"""EMIDEC: true voxel size, base first, and every damaged case refused by name."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tfrecords_tools import nifti_files
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import Tissue
from tfrecords_tools.pseudonyms import PUBLIC_KEY, pseudonym
from tfrecords_tools.sources import emidec
from tfrecords_tools.study import Study

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "emidec"
VOXEL_SIZE_MM = (1.25, 1.5, 8.0)
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])  # as in the official files: not the size


def write_nifti(path, voxels, dtype, voxel_size_mm=VOXEL_SIZE_MM, affine=AFFINE):
    image = nibabel.Nifti1Image(voxels.astype(dtype), affine)
    image.header.set_zooms(voxel_size_mm)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def outcomes_of(folder):
    """The cases in order; an unreadable one as its error."""
    cases = emidec.source(folder)
    for case in cases.items:
        try:
            yield cases.read(case)
        except RefusedError as error:
            yield error


class Case:
    """One case on disk: 6 x 7 pixels, 4 slices, a marker at x=2, y=5, slice 0."""

    def __init__(self, folder, name="Case_P001"):
        self.folder, self.name = folder, name
        self.image = folder / name / "Images" / f"{name}.nii.gz"
        self.contours = folder / name / "Contours" / f"{name}.nii.gz"
        self.voxels = np.arange(6 * 7 * 4).reshape(6, 7, 4)
        self.labels = np.full((6, 7, 4), Tissue.HEALTHY_MYOCARDIUM)
        self.labels[2, 5, 0] = Tissue.MVO
        self.write()

    def write(self, **image_changes):
        write_nifti(self.image, self.voxels, **({"dtype": np.int16} | image_changes))
        write_nifti(self.contours, self.labels, np.uint8)

    def read(self):
        (outcome,) = outcomes_of(self.folder)
        return outcome


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


def test_stack_is_base_first_with_rows_along_y(case):
    study = case.read()
    assert study.pixels.shape == (4, 7, 6)
    # slice 0 of the file is the apex: the last of 4; row = y = 5, column = x = 2
    assert study.label_map[3, 5, 2] == Tissue.MVO
    assert np.count_nonzero(study.label_map == Tissue.MVO) == 1
    assert study.pixels[3, 5, 2] == case.voxels[2, 5, 0]
    assert study.labelled == (frozenset({"myocardium", "scar"}),) * 4
    assert study.patient_key == pseudonym("Case_P001", PUBLIC_KEY)
    assert "P001" not in study.patient_key


def test_voxel_size_comes_from_pixdim(case):
    study = case.read()
    assert study.spacing_mm == (1.5, 1.25)  # rows step along y, columns along x
    assert study.slice_spacing_mm == 8.0


def test_marker_keeps_its_place_in_the_patient(case):
    place = case.read().affine @ [5, 2, 3, 1]
    # x = 2 -> 2 x 1.25 to the left, y = 5 -> 5 x 1.5 to the back, first slice -> 0:
    # diag(-1, -1, 1) is RAS, where -x is left and -y is posterior.
    np.testing.assert_allclose(place, [2.5, 7.5, 0, 1], atol=1e-12)  # rounding


def test_scaled_and_floating_images_are_read(case):
    case.write(dtype=np.float32)
    np.testing.assert_array_equal(case.read().pixels[3, 5, 2], case.voxels[2, 5, 0])


def _rewrite(path, change):
    content = bytearray(gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(bytes(change(content) or content)))


def _set(place, dtype, value):
    def change(content):
        content[place : place + np.dtype(dtype).itemsize] = np.array(
            value, dtype
        ).tobytes()

    return change


def _flip_data(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _flip_crc(path):
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)


# Places are those of the NIfTI-1 header: dim at 40, datatype 70, pixdim 76,
# vox_offset 108, scl_slope 112, xyzt_units 123, srow_x 280, magic 344.
IMAGE_FAULTS = {
    "absent": (lambda p: p.unlink(), "NOT_A_FILE"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "NOT_A_FILE"),
    "empty": (lambda p: p.write_bytes(b""), "NOT_NIFTI"),
    "text": (lambda p: p.write_text("x" * 400), "NOT_NIFTI"),
    "cut gzip": (lambda p: p.write_bytes(p.read_bytes()[:-9]), "TRUNCATED"),
    "cut gzip trailer": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "TRUNCATED"),
    "flipped data": (_flip_data, "CORRUPT"),
    "flipped CRC": (_flip_crc, "CORRUPT"),
    "two streams": (lambda p: p.write_bytes(p.read_bytes() * 2), "CORRUPT"),
    "missing pixels": (lambda p: _rewrite(p, lambda c: c[:-2]), "PIXEL_LENGTH"),
    "absurd size": (lambda p: _rewrite(p, _set(42, "<i2", 32767)), "PIXEL_LENGTH"),
    "smaller size": (lambda p: _rewrite(p, _set(42, "<i2", 5)), "PIXEL_LENGTH"),
    "offset NaN": (lambda p: _rewrite(p, _set(108, "<f4", np.nan)), "PIXEL_LENGTH"),
    "two dimensions": (lambda p: _rewrite(p, _set(40, "<i2", 2)), "UNSUPPORTED"),
    "unknown type": (lambda p: _rewrite(p, _set(70, "<i2", 9999)), "BAD_HEADER"),
    "colour": (lambda p: _rewrite(p, _set(70, "<i2", 128)), "UNSUPPORTED"),
    "metres": (lambda p: _rewrite(p, _set(123, "u1", 1)), "UNSUPPORTED"),
    "spacing 0": (lambda p: _rewrite(p, _set(80, "<f4", 0)), "BAD_GEOMETRY"),
    "spacing NaN": (lambda p: _rewrite(p, _set(80, "<f4", np.nan)), "BAD_GEOMETRY"),
    "scale infinite": (lambda p: _rewrite(p, _set(112, "<f4", 3e38)), "NOT_FINITE"),
    "other spacing": (lambda p: _rewrite(p, _set(80, "<f4", 2)), "GEOMETRY_MISMATCH"),
    "other affine": (lambda p: _rewrite(p, _set(280, "<f4", 1)), "GEOMETRY_MISMATCH"),
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_damaged_case_comes_as_its_error(case, fault):
    inflict, code = IMAGE_FAULTS[fault]
    inflict(case.image)
    outcome = case.read()
    assert isinstance(outcome, RefusedError)
    assert outcome.code == code
    assert case.name in outcome.subject
    assert len(str(outcome).splitlines()) == 1


def test_bomb_is_refused(case, monkeypatch):
    monkeypatch.setattr(nifti_files, "MAX_FILE_BYTES", 2**16)
    case.image.write_bytes(gzip.compress(bytes(2**20)))
    assert case.read().code == "TOO_LARGE"


@pytest.mark.parametrize("value", [5, 255])
def test_unknown_label_is_refused(case, value):
    case.labels[0, 0, 0] = value
    case.write()
    assert case.read().code == "LABELS"


def test_label_between_tissues_is_refused(case):
    labels = case.labels.astype(float)
    labels[0, 0, 0] = 2.5
    write_nifti(case.contours, labels, np.float32)
    assert case.read().code == "LABELS"


def test_contours_of_another_shape_are_refused(case):
    write_nifti(case.contours, case.labels[:5], np.uint8)
    assert case.read().code == "SHAPE_MISMATCH"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_no_float32_are_refused(case, value):
    case.voxels = case.voxels.astype(np.float64)
    case.voxels[1, 1, 1] = value
    case.write(dtype=np.float64)
    assert case.read().code == "NOT_FINITE"


def test_bad_case_costs_only_itself(tmp_path):
    cases = [Case(tmp_path, name) for name in ("Case_P002", "Case_N001", "Case_P010")]
    cases[0].image.unlink()
    outcomes = list(outcomes_of(tmp_path))
    assert [isinstance(outcome, Study) for outcome in outcomes] == [True, False, True]
    keys = [pseudonym(name, PUBLIC_KEY) for name in ("Case_N001", "Case_P010")]
    assert [outcomes[0].patient_key, outcomes[2].patient_key] == keys


def test_random_damage_raises_nothing_unplanned(case):
    random = np.random.default_rng(0)
    original = gzip.decompress(case.image.read_bytes())
    codes = set()
    for _ in range(300):
        damaged = np.frombuffer(original, np.uint8).copy()
        places = random.integers(0, 352, size=3)  # the header
        damaged[places] = random.integers(0, 256, size=3)
        case.image.write_bytes(gzip.compress(damaged.tobytes(), 1))
        outcome = case.read()
        codes.add(outcome.code if isinstance(outcome, RefusedError) else "accepted")
    assert len(codes) > 4  # the damage reached several checks


@pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/emidec is not here")
class TestRealData:
    def test_known_case(self):
        cases = emidec.source(DATA)
        (case,) = (c for c in cases.items if c.images[0][1].match("*/Case_P001.nii.gz"))
        study = cases.read(case)
        # cases.csv: 256 columns (x), 192 rows (y), 10 slices
        assert study.pixels.shape == (10, 192, 256)
        assert study.spacing_mm[0] == pytest.approx(study.spacing_mm[1])

    def test_every_stack_runs_from_base_to_apex(self):
        count = 0
        for study in outcomes_of(DATA):
            cavity = (study.label_map == Tissue.BLOOD_POOL).sum(axis=(1, 2))
            assert np.polyfit(np.arange(len(cavity)), cavity, 1)[0] < 0
            assert study.slice_spacing_mm > 5
            count += 1
        assert count == 80
