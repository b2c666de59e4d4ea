"""Which series becomes the stack, out of what a scanner leaves in one study."""

import numpy as np
import pytest

from tfrecords_tools.errors import RefusedError

EXPECTED_PSIR = "PSIR, 5 slices, 10 mm apart"
EXPECTED_MAGNITUDE = "magnitude, 5 slices, 10 mm apart"


@pytest.fixture
def stored(dicom_writing):
    return dicom_writing.small_stack()


@pytest.fixture
def affine(dicom_writing):
    return dicom_writing.short_axis_affine()


@pytest.fixture
def clinical(dicom_writing, stored, affine, tmp_path):
    dicom_writing.clinical_study(stored, affine, tmp_path, psir=stored - 2000)
    return tmp_path


def descriptions(source):
    return [item.description for item in source.items]


def reasons(source):
    return sorted(entry.reason for entry in source.left_out)


def test_psir_is_chosen_and_every_other_series_has_its_reason(open_source, clinical):
    source = open_source(clinical)
    assert descriptions(source) == [EXPECTED_PSIR]
    assert reasons(source) == [
        "LGE: magnitude; PSIR is preferred",
        "LGE: not short-axis",
        "cine: not wanted; dicom --series any takes it",
        "scout: not wanted",
    ]


def test_magnitude_on_request(open_source, clinical, stored):
    source = open_source(clinical, prefer="magnitude")
    assert descriptions(source) == [EXPECTED_MAGNITUDE]
    assert "LGE: PSIR; magnitude is preferred" in reasons(source)
    study = source.read(source.items[0])
    np.testing.assert_array_equal(study.pixels, stored)


def test_magnitude_where_there_is_no_psir(
    open_source, dicom_writing, stored, affine, tmp_path
):
    dicom_writing.clinical_study(stored, affine, tmp_path)
    assert descriptions(open_source(tmp_path)) == [EXPECTED_MAGNITUDE]


def test_both_reconstructions_in_one_series(
    open_source, dicom_writing, stored, affine, tmp_path
):
    """As Philips writes them: only the image type tells the two."""
    names = ("P1", "S1", "one series")
    real = {"ImageType": ["ORIGINAL", "PRIMARY", "R_IR", "R"]}
    pair = dicom_writing.classic(stored, affine, names, **dicom_writing.LGE)
    for dataset in dicom_writing.classic(stored - 2000, affine, names, **real):
        dataset.InversionTime, dataset.SOPInstanceUID = (
            "310",
            dataset.SOPInstanceUID + "1",
        )
        pair.append(dataset)
    dicom_writing.save_all(pair, tmp_path)
    source = open_source(tmp_path)
    assert descriptions(source) == [EXPECTED_PSIR]
    np.testing.assert_array_equal(source.read(source.items[0]).pixels, stored - 2000)


def test_nameless_lge_is_known_by_its_inversion(
    open_source, dicom_writing, stored, affine, tmp_path
):
    files = dicom_writing.classic(stored, affine, InversionTime="280")
    dicom_writing.save_all(files, tmp_path)
    assert descriptions(open_source(tmp_path)) == [EXPECTED_MAGNITUDE]


NOT_LGE = {
    "no hint": ({}, "other"),
    "cine by its phases": (
        {"InversionTime": "300", "CardiacNumberOfImages": 25},
        "cine",
    ),
    "TI scout": ({"InversionTime": "300", "SeriesDescription": "TI_scout"}, "scout"),
    "T1 map": ({"InversionTime": "300", "SeriesDescription": "T1_MOLLI"}, "map"),
    "STIR": ({"InversionTime": "170", "ScanningSequence": ["SE", "IR"]}, "other"),
    "phase": ({"InversionTime": "300", "ImageType": ["ORIGINAL", "P"]}, "phase"),
    "reformatted": ({"SeriesDescription": "LGE", "ImageType": ["DERIVED", "MPR"]},)
    + ("reformatted",),
}


@pytest.mark.parametrize("case", NOT_LGE)
def test_what_is_no_lge_is_left_out(
    case, open_source, dicom_writing, stored, affine, tmp_path
):
    tags, kind = NOT_LGE[case]
    dicom_writing.save_all(dicom_writing.classic(stored, affine, **tags), tmp_path)
    source = open_source(tmp_path)
    assert source.items == []
    assert any(reason.startswith(f"{kind}: not wanted") for reason in reasons(source))
    assert "no LGE short-axis series in this study" in reasons(source)


def test_perfusion_is_known_by_several_times_a_slice(
    open_source, dicom_writing, stored, affine, tmp_path
):
    for beat in range(3):
        files = dicom_writing.classic(
            stored, affine, **dicom_writing.LGE, TemporalPositionIdentifier=beat + 1
        )
        for dataset in files:
            dataset.SOPInstanceUID += f".{beat}"
        dicom_writing.save_all(files, tmp_path / str(beat))
    assert open_source(tmp_path).items == []


