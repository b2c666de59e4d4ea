import dataclasses

import numpy as np
import pydicom
import pytest
from independent_references import REGIONS, write_rtstruct

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.geometry import affine_from_positions
from tfrecords_tools.labels import Tissue
from tfrecords_tools.references.config import ReferenceConfig, Structure
from tfrecords_tools.references.matching import index
from tfrecords_tools.references.rtstruct import read_rtstruct

pytestmark = [  # rt-utils' own, and the samples'
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

MYOCARDIUM, BOTH = frozenset({"myocardium"}), frozenset({"myocardium", "scar"})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "refs").mkdir()
    return tmp_path / "refs"


def test_regions_come_back(stack, known, images, read, folder, dice):
    write_rtstruct(folder, images(stack), known)
    reference = read(stack, folder)
    # rt-utils keeps its matrix in float32, and a hole's line with the wall.
    for tissue in Tissue:
        assert dice(reference.label_map, known, tissue) >= 0.99
    assert reference.labelled == (BOTH,) * 5 + (frozenset(),)


def test_phantom_comes_back(phantom, images, read, folder, dice):
    stack, label_map = phantom
    spacing = np.linalg.norm(stack.affine[:3, :2], axis=0)
    if not np.isclose(*spacing):
        pytest.skip("rt-utils swaps the spacings of rows and columns")
    regions = {n: r for n, r in REGIONS.items() if np.isin(label_map, r).any()}
    write_rtstruct(folder, images(stack), label_map, regions)
    found = read(stack, folder).label_map
    for tissue in Tissue:
        assert dice(found, label_map, tissue) >= 0.99


def contour(points, uid=None, kind="CLOSED_PLANAR"):
    item = pydicom.Dataset()
    item.ContourGeometricType = kind
    item.NumberOfContourPoints = len(points)
    item.ContourData = [f"{value:.9g}" for value in np.ravel(points)]
    if uid:
        image = pydicom.Dataset()
        image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        image.ReferencedSOPInstanceUID = uid
        item.ContourImageSequence = [image]
    return item


