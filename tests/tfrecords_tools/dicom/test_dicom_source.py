"""From a folder of a PACS to studies: bit-equal, in place, and nobody's name."""

import os
import pickle
import random
import re
import shutil
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.geometry import RAS_TO_LPS
from tfrecords_tools.pseudonyms import pseudonym
from tfrecords_tools.sources.phantom import PhantomConfig, studies

SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "dicom"
KEY = b"key of the tests"


@pytest.fixture(scope="module")
def phantom():
    (study,) = studies(PhantomConfig(patients=1, seed=3))
    return study


@pytest.fixture
def write(dicom_writing, tmp_path):
    """Writes an LGE series of random numbers into a folder of the input."""

    def write(where, patient="P1", study="S1", series="lge", change=None, slices=5):
        files = dicom_writing.classic(
            dicom_writing.small_stack(slices),
            dicom_writing.short_axis_affine(),
            (patient, study, series),
            **dicom_writing.LGE,
        )
        for dataset in files:
            if change:
                change(dataset)
        seed = zlib.crc32(f"{patient} {study} {series}".encode())
        return dicom_writing.save_all(files, tmp_path / where, seed)

    return write


@pytest.mark.parametrize("way", ["classic", "enhanced"])
def test_phantom_comes_back(way, phantom, read_only, dicom_writing, tmp_path):
    """Oblique, 6 mm slices 8 to 10 mm apart, scaled, shuffled, among other series."""
    slope, intercept = 0.37, -310.0
    stored = dicom_writing.quantised(phantom.pixels, slope, intercept)
    dicom_writing.clinical_study(stored, phantom.affine, tmp_path / "study")
    write = getattr(dicom_writing, way)
    psir = write(
        stored,
        phantom.affine,
        ("P1", "S1", "the one"),
        rescale=(slope, intercept),
        **dicom_writing.PSIR,
    )
    dicom_writing.save_all(psir, tmp_path / "study" / "deeper", seed=1)
    study = read_only(tmp_path)
    expected = (stored * slope + intercept).astype(np.float32)
    np.testing.assert_array_equal(study.pixels, expected)
    np.testing.assert_allclose(study.affine, phantom.affine, atol=1e-4)
    assert study.slice_spacing_mm == pytest.approx(phantom.slice_spacing_mm, abs=1e-6)
    assert study.warnings == ()
    assert not study.label_map.any()
    assert study.labelled == (frozenset(),) * len(stored)


def test_keys_are_pseudonyms_and_items_travel(
    write, open_source, dicom_writing, tmp_path
):
    write("a", "Doe^Jane")
    source = pickle.loads(pickle.dumps(open_source(tmp_path)))
    (item,) = source.items
    uid = dicom_writing.new_uid("study", "Doe^Jane", "S1")
    assert (item.key, item.patient_key) == (
        pseudonym(uid, KEY),
        pseudonym("Doe^Jane", KEY),
    )
    assert source.private
    assert "Jane" not in repr(source.read(item))


def test_one_patient_in_two_folders_and_two_in_one(write, open_source, tmp_path):
    write("a", "P1", "S1")
    write("b", "P1", "S2")
    write("b", "P2", "S1")
    items = open_source(tmp_path).items
    assert len({item.key for item in items}) == 3
    assert len({item.patient_key for item in items}) == 2


def test_one_study_over_two_folders(write, read_only, tmp_path):
    files = write("a")
    (tmp_path / "b").mkdir()
    for path in files[:2]:
        path.rename(tmp_path / "b" / path.name)
    assert read_only(tmp_path).pixels.shape[0] == 5


def test_copies_of_files_are_left_out(write, open_source, tmp_path):
    write("a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    source = open_source(tmp_path)
    (item,) = source.items
    assert {path.parent.name for path in item.files} == {"a"}
    reasons = [entry.reason for entry in source.left_out]
    assert reasons == ["copy of an image that is taken"] * 5


def refused(source):
    """Code of the one study that cannot be read."""
    (item,) = source.items
    with pytest.raises(RefusedError) as error:
        source.read(item)
    assert error.value.subject == item.key
    return error.value.code


def test_other_content_under_one_uid(write, open_source, tmp_path):
    write("a")
    write("b", change=lambda dataset: setattr(dataset, "EchoTime", "2"))
    assert refused(open_source(tmp_path)) == "DUP_SOP"


def test_two_patients_in_one_study(write, open_source, tmp_path):
    def odd_one(dataset):
        dataset.PatientID = "P2" if dataset.InstanceNumber == 3 else "P1"

    write("a", change=odd_one)
    assert refused(open_source(tmp_path)) == "MIXED_PATIENT"


@pytest.mark.parametrize("change", [lambda d: setattr(d, "PatientID", " "), None])
def test_nobody_in_particular(change, write, open_source, tmp_path):
    write("a", change=change or (lambda dataset: delattr(dataset, "PatientID")))
    assert refused(open_source(tmp_path)) == "MISSING_TAG"


def test_a_slice_of_another_orientation(write, open_source, tmp_path):
    def turn(dataset):
        if dataset.InstanceNumber == 5:
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]

    write("a", change=turn)
    assert refused(open_source(tmp_path)) == "MIXED_ORIENTATION"


