import dataclasses
import stat

import highdicom as hd
import numpy as np
import pydicom
import pytest
from predicted_dicom import (
    IDENTITY,
    WHO,
    file_a_frame,
    phantom_case,
    predict,
    random_masks,
    series_a_slice,
    small_case,
    without_times,
)

from jdl_keras.inference.dicom_seg import write_seg
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import MYOCARDIUM, SCAR, region_mask
from tfrecords_tools.references.config import ReferenceConfig
from tfrecords_tools.references.matching import index, read_reference

pytestmark = pytest.mark.slow

LAYOUTS = {
    "classic": ("classic", None),
    "enhanced": ("enhanced", None),
    "one series a slice": ("classic", series_a_slice),
    "one file a frame": ("enhanced", file_a_frame),
}


@pytest.fixture(params=LAYOUTS)
def case(request, tmp_path):
    return small_case(tmp_path / "images", *LAYOUTS[request.param])


def written(case, path, who=WHO):
    write_seg(path, case.prediction, case.slices, who)
    return pydicom.dcmread(path)


def frames_of(seg):
    """(number of the segment, group, pixels) of each frame."""
    for group, pixels in zip(
        seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True
    ):
        (item,) = group.SegmentIdentificationSequence
        yield item.ReferencedSegmentNumber, group, pixels.astype(bool)


# Masks and where they lie


def test_masks_lie_on_the_images_they_were_found_in(case, tmp_path):
    seg, found = written(case, tmp_path / "seg.dcm"), set()
    for number, group, pixels in frames_of(seg):
        place = case.place(group)
        assert np.array_equal(pixels, case.segments[number][place])
        position = group.PlanePositionSequence[0].ImagePositionPatient
        # Headers have 12 decimals of a millimetre.
        expected = case.prediction.study.affine[:3] @ [0, 0, place, 1]
        assert np.allclose(position, expected, rtol=0, atol=1e-9)
        found.add((number, place))
    assert found == {(number, place) for number in (1, 2) for place in range(5)}


def test_random_masks_hide_no_flip_and_no_order():
    for mask in random_masks((5, 20, 24)).values():
        for axes in (0, 1, 2, (0, 1), (0, 2), (1, 2), (0, 1, 2)):
            assert not np.array_equal(mask, np.flip(mask, axes))


def test_grid_is_that_of_the_images(case, tmp_path):
    seg = written(case, tmp_path / "seg.dcm")
    (shared,) = seg.SharedFunctionalGroupsSequence
    (measures,) = shared.PixelMeasuresSequence
    affine = case.prediction.study.affine
    rows, columns = affine[:3, 0] / 1.4, affine[:3, 1] / 1.4
    cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert np.allclose(cosines, [*columns, *rows], rtol=0, atol=1e-9)
    assert np.allclose(measures.PixelSpacing, [1.4, 1.4], rtol=0, atol=1e-9)
    assert measures.SpacingBetweenSlices == 10
    # Where no header says how thick a slice is, it is as thick as its step.
    assert measures.SliceThickness == (6 if "SliceThickness" in case.images[0] else 10)


def test_highdicom_reads_a_volume_at_the_same_place(case, tmp_path):
    written(case, tmp_path / "seg.dcm")
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    assert seg.number_of_segments == 2
    for number, mask in case.segments.items():
        volume = seg.get_volume(segment_numbers=[number], combine_segments=True)
        marked = np.argwhere(mask)[:, [1, 2, 0]]
        affine = case.prediction.study.affine
        expected = marked @ affine[:3, :3].T + affine[:3, 3]
        places = np.argwhere(volume.array)
        found = places @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        assert len(found) == len(expected)
        # Rounded first: what is equal must sort equally.
        assert np.array_equal(in_order(found), in_order(expected))


def in_order(points):
    rounded = np.round(points, 3) + 0.0
    return rounded[np.lexsort(rounded.T)]


def test_highdicom_finds_frames_by_source(tmp_path):
    for kind in ("classic", "enhanced"):
        case = small_case(tmp_path / kind, kind)
        written(case, tmp_path / "seg.dcm")
        seg = hd.seg.segread(tmp_path / "seg.dcm")
        uids = [uid for uid, _ in case.stack.frames]
        if kind == "classic":
            found = seg.get_pixels_by_source_instance(uids)
        else:
            numbers = [number for _, number in case.stack.frames]
            found = seg.get_pixels_by_source_frame(uids[0], numbers)
        expected = np.stack([*case.segments.values()], axis=-1)
        assert np.array_equal(found.astype(bool), expected)


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_own_reader_takes_it_as_a_reference(kind, tmp_path):
    case = phantom_case(tmp_path / "images", kind)
    written(case, tmp_path / "seg.dcm")
    found = read_reference(
        case.stack,
        [file for file in index(tmp_path) if file.path.name == "seg.dcm"],
        ReferenceConfig(),
    )
    assert found.warnings == ()
    assert found.labelled == (frozenset({"myocardium", "scar"}),) * len(
        case.stack.pixels
    )
    labels = found.label_map
    assert np.array_equal(region_mask(labels, MYOCARDIUM), case.segments[1])
    assert np.array_equal(region_mask(labels, SCAR), case.segments[2])
    assert np.array_equal(labels, case.prediction.wall.label_map)


