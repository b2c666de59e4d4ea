import dataclasses

import highdicom as hd
import numpy as np
import pydicom
import pytest
from independent_references import description, layers, write_seg
from pydicom.sr.codedict import codes

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import Tissue
from tfrecords_tools.references.config import ReferenceConfig, Structure
from tfrecords_tools.references.dicom_files import guard, read_dataset
from tfrecords_tools.references.dicom_seg import _pixels
from tfrecords_tools.references.matching import index

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # highdicom's own

BOTH = frozenset({"myocardium", "scar"})


@pytest.mark.parametrize("omit", [True, False])
def test_binary_overlapping_segments(omit, stack, known, images, read, tmp_path):
    pixels = layers(known).astype(np.uint8)
    write_seg(tmp_path / "a", images(stack), pixels, omit_empty_frames=omit)
    reference = read(stack, tmp_path)
    assert np.array_equal(reference.label_map, known)
    assert reference.labelled == (BOTH,) * 6
    assert reference.warnings == ()


@pytest.mark.parametrize("fractional", ["PROBABILITY", "OCCUPANCY"])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"])
def test_fractional_from_one_half_on(
    fractional, syntax, stack, known, images, read, tmp_path
):
    pixels = np.where(layers(known), 0.51, 0.49).astype(np.float32)
    write_seg(
        tmp_path / "a.dcm",
        images(stack),
        pixels,
        kind="FRACTIONAL",
        fractional_type=fractional,
        transfer_syntax_uid=syntax,
    )
    assert np.array_equal(read(stack, tmp_path).label_map, known)


def test_phantom_comes_back(phantom, images, read, tmp_path, dice):
    stack, label_map = phantom
    pixels = layers(label_map).astype(np.uint8)
    write_seg(tmp_path / "a.dcm", images(stack), pixels)
    found = read(stack, tmp_path).label_map
    assert min(dice(found, label_map, tissue) for tissue in Tissue) == 1


def test_order_of_frames_and_slices_does_not_matter(
    stack, known, images, read, tmp_path
):
    order = [3, 0, 5, 1, 4, 2]
    sources = [images(stack)[i] for i in order]
    write_seg(tmp_path / "a.dcm", sources, layers(known)[order].astype(np.uint8))
    assert np.array_equal(read(stack, tmp_path).label_map, known)


def test_unknown_label_is_known_by_its_code(stack, known, images, read, tmp_path):
    names = (
        description(1, "Segment A", codes.SCT.LeftVentricle),
        description(2, "Segment B", codes.SCT.LeftVentricleMyocardium),
        description(3, "Segment C", codes.SCT.Scar),
        "no reflow",
    )
    pixels = layers(known).astype(np.uint8)
    write_seg(tmp_path / "a.dcm", images(stack), pixels, names)
    assert np.array_equal(read(stack, tmp_path).label_map, known)


def test_unknown_label_is_refused_or_mapped(stack, known, images, read, tmp_path):
    names = ("Blood pool", "Muscle", "Scar", "MVO")
    pixels = layers(known).astype(np.uint8)
    write_seg(tmp_path / "a.dcm", images(stack), pixels, names)
    with pytest.raises(RefusedError, match="LABELS: 'Muscle' is no known structure"):
        read(stack, tmp_path)
    mapped = read(stack, tmp_path, names={"muscle": Structure.MYOCARDIUM})
    assert np.array_equal(mapped.label_map, known)


def test_a_declared_scar_that_is_nowhere_is_a_reference_of_no_scar(
    stack, known, images, read, tmp_path
):
    pixels = layers(np.where(known > 2, 2, known)).astype(np.uint8)
    write_seg(tmp_path / "a.dcm", images(stack), pixels)
    assert read(stack, tmp_path).labelled == (BOTH,) * 6


def test_scar_in_the_pool_is_told(stack, known, images, read, tmp_path):
    pixels = layers(known).astype(np.uint8)
    pixels[1, 28, 36, 2] = 1  # the centre of the pool
    write_seg(tmp_path / "a.dcm", images(stack), pixels)
    assert read(stack, tmp_path).warnings == (
        "1 pixels are drawn as scar and as blood pool",
        "1 pixels of scar lie outside the myocardium",
    )


def test_of_another_study_is_refused(stack, other, known, images, read, tmp_path):
    write_seg(tmp_path / "a.dcm", images(other), layers(known).astype(np.uint8))
    with pytest.raises(RefusedError, match="GEOMETRY_MISMATCH") as error:
        read(stack, tmp_path)
    assert "2.25" not in str(error.value)


def test_on_other_images_of_the_same_planes(
    stack, other, known, images, read, tmp_path
):
    """Drawn on the magnitude images of the series, read for its PSIR."""
    twin = dataclasses.replace(
        other, study_uid=stack.study_uid, frame_of_reference_uid="2.25.222222"
    )
    write_seg(tmp_path / "a.dcm", images(twin), layers(known).astype(np.uint8))
    reference = read(stack, tmp_path)
    assert np.array_equal(reference.label_map, known)
    assert reference.warnings == ("drawn on other images that lie in the same planes",)


def test_on_other_images_of_the_study_elsewhere_is_none(
    stack, other, known, images, read, tmp_path
):
    affine = stack.affine.copy()
    affine[:3, 3] += 3
    twin = dataclasses.replace(other, study_uid=stack.study_uid, affine=affine)
    write_seg(tmp_path / "a.dcm", images(twin), layers(known).astype(np.uint8))
    assert read(stack, tmp_path) is None


def changed(path, change):
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)


