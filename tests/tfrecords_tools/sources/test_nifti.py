"""NIfTI: every voxel in its place however the file is turned, and no quiet guess."""

import itertools
import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tfrecords_tools import nifti_files
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.geometry import RAS_TO_LPS, TOWARDS_APEX, towards_apex
from tfrecords_tools.labels import Tissue
from tfrecords_tools.pseudonyms import PUBLIC_KEY, pseudonym
from tfrecords_tools.sources import emidec
from tfrecords_tools.sources.config import NiftiConfig
from tfrecords_tools.sources.labelled import MaskPatterns
from tfrecords_tools.sources.nifti import source

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "emidec"
KEY = b"a key"
BOTH = frozenset({"myocardium", "scar"})


def oblique(rotation, spacing_mm=(1.25, 1.5, 8.0)):
    """RAS affine of (x, y, slice) turned by a rotation."""
    affine = np.eye(4)
    affine[:3, :3] = rotation.as_matrix() * spacing_mm
    affine[:3, 3] = (-120.0, 35.0, 60.0)
    return affine


# Slices run to the left, the front and the feet: (1, -1, -1) in LPS. Columns x rows
# points back to the base, as in a picture from the apex.
SHORT_AXIS = np.eye(4)
_x, _z = np.array([1, 1, 0]) / np.sqrt(2), TOWARDS_APEX
SHORT_AXIS[:3, :3] = np.stack([_x, np.cross(_x, _z), _z], axis=1) * (1.25, 1.5, 8.0)
SHORT_AXIS = RAS_TO_LPS @ SHORT_AXIS


def write(path, voxels, affine, dtype=np.int16, pixdim=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels.astype(dtype), affine)
    if pixdim is not None:
        image.header.set_zooms(pixdim)
    nibabel.save(image, path)


def make_voxels():
    """6 columns (x), 7 rows (y), 4 slices; the brightest voxel at (1, 5, 2)."""
    voxels = np.random.default_rng(0).integers(0, 100, (6, 7, 4))
    voxels[1, 5, 2] = 1000
    labels = np.full((6, 7, 4), Tissue.HEALTHY_MYOCARDIUM)
    labels[1, 5, 2] = Tissue.SCAR
    return voxels, labels


VOXELS, LABELS = make_voxels()


def turned(voxels, affine, axes, flips):
    """The same voxels in the same places, with the axes in another order."""
    order = [*axes, 3]
    voxels, affine = voxels.transpose(axes), affine[:, order].copy()
    for axis in np.flatnonzero(flips):
        affine[:3, 3] += (voxels.shape[axis] - 1) * affine[:3, axis]
        affine[:3, axis] *= -1
        voxels = np.flip(voxels, axis)
    return voxels, affine


ORDERS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


def read_all(folder, **settings):
    found = source(folder, NiftiConfig(**settings), KEY)
    return [found.read(item) for item in found.items]


def read_one(folder, **settings):
    (study,) = read_all(folder, **settings)
    return study


def code_of(folder, **settings):
    with pytest.raises(RefusedError) as refused:
        read_all(folder, **settings)
    assert len(str(refused.value).splitlines()) == 1
    return refused.value.code


@pytest.fixture
def case(tmp_path):
    """One study on an oblique short axis, base first."""
    write(tmp_path / "one" / "image.nii.gz", VOXELS, SHORT_AXIS)
    write(tmp_path / "one" / "mask.nii.gz", LABELS, SHORT_AXIS, np.uint8)
    return tmp_path


# Geometry


def place_of(study, where):
    """LPS of the only voxel of a mask (S, H, W)."""
    ((slice_, row, column),) = np.argwhere(where)
    return (study.affine @ [row, column, slice_, 1])[:3]


def check_marker(folder, affine, random):
    expected = (RAS_TO_LPS @ affine @ [1, 5, 2, 1])[:3]
    for axes, flips in ORDERS:
        other = ORDERS[random.integers(len(ORDERS))]
        write(folder / "one" / "image.nii", *turned(VOXELS, affine, axes, flips))
        write(folder / "one" / "mask.nii", *turned(LABELS, affine, *other), np.uint8)
        study = read_one(folder, slice_axis=axes.index(2) + 1)
        # Headers hold float32: 120 mm to about 1e-5 mm, far below half a voxel.
        bright = place_of(study, study.pixels == 1000)
        np.testing.assert_allclose(bright, expected, atol=1e-3)
        scar = place_of(study, study.label_map == Tissue.SCAR)
        np.testing.assert_allclose(scar, expected, atol=1e-3)
        assert study.slice_spacing_mm == pytest.approx(8, abs=1e-4)
        told = towards_apex((RAS_TO_LPS @ affine)[:3, 2]) != 0
        assert bool(study.warnings) != told
        if told:
            assert study.affine[:3, 2] @ TOWARDS_APEX > 0  # base first
            assert np.linalg.det(study.affine[:3, :3]) > 0  # no mirror image


