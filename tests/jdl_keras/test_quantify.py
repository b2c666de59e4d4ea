"""The command: files in, numbers and pictures out, refusals in one line."""

import csv
import json

import nibabel
import numpy as np
import pytest

from jdl_keras.evaluation.masks import nifti_affine, write_mask
from jdl_keras.quantify import main
from tfrecords_tools.geometry import affine_from_positions
from tfrecords_tools.labels import Tissue

pytestmark = pytest.mark.slow


def save(path, array, affine):
    """An array (S, H, W) in the file's order (column, row, slice)."""
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), nifti_affine(affine))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A round heart of 3 slices: label map, masks, image; scar from 200 to 280."""
    folder = tmp_path_factory.mktemp("study")
    apex = np.array([0.62, -0.55, -0.56]) / np.linalg.norm([0.62, -0.55, -0.56])
    right = np.cross([0.0, 1.0, 0.0], apex)
    right /= np.linalg.norm(right)
    down = np.cross(right, apex)
    affine = affine_from_positions(np.zeros(3), down, right, (1.5, 1.5), 8 * apex)
    y, x = np.mgrid[-24:25, -24:25] * 1.5
    radius, degrees = np.hypot(x, y), np.degrees(np.arctan2(-y, x)) % 360
    labels = np.where(radius < 30, Tissue.HEALTHY_MYOCARDIUM, 0).astype(np.uint8)
    labels[(radius < 25) & (abs(degrees - 240) < 40)] = Tissue.SCAR
    labels[radius < 20] = Tissue.BLOOD_POOL
    labels = np.tile(labels, (3, 1, 1))
    pixels = np.random.default_rng(1).normal(100, 5, labels.shape).astype(np.float32)
    pixels[labels == Tissue.SCAR] += 200
    save(folder / "label.nii.gz", labels, affine)
    save(folder / "image.nii.gz", pixels, affine)
    save(folder / "wall.nii.gz", (labels >= 2).astype(np.uint8), affine)
    save(folder / "scar.nii.gz", (labels == 3).astype(np.uint8), affine)
    save(folder / "remote.nii.gz", (labels == 2).astype(np.uint8), affine)
    cavity = (radius > 31) & (radius < 36) & (abs(degrees - 148) < 48)
    cavity = np.tile(cavity, (3, 1, 1)).astype(np.uint8)
    save(folder / "rv.nii.gz", cavity, affine)
    point = affine @ [24 - 20 * 0.866, 24 - 20 * 0.5, 1, 1]  # ten o'clock, 30 mm
    (folder / "point").write_text(json.dumps([point[:3].tolist()]))
    return folder


def values_of(out):
    content = json.loads((out / "measurements.json").read_text())
    return {row["name"]: row["value"] for row in content["measurements"]}


def test_label_map_with_image_and_insertion(study, tmp_path, capsys):
    out, point = tmp_path / "out", (study / "point").read_text()
    options = [f"--image={study / 'image.nii.gz'}", f"--insertions_mm={point}"]
    assert main([str(study / "label.nii.gz"), str(out), *options]) == 0
    assert {path.name for path in out.iterdir()} == {
        *("measurements.json", "measurements.csv", "slices.csv", "segments.csv"),
        *("bullseye-area.png", "bullseye-transmurality.png"),
    }
    values = values_of(out)
    # pi (30^2 - 20^2) x 24 mm x 1.05 = 39.6 g; 1.5 mm pixels: 2 %.
    assert values["myocardium mass"] == pytest.approx(39.6, rel=0.02)
    assert values["scar burden, FWHM"] == pytest.approx(values["scar burden"], abs=0.2)
    with (out / "segments.csv").open() as file:
        rows = {row["segment"]: row for row in csv.DictReader(file)}
    # 200 to 280 degrees covers 40 of segment 3 (180 to 240) and of 4 (240 to 300).
    for segment in ("3", "4", "9", "10"):
        found = float(rows[segment]["transmurality_percent"])
        assert found == pytest.approx(50 * 40 / 60, abs=4)  # 1.5 mm pixels
    assert rows["17"]["transmurality_percent"] == ""
    assert "research use only" in capsys.readouterr().out


def test_masks_give_the_same_as_the_label_map(study, tmp_path):
    wall, scar = study / "wall.nii.gz", study / "scar.nii.gz"
    assert main([str(study / "label.nii.gz"), str(tmp_path / "a")]) == 0
    assert main([str(wall), str(tmp_path / "b"), f"--scar={scar}"]) == 0
    assert values_of(tmp_path / "a") == values_of(tmp_path / "b")
    content = json.loads((tmp_path / "a" / "measurements.json").read_text())
    assert content["segments"] == []
    assert "segments not assessed" in content["segments_not_assessed"]


def test_voxel_is_another_way_to_give_the_insertion(study, tmp_path):
    point = (study / "point").read_text()
    voxel = f"[[{24 - 20 * 0.5}, {24 - 20 * 0.866}, 1]]"  # column, row, slice
    for name, option in (
        ("a", f"--insertions_mm={point}"),
        ("b", f"--insertion_voxels={voxel}"),
    ):
        assert main([str(study / "label.nii.gz"), str(tmp_path / name), option]) == 0
    one, other = ((tmp_path / n / "segments.csv").read_text() for n in "ab")
    assert one == other


def test_cavity_of_the_right_ventricle_tells_the_insertion(study, tmp_path):
    """It ends at 196 degrees, seen from the apex, on the side of front and head."""
    masks, out = study / "label.nii.gz", tmp_path / "out"
    assert main([str(masks), str(out), f"--rv={study / 'rv.nii.gz'}"]) == 0
    rows = csv.DictReader((out / "segments.csv").read_text().splitlines())
    scarred = {int(row["segment"]) for row in rows if float(row["scar_g"] or 0) > 0}
    # Scar from 200 to 280, 4 to 84 degrees from the insertion: in the base and the
    # middle the two segments of 60 degrees behind it; at the apex from -75 to 15 the
    # anterior one, to 105 the septal one.
    assert scarred == {2, 3, 8, 9, 13, 14}


def test_drawn_remote_is_named(study, tmp_path):
    options = [f"--{name}={study / name}.nii.gz" for name in ("image", "remote")]
    assert main([str(study / "label.nii.gz"), str(tmp_path / "a"), *options]) == 0
    assert "remote mask as given" in (tmp_path / "a" / "measurements.csv").read_text()


def test_folder_of_an_evaluation(make_study, tmp_path, capsys):
    masks = tmp_path / "masks"
    for number in (1, 3):
        study = make_study(number)
        for task, tissues in (("myocardium", (2, 3)), ("scar", (3,))):
            write_mask(masks, study, task, np.isin(study.label_map, tissues))
    (masks / "patient-03-study-03-scar.nii.gz").unlink()
    out = tmp_path / "out"
    assert main([str(masks), str(out)]) == 2  # one of two is refused
    assert "NOT_A_FILE" in capsys.readouterr().err
    with (out / "summary.csv").open() as file:
        (row,) = csv.DictReader(file)
    # 36 - 16 = 20 voxels of wall in each of 3 slices, 3 of scar: 5 %.
    assert row["study"] == "patient-01-study-01"
    assert float(row["burden_percent"]) == pytest.approx(5)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["absent.nii.gz"], "NOT_A_FILE"),
        (["image.nii.gz"], "LABELS"),
        (["label.nii.gz", "--mvo=scar.nii.gz"], "mvo: CONFIG"),
        (["label.nii.gz", "--remote=remote.nii.gz"], "remote: CONFIG"),
        (["label.nii.gz", "--rv=scar.nii.gz"], "scar.nii.gz: LABELS"),
        (
            ["label.nii.gz", "--rv=rv.nii.gz", "--insertions_mm=[[0, 0, 0]]"],
            "rv.nii.gz: CONF",
        ),
        (["label.nii.gz", "--insertions_mm=[[900, 0, 0]]"], "BAD_GEOMETRY"),
        (["label.nii.gz", "--insertions_mm=[[1, 2]]"], "insertions_mm: CONFIG"),
        (["label.nii.gz", "--labels={1: BLOOD_POOL}"], "labels: CONFIG"),
        (["."], "NO_STUDIES"),
    ],
)
def test_refusals(study, tmp_path, monkeypatch, capsys, arguments, line):
    monkeypatch.chdir(study)
    assert main([arguments[0], str(tmp_path / "out"), *arguments[1:]]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert line in error
    assert not (tmp_path / "out" / "measurements.json").exists()


def test_measurements_are_not_overwritten_unasked(study, tmp_path, capsys):
    masks, out, point = study / "label.nii.gz", tmp_path, (study / "point").read_text()
    assert main([str(masks), str(out), f"--insertions_mm={point}"]) == 0
    assert main([str(masks), str(out)]) == 2
    assert "EXISTS" in capsys.readouterr().err
    assert main([str(masks), str(out), "--overwrite"]) == 0
    assert not (out / "segments.csv").exists()  # of the insertion before


def test_help_and_config_need_no_tensorflow(run):
    script = (
        "import sys; from jdl_keras.quantify import main\n"
        "try: main([sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    for option in ("--help", "--print_config"):
        done = run("-c", script, option)
        assert done.code == 0, done.err
        assert "insertions_mm" in done.out