def structure_set(path, stack, rois):
    """By hand: rois are (name, list of contours)."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.7"
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    dataset.SOPInstanceUID = "2.25.7"
    dataset.StudyInstanceUID = stack.study_uid
    dataset.PatientName = "Planted^Name"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois, 1):
        roi, drawn = pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber = drawn.ReferencedROINumber = number
        roi.ROIName = name
        roi.ReferencedFrameOfReferenceUID = stack.frame_of_reference_uid
        drawn.ContourSequence = contours
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
    dataset.save_as(path, enforce_file_format=True)


def circle(stack, index, radius, centre=(28.0, 36.0), steps=120):
    """A circle of pixels on a slice, in patient coordinates."""
    angles = np.linspace(0, 2 * np.pi, steps + 1)[:-1]
    places = np.full((4, steps), float(index))
    places[0] = centre[0] + radius * np.sin(angles)
    places[1] = centre[1] + radius * np.cos(angles)
    places[3] = 1
    return (stack.affine @ places)[:3].T


def disc(radius, centre=(28.0, 36.0), shape=(60, 72)):
    row, column = np.indices(shape)
    return np.hypot(row - centre[0], column - centre[1]) <= radius


def test_outlines_enclose_the_wall_between_them(stack, read, folder):
    uid = stack.frames[2][0]
    rois = [
        ("Epi", [contour(circle(stack, i, 15.2), stack.frames[i][0]) for i in (1, 2)]),
        ("Endo", [contour(circle(stack, 2, 9.2), uid)]),
    ]
    structure_set(folder / "rt", stack, rois)
    reference = read(stack, folder)
    wall = reference.label_map == Tissue.HEALTHY_MYOCARDIUM
    # A polygon of 120 corners encloses 0.05 % less than its circle.
    expected = disc(15.2) & ~disc(9.2)
    assert (wall[2] ^ expected).sum() <= 0.005 * expected.sum()
    assert reference.labelled[2] == MYOCARDIUM
    # Slice 1 has no endocardium: nobody knows where its wall ends.
    assert reference.labelled[1] == frozenset()
    assert not reference.label_map[1].any()
    assert reference.warnings == (
        "no endocardium on 1 slices: no reference of their wall",
    )


def test_anisotropic_pixels_of_other_planes(read, folder, stack):
    row, column = np.array([0.0, 0, -1]), np.array([0.6, 0.8, 0])
    step = 8 * np.cross(row, column)
    affine = affine_from_positions(
        np.array([5.0, 6, 7]), row, column, (2.0, 1.25), step
    )
    wide = dataclasses.replace(stack, affine=affine)
    myocardium = contour(circle(wide, 3, 8.3), wide.frames[3][0])
    structure_set(folder / "rt", wide, [("Myo", [myocardium])])
    found = read(wide, folder).label_map[3] == Tissue.HEALTHY_MYOCARDIUM
    assert (found ^ disc(8.3)).sum() <= 2


def test_slices_with_wall_and_no_scar_have_a_reference_of_no_scar(stack, read, folder):
    rois = [
        ("Myocardium", [contour(circle(stack, i, 15.2)) for i in (0, 1)]),
        ("Scar", [contour(circle(stack, i, 2, (28, 48))) for i in (1, 4)]),
    ]
    structure_set(folder / "rt", stack, rois)
    reference = read(stack, folder)
    none = frozenset()
    assert reference.labelled == (BOTH, BOTH, none, none, frozenset({"scar"}), none)


def test_contours_on_another_series_of_the_study_are_left_out(stack, read, folder):
    rois = [
        (
            "Myocardium",
            [
                contour(circle(stack, 0, 15.2), stack.frames[0][0]),
                contour(circle(stack, 1, 15.2) + 2.5, "2.25.606060"),
            ],
        )
    ]
    structure_set(folder / "rt", stack, rois)
    assert read(stack, folder).labelled == (MYOCARDIUM, *[frozenset()] * 5)


def test_of_the_study_but_on_no_image_of_the_stack_is_none(stack, read, folder):
    """Cine lies in the same planes, but the heart has moved: contours do not fit."""
    drawn = contour(circle(stack, 1, 15.2), "2.25.606060")
    structure_set(folder / "rt", stack, [("Myocardium", [drawn])])
    assert read(stack, folder) is None


def test_of_another_study_is_refused(stack, other, read, folder):
    drawn = contour(circle(other, 1, 15.2), other.frames[1][0])
    structure_set(folder / "rt", other, [("Myocardium", [drawn])])
    with pytest.raises(RefusedError, match="GEOMETRY_MISMATCH") as error:
        read(stack, folder)
    assert "2.25" not in str(error.value)
    assert "Planted" not in str(error.value)


def with_nan(stack):
    points = circle(stack, 1, 15.2)
    item = contour(points, stack.frames[1][0])
    item.ContourData = ["nan", *[str(v)[:16] for v in np.ravel(points)[1:]]]
    return item


CASES = {
    "two points": (lambda s: contour(circle(s, 1, 9)[:2]), "CONTOUR"),
    "one point": (lambda s: contour(circle(s, 1, 9)[:1], kind="POINT"), "CONTOUR"),
    "open": (lambda s: contour(circle(s, 1, 9), kind="OPEN_PLANAR"), "CONTOUR"),
    "NaN": (with_nan, "CONTOUR"),
    "off the image": (lambda s: contour(circle(s, 1, 40)), "CONTOUR"),
    "on a line": (lambda s: contour(circle(s, 1, 0.001)), "CONTOUR"),
    "between slices": (lambda s: contour(circle(s, 1.5, 9)), "GEOMETRY_MISMATCH"),
    "beyond slices": (lambda s: contour(circle(s, 7, 9)), "GEOMETRY_MISMATCH"),
    "not planar": (
        lambda s: contour(np.concatenate([circle(s, 1, 9)[:60], circle(s, 2, 9)[60:]])),
        "GEOMETRY_MISMATCH",
    ),
    "on another slice than it names": (
        lambda s: contour(circle(s, 1, 9), s.frames[2][0]),
        "GEOMETRY_MISMATCH",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_damaged_contour_is_refused(case, stack, read, folder):
    make, code = CASES[case]
    structure_set(folder / "rt", stack, [("Myocardium", [make(stack)])])
    with pytest.raises(RefusedError) as error:
        read(stack, folder)
    assert error.value.code == code
    assert "2.25" not in str(error.value)


def test_unknown_roi_is_refused_or_ignored(stack, read, folder):
    rois = [
        ("Myocardium", [contour(circle(stack, 1, 15.2))]),
        ("Helper ring", [contour(circle(stack, 1, 20))]),
    ]
    structure_set(folder / "rt", stack, rois)
    with pytest.raises(RefusedError, match=r"LABELS: 'Helper ring' is no known"):
        read(stack, folder)
    names = {"helper ring": Structure.IGNORED}
    assert read(stack, folder, names=names).labelled[1] == MYOCARDIUM


def test_nothing_of_a_task_is_refused(stack, read, folder):
    structure_set(folder / "rt", stack, [("LV", [contour(circle(stack, 1, 9))])])
    with pytest.raises(RefusedError, match="LABELS: neither myocardium nor scar"):
        read(stack, folder)


def test_an_empty_structure_set_is_refused(stack, read, folder):
    structure_set(folder / "rt", stack, [("Myocardium", [])])
    with pytest.raises(RefusedError, match="CONTOUR: no contour on these images"):
        read(stack, folder)


def test_many_items_are_refused_before_they_are_parsed(stack, folder):
    path = folder / "rt"
    structure_set(path, stack, [("Myocardium", [contour(circle(stack, 1, 9))])])
    path.write_bytes(path.read_bytes() + b"\xfe\xff\x00\xe0\0\0\0\0" * 60_000)
    (found,) = index(folder)
    assert found.fault is not None
    assert found.fault[0] == "TOO_LARGE"


def test_deep_nesting_is_refused(stack, folder):
    path = folder / "rt"
    structure_set(path, stack, [("Myocardium", [contour(circle(stack, 1, 9))])])
    sequence = b"\x0a\x30\x10\x00SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(path.read_bytes() + sequence * 20_000)
    (found,) = index(folder)
    assert found.fault is not None
    assert found.fault[0] == "NESTING"


@pytest.mark.parametrize("name", ["dicompyler_rtss.dcm", "rtutils_rt.dcm"])
def test_real_structure_sets_are_found(name, samples):
    (found,) = (file for file in index(samples) if file.path.name == name)
    assert found.kind == "rtstruct"
    assert found.fault is None
    dataset = pydicom.dcmread(samples / name)
    first = dataset.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0]
    assert first.ReferencedSOPInstanceUID in found.image_uids


def test_real_squares_are_filled(samples, stack):
    """Of rtutils_rt.dcm, with pixels of 3 mm whose centres are multiples of 3.

    From -51 to -27 mm lie 9 x 9 centres, and inside the hole from -47 to -32 mm 5 x 5.
    """
    (file,) = (f for f in index(samples) if f.path.name == "rtutils_rt.dcm")
    affine = np.eye(4)
    affine[:3, :3] = [[0, 3, 0], [3, 0, 0], [0, 0, 3]]
    affine[:3, 3] = -90, -90, 60
    roi = pydicom.dcmread(file.path).ROIContourSequence[0]
    image = roi.ContourSequence[0].ContourImageSequence[0].ReferencedSOPInstanceUID
    one = dataclasses.replace(
        stack,
        affine=affine,
        pixels=np.zeros((1, 60, 72), np.float32),
        frames=((image, 1),),
    )
    config = ReferenceConfig(names={"ROI-1": Structure.SCAR})
    reference = read_rtstruct(file, one, config)
    assert (reference.label_map == Tissue.SCAR).sum() == 9 * 9 - 5 * 5


def test_damage_of_no_plan(stack, folder, fuzz):
    drawn = [contour(circle(stack, 1, 15.2), stack.frames[1][0])]
    structure_set(folder / "rt.dcm", stack, [("Myocardium", drawn)])
    fuzz(folder / "rt.dcm")