def test_lge_that_says_nowhere_how_it_lies(write, open_source, tmp_path):
    write("a", change=lambda dataset: delattr(dataset, "ImageOrientationPatient"))
    assert refused(open_source(tmp_path)) == "MISSING_TAG"


@pytest.mark.parametrize("length", [100, 400, 700, 1500])
def test_a_damaged_slice_costs_its_study_only(length, write, open_source, tmp_path):
    """The first or last slice: without it the rest would still look like a stack."""
    path = write("a", "P1")[0]
    write("b", "P2")
    path.write_bytes(path.read_bytes()[:length])
    path.rename(path.with_suffix(".dcm"))
    source = open_source(tmp_path)
    outcomes = {}
    for item in source.items:
        try:
            outcomes[item.patient_key] = len(source.read(item).pixels)
        except RefusedError as error:
            outcomes[item.patient_key] = error.code
    codes = {"NOT_DICOM", "TRUNCATED", "NO_PIXELS", "BAD_HEADER", "MISSING_TAG"}
    assert outcomes.pop(pseudonym("P2", KEY)) == 5
    assert {*outcomes.values()} <= codes
    assert len(outcomes) == 1


def test_a_damaged_file_of_nobody_is_told(write, open_source, tmp_path):
    write("a", "P1")
    write("a", "P2")
    (tmp_path / "a" / "x.dcm").write_bytes(b"damaged")
    source = open_source(tmp_path)
    outcomes = []
    for item in source.items:
        try:
            outcomes.append(len(source.read(item).pixels))
        except RefusedError as error:
            outcomes.append(error.code)
    assert sorted(map(str, outcomes)) == ["5", "5", "NOT_DICOM"]
    assert all(re.fullmatch("[0-9a-f]{16}", item.key) for item in source.items)


def test_damage_in_another_series_is_a_warning(write, read_only, tmp_path):
    write("a")
    path = write("a", series="zz long")[0]
    content = path.read_bytes()
    for other in write("a", series="zz long"):
        other.unlink()
    path.write_bytes(content[:700])
    assert read_only(tmp_path).warnings == ("TRUNCATED: a file of another series",)


def test_what_is_no_image_is_left_out_and_counted(write, open_source, tmp_path):
    write("a")
    outside = tmp_path.parent / "outside.dcm"
    outside.write_bytes(b"x")
    (tmp_path / "a" / "link").symlink_to(outside)
    (tmp_path / "a" / ".hidden").write_bytes(b"x")
    (tmp_path / "report.pdf").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    found = {(entry.what, entry.count) for entry in open_source(tmp_path).left_out}
    assert found == {
        ("links, which are not followed", 1),
        ("hidden files", 1),
        ("file", 1),
        ("pipes and the like", 1),
    }


@pytest.mark.parametrize("what", ["nothing", "text", "absent"])
def test_input_without_dicom(what, open_source, tmp_path):
    folder = tmp_path / "input"
    if what != "absent":
        folder.mkdir()
    if what == "text":
        (folder / "a.txt").write_text("x")
    with pytest.raises(RefusedError, match="NOT_A_FILE|NO_STUDIES"):
        open_source(folder)


@pytest.mark.slow
def test_same_result_whatever_the_order_and_workers(
    write, open_source, tmp_path, monkeypatch
):
    for number in range(4):
        write(f"{number}", f"P{number % 3}", f"S{number}")
    (tmp_path / "0" / "x.dcm").write_bytes(b"damaged")
    expected = open_source(tmp_path)
    walk = os.walk

    def shuffled(top, **options):
        for root, folders, names in walk(top, **options):
            random.shuffle(folders)
            random.shuffle(names)
            yield root, folders, names

    monkeypatch.setattr(os, "walk", shuffled)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    monkeypatch.setattr("tfrecords_tools.dicom.scan.FILES_A_WORKER", 1)
    monkeypatch.setattr("tfrecords_tools.dicom.scan._BATCH_FILES", 3)
    for workers in (1, 2):
        again = open_source(tmp_path, workers=workers)
        assert repr(again.items) == repr(expected.items)
        assert list(again.left_out) == list(expected.left_out)