def swap_sources(dataset):
    groups = dataset.PerFrameFunctionalGroupsSequence
    first, last = groups[0], groups[4]
    both = first.DerivationImageSequence, last.DerivationImageSequence
    last.DerivationImageSequence, first.DerivationImageSequence = both


def shift(dataset):
    for group in dataset.PerFrameFunctionalGroupsSequence:
        position = group.PlanePositionSequence[0].ImagePositionPatient
        position[0] += 1


def cut(dataset):
    dataset.PixelData = dataset.PixelData[:-2]


def absurd(dataset):
    dataset.Rows = dataset.Columns = 65535


def miscounted(dataset):
    dataset.NumberOfFrames = 3


def without_positions(dataset):
    for group in dataset.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence


def of_no_segment(dataset):
    group = dataset.PerFrameFunctionalGroupsSequence[0]
    group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 77


def nan(dataset):
    for group in dataset.PerFrameFunctionalGroupsSequence:
        item = group.PlanePositionSequence[0]
        item.ImagePositionPatient = ["nan", "0", "0"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (swap_sources, "GEOMETRY_MISMATCH"),
        (shift, "GEOMETRY_MISMATCH"),
        (cut, "PIXEL_LENGTH"),
        (absurd, "TOO_LARGE"),
        (miscounted, "PIXEL_LENGTH"),
        (without_positions, "MISSING_TAG"),
        (of_no_segment, "LABELS"),
        (nan, "GEOMETRY_MISMATCH"),
    ],
)
def test_damaged_seg_is_refused(change, code, stack, known, images, read, tmp_path):
    path = tmp_path / "a.dcm"
    write_seg(path, images(stack), layers(known).astype(np.uint8))
    changed(path, change)
    with pytest.raises(RefusedError) as error:
        read(stack, tmp_path)
    assert error.value.code == code
    assert "2.25" not in str(error.value)


def test_truncated_anywhere_is_refused_or_passed_over(
    stack, known, images, read, tmp_path
):
    path = tmp_path / "a.dcm"
    write_seg(path, images(stack), layers(known).astype(np.uint8))
    content = path.read_bytes()
    for size in range(400, len(content) - 1, len(content) // 40):
        path.write_bytes(content[:size])
        with pytest.raises(RefusedError):
            read(stack, tmp_path)


def test_deflated_is_refused_before_it_is_inflated(
    stack, known, images, read, tmp_path
):
    path = tmp_path / "a.dcm"
    write_seg(path, images(stack), layers(known).astype(np.uint8))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    dataset.save_as(path)
    with pytest.raises(RefusedError, match="UNSUPPORTED_TS"):
        read(stack, tmp_path)


def test_no_identifier_is_printed(stack, known, images, read, tmp_path, capfd):
    """A birth date that is none: pydicom's warning would quote it."""
    path = tmp_path / "a.dcm"
    write_seg(path, images(stack), layers(known).astype(np.uint8))
    content = path.read_bytes()
    assert content.count(b"Planted^Name") == 2
    path.write_bytes(
        content.replace(
            b"\x08\x00\x20\x00DA\x00\x00", b"\x08\x00\x20\x00DA\x04\x00ABCD"
        )
    )
    assert np.array_equal(read(stack, tmp_path).label_map, known)
    assert capfd.readouterr() == ("", "")


REAL = {
    "highdicom_seg_image_ct_binary_overlap.dcm": 0,
    "highdicom_seg_image_ct_true_fractional.dcm": 0,
    "dcmqi_liver.dcm": 0,
}


@pytest.mark.parametrize("name", REAL)
def test_real_seg_has_the_frames_that_highdicom_reads(name, samples):
    path = samples / name
    with guard(path):
        frames = _pixels(path, read_dataset(path))
    expected = hd.seg.segread(path)
    fractions = expected.pixel_array.astype(float)
    if expected.segmentation_type == hd.seg.SegmentationTypeValues.FRACTIONAL:
        fractions /= expected.MaximumFractionalValue
    assert np.array_equal(frames, fractions >= 0.5)
    (found,) = (file for file in index(samples) if file.path == path)
    assert found.kind == "seg"
    assert found.fault is None
    uids = {uid for *_, uid in expected.get_source_image_uids()}
    assert uids <= found.image_uids


def test_real_seg_lies_on_the_images_it_was_made_of(samples):
    """The planes of the liver's frames stand for the images, which are not there."""
    from tfrecords_tools.references.dicom_seg import read_seg
    from tfrecords_tools.stack import Stack

    (file,) = (f for f in index(samples) if f.path.name == "dcmqi_liver.dcm")
    dataset = pydicom.dcmread(file.path)
    affine = np.eye(4)
    affine[:3, :2] = [[0, 0.810547], [0.810547, 0], [0, 0]]
    affine[:3, 3] = -235.2, -226.8, -128.69
    stack = Stack(
        pixels=np.zeros((3, 512, 512), np.float32),
        affine=affine,
        frames=tuple((f"2.25.{i}", 1) for i in range(3)),
        frame_of_reference_uid=dataset.FrameOfReferenceUID,
        study_uid=dataset.StudyInstanceUID,
    )
    config = ReferenceConfig(names={"liver": Structure.MYOCARDIUM})
    reference = read_seg(file, stack, config)
    count = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8)).sum()
    assert (reference.label_map == Tissue.HEALTHY_MYOCARDIUM).sum() == count > 0


def test_damage_of_no_plan(stack, known, images, tmp_path, fuzz):
    write_seg(tmp_path / "a.dcm", images(stack), layers(known).astype(np.uint8))
    fuzz(tmp_path / "a.dcm")