def test_single_slices_of_several_series_are_joined(
    open_source, dicom_writing, stored, affine, tmp_path
):
    """One breath-hold, one series; the third slice was repeated."""
    for index in range(5):
        files = dicom_writing.classic(
            stored, affine, ("P1", "S1", f"series {index}"), **dicom_writing.LGE
        )
        for dataset in files:
            dataset.FrameOfReferenceUID = "2.25.7"
            dataset.SeriesNumber = 10 + index
        dicom_writing.save_all(files[index : index + 1], tmp_path / f"{index}")
    (repeated,) = dicom_writing.classic(
        stored[2:3] + 1, affine, ("P1", "S1", "again"), **dicom_writing.LGE
    )
    dicom_writing.place(repeated, affine, 2)
    repeated.FrameOfReferenceUID, repeated.SeriesNumber = "2.25.7", 30
    dicom_writing.save_all([repeated], tmp_path / "again")
    source = open_source(tmp_path)
    assert descriptions(source) == [f"{EXPECTED_MAGNITUDE}, joined series"]
    expected = stored.astype(np.float32)
    expected[2] += 1  # series 30 comes after series 12
    np.testing.assert_array_equal(source.read(source.items[0]).pixels, expected)


def test_slices_of_another_frame_of_reference_are_not_joined(
    open_source, dicom_writing, stored, affine, tmp_path
):
    for index in range(4):
        files = dicom_writing.classic(
            stored, affine, ("P1", "S1", f"series {index}"), **dicom_writing.LGE
        )
        files[index].FrameOfReferenceUID = f"2.25.{index // 2}"
        dicom_writing.save_all(files[index : index + 1], tmp_path / f"{index}")
    source = open_source(tmp_path)
    assert source.items == []
    assert reasons(source).count("LGE: fewer than 3 slices") == 2


def test_of_two_stacks_the_longer_then_the_later_is_taken(
    open_source, dicom_writing, stored, affine, tmp_path
):
    for number, slices in [(3, 4), (9, 4), (5, 5)]:
        files = dicom_writing.classic(
            stored[:slices], affine, ("P1", "S1", f"{number}"), **dicom_writing.LGE
        )
        for dataset in files:
            dataset.SeriesNumber = number
        dicom_writing.save_all(files, tmp_path / f"{number}")
    source = open_source(tmp_path)
    assert {path.parent.name for path in source.items[0].files} == {"5"}
    for path in (tmp_path / "5").iterdir():
        path.unlink()
    assert {p.parent.name for p in open_source(tmp_path).items[0].files} == {"9"}


@pytest.fixture
def cine(dicom_writing, stored, affine, tmp_path):
    """Three phases of a stack, each with pixels of its own."""
    for phase in range(3):
        tags = dicom_writing.CINE | {"TriggerTime": str(50 * (2 - phase))}
        files = dicom_writing.classic(stored + phase, affine, **tags)
        for dataset in files:
            dataset.SOPInstanceUID += f".{phase}"
        dicom_writing.save_all(files, tmp_path / f"{phase}")
    return tmp_path


@pytest.mark.parametrize("phase", [0, 2])
def test_a_cine_gives_the_phase_that_is_asked_for(phase, read_only, cine, stored):
    # Trigger times fall as the number in the pixels grows: phase 0 is stored + 2.
    study = read_only(cine, series="any", phase=phase)
    np.testing.assert_array_equal(study.pixels, stored + 2 - phase)


def test_a_phase_that_is_not_there_is_refused(read_only, cine):
    with pytest.raises(RefusedError, match="phase 3 of a slice with 3 phases"):
        read_only(cine, series="any", phase=3)


def test_any_orientation_on_request(open_source, dicom_writing, stored, tmp_path):
    axial = np.diag([1.4, 1.4, -9.0, 1.0])
    files = dicom_writing.classic(stored, axial, **dicom_writing.LGE)
    dicom_writing.save_all(files, tmp_path)
    # The normal (0, 0, -1) is acos(1 / sqrt(3)) = 54.7 degrees off.
    assert reasons(open_source(tmp_path))[0] == "LGE: not short-axis"
    assert len(open_source(tmp_path, max_tilt_degrees=55).items) == 1


@pytest.mark.parametrize(
    "settings", [{"phase": -1}, {"max_tilt_degrees": 91.0}, {"max_tilt_degrees": -1.0}]
)
def test_numbers_that_cannot_be_meant(settings, open_source, tmp_path):
    with pytest.raises(RefusedError, match="CONFIG"):
        open_source(tmp_path, **settings)
