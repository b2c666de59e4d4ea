import dataclasses
import stat

import highdicom as hd
import numpy as np
import pydicom
import pytest
from predicted_dicom import (
    IDENTITY,
    INTERVAL,
    REVIEW,
    WHO,
    file_a_frame,
    predict,
    series_a_slice,
    small_case,
    without_times,
)
from pydicom.sr.codedict import codes

from jdl_keras.inference.dicom_seg import write_seg
from jdl_keras.inference.dicom_sr import write_sr
from jdl_keras.inference.study_prediction import Interval, Verdict
from jdl_keras.quantification.measurement import measure
from tfrecords_tools.errors import RefusedError

pytestmark = pytest.mark.slow

LAYOUTS = {
    "classic": ("classic", None),
    "enhanced": ("enhanced", None),
    "one series a slice": ("classic", series_a_slice),
    "one file a frame": ("enhanced", file_a_frame),
}
WORKED = {
    "myocardium": np.zeros((5, 20, 24), bool),
    "scar": np.zeros((5, 20, 24), bool),
}
WORKED["myocardium"][1:4, 4:14, 4:14] = True  # 3 x 10 x 10 = 300 pixels
WORKED["myocardium"][1:4, 7:11, 7:11] = False  # less 3 x 4 x 4 = 48: 252
WORKED["scar"][2, 4:7, 4:14] = True  # 3 x 10 = 30 pixels
# A pixel is 1.4 x 1.4 mm, slices are 10 mm apart: 19.6 mm3 = 0.0196 ml.
# Wall 252 x 0.0196 = 4.9392 ml, x 1.05 = 5.18616 g; scar 0.588 ml, 0.6174 g.
# Burden 30 / 252 = 11.9048 %.


@pytest.fixture(params=LAYOUTS)
def case(request, tmp_path):
    kind, change = LAYOUTS[request.param]
    return small_case(tmp_path / "images", kind, change, WORKED)


@pytest.fixture
def classic(tmp_path):
    return small_case(tmp_path / "images", masks=WORKED)


def written(case, path, interval=INTERVAL, verdict=REVIEW, who=WHO, **settings):
    measured = measure(case.prediction.wall, **settings)
    write_sr(path, case.prediction, case.slices, measured, interval, verdict, who)
    return hd.sr.srread(path)


def report_of(document):
    return hd.sr.MeasurementReport.from_sequence([document])


def numbers(document):
    """(segment, code) to (value, unit, method)."""
    found = {}
    for group in report_of(document).get_volumetric_roi_measurement_groups():
        segment = group.referenced_segment
        (number,) = segment[0].referenced_segment_numbers
        for one in group.get_measurements():
            method = one.method.meaning if one.method else None
            found[number, one.name.value] = (one.value, one.unit.value, method)
    return found


def texts(group):
    return [
        item.TextValue
        for item in group[0].ContentSequence
        if item.name == codes.DCM.Comment
    ]


def gate(document):
    (group,) = [
        one
        for one in report_of(document).get_image_measurement_groups()
        if one.tracking_identifier == "Quality"
    ]
    (verdict,) = group.get_qualitative_evaluations()
    return verdict.value.value, texts(group)


# Numbers


def test_volumes_masses_and_burden(case, tmp_path):
    found = numbers(written(case, tmp_path / "sr.dcm"))
    voxels, density = "Sum of segmented voxel method for volume", "volume x 1.05 g/ml"
    assert found == {
        (1, "118565006"): (4.94, "ml", voxels),
        (1, "118538004"): (5.19, "g", density),
        (2, "118565006"): (0.59, "ml", voxels),
        (2, "118538004"): (0.62, "g", density),
        (2, "SCAR_BURDEN"): (11.9, "%", "100 x scar volume / myocardial volume"),
        (2, "SCAR_BURDEN_LOW"): (3.5, "%", None),
        (2, "SCAR_BURDEN_HIGH"): (9.25, "%", None),
        (2, "COVERAGE"): (90.0, "%", None),
    }


def test_without_interval_there_are_no_limits(classic, tmp_path):
    document = written(classic, tmp_path / "sr.dcm", interval=None)
    assert {code for _, code in numbers(document)} == {
        *("118565006", "118538004", "SCAR_BURDEN")
    }
    assert "Limits" not in str(document)


def test_a_spread_has_no_coverage(classic, tmp_path):
    spread = Interval(1.0, 2.0, None, "the spread of the passes")
    document = written(classic, tmp_path / "sr.dcm", interval=spread)
    assert (2, "SCAR_BURDEN_HIGH") in numbers(document)
    assert (2, "COVERAGE") not in numbers(document)


def test_a_normal_heart(classic, tmp_path):
    masks = WORKED | {"scar": np.zeros_like(WORKED["scar"])}
    prediction = predict(classic.prediction.study, masks)
    normal = dataclasses.replace(classic, prediction=prediction)
    found = numbers(written(normal, tmp_path / "sr.dcm", Interval(0, 0, None, "x")))
    assert found[2, "SCAR_BURDEN"][:2] == (0.0, "%")
    assert found[2, "118565006"][:2] == (0.0, "ml")
    assert found[1, "118565006"][:2] == (4.94, "ml")


