"""Bad volumes and pictures among good ones, and all kinds of studies in one folder."""

import csv
import gzip
import io
import os
import shutil
import struct
import zlib

import nibabel
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

SHAPE = (20, 18, 4)  # columns, rows, slices
AFFINE = np.diag([1.4, 1.3, 9.0, 1.0])


def pixels(name):
    random = np.random.default_rng(zlib.crc32(os.fsencode(name)))
    return random.integers(0, 900, SHAPE).astype(np.int16)


def labels():
    found = np.zeros(SHAPE, np.uint8)
    found[4:16, 4:14] = 2
    found[7:13, 7:11] = 1
    found[4:7, 6:12] = 3
    return found


def volume(array, affine=AFFINE, **header):
    """Content of a .nii file; fields of the header are written as they are given."""
    content = nibabel.Nifti1Image(array, affine).to_bytes()
    changed = nibabel.Nifti1Header(content[:348], check=False)
    for name, value in header.items():
        changed[name] = value
    return changed.binaryblock + content[348:]


def both(array, sizes_mm, axes=(0, 1, 2)):
    """Image and mask on another grid."""
    affine = np.diag([*sizes_mm, 1])
    return volume(array, affine), volume(labels().transpose(axes), affine)


def with_pixel(array, value, dtype=np.float32):
    array = array.astype(dtype)
    array[3, 3, 1] = value
    return array


def flat(array):
    array = array.copy()
    array[:, :, 2] = 7
    return array


def bomb():
    press = zlib.compressobj(9, wbits=31)
    parts = [press.compress(volume(labels()))]
    parts += [press.compress(bytes(2**20)) for _ in range(200)]
    return b"".join(parts) + press.flush()


def bit(content, at):
    """One bit flipped in the compressed data, as a bad disk does it."""
    content = bytearray(gzip.compress(content, mtime=0))
    content[int(at * len(content))] ^= 16
    return bytes(content)


def flipped_crc(content):
    content = bytearray(gzip.compress(content, mtime=0))
    content[-8] ^= 1
    return bytes(content)


DIM_4 = [4, 20, 18, 2, 2, 1, 1, 1]
HUGE = [3, 30000, 30000, 30000, 1, 1, 1, 1]
NEGATIVE = [3, -20, 18, 4, 1, 1, 1, 1]
UNSIZED = {"srow_x": [1, 0, 0, 0], "srow_y": [0, 1, 0, 0], "srow_z": [0, 0, 1, 0]}
SHEARED = AFFINE + np.array([[0, 0.7, 0, 0], *np.zeros((3, 4))])
MOVED = AFFINE + np.array([[0, 0, 0, 5], *np.zeros((3, 4))])

