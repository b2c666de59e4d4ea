import gzip
import itertools

import nibabel
import nrrd
import numpy as np
import pytest
from independent_references import (
    numbered,
    reordered,
    segments,
    write_nifti,
    write_nrrd,
)

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import Tissue
from tfrecords_tools.references.config import ReferenceConfig, Structure
from tfrecords_tools.references.matching import index, read_reference
from tfrecords_tools.references.nrrd_files import read_nrrd

BOTH = frozenset({"myocardium", "scar"})


ORDERS = list(itertools.product(itertools.permutations(range(3)), np.ndindex(2, 2, 2)))


@pytest.mark.parametrize(("order", "flips"), ORDERS)
def test_every_axis_order_and_flip_comes_back_exactly(
    order, flips, stack, known, read, tmp_path
):
    write_nifti(tmp_path / "l.nii.gz", *reordered(known, stack.affine, order, flips))
    reference = read(stack, tmp_path)
    assert np.array_equal(reference.label_map, known)
    assert reference.labelled == (BOTH,) * 6


@pytest.mark.parametrize("encoding", ["gzip", "raw"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_nrrd_by_values(encoding, dtype, stack, known, read, tmp_path):
    volume = known.transpose(2, 1, 0).astype(dtype)
    affine = stack.affine[:, [1, 0, 2, 3]]
    assert volume.shape == (72, 60, 6)
    header = {"encoding": encoding}
    write_nrrd(tmp_path / "l.nrrd", volume, affine, header)
    assert np.array_equal(read(stack, tmp_path).label_map, known)


def test_phantom_comes_back(phantom, read, tmp_path):
    stack, label_map = phantom
    volume, affine = reordered(label_map, stack.affine, (1, 0, 2), (0, 1, 1))
    write_nifti(tmp_path / "l.nii", volume, affine)
    assert np.array_equal(read(stack, tmp_path).label_map, label_map)


def test_slicer_segments_are_read_by_name(stack, known, read, tmp_path):
    affine = stack.affine[:, [1, 0, 2, 3]]
    write_nrrd(tmp_path / "l.seg.nrrd", numbered(known), affine, segments())
    reference = read(stack, tmp_path)
    assert np.array_equal(reference.label_map, known)
    assert reference.labelled == (BOTH,) * 6


def test_slicer_segments_without_scar_are_of_myocardium_only(
    stack, known, read, tmp_path
):
    affine = stack.affine[:, [1, 0, 2, 3]]
    healthy = np.where(known > 2, 2, known)
    names = {"Blood pool": 7, "Myocardium": 3}
    write_nrrd(tmp_path / "l.seg.nrrd", numbered(healthy), affine, segments(names))
    assert read(stack, tmp_path).labelled == (frozenset({"myocardium"}),) * 6


def test_slicer_segment_of_unknown_name_is_known_by_its_code(
    stack, known, read, tmp_path
):
    affine = stack.affine[:, [1, 0, 2, 3]]
    header = segments({"Blood pool": 7, "Segment_2": 3, "Infarct": 2, "MVO": 9})
    header["Segment1_Tags"] = (
        "TerminologyEntry:list~SCT^123037004^Anatomical Structure"
        "~SCT^74281007^Myocardium~^^~Anatomic codes~^^~^^|"
    )
    write_nrrd(tmp_path / "l.seg.nrrd", numbered(known), affine, header)
    assert np.array_equal(read(stack, tmp_path).label_map, known)


def test_overlapping_layers(stack, known, read, tmp_path):
    # Layer 0: the whole wall and the pool; layer 1: scar with its MVO over it.
    wall = np.where(known > 2, 2, known)
    layers = np.stack([numbered(wall), numbered(np.where(known > 2, known, 0))])
    affine = stack.affine[:, [1, 0, 2, 3]]
    directions = [None, *affine[:3, :3].T]
    header = segments() | {
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.array(
            [[np.nan] * 3 if d is None else d for d in directions]
        ),
        "Segment2_Layer": "1",
        "Segment3_Layer": "1",
    }
    write_nrrd(tmp_path / "l.seg.nrrd", layers, affine, header)
    assert np.array_equal(read(stack, tmp_path).label_map, known)


def test_values_are_mapped_by_the_config(stack, known, read, tmp_path):
    values = np.array([0, 5, 200, 220, 220], np.int16)[known]
    healed = np.where(known == Tissue.MVO, Tissue.SCAR, known)
    write_nifti(tmp_path / "l.nii.gz", values.transpose(1, 2, 0), stack.affine)
    table = {
        5: Structure.BLOOD_POOL,
        200: Structure.MYOCARDIUM,
        220: Structure.SCAR,
    }
    assert np.array_equal(read(stack, tmp_path, values=table).label_map, healed)
    with pytest.raises(RefusedError, match="LABELS: value 5 is no known structure"):
        read(stack, tmp_path)
    table[5] = Structure.IGNORED
    expected = np.where(healed == Tissue.BLOOD_POOL, 0, healed)
    assert np.array_equal(read(stack, tmp_path, values=table).label_map, expected)


def test_tasks_of_volumes_are_configured(stack, known, read, tmp_path):
    write_nifti(tmp_path / "l.nii.gz", known.transpose(1, 2, 0), stack.affine)
    reference = read(stack, tmp_path, tasks=["myocardium"])
    assert reference.labelled == (frozenset({"myocardium"}),) * 6
    # What nobody looked for is wall like any other.
    assert np.array_equal(reference.label_map, np.where(known > 2, 2, known))


def moved(affine, change):
    affine = affine.copy()
    change(affine)
    return affine


def shift(affine):
    affine[:3, 3] += affine[:3, 0] * 0.1  # 0.15 mm, over the 0.05 that are let pass


def half_slice(affine):
    affine[:3, 3] += affine[:3, 2] / 2


def widen(affine):
    affine[:3, 1] *= 1.002  # over 1e-3


def tilt(affine):
    affine[:3, 0] += affine[:3, 1] * 0.01


@pytest.mark.parametrize("change", [shift, half_slice, widen, tilt])
def test_another_grid_is_refused(change, stack, known, read, tmp_path):
    volume = known.transpose(1, 2, 0)
    write_nifti(tmp_path / "l.nii.gz", volume, moved(stack.affine, change))
    with pytest.raises(RefusedError) as error:
        read(stack, tmp_path)
    assert error.value.code == "GEOMETRY_MISMATCH"


def test_rounding_of_headers_is_let_pass(stack, known, read, tmp_path):
    affine = stack.affine.copy()
    affine[:3, :3] *= 1.0004
    affine[:3, 3] += 0.02
    write_nifti(tmp_path / "l.nii.gz", known.transpose(1, 2, 0), affine)
    assert np.array_equal(read(stack, tmp_path).label_map, known)


@pytest.mark.parametrize("cut", [np.s_[:, :, 1:], np.s_[:, :-2], np.s_[1:]])
def test_another_size_is_refused(cut, stack, known, read, tmp_path):
    write_nifti(tmp_path / "l.nii.gz", known.transpose(1, 2, 0)[cut], stack.affine)
    with pytest.raises(RefusedError, match="GEOMETRY_MISMATCH"):
        read(stack, tmp_path)


def test_affine_without_voxel_size_is_refused(stack, known, read, tmp_path):
    affine = np.diag([-1.0, -1, 1, 1])
    path = tmp_path / "l.nii.gz"
    image = nibabel.Nifti1Image(known.transpose(2, 1, 0), affine)
    image.header["pixdim"][1:4] = 1.5, 1.5, 10
    nibabel.save(image, path)
    with pytest.raises(RefusedError, match="pixdim state different voxel sizes"):
        read(stack, tmp_path)


def test_an_image_is_no_label_map(stack, read, tmp_path):
    write_nifti(tmp_path / "i.nii.gz", stack.pixels.transpose(1, 2, 0), stack.affine)
    with pytest.raises(RefusedError, match="UNSUPPORTED: .* an image, not labels"):
        read(stack, tmp_path)


def test_labels_beside_an_image_are_found(stack, known, read, tmp_path):
    write_nifti(tmp_path / "i.nii.gz", stack.pixels.transpose(1, 2, 0), stack.affine)
    write_nifti(tmp_path / "l.nii.gz", known.transpose(1, 2, 0), stack.affine)
    assert np.array_equal(read(stack, tmp_path).label_map, known)


def test_damaged_gzip_is_refused(stack, known, read, tmp_path):
    path = tmp_path / "l.nii.gz"
    write_nifti(path, known.transpose(1, 2, 0), stack.affine)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RefusedError, match="CORRUPT"):
        read(stack, tmp_path)


def test_unknown_names_are_refused_and_can_be_ignored(stack, known, read, tmp_path):
    affine = stack.affine[:, [1, 0, 2, 3]]
    header = segments({"Blood pool": 7, "Myocardium": 3, "Scar": 2, "Papillary": 9})
    path = tmp_path / "l.seg.nrrd"
    write_nrrd(path, numbered(known), affine, header)
    with pytest.raises(RefusedError, match=r"LABELS: 'Papillary' .* in drawn.names"):
        read(stack, tmp_path)
    ignored = read(stack, tmp_path, names={"PAPILLARY": Structure.IGNORED})
    assert (ignored.label_map == Tissue.MVO).sum() == 0
    scar = np.where(known == Tissue.MVO, 0, known) == Tissue.SCAR
    assert np.array_equal(ignored.label_map == Tissue.SCAR, scar)


@pytest.mark.parametrize("name", ["x" * 41, "Jürgen", "a\x1b[31mb"])
def test_free_text_of_a_file_is_not_shown(name):
    with pytest.raises(RefusedError, match="a name that cannot be shown") as error:
        ReferenceConfig().structure("file", name)
    assert name not in str(error.value)


def test_voxels_of_no_segment_are_refused(stack, known, read, tmp_path):
    affine = stack.affine[:, [1, 0, 2, 3]]
    header = segments({"Blood pool": 7, "Myocardium": 3, "Scar": 2})
    write_nrrd(tmp_path / "l.seg.nrrd", numbered(known), affine, header)
    with pytest.raises(RefusedError, match="voxels of no segment"):
        read(stack, tmp_path)


HEAD = """NRRD0004
type: unsigned char
dimension: 3
space: left-posterior-superior
sizes: 2 2 2
space directions: (1,0,0) (0,1,0) (0,0,1)
encoding: raw
space origin: (0,0,0)
"""


@pytest.mark.parametrize(
    ("head", "data", "code"),
    [
        ("NRRD0004", b"", "BAD_HEADER"),
        (HEAD.replace("sizes: 2 2 2", "sizes: 2 2"), b"12345678", "UNSUPPORTED"),
        (HEAD.replace("sizes: 2 2 2", "sizes: 2 -2 2"), b"12345678", "UNSUPPORTED"),
        (HEAD.replace("sizes: 2 2 2", "sizes: a"), b"12345678", "BAD_HEADER"),
        (HEAD.replace("unsigned char", "float"), b"12345678", "BAD_HEADER"),
        (HEAD.replace("2 2 2", "99999 99999 99999"), b"", "TOO_LARGE"),
        (HEAD.replace("(0,1,0)", "(0,nan,0)"), b"12345678", "BAD_GEOMETRY"),
        (HEAD.replace("(0,1,0)", "(1,0,0)"), b"12345678", "BAD_GEOMETRY"),
        (HEAD.replace("(0,1,0)", "(1,0)"), b"12345678", "BAD_HEADER"),
        (HEAD.replace("space: left", "space: up"), b"12345678", "BAD_HEADER"),
        (HEAD.replace(": raw", ": bzip2"), b"12345678", "UNSUPPORTED"),
        (HEAD + "data file: /etc/passwd\n", b"", "UNSUPPORTED"),
        (HEAD + "line skip: 3\n", b"12345678", "UNSUPPORTED"),
        (HEAD, b"1234567", "PIXEL_LENGTH"),
        (HEAD.replace(": raw", ": gzip"), b"12345678", "CORRUPT"),
        (HEAD.replace(": raw", ": gzip"), gzip.compress(b"12345678")[:-4], "TRUNCATED"),
        (
            HEAD.replace(": raw", ": gzip"),
            gzip.compress(bytes(200 * 2**20), 1),
            "PIXEL_LENGTH",
        ),
    ],
)
def test_damaged_nrrd_is_refused(head, data, code, tmp_path):
    path = tmp_path / "x.nrrd"
    path.write_bytes(head.encode() + b"\n" + data)
    with pytest.raises(RefusedError) as error:
        read_nrrd(path)
    assert error.value.code == code


def test_same_content_as_pynrrd_reads(tmp_path):
    path = tmp_path / "x.nrrd"
    path.write_bytes(HEAD.encode() + b"\n" + bytes(range(8)))
    expected, _ = nrrd.read(str(path))
    assert np.array_equal(read_nrrd(path).layers[0], expected)


SAMPLE_NAMES = (
    "dcmqi_heart_seg.nrrd",
    "slicerio_Segmentation.seg.nrrd",
    "slicerio_SegmentationOverlapping.seg.nrrd",
)


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_real_nrrd_is_read_as_pynrrd_does(name, samples):
    volume = read_nrrd(samples / name)
    expected, header = nrrd.read(str(samples / name))
    expected = expected if expected.ndim == 4 else expected[None]
    assert np.array_equal(volume.layers, expected)
    directions = header["space directions"][-3:]
    assert np.allclose(volume.affine[:3, :3].T, directions)  # both are LPS


def test_index_keeps_what_cannot_be_read_for_later(tmp_path, stack):
    (tmp_path / "l.nii.gz").write_bytes(b"not gzip")
    (found,) = index(tmp_path)
    with pytest.raises(RefusedError, match="NOT_NIFTI"):
        read_reference(stack, [found], ReferenceConfig())


@pytest.mark.parametrize("name", ["l.nii", "l.nii.gz", "l.seg.nrrd"])
def test_damage_of_no_plan(name, stack, known, tmp_path, fuzz):
    if name.endswith("nrrd"):
        affine = stack.affine[:, [1, 0, 2, 3]]
        write_nrrd(tmp_path / name, numbered(known), affine, segments())
    else:
        write_nifti(tmp_path / name, known.transpose(1, 2, 0), stack.affine)
    fuzz(tmp_path / name)