def test_reference_beside_the_images(phantom, read_only, dicom_writing, tmp_path):
    """A label map on the images' own grid, which only its place assigns."""
    stored = dicom_writing.quantised(phantom.pixels)
    images = dicom_writing.classic(stored, phantom.affine, **dicom_writing.LGE)
    dicom_writing.save_all(images, tmp_path / "p" / "dicom")
    _write_labels(phantom, tmp_path / "p" / "labels.nii.gz")
    study = read_only(tmp_path, unlabelled=False)
    np.testing.assert_array_equal(study.label_map, phantom.label_map)
    assert study.labelled == phantom.labelled


def test_references_of_many_in_a_folder_of_their_own(
    open_source, dicom_writing, tmp_path
):
    cohort = list(studies(PhantomConfig(patients=2, seed=3)))
    for number, study in enumerate(cohort):
        stored = dicom_writing.quantised(study.pixels)
        names = (f"P{number}", "S", "lge")
        images = dicom_writing.classic(stored, study.affine, names, **dicom_writing.LGE)
        dicom_writing.save_all(images, tmp_path / "in", seed=number)
        _write_labels(study, tmp_path / "references" / f"{1 - number}.nii.gz")
    source = open_source(
        tmp_path / "in", unlabelled=False, references=tmp_path / "references"
    )
    label_maps = {
        item.patient_key: source.read(item).label_map for item in source.items
    }
    for number, study in enumerate(cohort):
        found = label_maps[pseudonym(f"P{number}", KEY)]
        np.testing.assert_array_equal(found, study.label_map)


def test_labels_of_another_study_are_an_error(
    phantom, open_source, dicom_writing, tmp_path
):
    moved = phantom.affine.copy()
    moved[0, 3] += 7
    stored = dicom_writing.quantised(phantom.pixels)
    images = dicom_writing.classic(stored, moved, **dicom_writing.LGE)
    dicom_writing.save_all(images, tmp_path)
    _write_labels(phantom, tmp_path / "labels.nii.gz")
    assert refused(open_source(tmp_path)) == "GEOMETRY_MISMATCH"


def test_study_without_reference_is_left_out(write, open_source, tmp_path):
    write("a")
    source = open_source(tmp_path, unlabelled=False)
    assert source.items == []
    assert source.left_out[-1].reason == "has no reference; --unlabelled takes it"


def _write_labels(study, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = study.label_map.transpose(2, 1, 0)  # (column, row, slice)
    affine = RAS_TO_LPS @ study.affine[:, [1, 0, 2, 3]]
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="shared/data/dicom is not here")
class TestRealSamples:
    @pytest.mark.parametrize("name", ["sunnybrook", "biv_me"])
    def test_neither_holds_lge(self, name, open_source):
        source = open_source(SAMPLES / name)
        assert source.items == []
        reasons = {entry.reason for entry in source.left_out}
        assert "no LGE short-axis series in this study" in reasons
        assert "cine: not wanted; dicom --series any takes it" in reasons

    def test_sunnybrook_is_ten_slices_of_two_phases(self, open_source):
        source = open_source(SAMPLES / "sunnybrook", series="any")
        (item,) = source.items
        assert item.description == "cine, 10 slices, 8 mm apart"
        first = source.read(item)
        # The header's step of 8 mm; positions have six digits.
        assert first.slice_spacing_mm == pytest.approx(8.0, abs=1e-3)
        assert first.affine[:3, 2] @ (1, -1, -1) > 0
        assert first.pixels.max() > 255
        second = open_source(SAMPLES / "sunnybrook", series="any", phase=1)
        last = second.read(second.items[0])
        assert (first.affine == last.affine).all()
        assert (first.pixels != last.pixels).any(axis=(1, 2)).all()
        # Instances 7 to 187 have trigger time 286 ms, 20 to 200 have 886 ms.
        assert {path.stem for path, _ in second.items[0].slices} == {
            str(number) for number in range(20, 201, 20)
        }

    def test_biv_me_short_axis_is_joined_of_six_series(self, open_source):
        source = open_source(SAMPLES / "biv_me", series="any")
        (item,) = source.items
        assert item.description == "cine, 6 slices, 17.7 mm apart, joined series"
        folders = {path.parent.name for path in item.files}
        assert folders == {"Se1", "Se2", "Se3", "Se4", "Se5", "Se11"}
        study = source.read(item)
        assert study.pixels.shape == (6, 208, 256)
        left_out = [entry.reason for entry in source.left_out]
        assert left_out.count("cine: not short-axis") == 5