VIEWS = [oblique(rotation) for rotation in Rotation.random(19, rng=5)]


@pytest.mark.parametrize("view", range(20))
def test_marker_keeps_its_place_in_all_orders_and_views(tmp_path, view):
    affine = [*VIEWS, SHORT_AXIS][view]
    check_marker(tmp_path, affine, np.random.default_rng(view))


def test_short_axis_stack_is_kept_as_it_is(case):
    study = read_one(case)
    np.testing.assert_array_equal(study.pixels, VOXELS.transpose(2, 1, 0))
    assert study.spacing_mm == pytest.approx((1.5, 1.25), abs=1e-6)  # float32
    assert study.warnings == ()
    assert study.labelled == (BOTH,) * 4


def test_apex_first_is_turned_and_upward_rows_too(case):
    flipped = turned(VOXELS, SHORT_AXIS, (0, 1, 2), (False, True, True))
    write(case / "one" / "image.nii.gz", *flipped)
    study = read_one(case)
    np.testing.assert_array_equal(study.pixels, VOXELS.transpose(2, 1, 0))


def test_stated_order_wins_over_directions_with_a_warning(case):
    study = read_one(case, slice_order="apex_first")
    assert study.pixels[1, 5, 1] == 1000  # slice 2 of 0 to 3 becomes 1
    assert "opposite" in study.warnings[0]
    assert read_one(case, slice_order="base_first").warnings == ()


def test_axes_of_the_patient_tell_no_order(tmp_path):
    affine = np.diag([-1.25, -1.5, 8.0, 1.0])
    write(tmp_path / "one" / "image.nii.gz", VOXELS, affine)
    write(tmp_path / "one" / "mask.nii.gz", LABELS, affine)
    (warning,) = read_one(tmp_path).warnings
    assert warning.startswith("SLICE_ORDER")
    assert read_one(tmp_path, slice_order="apex_first").warnings == ()


def test_cavity_that_grows_is_doubted(case):
    labels = LABELS.copy()
    labels[:, :, 3] = Tissue.BLOOD_POOL
    write(case / "one" / "mask.nii.gz", labels, SHORT_AXIS)
    (warning,) = read_one(case).warnings
    assert "apex first?" in warning


def test_slice_axis_must_be_said_if_it_is_not_the_third(case):
    changed = turned(VOXELS, SHORT_AXIS, (2, 0, 1), (False,) * 3)
    write(case / "one" / "image.nii.gz", *changed)
    assert code_of(case) == "BAD_GEOMETRY"
    np.testing.assert_array_equal(
        read_one(case, slice_axis=1).pixels, VOXELS.transpose(2, 1, 0)
    )


def test_one_slice_is_a_stack(case):
    write(case / "one" / "image.nii.gz", VOXELS[:, :, :1], SHORT_AXIS)
    write(case / "one" / "mask.nii.gz", LABELS[:, :, :1], SHORT_AXIS)
    study = read_one(case)
    assert study.pixels.shape == (1, 7, 6)
    assert study.slice_spacing_mm == pytest.approx(8, abs=1e-5)


