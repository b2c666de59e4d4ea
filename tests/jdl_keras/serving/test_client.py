"""Studies of every kind through the client, against a stand-in of the server."""

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

sys.path.append(str(Path(__file__).parents[2] / "tfrecords_tools"))
import dicom_writing

from jdl_keras.serving import servers
from jdl_keras.serving.client import main
from jdl_keras.serving.send_studies import label_map
from tfrecords_tools.errors import DONE, ENVIRONMENT, REFUSED
from tfrecords_tools.geometry import RAS_TO_LPS

AFFINE = dicom_writing.short_axis_affine((2.0, 2.0))
FILES = {
    *("myocardium-probability.nii.gz", "scar-probability.nii.gz"),
    *("labels.nii.gz", "prediction.json"),
}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(servers.time, "sleep", lambda seconds: None)


@pytest.fixture
def send(card_file, rest_stand_in, tmp_path):
    """Runs the client against a script; a fresh one has a prediction for everybody."""

    def send(played, path, *options, out=tmp_path / "out"):
        with rest_stand_in(played) as url:
            fixed = ["--url", url, "--model", "jdl", "--model_card", str(card_file)]
            return main([str(path), str(out), *fixed, *options]), out

    return send


@pytest.fixture(scope="module")
def pacs(tmp_path_factory, draw_patient):
    """Two patients as DICOM."""
    folder = tmp_path_factory.mktemp("pacs")
    for number in (1, 2):
        names = (f"PATIENT{number}", f"STUDY{number}", "lge")
        stored = dicom_writing.quantised(draw_patient(number)[0])
        series = dicom_writing.classic(stored, AFFINE, names, **dicom_writing.LGE)
        dicom_writing.save_all(series, folder / f"Doe^Jane{number}")
    return folder


def results(out):
    return sorted(path for path in out.iterdir() if path.is_dir())


def voxels(path):
    return np.asarray(nibabel.load(path).dataobj)


def test_dicom_comes_back_on_its_grid(send, pacs, script, draw_patient, stand_in_maps):
    played = script()
    code, out = send(played, pacs)
    assert code == DONE
    assert len(results(out)) == 2
    drawn = [np.float32(dicom_writing.quantised(draw_patient(n)[0])) for n in (1, 2)]
    expected = [stand_in_maps(pixels)["scar"].transpose(2, 1, 0) for pixels in drawn]
    for folder in results(out):
        assert {path.name for path in folder.iterdir()} == FILES
        found = nibabel.load(folder / "scar-probability.nii.gz")
        # DICOM stores directions and positions with 12 digits, NIfTI in float32.
        to_lps = RAS_TO_LPS @ found.affine
        np.testing.assert_allclose(to_lps[:, [1, 0, 2, 3]], AFFINE, atol=1e-4)
        maps = np.asarray(found.dataobj)
        assert any(np.array_equal(maps, one) for one in expected)
        told = json.loads((folder / "prediction.json").read_text())
        assert told["study"] == folder.name
        assert told["made_by"]["model"] == "jdl"
        assert "research use only" in told["use"]


def test_nobody_is_named_to_the_server(send, pacs, script, capsys):
    played = script()
    code, out = send(played, pacs)
    assert code == DONE
    words = {"Jane", "PATIENT", "STUDY", "lge", str(pacs), str(out)}
    words |= {folder.name for folder in results(out)}  # not even the pseudonym
    for path in (path for path in pacs.rglob("*") if path.is_file()):
        dataset = pydicom.dcmread(path)
        words |= {dataset.StudyInstanceUID, dataset.SOPInstanceUID, path.name}
        words |= {str(dataset.PatientName), dataset.PatientID}
    assert len(words) > 10
    for path, headers, body in played.requests:
        for word in words:
            assert word not in path + str(headers)
            assert word.encode() not in body
        # Every part of the body is a number in a known place.
        (instance,) = json.loads(body)["instances"]
        assert set(instance) == {"images", "spacing_mm"}
        assert np.array(instance["images"]).dtype == float
        assert np.array(instance["spacing_mm"]).shape == (2,)
    assert "Jane" not in capsys.readouterr().out


