"""Order, direction and step of slices; what is no stack is refused by name."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords_tools.dicom.frames import Frame
from tfrecords_tools.dicom.marks import Contrast
from tfrecords_tools.dicom.stacks import read_stack, stack_of
from tfrecords_tools.errors import RefusedError

PATH = Path("slice")


def frames_of_affine(affine, count=4, shape=(6, 7)):
    """Frames as headers say them: directions along a row first, then along a column."""
    spacing = np.linalg.norm(affine[:3, :2], axis=0)
    orientation = (*(affine[:3, 1] / spacing[1]), *(affine[:3, 0] / spacing[0]))
    return [
        Frame(
            path=PATH,
            number=1,
            sop_uid=f"1.{index}",
            study_uid="1",
            series_uid="1.1",
            frame_of_reference_uid="1.2",
            patient_id="P",
            series_number=1,
            instance_number=index + 1,
            rows=shape[0],
            columns=shape[1],
            position_mm=tuple(affine[:3, 3] + index * affine[:3, 2]),
            orientation=orientation,
            spacing_mm=tuple(spacing),
            slope=1.0,
            intercept=0.0,
            time=(0, 0),
            phases=1,
            inversion_ms=300.0,
            contrast=Contrast.MAGNITUDE,
            marks=frozenset(),
            burned_in=False,
            lossy=False,
        )
        for index in range(count)
    ]


def pictures(frames):
    random = np.random.default_rng(0)
    return [
        (f, random.normal(size=(f.rows, f.columns)).astype(np.float32)) for f in frames
    ]


def axis_orders():
    """All 48 ways to lay rows, columns and slices along the axes of the body."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            yield np.eye(3)[:, order] * signs


def obliques():
    random = np.random.default_rng(1)
    for _ in range(20):
        axes, _ = np.linalg.qr(random.normal(size=(3, 3)))
        yield axes


@pytest.mark.parametrize("axes", [*axis_orders(), *obliques()])
def test_marker_stays_where_it_is_in_the_patient(axes):
    """An asymmetric marker: three pixels that only one way of reading puts right."""
    affine = np.eye(4)
    affine[:3, :3] = axes * (1.3, 1.7, 9.0)
    affine[:3, 3] = (-40.0, 25.0, 110.0)
    marker = {(1, 5, 0): 10.0, (4, 2, 1): 20.0, (0, 3, 3): 30.0}
    volume = np.zeros((4, 6, 7), np.float32)
    for (row, column, index), value in marker.items():
        volume[index, row, column] = value
    shuffled = [*zip(frames_of_affine(affine), volume, strict=True)]
    np.random.default_rng(2).shuffle(shuffled)
    stack, _ = stack_of(shuffled)
    for place, value in marker.items():
        # Where the marker is in the patient, and where the read stack has that value.
        there = affine @ (*place, 1)
        index, row, column = np.argwhere(stack.pixels == value)[0]
        found = stack.affine @ (row, column, index, 1)
        np.testing.assert_allclose(
            found, there, atol=1e-9
        )  # rounding; not half a pixel


@given(st.permutations(range(5)))
def test_order_of_files_is_of_no_account(order):
    affine = np.diag([1.5, 1.5, -8.0, 1.0])
    given_ = pictures(frames_of_affine(affine, 5))
    stack, _ = stack_of([given_[index] for index in order])
    assert [uid for uid, _ in stack.frames] == [f"1.{index}" for index in range(5)]
    assert stack.instance_numbers == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("number", [0, 1])
def test_instance_numbers_that_tell_nothing_apart_are_dropped(number):
    frames = frames_of_affine(np.diag([1.0, 1.0, -8.0, 1.0]))
    frames = changed(frames, 2, instance_number=number)  # none, or that of the first
    assert stack_of(pictures(frames))[0].instance_numbers == ()


@pytest.mark.parametrize("direction", [1, -1])
def test_base_comes_first(direction, dicom_writing):
    """The apex lies left, anterior and inferior, whatever the order of the files."""
    affine = dicom_writing.short_axis_affine()
    affine[:3, 2] *= direction
    stack, _ = stack_of(pictures(frames_of_affine(affine)))
    assert stack.affine[:3, 2] @ (1, -1, -1) > 0
    np.testing.assert_allclose(stack.affine[:3, 2], direction * affine[:3, 2])