IMAGES = {
    "cut": (lambda x: gzip.compress(volume(x))[:-9], "TRUNCATED"),
    "cut in header": (lambda x: volume(x)[:200], "NOT_NIFTI"),
    "cut in pixels": (lambda x: volume(x)[:-1], "PIXEL_LENGTH"),
    "empty": (lambda x: b"", "NOT_NIFTI"),
    "text": (lambda x: b"<html>" * 200, "NOT_NIFTI"),
    "bit": (lambda x: bit(volume(x), 0.7), "CORRUPT"),
    "crc": (lambda x: flipped_crc(volume(x)), "CORRUPT"),
    "and more": (lambda x: gzip.compress(volume(x)) + b"x", "CORRUPT"),
    "two streams": (lambda x: gzip.compress(volume(x)) * 2, "CORRUPT"),
    "bomb": (lambda x: bomb(), "TOO_LARGE"),
    "zip": (lambda x: b"PK\3\4" + bytes(900), "NOT_NIFTI"),
    "longer": (lambda x: volume(x) + b"more", "PIXEL_LENGTH"),
    "4-D": (lambda x: volume(x, dim=DIM_4), "UNSUPPORTED"),
    "2-D": (lambda x: volume(x[:, :, 0]), "UNSUPPORTED"),
    "huge": (lambda x: volume(x, dim=HUGE), "TOO_LARGE"),
    "negative": (lambda x: volume(x, dim=NEGATIVE), "UNSUPPORTED"),
    "no type": (lambda x: volume(x, datatype=0), "UNSUPPORTED"),
    "type 999": (lambda x: volume(x, datatype=999), "BAD_HEADER"),
    "complex": (lambda x: volume(x.astype(np.complex64)), "UNSUPPORTED"),
    "offset 0": (lambda x: volume(x, vox_offset=0), "PIXEL_LENGTH"),
    "offset NaN": (lambda x: volume(x, vox_offset=np.nan), ""),
    "slope NaN": (lambda x: volume(x, scl_slope=1, scl_inter=np.inf), "BAD_HEADER"),
    "slope 1e38": (lambda x: volume(x, scl_slope=3e38), "NOT_FINITE"),
    "NaN": (lambda x: volume(with_pixel(x, np.nan)), "NOT_FINITE"),
    "infinite": (lambda x: volume(with_pixel(x, -np.inf)), "NOT_FINITE"),
    "1e300": (lambda x: volume(with_pixel(x, 1e300, np.float64)), "NOT_FINITE"),
    "constant": (lambda x: volume(flat(x)), "CONSTANT"),
    "size 0": (lambda x: volume(x, pixdim=[1, 0, 0, 0, 1, 1, 1, 1]), "BAD_GEOMETRY"),
    "size NaN": (lambda x: volume(x, pixdim=[1, np.nan] + [1] * 6), "BAD_GEOMETRY"),
    "size 1e9": (lambda x: both(x, [1e9, 1e9, 1e9]), "BAD_GEOMETRY"),
    "size 0.01": (lambda x: both(x, [0.01, 0.01, 9]), "BAD_GEOMETRY"),
    "microns": (lambda x: volume(x, xyzt_units=3), "UNSUPPORTED"),
    "unsized": (lambda x: volume(x, **UNSIZED), "GEOMETRY_MISMATCH"),
    "singular": (lambda x: volume(x, srow_x=0), "BAD_GEOMETRY"),
    "affine NaN": (lambda x: volume(x, srow_y=np.nan), "BAD_GEOMETRY"),
    "sheared": (lambda x: volume(x, SHEARED), "BAD_GEOMETRY"),
    "forms": (lambda x: volume(x, qform_code=1, qoffset_x=50), "GEOMETRY_MISMATCH"),
    "slices across": (
        lambda x: both(x.transpose(2, 0, 1), [9, 1.4, 1.3], (2, 0, 1)),
        "BAD_GEOMETRY",
    ),
}
"""By name: content of the image of a study from its pixels, and the code."""

MASKS = {
    "m cut": (lambda: gzip.compress(volume(labels()))[:-9], "TRUNCATED"),
    "m bit": (lambda: bit(volume(labels()), 0.6), "CORRUPT"),
    "m crc": (lambda: flipped_crc(volume(labels())), "CORRUPT"),
    "m empty": (lambda: b"", "NOT_NIFTI"),
    "m shape": (lambda: volume(labels()[:, :, :3]), "SHAPE_MISMATCH"),
    "m moved": (lambda: volume(labels(), MOVED), "GEOMETRY_MISMATCH"),
    "m size": (lambda: volume(labels(), np.diag([1.4, 1.4, 9, 1])), "GEOMETRY_"),
    "m value 9": (lambda: volume(with_pixel(labels(), 9)), "LABELS"),
    "m value 1.5": (lambda: volume(with_pixel(labels(), 1.5)), "LABELS"),
    "m value -1": (lambda: volume(with_pixel(labels(), -1, np.int16)), "LABELS"),
    "m value NaN": (lambda: volume(with_pixel(labels(), np.nan)), "LABELS"),
    "m 4-D": (lambda: volume(labels(), dim=DIM_4), "UNSUPPORTED"),
}
"""By name: content of the mask of a study, and the code."""


def write(folder, name, image=None, mask=None):
    place = folder / name
    place.mkdir(parents=True)
    contents = {"image": image, "mask": mask}
    usual = {"image": volume(pixels(name)), "mask": volume(labels())}
    for file, content in contents.items():
        content = usual[file] if content is None else content
        is_packed = content[:2] == b"\x1f\x8b"
        (place / f"{file}.nii{'.gz' * is_packed}").write_bytes(content)


GOOD = ("good one", os.fsdecode(b"M\xfcller"), "x\x1b[2J\r\n", "=cmd()", "..x", "-h")
OPTIONS = ("--slice_order", "base_first")


def write_good(folder):
    for name in GOOD:
        write(folder, name)


