"""What a user of `build` is told and spared: archives as they lie around."""

import collections
import json

import nibabel
import numpy as np
import pytest
from independent_references import layers, write_nifti, write_seg

from tfrecords_tools import build as command
from tfrecords_tools.labels import Tissue
from tfrecords_tools.manifest import load_manifest
from tfrecords_tools.pseudonyms import load_key, pseudonym
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.references import label_volumes

pytestmark = [  # highdicom's own
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SHAPE = (5, 40, 44)
WHO = dict.fromkeys(
    ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName"), ""
) | dict.fromkeys(("StudyDate", "StudyTime", "StudyID"), "")


def rings(scar_slice=2):
    """Pool within 8 pixels, wall to 13; scar in a quarter of one slice."""
    row, column = np.indices(SHAPE[1:]) - np.array([20, 22])[:, None, None]
    radius = np.hypot(row, column)
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[:, radius <= 13] = Tissue.HEALTHY_MYOCARDIUM
    label_map[:, radius <= 8] = Tissue.BLOOD_POOL
    scar = (radius > 8) & (radius <= 13) & (row > 0) & (column > 0)
    label_map[scar_slice, scar] = Tissue.SCAR
    return label_map


@pytest.fixture
def write(dicom_writing, tmp_path):
    """Writes the LGE stack of a patient, each at a place of its own."""

    def write(number, where=None, tags=None, instances=0, place=None):
        shift = 7 * (number if place is None else place)
        affine = dicom_writing.short_axis_affine(origin=(-60.0 + shift, -80, 90))
        images = dicom_writing.classic(
            dicom_writing.small_stack(*SHAPE, seed=number),
            affine,
            (f"P{number}", "S", "lge"),
            **(tags or dicom_writing.LGE) | WHO,
        )
        for image in images:
            image.InstanceNumber += instances
        folder = tmp_path / "in" / (where or f"patient{number}")
        dicom_writing.save_all(images, folder / "images", seed=number)
        return images, affine

    return write


def write_labels(path, affine, label_map=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    label_map = rings() if label_map is None else label_map
    write_nifti(path, label_map.transpose(1, 2, 0), affine)


@pytest.fixture
def run(tmp_path, capsys):
    def run(source, *options, out="out"):
        arguments = [source, str(tmp_path / "in"), str(tmp_path / out)]
        code = command.main([*arguments, "--workers", "1", *map(str, options)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def left_out(tmp_path):
    manifest = load_manifest(tmp_path / "out")
    return {(e.what, e.reason): e.count for e in manifest.left_out}


# References of nobody


@pytest.mark.parametrize("source", ["dicom", "auto"])
def test_references_of_no_study_are_counted(source, write, run, tmp_path):
    references = tmp_path / "references"
    for number in range(4):
        images, affine = write(number)
        if number < 2:
            write_labels(references / f"{9 - number}.nii.gz", affine)
        elif number == 2:
            write_seg(references / "of_nobody", images, layers(rings()).astype(bool))
            away = affine.copy()
            away[0, 3] += 500
            write_labels(references / "a.nii", away)
            write_labels(references / "b.nii", away)
    for path in (tmp_path / "in" / "patient2" / "images").iterdir():
        path.unlink()
    code, out, _ = run(source, "--references", references)
    assert code == 0
    assert out.endswith("imported 2, skipped 0\n")
    counts = left_out(tmp_path)
    assert counts["reference (nifti)", "lies on the images of no study here"] == 2
    assert counts["reference (seg)", "names no images of a study here"] == 1
    assert "lies on the images of no study here" in out.replace("\n", " ")


def test_references_of_a_study_that_is_left_out_are_counted(
    write, run, tmp_path, dicom_writing
):
    write_labels(tmp_path / "in" / "patient0" / "a.nii", write(0)[1])
    images, _ = write(1, tags=dicom_writing.CINE)
    write_seg(
        tmp_path / "in" / "patient1" / "seg", images, layers(rings()).astype(bool)
    )
    assert run("dicom")[0] == 0
    counts = left_out(tmp_path)
    assert counts["reference (seg)", "of a study that is left out"] == 1


def test_volumes_are_read_only_for_studies_they_lie_on(
    write, run, tmp_path, monkeypatch
):
    """Two reads each, one to tell an image from labels: not one a study and volume."""
    reads = collections.Counter()
    read_volume = label_volumes.read_volume

    def counted(path):
        reads[path.name] += 1
        return read_volume(path)

    monkeypatch.setattr(label_volumes, "read_volume", counted)
    for number in range(5):
        write_labels(tmp_path / "references" / f"{number}.nii.gz", write(number)[1])
    away = write(0)[1] + 300
    write_labels(tmp_path / "references" / "away.nii.gz", away)
    assert run("dicom", "--references", tmp_path / "references")[0] == 0
    assert reads == {f"{number}.nii.gz": 2 for number in range(5)}


def test_volume_where_two_studies_lie_is_of_both_and_of_no_neighbour(
    write, run, tmp_path
):
    _, affine = write(0)
    write(1, place=0)
    write(2, place=0.1)  # its middle is 0.7 mm away: near, but not there
    write_labels(tmp_path / "references" / "a.nii.gz", affine)
    assert run("dicom", "--references", tmp_path / "references")[0] == 0
    totals = load_manifest(tmp_path / "out").totals.values()
    assert sum(total["patients"] for total in totals) == 2


# Images as NIfTI beside DICOM


def test_image_beside_dicom_is_no_reference(write, run, tmp_path, dicom_writing):
    """As a converter leaves it, on the very grid of the images."""
    for number in range(2):
        folder = tmp_path / "in" / f"patient{number}"
        _, affine = write(number)
        write_labels(
            folder / "LGE_sa.nii.gz", affine, dicom_writing.small_stack(*SHAPE)
        )
    write_labels(tmp_path / "in" / "patient0" / "a.nii", write(0)[1])
    code, out, err = run("dicom")
    assert (code, err) == (0, "")
    assert out.endswith("imported 1, skipped 0\n")
    counts = left_out(tmp_path)
    assert counts["reference (nifti)", "an image, no labels"] == 2
    assert any(reason.startswith("has no reference") for _, reason in counts)


def test_auto_waits_with_an_image_beside_dicom(write, run, tmp_path, dicom_writing):
    _, affine = write(0)
    folder = tmp_path / "in" / "patient0"
    write_labels(folder / "a.nii", affine)
    write_labels(folder / "image.nii.gz", affine, dicom_writing.small_stack(*SHAPE))
    code, out, err = run("auto")
    assert (code, err) == (0, "")
    assert out.endswith("imported 1, skipped 0\n")
    key = load_key(tmp_path / "out.key")
    reason = "no reference by a name that is known; --unlabelled takes it"
    # `**/{study}/image.nii*`: the folder is the study.
    assert left_out(tmp_path) == {(pseudonym("patient0", key), reason): 1}
    code, out, _ = run("auto", "--unlabelled", "--overwrite")
    assert code == 0
    assert out.endswith("imported 2, skipped 0\n")


def test_auto_says_once_what_waits_whatever_names_it_tries(run, tmp_path, write):
    affine = write(0)[1]
    for name, words in {"a": ["mask"], "b": ["contours"], "c": []}.items():
        for word in ("image", *words):
            write_labels(tmp_path / "in" / name / f"{word}.nii", affine)
    _, out, _ = run("auto")
    waiting = [n for (_, reason), n in left_out(tmp_path).items() if "known" in reason]
    assert waiting == [1]
    assert "studies without a reference: 2; --unlabelled takes them" in out


def test_auto_hides_names_under_the_private_key(run, tmp_path):
    """A public data set's names may be a hospital's: Doe_LGE and Doe_LGE_manual."""
    labels = np.where(rings() == 1, 500, np.where(rings() > 1, 200, 0))
    for word, voxels in {"LGE": rings() * 30, "LGE_manual": labels}.items():
        path = tmp_path / "in" / f"Doe_{word}.nii.gz"
        write_labels(path, np.diag([1.2, 1.2, 9, 1]), voxels.astype(np.int16))
    assert run("auto")[0] == 0
    (patient,) = load_manifest(tmp_path / "out").patients
    assert patient.patient_key == pseudonym("Doe", load_key(tmp_path / "out.key"))


@pytest.mark.parametrize("source", ["dicom", "auto"])
def test_hint_names_the_command_that_has_the_option(
    source, write, run, tmp_path, dicom_writing
):
    write(0, tags=dicom_writing.CINE)
    code, out, _ = run(source)
    assert code == 2
    assert "dicom --series any takes it" in " ".join(out.split())
    code, out, _ = run("dicom", "--series", "any", "--unlabelled")
    assert code == 0


# Contours as text, outside the images


def write_text(folder, first=1):
    folder.mkdir(parents=True, exist_ok=True)
    angles = np.linspace(0, 2 * np.pi, 91)[:-1]
    for number in range(first, first + SHAPE[0]):
        for kind, radius in (("i", 8), ("o", 13)):
            points = np.stack(
                [np.cos(angles) * radius + 22, np.sin(angles) * radius + 20]
            )
            text = "\n".join(f"{x:.2f} {y:.2f}" for x, y in points.T)
            (folder / f"IM-0001-{number:04}-{kind}contour-manual.txt").write_text(text)


@pytest.mark.parametrize("source", ["dicom", "auto"])
def test_contours_as_text_go_by_the_name_of_the_study_folder(
    source, write, run, tmp_path
):
    for number in range(3):
        write(number, where=f"group/SC-HF-{number}")
    for number in (0, 1):
        folder = tmp_path / "references" / "expert" / f"SC-HF-{number}" / "manual"
        write_text(folder)
    write_text(tmp_path / "references" / "somebody")
    code, out, _ = run(source, "--references", tmp_path / "references")
    assert code == 0
    assert out.endswith("imported 2, skipped 0\n")
    reason = "lies in no study's folder, and in none that is called as one: move it"
    assert left_out(tmp_path)["reference (text)", reason] == 1
    key = load_key(tmp_path / "out.key")
    records = open_record_set(tmp_path / "out")
    found = {
        s.patient_key
        for p in ("train", "validation", "test")
        for s in records.studies(p)
    }
    assert found == {pseudonym(f"P{number}", key) for number in (0, 1)}


def test_a_name_of_two_study_folders_says_nothing(write, run, tmp_path):
    write(0, where="a/S1")
    write(1, where="b/S1")
    write(2, where="b/S2")
    write(3, where="a/S3")
    write_text(tmp_path / "references" / "S1")
    write_text(tmp_path / "references" / "S2")
    assert run("dicom", "--references", tmp_path / "references")[0] == 0
    counts = left_out(tmp_path)
    assert sum(n for (what, _), n in counts.items() if what == "reference (text)") == 1


def test_contours_of_other_instances_are_refused(write, run, tmp_path):
    """The folder is called as the study's, and yet they are of others."""
    write(0, where="A", instances=100)
    write(1, where="B")
    for name in "AB":
        write_text(tmp_path / "references" / name)
    code, out, err = run("dicom", "--references", tmp_path / "references")
    assert code == 2
    assert "GEOMETRY_MISMATCH" in err
    assert out.endswith("imported 1, skipped 1\n")


# Places and numbers that cannot be


@pytest.mark.parametrize("out", ["in", "in/records", ".", "in/../in/a"])
def test_records_in_the_input_or_around_it_are_refused(out, write, run, tmp_path):
    write(0)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run("dicom", "--unlabelled", out=out)
    assert code == 2
    (line,) = err.splitlines()
    assert ": CONFIG: the " in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("option", ["--key", "--npz"])
def test_nothing_else_is_written_into_the_input(option, write, run, tmp_path):
    write(0)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run("dicom", "--unlabelled", option, tmp_path / "in" / "x.npz")
    assert (code, err.count("\n")) == (2, 1)
    assert "would lie in the input" in err
    assert sorted(tmp_path.rglob("*")) == before


def counts(*numbers):
    names = ("train", "validation", "test")
    return [
        text
        for name, number in zip(names, numbers, strict=True)
        for text in (f"--fractions.{name}", number)
    ]


def test_more_patients_than_listed_are_refused_before_any_is_read(
    write, run, tmp_path, monkeypatch
):
    for number in range(3):
        write_labels(tmp_path / "in" / f"patient{number}" / "a.nii", write(number)[1])
    reads = []
    monkeypatch.setattr("tfrecords_tools.sources.dicom.read_stack", reads.append)
    code, _, err = run("dicom", *counts(2, 1, 1))
    assert code == 2
    assert err.endswith("number of patients (at most 3); got 2, 1, 1\n")
    assert reads == []


def test_fewer_patients_are_refused_as_soon_as_one_is_too_many(
    write, run, tmp_path, monkeypatch
):
    from tfrecords_tools.dicom.stacks import read_stack

    for number in range(5):
        write_labels(tmp_path / "in" / f"patient{number}" / "a.nii", write(number)[1])
    reads = []

    def counted(slices):
        reads.append(slices)
        return read_stack(slices)

    monkeypatch.setattr("tfrecords_tools.sources.dicom.read_stack", counted)
    code, _, err = run("dicom", *counts(1, 1, 0))
    assert code == 2
    assert err.endswith("number of patients (at least 3); got 1, 1, 0\n")
    assert len(reads) == 3


def test_numbers_may_count_only_patients_with_a_reference(write, run, tmp_path):
    for number in range(4):
        _, affine = write(number)
        if number:
            write_labels(tmp_path / "in" / f"patient{number}" / "a.nii", affine)
    assert run("dicom", "--unlabelled", *counts(1, 1, 1))[0] == 0
    totals = load_manifest(tmp_path / "out").totals
    assert [t["patients"] for t in totals.values()] == [1, 1, 2]


# Warnings


def test_a_warning_of_many_is_printed_once_and_kept_for_each(write, run, tmp_path):
    for number in range(4):
        affine = write(number)[1]
        label_map = rings()
        label_map[2, 4 : 5 + number, 4] = Tissue.SCAR  # an island, of another size each
        write_labels(tmp_path / "in" / f"patient{number}" / "a.nii", affine, label_map)
    code, _, err = run("dicom")
    assert code == 0
    patients = load_manifest(tmp_path / "out").patients
    kept = [text for patient in patients for text in patient.warnings]
    assert all(patient.warnings for patient in patients)
    lines = [line for line in err.splitlines() if "more like it" in line]
    assert len(err.splitlines()) < len(kept)
    assert any(line.endswith(" (and 3 more like it)") for line in lines), json.dumps(
        kept
    )


def test_header_of_a_volume_is_enough_to_place_it(tmp_path):
    from tfrecords_tools.nifti_files import read_place, read_volume

    for name in ("a.nii", "a.nii.gz"):
        image = nibabel.Nifti1Image(
            np.zeros((4, 5, 6), np.int16), np.diag([2, 3, 4, 1])
        )
        nibabel.save(image, tmp_path / name)
        placed, whole = read_place(tmp_path / name), read_volume(tmp_path / name)
        assert placed.shape == whole.shape == whole.voxels.shape
        assert np.array_equal(placed.affine, whole.affine)