def test_filled_holes_are_told(classic, tmp_path):
    masks = {task: mask.copy() for task, mask in WORKED.items()}
    masks["scar"][2, 4:7, 4:7] = True
    masks["scar"][2, 5, 5] = False
    prediction = predict(classic.prediction.study, masks)
    holed = dataclasses.replace(classic, prediction=prediction)
    plain = written(holed, tmp_path / "1")
    filled = written(holed, tmp_path / "2", fill_holes=True)
    # 29 and 30 of 252 pixels.
    assert numbers(plain)[2, "SCAR_BURDEN"][0] == 11.51
    assert numbers(filled)[2, "SCAR_BURDEN"][0] == 11.9
    assert "counted as MVO" not in str(plain).replace("not counted", "")
    groups = report_of(filled).get_volumetric_roi_measurement_groups()
    assert any("counted as MVO" in text for group in groups for text in texts(group))


def test_measurements_of_other_masks_are_a_fault(classic, tmp_path):
    masks = {task: mask.copy() for task, mask in WORKED.items()}
    masks["scar"][3, 4, 4] = True
    other = predict(classic.prediction.study, masks)
    measured = measure(other.wall)
    with pytest.raises(ValueError, match="not of this prediction"):
        write_sr(
            tmp_path / "sr.dcm",
            classic.prediction,
            classic.slices,
            measured,
            None,
            REVIEW,
            WHO,
        )


# Verdict


def test_review_says_why(classic, tmp_path):
    verdict, comments = gate(written(classic, tmp_path / "sr.dcm"))
    assert verdict == "REVIEW"
    assert comments[:3] == [
        "Research use only, not for diagnosis",
        "RING: The ring is broken. (slice 2, 3; 0 is the base)",
        "SPREAD: They differ.",
    ]
    # The worked masks end at the last slice but one, with a cavity.
    assert comments[3:] == list(measure(classic.prediction.wall).warnings)


def test_pass(classic, tmp_path):
    verdict, comments = gate(written(classic, tmp_path / "sr.dcm", verdict=Verdict()))
    assert verdict == "PASS"
    assert comments[0] == "Research use only, not for diagnosis"
    assert not [text for text in comments if text.startswith(("RING", "SPREAD"))]


def test_rule_of_the_interval_in_any_script(classic, tmp_path):
    written(classic, tmp_path / "sr.dcm")
    document = hd.sr.srread(tmp_path / "sr.dcm")
    groups = report_of(document).get_volumetric_roi_measurement_groups()
    rule = "Limits of the scar burden: ≥ 90 % of validation patients, 8 rotations"
    assert [text for group in groups for text in texts(group)] == [rule]
    assert str(document.PatientName) == "Müller^Jürgen"


# References and identity


def test_it_refers_to_the_seg_and_to_the_images(case, tmp_path):
    document = written(case, tmp_path / "sr.dcm")
    write_seg(tmp_path / "seg.dcm", case.prediction, case.slices, WHO)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    frames = set(case.stack.frames)
    for group in report_of(document).get_volumetric_roi_measurement_groups():
        segment, *sources = group.referenced_segment
        assert segment.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert segment.referenced_sop_class_uid == seg.SOPClassUID
        named = {
            (one.referenced_sop_instance_uid, *(one.referenced_frame_numbers or [1]))
            for one in sources
        }
        assert named == frames
    evidence = {
        (series.SeriesInstanceUID, one.ReferencedSOPInstanceUID)
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    files = [*case.images, seg]
    assert evidence == {(one.SeriesInstanceUID, one.SOPInstanceUID) for one in files}


def test_findings_and_who_found_them(classic, tmp_path):
    report = report_of(written(classic, tmp_path / "sr.dcm"))
    wall, scar = report.get_volumetric_roi_measurement_groups()
    assert (wall.finding_type.value, scar.finding_type.value) == (
        "49848007",
        "12402003",
    )
    assert [site.value.value for site in scar.finding_sites] == ["49848007"]
    (observer,) = report.get_observer_contexts()
    device = observer.observer_identifying_attributes
    assert observer.observer_type == codes.DCM.Device
    assert (device.name, device.model_name) == ("jdl_keras", "jdl small")
    assert device.serial_number == "ab" * 32
    content = (tmp_path / "sr.dcm").read_bytes()
    for text in (
        "1.2.3",
        "weights_sha256=" + "ab" * 32,
        "record_set_sha256=" + "cd" * 32,
    ):
        assert text.encode() in content


def test_it_belongs_to_the_study_and_says_no_more_of_the_patient(case, tmp_path):
    document, source = written(case, tmp_path / "sr.dcm"), case.images[0]
    for name in {"PatientID", "StudyInstanceUID", *IDENTITY} - {"SpecificCharacterSet"}:
        assert str(document[name].value) == str(source[name].value), name
    assert b"PLANTED" not in (tmp_path / "sr.dcm").read_bytes()
    assert stat.S_IMODE((tmp_path / "sr.dcm").stat().st_mode) == 0o600
    assert document.CompletionFlag == "COMPLETE"
    assert document.VerificationFlag == "UNVERIFIED"


def test_same_input_gives_the_same_file_but_for_the_time(classic, tmp_path):
    one, other = (written(classic, tmp_path / name) for name in ("1", "2"))
    assert without_times(one) == without_times(other)
    again = written(classic, tmp_path / "3", verdict=Verdict())
    assert again.SOPInstanceUID != one.SOPInstanceUID
    assert again.SeriesInstanceUID != one.SeriesInstanceUID


def test_nothing_is_printed(classic, tmp_path, capfd):
    written(classic, tmp_path / "sr.dcm")
    assert capfd.readouterr() == ("", "")


def test_a_file_that_went_is_refused(classic, tmp_path):
    classic.slices[0][0].unlink()
    with pytest.raises(RefusedError, match="NOT_A_FILE"):
        written(classic, tmp_path / "sr.dcm")
    assert not (tmp_path / "sr.dcm").exists()