def write_bad(folder):
    for name, (content, _) in IMAGES.items():
        made = content(pixels(name))
        write(folder, name, *(made if isinstance(made, tuple) else [made]))
    for name, (content, _) in MASKS.items():
        write(folder, name, mask=content())
    write(folder, "image only")
    (folder / "image only" / "mask.nii").unlink()
    write(folder, "mask only")
    (folder / "mask only" / "image.nii").unlink()
    outside = folder.parent / "outside"
    write(folder.parent, "outside")
    (folder / "linked").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    for name, make in ODD_FILES.items():
        write(folder, name)
        path = folder / name / "image.nii"
        path.unlink()
        make(path, outside / "image.nii")


ODD_FILES = {
    "leads out": lambda path, target: path.symlink_to(target),
    "leads round": lambda path, target: path.symlink_to(path),
    "pipe": lambda path, target: os.mkfifo(path),
}


@pytest.fixture(scope="module")
def outcome(survive):
    return survive("nifti", write_good, write_bad, OPTIONS)


@pytest.mark.parametrize("name", [*IMAGES, *MASKS])
def test_study_is_refused_with_its_code(name, outcome):
    (code,) = outcome.codes(name)
    assert code.startswith((IMAGES | MASKS)[name][1])


@pytest.mark.parametrize("name", ODD_FILES)
def test_what_is_no_file_is_refused(name, outcome):
    assert outcome.codes(name) == ["NOT_A_FILE"]


def test_nothing_else_is_refused(outcome):
    refused = len(IMAGES) + len(MASKS) + len(ODD_FILES)
    assert sum(map(len, outcome.refused.values())) == refused
    assert len(outcome.patients) == len(GOOD)


def test_halves_are_left_out(outcome):
    reason = "no reference of its name, or not all; --unlabelled takes it so"
    assert outcome.reasons("image only") == [reason]
    assert outcome.left_out["reference", "no image of its name"] == 1


# Pictures


def chunks(*parts):
    made = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in parts:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        made.append(struct.pack(">I", len(data)) + kind + data + crc)
    return b"".join(made)


def head(width, height, depth=8, colour=0):
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def picture(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def slice_of(name, index):
    return pixels(name)[:, :, index].T.astype(np.uint16)


def flipped(content):
    content = bytearray(content)
    content[-30] ^= 8
    return bytes(content)


PICTURES = {
    "cut": (lambda x: picture(x)[:-20], "TRUNCATED"),
    "empty": (lambda x: b"", "NOT_PNG"),
    "text": (lambda x: b"GIF89a" * 50, "NOT_PNG"),
    "bit": (lambda x: flipped(picture(x)), "CORRUPT"),
    "more": (lambda x: picture(x) + b"x", "CORRUPT"),
    "colour": (lambda x: picture(np.zeros((18, 20, 3), np.uint8)), "UNSUPPORTED"),
    "shape": (lambda x: picture(x[:-1]), "SHAPE_MISMATCH"),
    "constant": (lambda x: picture(np.full_like(x, 3)), "CONSTANT"),
    "size": (
        lambda x: chunks((b"IHDR", head(2**31 - 1, 2**31 - 1)), (b"IEND", b"")),
        "TOO_LARGE",
    ),
    "bomb": (
        lambda x: chunks(
            (b"IHDR", head(20, 18)),
            (b"IDAT", zlib.compress(bytes(2**27), 9)),
            (b"IEND", b""),
        ),
        "PIXEL_LENGTH",
    ),
    "text bomb": (
        lambda x: chunks(
            (b"IHDR", head(20, 18)),
            (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27), 9)),
            (b"IEND", b""),
        ),
        "PIXEL_LENGTH",
    ),
}
"""By name: content of the second slice of a study, and the code."""

TABLE = {
    "spacing 0": (["0", "1", "9"], "BAD_GEOMETRY"),
    "spacing NaN": (["nan", "1", "9"], "BAD_GEOMETRY"),
    "spacing 1e9": (["1e9", "1e9", "9"], "BAD_GEOMETRY"),
    "spacing below 0": (["-1", "1", "9"], "BAD_GEOMETRY"),
    "spacing a word": (["wide", "1", "9"], "BAD_GEOMETRY"),
    "spacing empty": (["", "", ""], "BAD_GEOMETRY"),
    "no spacing": (None, "BAD_GEOMETRY"),
}
"""By name: the spacings of a study in the table, and the code."""

USUAL = ["1.4", "1.4", "9"]