@pytest.mark.parametrize("empty", [("scar",), ("scar", "myocardium")])
def test_what_was_not_found_is_an_empty_segment(empty, tmp_path):
    masks = random_masks((5, 20, 24))
    masks |= {task: np.zeros((5, 20, 24), bool) for task in empty}
    case = small_case(tmp_path / "images", masks=masks)
    seg = written(case, tmp_path / "seg.dcm")
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["Myocardium", "Scar"]
    for number, group, pixels in frames_of(seg):
        assert np.array_equal(pixels, case.segments[number][case.place(group)])
    assert seg.NumberOfFrames == 10  # 5 slices x 2 segments


# What it says


def test_references(case, tmp_path):
    seg = written(case, tmp_path / "seg.dcm")
    files = {image.SOPInstanceUID: image for image in case.images}
    named = {
        (series.SeriesInstanceUID, one.ReferencedSOPInstanceUID)
        for series in seg.ReferencedSeriesSequence
        for one in series.ReferencedInstanceSequence
    }
    assert named == {(one.SeriesInstanceUID, uid) for uid, one in files.items()}
    sources = {
        (one.ReferencedSOPInstanceUID, one.ReferencedSOPClassUID)
        for one in seg.SourceImageSequence
    }
    assert sources == {(uid, one.SOPClassUID) for uid, one in files.items()}
    assert len(seg.SourceImageSequence) == len(files)
    for _, group, _ in frames_of(seg):
        (one,) = group.DerivationImageSequence[0].SourceImageSequence
        source = files[one.ReferencedSOPInstanceUID]
        assert one.ReferencedSOPClassUID == source.SOPClassUID
        assert ("ReferencedFrameNumber" in one) == ("NumberOfFrames" in source)


def test_codes_and_algorithm(tmp_path):
    case = small_case(tmp_path / "images")
    seg = written(case, tmp_path / "seg.dcm")
    assert seg.SegmentationType == "BINARY"
    told = [
        (
            one.SegmentedPropertyCategoryCodeSequence[0].CodeValue,
            one.SegmentedPropertyTypeCodeSequence[0].CodeValue,
            [region.CodeValue for region in one.get("AnatomicRegionSequence", [])],
        )
        for one in seg.SegmentSequence
    ]
    assert told == [
        ("91723000", "49848007", []),  # anatomical structure: LV myocardium
        ("49755003", "12402003", ["49848007"]),  # abnormal structure: scar, there
    ]
    for one in seg.SegmentSequence:
        (algorithm,) = one.SegmentationAlgorithmIdentificationSequence
        assert one.SegmentAlgorithmType == "AUTOMATIC"
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (
            "jdl_keras",
            "1.2.3",
        )
        for text in ("ab" * 32, "cd" * 32, "method=jdl", "preset=small"):
            assert text in algorithm.AlgorithmParameters
    assert (seg.SoftwareVersions, seg.DeviceSerialNumber) == ("1.2.3", "ab" * 32)
    assert seg.ContentDescription == "Research use only, not for diagnosis"


def test_it_belongs_to_the_study_and_says_no_more_of_the_patient(case, tmp_path):
    seg = written(case, tmp_path / "seg.dcm")
    source = case.images[0]
    names = {"PatientID", "StudyInstanceUID", "FrameOfReferenceUID", *IDENTITY}
    for name in names - {"SpecificCharacterSet"}:
        assert str(seg[name].value) == str(source[name].value), name
    assert seg.SeriesInstanceUID not in {one.SeriesInstanceUID for one in case.images}
    assert b"PLANTED" not in (tmp_path / "seg.dcm").read_bytes()
    assert b"PLANTED" in case.slices[0][0].read_bytes()


def test_only_its_owner_reads_it(tmp_path):
    case = small_case(tmp_path / "images")
    written(case, tmp_path / "seg.dcm")
    assert stat.S_IMODE((tmp_path / "seg.dcm").stat().st_mode) == 0o600


def test_same_input_gives_the_same_file_but_for_the_time(tmp_path):
    case = small_case(tmp_path / "images")
    one, other = (written(case, tmp_path / name) for name in ("1", "2"))
    assert without_times(one) == without_times(other)
    assert one.file_meta == other.file_meta