def test_step_comes_from_positions_not_from_thickness(dicom_writing, tmp_path):
    """Slices of 6 mm, 10 mm apart (the writer says 6 in SliceThickness)."""
    affine = dicom_writing.short_axis_affine(step_mm=10.0)
    files = dicom_writing.save_all(
        dicom_writing.classic(dicom_writing.small_stack(), affine), tmp_path
    )
    stack, _ = read_stack([(path, 1) for path in files])
    assert np.linalg.norm(stack.affine[:3, 2]) == pytest.approx(10.0, abs=1e-9)


def test_sheared_stack_keeps_its_step():
    """Every slice moved by 2 mm along the rows: an affine says that exactly."""
    affine = np.diag([1.0, 1.0, -8.0, 1.0])
    affine[0, 2] = 2.0
    stack, warnings = stack_of(pictures(frames_of_affine(affine)))
    np.testing.assert_allclose(stack.affine, affine)
    assert warnings == ()


def changed(frames, number, **changes):
    frames[number] = dataclasses.replace(frames[number], **changes)
    return frames


def moved(frames, number, *, along=0.0, across=0.0):
    x, y, z = frames[number].position_mm
    return changed(frames, number, position_mm=(x + across, y, z - along))


HALF_DEGREE = (0.99996, 0.0087, 0.0, -0.0087, 0.99996, 0.0)

FAULTS = {
    "no position": (lambda f: changed(f, 1, position_mm=None), "MISSING_TAG"),
    "no orientation": (lambda f: changed(f, 1, orientation=None), "MISSING_TAG"),
    "no spacing": (lambda f: changed(f, 1, spacing_mm=None), "MISSING_TAG"),
    "oblique axes": (
        lambda f: changed(f, 1, orientation=(1.0, 0, 0, 0.5, 0.8, 0)),
        "BAD_GEOMETRY",
    ),
    "zero axes": (lambda f: changed(f, 1, orientation=(0.0,) * 6), "BAD_GEOMETRY"),
    "burned in": (lambda f: changed(f, 1, burned_in=True), "UNSUPPORTED"),
    "other matrix": (lambda f: changed(f, 1, rows=9), "SHAPE_MISMATCH"),
    "other spacing": (lambda f: changed(f, 1, spacing_mm=(1.0, 1.1)), "MIXED_SPACING"),
    "other orientation": (
        lambda f: changed(f, 1, orientation=HALF_DEGREE),
        "MIXED_ORIENTATION",
    ),
    "other patient": (lambda f: changed(f, 1, patient_id="Q"), "MIXED_PATIENT"),
    "same UID": (lambda f: changed(f, 1, sop_uid="1.0"), "DUP_SOP"),
    "same place": (lambda f: moved(f, 1, along=-8.0), "DUP_POSITION"),
    "one missing": (lambda f: f[:1] + f[2:], "GAP"),
    "a step too long": (lambda f: moved(f, 3, along=3.0), "GAP"),
    "shifted": (lambda f: moved(f, 1, across=0.6), "BAD_GEOMETRY"),
    "one slice": (lambda f: f[:1], "GAP"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_stack_is_refused(fault):
    inflict, code = FAULTS[fault]
    frames = inflict(frames_of_affine(np.diag([1.0, 1.0, -8.0, 1.0])))
    with pytest.raises(RefusedError) as refused:
        stack_of(pictures(frames))
    assert refused.value.code == code


def test_uneven_steps_are_told():
    """0.3 of 8 mm is under a tenth: accepted, and said."""
    frames = moved(frames_of_affine(np.diag([1.0, 1.0, -8.0, 1.0])), 1, along=0.3)
    _, (warning,) = stack_of(pictures(frames))
    # 0.3 mm off steps of 8 mm: 3.75 %
    assert warning == "GAP: slice positions are uneven by 4 % of their step"


def test_planes_that_hold_the_long_axis_leave_base_and_apex_open():
    """Normal (1, 1, 0): at a right angle to left, anterior and inferior."""
    affine = np.eye(4)
    affine[:3, 0] = (0, 0, 1)
    affine[:3, 1] = np.array([1, -1, 0]) / np.sqrt(2)
    affine[:3, 2] = np.array([5, 5, 0])
    _, (warning,) = stack_of(pictures(frames_of_affine(affine)))
    assert "base and apex may be exchanged" in warning


def test_several_frames_of_reference_are_told():
    frames = frames_of_affine(np.diag([1.0, 1.0, -8.0, 1.0]))
    frames = changed(frames, 0, frame_of_reference_uid="1.9")
    stack, (warning,) = stack_of(pictures(frames))
    assert stack.frame_of_reference_uid == ""
    assert "frame of reference" in warning