def write_slices(folder, name, spacing=USUAL, second=None):
    for index in range(SHAPE[2]):
        image = picture(slice_of(name, index))
        mask = picture(labels()[:, :, index].T.copy())
        (folder / f"{name}_{index}_mask.png").write_bytes(mask)
        content = second if second is not None and index == 1 else image
        (folder / f"{name}_{index}.png").write_bytes(content)
    if spacing:
        add_row(folder, [name, *spacing])


def add_row(folder, row):
    path = folder / "spacing.csv"
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            names = ("spacing_mm_rows", "spacing_mm_columns", "slice_spacing_mm")
            writer.writerow(["study", *names])
        writer.writerow(row)


def write_bad_slices(folder):
    for name, (content, _) in PICTURES.items():
        write_slices(folder, name, second=content(slice_of(name, 1)))
    for name, (spacing, _) in TABLE.items():
        write_slices(folder, name, spacing)
    write_slices(folder, "two rows")
    add_row(folder, ["two rows", "2", "2", "9"])
    add_row(folder, ["../../etc/passwd", *USUAL])
    write_slices(folder, "a gap")
    for name in ("a gap_2.png", "a gap_2_mask.png"):
        (folder / name).unlink()
    write_slices(folder, "twice")
    for name in ("twice_1.png", "twice_1_mask.png"):
        (folder / name.replace("1", "01")).write_bytes((folder / name).read_bytes())
    write_slices(folder, "value")
    mask = np.full((18, 20), 77, np.uint8)
    (folder / "value_1_mask.png").write_bytes(picture(mask))
    write_slices(folder, "no mask")
    (folder / "no mask_1_mask.png").unlink()
    write_slices(folder, "leads out")
    (folder / "leads out_1.png").unlink()
    (folder / "leads out_1.png").symlink_to("/etc/passwd")


OTHERS = {
    "two rows": "BAD_GEOMETRY",
    "a gap": "GAP",
    "twice": "DUP_POSITION",
    "value": "LABELS",
    "leads out": "NOT_A_FILE",
}
CODES = {name: code for name, (_, code) in (PICTURES | TABLE).items()} | OTHERS


def write_good_slices(folder):
    for name in ("first", "second", "third"):
        write_slices(folder, name)


@pytest.fixture(scope="module")
def pictures(survive):
    return survive("png", write_good_slices, write_bad_slices, OPTIONS)


@pytest.mark.parametrize("name", CODES)
def test_slices_are_refused_with_their_code(name, pictures):
    assert pictures.codes(name) == [CODES[name]]


def test_no_other_slices_are_refused(pictures):
    assert sum(map(len, pictures.refused.values())) == len(CODES)
    assert pictures.reasons("no mask")


# All kinds in one folder


def test_bad_ones_of_one_kind_cost_no_other_kind(survive, dicom_writing):
    def good(folder):
        write_good(folder)
        write_good_slices(folder)
        stack, affine = dicom_writing.small_stack(), dicom_writing.short_axis_affine()
        series = dicom_writing.classic(stack, affine, **dicom_writing.LGE)
        dicom_writing.save_all(series, folder / "dicom")

    def bad(folder):
        write_bad(folder)
        write_bad_slices(folder)
        # Whole without a reference, as these settings want it.
        shutil.rmtree(folder / "image only")
        for path in folder.glob("no mask*"):
            path.unlink()
        (folder / "dicom" / "x").mkdir()
        (folder / "dicom" / "x" / "y.dcm").write_bytes(b"x")

    found = survive("auto", good, bad, ["--unlabelled"])
    missed = [name for name in IMAGES | MASKS if not found.codes(name)]
    assert missed == []
    assert [name for name in CODES if not found.codes(name)] == []


# Damage of no plan


@pytest.mark.parametrize("kind", ["nifti", "auto"])
@pytest.mark.parametrize("file", ["image", "mask"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_damaged_volume(kind, file, pack, fuzz, tmp_path):
    contents = {"image": volume(pixels("x")), "mask": volume(labels())}
    contents[file] = pack(contents[file])
    write(tmp_path, "one", **contents)
    (path,) = (tmp_path / "one").glob(f"{file}.*")
    fuzz(kind, tmp_path, path)


@pytest.mark.parametrize("file", ["x_1.png", "x_1_mask.png", "spacing.csv"])
def test_damaged_picture_or_table(file, fuzz, tmp_path):
    write_slices(tmp_path, "x")
    fuzz("png", tmp_path, tmp_path / file)