def test_other_masks_and_other_networks_are_other_objects(tmp_path):
    case = small_case(tmp_path / "images")
    masks = {task: mask.copy() for task, mask in case.prediction.masks.items()}
    masks["scar"][0, 0, 0] ^= True
    changed = dataclasses.replace(
        case, prediction=predict(case.prediction.study, masks)
    )
    others = dataclasses.replace(WHO, weights_sha256=("ef" * 32, "01" * 32))
    made = [
        written(case, tmp_path / "1"),
        written(changed, tmp_path / "2"),
        written(case, tmp_path / "3", others),
    ]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert len({seg[keyword].value for seg in made}) == 3
    # Two networks: SHA-256 of both hashes in a row, by sha256sum.
    assert made[2].DeviceSerialNumber == TWO_NETWORKS


TWO_NETWORKS = "c3a2d8e1c6f9b3fd82f20e8b3976609115c5adc9695b7df4ee4a0f1b0442466c"


# Odd and bad images


def without_frame_of_reference(images):
    for image in images:
        del image.FrameOfReferenceUID


def several_frames_of_reference(images):
    images[-1].FrameOfReferenceUID += ".1"


@pytest.mark.parametrize(
    "change", [without_frame_of_reference, several_frames_of_reference]
)
def test_images_without_a_shared_frame_of_reference_get_one(tmp_path, change):
    case = small_case(tmp_path / "images", change=change)
    seg = written(case, tmp_path / "seg.dcm")
    again = written(case, tmp_path / "again.dcm")
    assert seg.FrameOfReferenceUID == again.FrameOfReferenceUID
    assert pydicom.uid.UID(seg.FrameOfReferenceUID).is_valid
    for number, group, pixels in frames_of(seg):
        assert np.array_equal(pixels, case.segments[number][case.place(group)])


ODD = {
    "PatientSex": ("U", ""),
    "StudyDate": ("yesterday", ""),
    "PatientBirthDate": ("1950", ""),
    "StudyTime": ("noon", ""),
    "PatientName": ("A^B^C^D^E^F^G", "A^B^C^D^E^F^G"),
    "PatientID": ("P" * 80, "P" * 80),
    "AccessionNumber": ("A" * 40, "A" * 40),
    "LossyImageCompression": ("01", "01"),
}
"""What a header has, and what the SEG has: PACSs compare identifiers as they are."""


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, on writing the images
@pytest.mark.parametrize("keyword", ODD)
def test_odd_values(keyword, tmp_path, capfd):
    found, expected = ODD[keyword]

    def change(images):
        with pydicom.config.disable_value_validation():
            for image in images:
                setattr(image, keyword, found)

    with pydicom.config.disable_value_validation():
        case = small_case(tmp_path / "images", change=change)
    seg = written(case, tmp_path / "seg.dcm")
    with pydicom.config.disable_value_validation():
        assert str(seg[keyword].value) == expected
    assert capfd.readouterr() == ("", "")


def test_a_name_in_any_script(tmp_path):
    def change(images):
        for image in images:
            image.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
            image.PatientName = "Yamada^Tarou=山田^太郎"

    case = small_case(tmp_path / "images", change=change)
    seg = written(case, tmp_path / "seg.dcm")
    assert str(seg.PatientName) == "Yamada^Tarou=山田^太郎"


def test_missing_values_are_empty(tmp_path):
    def change(images):
        for image in images:
            for keyword in IDENTITY:
                delattr(image, keyword)

    case = small_case(tmp_path / "images", change=change)
    seg = written(case, tmp_path / "seg.dcm")
    assert {str(seg[name].value or "") for name in IDENTITY} == {"", "ISO_IR 192"}
    assert seg.PatientID == case.images[0].PatientID


def test_a_prediction_on_another_grid_is_refused(tmp_path):
    case = small_case(tmp_path / "images")
    study = case.prediction.study
    shifted = study.affine.copy()
    shifted[:3, 3] += study.affine[:3, 2]
    other = dataclasses.replace(study, affine=shifted)
    for slices, prediction in (
        (case.slices[:-1], case.prediction),
        (case.slices, predict(other, case.prediction.masks)),
    ):
        with pytest.raises(RefusedError, match="GEOMETRY_MISMATCH|GAP"):
            write_seg(tmp_path / "seg.dcm", prediction, slices, WHO)
    assert not (tmp_path / "seg.dcm").exists()


def test_a_file_that_went_is_refused(tmp_path):
    case = small_case(tmp_path / "images")
    case.slices[2][0].unlink()
    with pytest.raises(RefusedError, match="NOT_A_FILE"):
        write_seg(tmp_path / "seg.dcm", case.prediction, case.slices, WHO)


def test_whole_or_not_at_all(tmp_path, monkeypatch):
    case = small_case(tmp_path / "images")

    def fail(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hd.seg.Segmentation, "save_as", fail)
    with pytest.raises(OSError, match="No space"):
        write_seg(tmp_path / "seg.dcm", case.prediction, case.slices, WHO)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