# Signs of the axes of a NIfTI array, and which axes it has in the place of column,
# row and slice.
@pytest.mark.parametrize(
    ("signs", "axes"), [((1, 1, -1), (0, 1, 2)), ((1, -1, 1), (1, 0, 2))]
)
def test_nifti_comes_back_as_it_lies_in_its_file(
    send, draw_patient, script, stand_in_maps, tmp_path, signs, axes
):
    pixels = dicom_writing.quantised(draw_patient(1)[0]).transpose(2, 1, 0)
    image = nibabel.Nifti1Image(pixels, RAS_TO_LPS @ AFFINE[:, [1, 0, 2, 3]])
    image = image.as_reoriented(np.column_stack([axes, signs]))
    image.header.set_xyzt_units("mm")
    path = tmp_path / "heart.nii.gz"
    nibabel.save(image, path)
    code, out = send(script(), path)
    assert code == DONE
    (folder,) = results(out)
    expected = stand_in_maps(np.asarray(image.dataobj))
    for task, values in expected.items():
        np.testing.assert_array_equal(
            voxels(folder / f"{task}-probability.nii.gz"), values
        )
    # The card's thresholds: 0.5 for the wall, 0.3 for scar.
    labels = np.where(expected["myocardium"] >= 0.5, 2, 0)
    labels[expected["scar"] >= 0.3] = 3
    np.testing.assert_array_equal(voxels(folder / "labels.nii.gz"), labels)
    assert set(np.unique(labels)) == {0, 2, 3}


@pytest.mark.slow
def test_record_sets_are_read_too(send, cohort_records, script):
    played = script()
    code, out = send(played, cohort_records, "--split", "validation")
    assert code == DONE
    assert len(results(out)) == len(played.requests) == 3


def test_one_refused_study_costs_itself_only(send, pacs, script, capsys):
    played = script([(400, {"error": "images: CONSTANT: one value only in slice 0"})])
    code, out = send(played, pacs)
    said = capsys.readouterr()
    assert code == REFUSED
    (line,) = (line for line in said.err.splitlines() if line.startswith("ERROR"))
    assert "SERVER: 400: images: CONSTANT" in line
    assert "predicted 1, refused 1" in said.out
    (kept,) = results(out)
    assert kept.name not in line
    again = script()
    assert send(again, pacs)[0] == DONE
    assert len(again.requests) == 1  # what is there is not asked for again
    assert len(results(out)) == 2


def test_server_that_dies_leaves_what_is_whole(send, pacs, script, capsys):
    played = script([None] + [(503, {"error": "going down"})] * 9)
    code, out = send(played, pacs, "--retries", "1")
    assert code == ENVIRONMENT
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "going down" in errors[0]
    assert len(played.requests) == 3
    assert len(results(out)) == 1


def test_no_server_is_told_before_anything_is_read(card_file, pacs, tmp_path, capsys):
    out = tmp_path / "out"
    fixed = ["--model", "jdl", "--model_card", str(card_file)]
    # Nothing listens on port 1.
    code = main([str(pacs), str(out), "--url", "http://127.0.0.1:1", *fixed])
    assert code == ENVIRONMENT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ERROR http://127.0.0.1:1: ENVIRONMENT: Connection refused")
    assert [*tmp_path.iterdir()] == []


def test_what_is_refused_at_once(send, pacs, script, capsys, tmp_path):
    def line(played, *options):
        assert send(played, pacs, *options)[0] == REFUSED
        assert not played.requests
        assert [*tmp_path.iterdir()] == []
        return capsys.readouterr().err.splitlines()[-1]

    unknown = script()
    unknown.status = (404, {"error": "Model with name jdl does not exist."})
    assert "404: Model with name jdl does not exist." in line(unknown)
    other = script()
    other.status[1]["model_version_status"][0]["version"] = "2"
    assert "is of version 1, the server has 2" in line(other)
    assert "url: CONFIG" in line(script(), "--grpc", "127.0.0.1:8500")
    assert "url: CONFIG" in line(script(), "--url", "127.0.0.1:8501")
    assert "CONFIG" in line(script(), "--timeout_seconds", "0")
    assert "CONFIG" in line(script(), "--retries", "-1")
    assert "NOT_A_FILE" in line(script(), "--ca_file", str(tmp_path / "absent"))
    assert "NOT_A_FILE" in line(script(), "--model_card", str(tmp_path / "absent"))
    assert "CORRUPT" in line(script(), "--model_card", __file__)


def test_scar_lies_over_the_wall():
    scar, wall = np.array([[[True, True, False, False]]]), np.array([[[1, 0, 1, 0]]])
    labels = label_map({"myocardium": wall.astype(bool), "scar": scar})
    assert labels.tolist() == [[[3, 3, 2, 0]]]
    assert labels.dtype == np.uint8
    assert label_map({"scar": scar}).tolist() == [[[3, 3, 0, 0]]]
