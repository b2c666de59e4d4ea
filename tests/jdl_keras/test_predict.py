"""Studies of every kind through the real command, with a network of two epochs."""

import csv
import json
import shutil
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

sys.path.append(str(Path(__file__).parents[1] / "tfrecords_tools"))
import dicom_writing

from jdl_keras.inference.input_config import InputConfig
from jdl_keras.inference.inputs import open_files_input
from jdl_keras.inference.study_predictor import StudyPredictor, member_of_run
from jdl_keras.predict import main
from jdl_keras.run_folder import RunFolder
from tfrecords_tools.errors import DONE, REFUSED
from tfrecords_tools.geometry import RAS_TO_LPS

pytestmark = pytest.mark.slow

ALWAYS = {
    *("myocardium-probability.nii.gz", "scar-probability.nii.gz", "labels.nii.gz"),
    *("measurements.json", "measurements.csv", "slices.csv", "prediction.json"),
    *("report.html", "report.pdf"),
}
DICOM = {"segmentation.dcm", "measurements.dcm"}
AFFINE = dicom_writing.short_axis_affine((2.0, 2.0))


@pytest.fixture(scope="module")
def write_dicom(draw_patient):
    def write(folder, number):
        names = (f"PATIENT{number}", f"STUDY{number}", "lge")
        stored = dicom_writing.quantised(draw_patient(number)[0])
        series = dicom_writing.classic(stored, AFFINE, names, **dicom_writing.LGE)
        dicom_writing.save_all(series, folder / f"Doe^Jane{number}")

    return write


def rows(out):
    return list(csv.DictReader((out / "studies.csv").read_text().splitlines()))


def results(out):
    return sorted(path for path in out.iterdir() if path.is_dir())


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory, write_dicom):
    """Two patients, and one whose file is cut off."""
    folder = tmp_path_factory.mktemp("pacs")
    for number in (1, 2, 3):
        write_dicom(folder, number)
    path = sorted((folder / "Doe^Jane3").iterdir())[0]
    path.write_bytes(path.read_bytes()[:-500])
    return folder


@pytest.fixture(scope="module")
def predicted(trained_run, pacs, tmp_path_factory):
    out = tmp_path_factory.mktemp("predicted") / "out"
    return out, main([str(trained_run.folder), str(pacs), str(out)])


def test_one_bad_study_costs_itself_only(
    predicted, trained_run, pacs, tmp_path, capsys
):
    out, code = predicted
    assert code == REFUSED
    assert len(results(out)) == 2
    assert main([str(trained_run.folder), str(pacs), str(out)]) == REFUSED
    said = capsys.readouterr()
    (line,) = (line for line in said.err.splitlines() if line.startswith("ERROR"))
    assert "TRUNCATED" in line
    assert "Jane" not in line
    assert "predicted 2, refused 1" in said.out


def test_everything_is_there_on_the_grid_of_the_images(predicted):
    out, _ = predicted
    for folder in results(out):
        assert set(files(folder)) == ALWAYS | DICOM
        labels = nibabel.load(folder / "labels.nii.gz")
        # DICOM stores directions and positions with 12 digits, NIfTI in float32.
        to_lps = RAS_TO_LPS @ labels.affine
        np.testing.assert_allclose(to_lps[:, [1, 0, 2, 3]], AFFINE, atol=1e-4)
        tissue = np.asarray(labels.dataobj)
        assert tissue.shape == (40, 48, 3)
        assert set(np.unique(tissue)) <= {0, 2, 3}
        seg = pydicom.dcmread(folder / "segmentation.dcm")
        assert seg.SegmentSequence[0].SegmentLabel.lower() == "myocardium"


def test_probabilities_and_masks_are_those_of_evaluate(
    trained_run, cohort_records, tmp_path
):
    out = tmp_path / "out"
    command = [str(trained_run.folder), str(cohort_records), str(out)]
    assert main(command) == DONE
    masks = RunFolder(trained_run.folder).evaluation("test") / "masks"
    for folder in results(out):
        labels = np.asarray(nibabel.load(folder / "labels.nii.gz").dataobj)
        scar, wall = (
            np.asarray(nibabel.load(path).dataobj) > 0
            for task in ("scar", "myocardium")
            for path in masks.glob(f"*-{folder.name}-{task}.nii.gz")
        )
        np.testing.assert_array_equal(labels == 3, scar)
        np.testing.assert_array_equal(labels > 0, wall | scar)
    assert len(rows(out)) == 3