@pytest.fixture
def lost_size(tmp_path):
    """As EMIDEC: the affine steps 1 mm, pixdim holds the truth."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    for name, voxels in (("image", VOXELS), ("mask", LABELS)):
        path = tmp_path / "one" / f"{name}.nii.gz"
        write(path, voxels, affine, pixdim=(1.25, 1.5, 8.0))
    return tmp_path


def test_sizes_that_disagree_need_a_rule(lost_size):
    assert code_of(lost_size) == "GEOMETRY_MISMATCH"
    study = read_one(lost_size, spacing="pixdim")
    assert (*study.spacing_mm, study.slice_spacing_mm) == (1.5, 1.25, 8.0)
    study = read_one(lost_size, spacing="affine")
    assert (*study.spacing_mm, study.slice_spacing_mm) == (1.0, 1.0, 1.0)


def test_reason_names_both_sizes_and_the_way_out(lost_size):
    with pytest.raises(RefusedError, match=r"1\.25 x 1\.5 x 8 mm .* 1 x 1 x 1 mm .*`s"):
        read_all(lost_size)


def two_forms(folder, turn):
    """qform as it should be, sform turned the other way about."""
    for name, voxels in (("image", VOXELS), ("mask", LABELS)):
        image = nibabel.Nifti1Image(voxels.astype(np.int16), SHORT_AXIS)
        image.set_qform(SHORT_AXIS, code=1)
        image.set_sform(SHORT_AXIS @ turn, code=1)
        nibabel.save(image, folder / "one" / f"{name}.nii.gz")


def test_forms_that_differ_need_a_rule(case):
    two_forms(case, np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert code_of(case) == "GEOMETRY_MISMATCH"
    place = SHORT_AXIS @ [1, 5, 2, 1]
    for orientation, sign in (("qform", 1), ("sform", -1)):
        study = read_one(case, orientation=orientation)
        place = RAS_TO_LPS @ SHORT_AXIS @ [sign * 1, sign * 5, 2, 1]
        found = place_of(study, study.pixels == 1000)
        np.testing.assert_allclose(found, place[:3], atol=1e-3)  # float32


def test_forms_that_agree_are_one(case):
    two_forms(case, np.eye(4))
    assert read_one(case).warnings == ()


# Encodings


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u1", "<f4", ">f4", "<f8", "<u4"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_encoding_gives_the_same_tensor(case, dtype, suffix):
    (case / "one" / "image.nii.gz").unlink()
    voxels = VOXELS // 10  # fits a byte
    image = nibabel.Nifti1Image(voxels.astype(dtype), SHORT_AXIS)
    nibabel.save(image, case / "one" / f"image{suffix}")
    np.testing.assert_array_equal(read_one(case).pixels, voxels.transpose(2, 1, 0))


def test_slope_and_intercept_are_applied(case):
    image = nibabel.Nifti1Image(np.zeros((6, 7, 4), np.int16), SHORT_AXIS)
    path = case / "one" / "image.nii"
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([0.5, -3], "<f4").tobytes()  # scl_slope, scl_inter
    content[352:] = VOXELS.astype("<i2").tobytes(order="F")
    path.write_bytes(content)
    (case / "one" / "image.nii.gz").unlink()
    expected = 0.5 * VOXELS.transpose(2, 1, 0) - 3
    np.testing.assert_array_equal(read_one(case).pixels, expected)


def test_trailing_axes_of_one_are_dropped_and_time_is_refused(case):
    write(case / "one" / "image.nii.gz", VOXELS[..., None], SHORT_AXIS)
    assert read_one(case).pixels.shape == (4, 7, 6)
    write(case / "one" / "image.nii.gz", np.stack([VOXELS] * 2, -1), SHORT_AXIS)
    assert code_of(case) == "UNSUPPORTED"


# Labels


def test_table_translates_values(case):
    write(case / "one" / "mask.nii.gz", np.where(LABELS == 3, 7, 200), SHORT_AXIS)
    table = {200: Tissue.HEALTHY_MYOCARDIUM, 7: Tissue.SCAR}
    study = read_one(case, labels=table)
    np.testing.assert_array_equal(study.label_map, LABELS.transpose(2, 1, 0))


def test_task_without_tissue_in_the_table_is_not_labelled(case):
    write(case / "one" / "mask.nii.gz", LABELS == 2, SHORT_AXIS)
    study = read_one(case, labels={1: Tissue.HEALTHY_MYOCARDIUM})
    assert study.labelled == (frozenset({"myocardium"}),) * 4


@pytest.mark.parametrize("value", [5, -1, 2.5, np.nan])
def test_unknown_value_is_refused(case, value):
    labels = LABELS.astype(float)
    labels[0, 0, 0] = value
    write(case / "one" / "mask.nii.gz", labels, SHORT_AXIS, np.float32)
    with pytest.raises(RefusedError, match=f"{value:g}; name them in the table"):
        read_all(case)
    assert code_of(case) == "LABELS"


MASKS = MaskPatterns(
    blood_pool="{study}/blood.nii.gz",
    myocardium="{study}/wall.nii.gz",
    scar="{study}/scar.nii.gz",
)


def write_masks(folder, **masks):
    for name, mask in masks.items():
        write(folder / "one" / f"{name}.nii.gz", mask, SHORT_AXIS, np.uint8)


def strip(first, last):
    mask = np.zeros((6, 7, 4))
    mask[first:last] = 255
    return mask


def test_masks_are_laid_one_over_the_other(case):
    write_masks(case, blood=strip(0, 2), wall=strip(2, 5), scar=strip(4, 5))
    study = read_one(case, masks=MASKS)
    assert study.label_map[0, 0].tolist() == [1, 1, 2, 2, 3, 0]
    assert study.labelled == (BOTH,) * 4
    assert study.warnings == ()


def test_scar_partly_outside_the_wall_is_told(case):
    write_masks(case, blood=strip(0, 2), wall=strip(2, 5), scar=strip(4, 6))
    # Column 5 of 7 rows in 4 slices lies outside: 28 voxels.
    assert read_one(case, masks=MASKS).warnings == (
        "LABELS: 28 pixels of scar outside the myocardium",
    )


def test_mask_of_the_healthy_wall_alone_is_no_contradiction(case):
    write_masks(case, blood=strip(0, 2), wall=strip(2, 4), scar=strip(4, 5))
    study = read_one(case, masks=MASKS)
    assert study.label_map[0, 0].tolist() == [1, 1, 2, 2, 3, 0]
    assert study.warnings == ()


def test_masks_that_contradict_are_refused(case):
    write_masks(case, blood=strip(0, 3), wall=strip(2, 5), scar=strip(4, 5))
    assert code_of(case, masks=MASKS) == "LABELS"
    write_masks(case, blood=strip(0, 2), wall=LABELS)
    assert code_of(case, masks=MASKS) == "LABELS"


def test_study_without_one_of_its_masks_is_left_out(case):
    write_masks(case, blood=strip(0, 2), wall=strip(2, 5))
    assert code_of(case, masks=MASKS) == "NO_STUDIES"
    study = read_one(case, masks=MASKS, unlabelled=True)
    assert study.labelled == (frozenset(),) * 4
    assert not study.label_map.any()


# Refusals


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def shear(path):
    write(path, VOXELS, SHORT_AXIS @ (np.eye(4) + np.eye(4, k=1) * [0, 0.2, 0, 0]))


def link_out(path):
    outside = path.parents[2] / "outside.nii.gz"
    path.rename(outside)
    path.symlink_to(outside)


def patch(place, *values):
    def inflict(path):
        content = bytearray(nibabel.Nifti1Image.from_filename(path).to_bytes())
        content[place : place + 4 * len(values)] = np.array(values, "<f4").tobytes()
        path.write_bytes(content)

    return inflict


IMAGE_FAULTS = {
    "cut": (cut, "TRUNCATED"),
    "text": (lambda p: p.write_text("x" * 400), "NOT_NIFTI"),
    "a link out": (link_out, "NOT_A_FILE"),
    "pixdim 0": (patch(80, 0), "BAD_GEOMETRY"),  # pixdim[1]
    "flat affine": (patch(312, 0, 0, 0), "BAD_GEOMETRY"),  # srow_z
    "infinite affine": (patch(312, np.inf), "BAD_GEOMETRY"),
    "sheared": (shear, "BAD_GEOMETRY"),
    "other spacing": (
        lambda p: write(p, VOXELS, SHORT_AXIS @ np.diag([40.0, 40, 40, 1])),
        "GEOMETRY_MISMATCH",
    ),
    "colour": (
        lambda p: nibabel.save(
            nibabel.Nifti1Image(
                np.zeros((6, 7, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), SHORT_AXIS
            ),
            p,
        ),
        "UNSUPPORTED",
    ),
    "constant": (lambda p: write(p, VOXELS * 0, SHORT_AXIS), "CONSTANT"),
    "NaN": (
        lambda p: write(p, np.where(VOXELS == 1000, np.nan, 1), SHORT_AXIS, "<f4"),
        "NOT_FINITE",
    ),
    "two files": (
        lambda p: write(p.with_suffix(""), VOXELS, SHORT_AXIS),
        "DUP_STUDY",
    ),
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_bad_image_is_refused(case, fault):
    inflict, code = IMAGE_FAULTS[fault]
    folder = case / "in"
    folder.mkdir()
    (case / "one").rename(folder / "one")
    inflict(folder / "one" / "image.nii.gz")
    assert code_of(folder) == code


MASK_FAULTS = {
    "other shape": ((LABELS[:5], SHORT_AXIS), "SHAPE_MISMATCH"),
    "other place": (
        (LABELS, SHORT_AXIS + np.eye(4, k=3) * 0.3),  # a quarter of a pixel
        "GEOMETRY_MISMATCH",
    ),
    "lost affine": ((LABELS, np.eye(4)), "GEOMETRY_MISMATCH"),
    "other size": ((LABELS, SHORT_AXIS @ np.diag([1.1, 1, 1, 1])), "GEOMETRY_MISMATCH"),
}


@pytest.mark.parametrize("fault", MASK_FAULTS)
def test_mask_off_the_grid_is_refused(case, fault):
    arguments, code = MASK_FAULTS[fault]
    write(case / "one" / "mask.nii.gz", *arguments)
    assert code_of(case) == code


def test_absurd_size_is_refused_before_it_is_allocated(case, monkeypatch):
    monkeypatch.setattr(nifti_files, "MAX_VOXELS", 6 * 7 * 4 - 1)
    assert code_of(case) == "TOO_LARGE"


def test_bad_study_costs_only_itself(case):
    for name in ("two", "three"):
        write(case / name / "image.nii.gz", VOXELS, SHORT_AXIS)
        write(case / name / "mask.nii.gz", LABELS, SHORT_AXIS)
    cut(case / "two" / "image.nii.gz")
    found = source(case, NiftiConfig(), KEY)
    bad = pseudonym("two", KEY)
    good = [found.read(item) for item in found.items if item.key != bad]
    assert len(good) == 2


@pytest.mark.parametrize("name", ["image", "mask"])
def test_random_damage_raises_nothing_unplanned(case, name):
    random = np.random.default_rng(0)
    write(
        case / "one" / f"{name}.nii", VOXELS if name == "image" else LABELS, SHORT_AXIS
    )
    (case / "one" / f"{name}.nii.gz").unlink()
    path = case / "one" / f"{name}.nii"
    original = np.frombuffer(path.read_bytes(), np.uint8)
    found = source(case, NiftiConfig(spacing="affine"), KEY)
    codes = set()
    for _ in range(500):
        damaged = original.copy()
        damaged[random.integers(0, 352, size=3)] = random.integers(0, 256, size=3)
        path.write_bytes(damaged.tobytes())
        try:
            found.read(found.items[0])
            codes.add("accepted")
        except RefusedError as error:
            codes.add(error.code)
    assert {"accepted", "BAD_GEOMETRY", "PIXEL_LENGTH"} < codes


# The source


def test_source_can_be_sent_to_another_process_and_names_nobody(case):
    (case / "one").rename(case / "Doe_Jane")
    found = pickle.loads(pickle.dumps(source(case, NiftiConfig(), KEY)))
    (item,) = found.items
    assert item.key == item.patient_key == pseudonym("Doe_Jane", KEY)
    study = found.read(item)
    assert (study.study_key, study.patient_key) == (item.key, item.patient_key)
    assert found.private
    assert "Doe" not in f"{study.warnings} {found.settings} {found.left_out}"


BAD_SETTINGS = {
    "no study": ({"images": "image.nii"}, "images"),
    "index": ({"images": "{study}_{index}.nii"}, "images"),
    "unknown": ({"images": "{study}/{name}.nii"}, "images"),
    "not paired": ({"images": "{patient}/{study}.nii"}, "references"),
    "no reference": ({"references": ""}, "references"),
    "no task": ({"labels": {1: Tissue.BLOOD_POOL}}, "labels"),
}


@pytest.mark.parametrize("fault", BAD_SETTINGS)
def test_settings_that_cannot_work_are_refused(fault):
    settings, subject = BAD_SETTINGS[fault]
    with pytest.raises(RefusedError) as refused:
        NiftiConfig(**settings)
    assert (refused.value.subject, refused.value.code) == (subject, "CONFIG")


@pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/emidec is not here")
def test_emidec_read_as_any_folder_is_the_same():
    settings = NiftiConfig(
        images="{study}/Images/{study}.nii.gz",
        references="{study}/Contours/{study}.nii.gz",
        slice_order="apex_first",
        spacing="pixdim",
    )
    found = source(DATA, settings, PUBLIC_KEY)
    known = emidec.source(DATA)
    assert len(found.items) == len(known.items) == 80
    by_key = {item.key: item for item in found.items}
    for item in known.items:
        one, other = found.read(by_key[item.key]), known.read(item)
        assert one.pixels.tobytes() == other.pixels.tobytes()
        assert one.label_map.tobytes() == other.label_map.tobytes()
        assert one.affine.tobytes() == other.affine.tobytes()
        assert one.patient_key == other.patient_key
        assert one.warnings == ()