def test_table_says_what_the_studies_say(predicted):
    out, _ = predicted
    for row, folder in zip(rows(out), results(out), strict=True):
        found = json.loads((folder / "prediction.json").read_text())
        assert row["study"] == found["study"] == folder.name
        assert row["verdict"] == found["verdict"]
        burden = float(row["burden_percent"])
        assert burden == found["burden_percent"]
        assert float(row["burden_low_percent"]) <= burden
        assert burden <= float(row["burden_high_percent"])
        labels = np.asarray(nibabel.load(folder / "labels.nii.gz").dataobj)
        # 2 x 2 x 10 mm = 0.04 ml a voxel
        assert float(row["scar_ml"]) == pytest.approx(0.04 * (labels == 3).sum())


def test_nobody_is_named(predicted, pacs):
    out, _ = predicted
    told = out.with_name("out.key.studies.csv").read_text()
    assert "Doe^Jane1" in told
    words = [b"PATIENT1", b"PATIENT2", b"Doe^Jane", b"STUDY1", b"STUDY2"]
    for folder in results(out):
        for name, content in files(folder).items():
            named = any(word in content for word in words)
            # Without its patient no archive would take them.
            assert named == (name in DICOM), name


def test_who_asks_sees_the_name(trained_run, write_dicom, tmp_path):
    write_dicom(tmp_path / "in", 4)
    command = [str(trained_run.folder), str(tmp_path / "in"), str(tmp_path / "out")]
    assert main([*command, "--include-identifiers", "--no-dicom"]) == DONE
    (folder,) = results(tmp_path / "out")
    assert set(files(folder)) == ALWAYS
    assert b"PATIENT4" in (folder / "report.html").read_bytes()
    assert b"PATIENT4" not in (folder / "prediction.json").read_bytes()


def test_nothing_is_done_twice_and_nothing_else_is_replaced(
    predicted, trained_run, pacs, tmp_path, capsys
):
    out = shutil.copytree(predicted[0], tmp_path / "out")
    shutil.copy(predicted[0].with_name("out.key"), tmp_path / "out.key")
    done, other = results(out)
    (done / "labels.nii.gz").unlink()  # it is not looked into
    content = json.loads((other / "prediction.json").read_text())
    content["made_by"]["method"] = "two_step"
    (other / "prediction.json").write_text(json.dumps(content))
    command = [str(trained_run.folder), str(pacs), str(out)]
    stale = shutil.copytree(done, out / f".tmp-{done.name}")  # of one that was killed
    assert main(command) == REFUSED
    assert [row["study"] for row in rows(out)] == [done.name, other.name]
    shutil.rmtree(stale)
    errors = capsys.readouterr().err.splitlines()
    assert any(other.name in line and "EXISTS" in line for line in errors)
    assert not (done / "labels.nii.gz").exists()
    assert main([*command, "--overwrite"]) == REFUSED  # of the one that is cut off
    assert (done / "labels.nii.gz").exists()
    assert main([*command, "--no-dicom"]) == REFUSED
    errors = capsys.readouterr().err.splitlines()
    assert sum("EXISTS" in line for line in errors) == 2
    assert "two_step" not in (other / "prediction.json").read_text()


# Signs of the axes of a NIfTI array, and which axes it has in the place of column,
# row and slice: as tools write them.
ORDERS = {
    "as it was": ((1, 1, 1), (0, 1, 2)),
    "apex first": ((1, 1, -1), (0, 1, 2)),
    "rows first, upside down": ((1, -1, 1), (1, 0, 2)),
}


@pytest.mark.parametrize("order", ORDERS)
def test_nifti_comes_back_as_it_lies_in_its_file(
    trained_run, draw_patient, tmp_path, order
):
    pixels = dicom_writing.quantised(draw_patient(1)[0]).transpose(2, 1, 0)
    image = nibabel.Nifti1Image(pixels, RAS_TO_LPS @ AFFINE[:, [1, 0, 2, 3]])
    signs, axes = ORDERS[order]
    image = image.as_reoriented(np.column_stack([axes, signs]))
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 2)
    image.header.set_xyzt_units("mm")
    path, out = tmp_path / "heart.nii.gz", tmp_path / "out"
    nibabel.save(image, path)
    assert main([str(trained_run.folder), str(path), str(out)]) == DONE
    (folder,) = results(out)
    assert set(files(folder)) == ALWAYS
    found = nibabel.load(folder / "myocardium-probability.nii.gz")
    np.testing.assert_allclose(found.affine, image.affine, atol=1e-5)
    assert found.shape == image.shape
    assert (found.header["qform_code"], found.header["sform_code"]) == (1, 2)
    # Each voxel, by its place in the body, is that of the study as it was predicted.
    (study,) = open_files_input(path, InputConfig(), b"key").studies
    study = study.read()
    predictor = StudyPredictor([member_of_run(trained_run.folder)])
    expected = predictor.predict(study).maps["myocardium"]
    indices = np.moveaxis(np.indices(found.shape), 0, -1).reshape(-1, 3)
    to_study = np.linalg.inv(study.affine) @ RAS_TO_LPS @ found.affine
    places = np.column_stack([indices, np.ones(len(indices))]) @ to_study.T
    row, column, index = np.rint(places[:, :3]).astype(int).T
    # A voxel of 2 mm and positions in float32: 1e-4 of a voxel.
    np.testing.assert_allclose(places[:, :3], np.rint(places[:, :3]), atol=1e-4)
    values = np.asarray(found.dataobj).reshape(-1)
    np.testing.assert_array_equal(values, expected[index, row, column])


def test_ensemble_of_a_run_with_itself_is_the_run(trained_run, write_dicom, tmp_path):
    write_dicom(tmp_path / "in", 5)
    run = str(trained_run.folder)
    for name, more in (("one", []), ("two", ["--ensemble", f"[{run}]"])):
        out = str(tmp_path / name)
        key = ["--key", str(tmp_path / "same.key")]
        assert main([run, str(tmp_path / "in"), out, *more, *key]) == DONE
    one, two = (results(tmp_path / name)[0] for name in ("one", "two"))
    for name in ("labels.nii.gz", "scar-probability.nii.gz"):
        a, b = (np.asarray(nibabel.load(f / name).dataobj) for f in (one, two))
        # Half the sum of two equal numbers.
        np.testing.assert_allclose(a, b, atol=1e-6)
    made_by = json.loads((two / "prediction.json").read_text())["made_by"]
    assert len(made_by["weights_sha256"]) == 2
    interval = json.loads((two / "prediction.json").read_text())["burden_interval"]
    assert interval["coverage_percent"] is None


def change(folder, target, old, new):
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("checkpoints"))
    config = target / "config.yaml"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    return target


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("method: jdl", "method: direct", "no myocardium"),
        ("centre: localiser", "centre: reference", "grid.centre localiser"),
    ],
)
def test_runs_that_cannot_predict(trained_run, pacs, tmp_path, capsys, old, new, line):
    run = change(trained_run.folder, tmp_path / "run", old, new)
    assert main([str(run), str(pacs), str(tmp_path / "out")]) == REFUSED
    assert line in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_inputs_that_cannot_be_predicted(trained_run, pacs, tmp_path, capsys):
    run, out = str(trained_run.folder), str(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    point = "--insertions_mm=[[0, 0, 0]]"
    for command, line in (
        ([str(tmp_path / "absent"), str(pacs), out], "NOT_A_RUN"),
        ([run, str(tmp_path / "absent"), out], "NO_STUDIES"),
        ([run, str(tmp_path / "empty"), out], "NO_STUDIES"),
        ([run, str(pacs), out, point], "insertions_mm: CONFIG"),
    ):
        assert main(command) == REFUSED
        assert line in capsys.readouterr().err.splitlines()[-1]


def test_killed_on_the_way_leaves_nothing_half(
    trained_run, pacs, tmp_path, monkeypatch
):
    out = tmp_path / "out"

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("jdl_keras.inference.study_results.write_report", fail)
    assert main([str(trained_run.folder), str(pacs), str(out)]) == 130
    assert results(out) == []
