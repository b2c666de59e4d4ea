"""PNG slices: spacing from the table, order from the numbers, bombs refused early."""

import contextlib
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tfrecords_tools import png_files
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import Tissue
from tfrecords_tools.png_files import read_grey
from tfrecords_tools.sources.config import PngConfig
from tfrecords_tools.sources.labelled import MaskPatterns
from tfrecords_tools.sources.png import source

KEY = b"a key"
HEADER = "study,spacing_mm_rows,spacing_mm_columns,slice_spacing_mm\n"
PIXELS = np.random.default_rng(0).integers(0, 65536, (3, 5, 4), np.uint16)
LABELS = np.full((3, 5, 4), Tissue.HEALTHY_MYOCARDIUM, np.uint8)
LABELS[1, 3, 2] = Tissue.SCAR


@pytest.fixture
def case(tmp_path):
    """Study `a` of slices 9, 10, 11: names do not sort as numbers do."""
    for number, (pixels, labels) in enumerate(zip(PIXELS, LABELS, strict=True), 9):
        Image.fromarray(pixels).save(tmp_path / f"a_{number}.png")
        Image.fromarray(labels).save(tmp_path / f"a_{number}_mask.png")
    (tmp_path / "spacing.csv").write_text(HEADER + "a,1.5,1.25,8\nb,1,1,1\n")
    return tmp_path


def read_one(folder, **settings):
    found = source(folder, PngConfig(**settings), KEY)
    (item,) = found.items
    return found.read(item)


def code_of(folder, **settings):
    with pytest.raises(RefusedError) as refused:
        read_one(folder, **settings)
    assert len(str(refused.value).splitlines()) == 1
    return refused.value.code


def test_pixels_labels_and_spacing(case):
    study = read_one(case, slice_order="base_first")
    np.testing.assert_array_equal(study.pixels, PIXELS)
    np.testing.assert_array_equal(study.label_map, LABELS)
    assert (*study.spacing_mm, study.slice_spacing_mm) == (1.5, 1.25, 8)
    assert study.labelled == (frozenset({"myocardium", "scar"}),) * 3
    assert study.warnings == ()


def test_order_is_assumed_with_a_warning_or_stated(case):
    (warning,) = read_one(case).warnings
    assert warning.startswith("SLICE_ORDER")
    study = read_one(case, slice_order="apex_first")
    np.testing.assert_array_equal(study.pixels, PIXELS[::-1])


def test_eight_bits_are_read(case):
    pixels = (PIXELS // 256).astype(np.uint8)
    for number, slice_ in enumerate(pixels, 9):
        Image.fromarray(slice_).save(case / f"a_{number}.png")
    np.testing.assert_array_equal(read_one(case).pixels, pixels)


def test_masks_of_255(case):
    for number, labels in enumerate(LABELS, 9):
        for name, mask in (("wall", labels > 0), ("scar", labels == Tissue.SCAR)):
            picture = Image.fromarray(mask.astype(np.uint8) * 255)
            picture.save(case / f"a_{number}_{name}.png")
    masks = MaskPatterns(
        myocardium="{study}_{index}_wall.png", scar="{study}_{index}_scar.png"
    )
    study = read_one(case, masks=masks, references="")
    np.testing.assert_array_equal(study.label_map, LABELS)


def chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    )


def png(width, height, pixels, depth=8, colour=0, interlaced=0, extra=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = (chunk(b"IHDR", header), extra, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


ROWS = b"".join(b"\0" + bytes(range(4 * row, 4 * row + 4)) for row in range(5))
GOOD = png(4, 5, zlib.compress(ROWS))
FAULTS = {
    "text": (b"x" * 99, "NOT_PNG"),
    "empty": (b"", "NOT_PNG"),
    "signature only": (GOOD[:8], "TRUNCATED"),
    "cut": (GOOD[:-15], "TRUNCATED"),
    "cut end": (GOOD[:-1], "TRUNCATED"),
    "flipped bit": (GOOD[:45] + bytes([GOOD[45] ^ 1]) + GOOD[46:], "CORRUPT"),
    "header checksum": (GOOD[:29] + b"xxxx" + GOOD[33:], "CORRUPT"),
    "pixel checksum": (GOOD[:-16] + b"xxxx" + GOOD[-12:], "CORRUPT"),
    "more behind": (GOOD + b"x", "CORRUPT"),
    "no header": (GOOD[:8] + GOOD[33:], "BAD_HEADER"),
    "absurd size": (png(2**31 - 1, 2**31 - 1, b""), "TOO_LARGE"),
    "size 0": (png(0, 5, b""), "TOO_LARGE"),
    "colour": (png(4, 5, zlib.compress(bytes(65)), colour=2), "UNSUPPORTED"),
    "palette": (png(4, 5, zlib.compress(bytes(25)), colour=3), "UNSUPPORTED"),
    "alpha": (png(4, 5, zlib.compress(bytes(45)), colour=4), "UNSUPPORTED"),
    "1 bit": (png(4, 5, zlib.compress(bytes(10)), depth=1), "UNSUPPORTED"),
    "interlaced": (png(4, 5, zlib.compress(ROWS), interlaced=1), "UNSUPPORTED"),
    "too few pixels": (png(4, 5, zlib.compress(ROWS[:-1])), "PIXEL_LENGTH"),
    "too many pixels": (png(4, 5, zlib.compress(ROWS + b"x")), "PIXEL_LENGTH"),
    "cut stream": (png(4, 5, zlib.compress(ROWS)[:-1]), "PIXEL_LENGTH"),
    "wrong checksum": (png(4, 5, zlib.compress(ROWS)[:-4] + b"xxxx"), "CORRUPT"),
    "no pixels": (png(4, 5, b""), "PIXEL_LENGTH"),
    "no zlib": (png(4, 5, b"x" * 30), "CORRUPT"),
    "bad filter": (png(4, 5, zlib.compress(b"\x09" * 25)), "DECODE"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["a_10.png", "a_10_mask.png"])
def test_bad_file_is_refused(case, fault, name):
    content, code = FAULTS[fault]
    (case / name).write_bytes(content)
    assert code_of(case) == code


def second_header(side):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))


@pytest.mark.parametrize(
    "extra",
    [chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**25))), second_header(13_000)],
    ids=["text bomb", "second header"],
)
def test_chunks_beside_the_picture_never_reach_the_decoder(case, extra):
    path = case / "a_10.png"
    path.write_bytes(png(4, 5, zlib.compress(ROWS), extra=extra))
    assert read_grey(path)[1].tolist() == [4, 5, 6, 7]


def test_pixels_behind_the_picture_are_not_inflated(case):
    path = case / "a_10.png"
    path.write_bytes(png(4, 5, zlib.compress(ROWS + bytes(2**27), 1)))
    tracemalloc.start()
    with pytest.raises(RefusedError, match="PIXEL_LENGTH"):
        read_grey(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26  # 32 MB is the buffer for the file, 128 MB is hidden in it


def test_file_beyond_the_bound_is_not_read(case, monkeypatch):
    monkeypatch.setattr(png_files, "MAX_FILE_BYTES", 50)
    assert code_of(case) == "TOO_LARGE"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    place=st.integers(8, len(GOOD) - 1), value=st.integers(0, 255), mend=st.booleans()
)
def test_damage_raises_nothing_unplanned(tmp_path, place, value, mend):
    damaged = bytearray(GOOD)
    damaged[place] = value
    if mend:  # checksums that fit, so that the decoder is reached
        start = 8
        while start + 12 <= len(damaged):
            size = int.from_bytes(damaged[start : start + 4])
            end = start + 8 + size
            if end + 4 > len(damaged):
                break
            checksum = zlib.crc32(damaged[start + 4 : end])
            damaged[end : end + 4] = checksum.to_bytes(4)
            start = end + 4
    path = tmp_path / "a.png"
    path.write_bytes(damaged)
    # The picture, or a refusal; any other exception fails the test.
    with contextlib.suppress(RefusedError):
        assert read_grey(path).ndim == 2


# Slices


def test_missing_number_is_a_gap(case):
    for name in ("a_10.png", "a_10_mask.png"):
        (case / name).unlink()
    assert code_of(case) == "GAP"


def test_number_twice_is_refused(case):
    for name in ("a_9", "a_9_mask"):
        content = (case / f"{name}.png").read_bytes()
        (case / f"{name.replace('9', '09')}.png").write_bytes(content)
    assert code_of(case) == "DUP_POSITION"


@pytest.mark.parametrize("name", ["a_11.png", "a_10_mask.png"])
def test_slice_of_another_shape_is_refused(case, name):
    Image.fromarray(PIXELS[0].T.copy()).save(case / name)
    assert code_of(case) == "SHAPE_MISMATCH"


def test_slice_without_mask_leaves_the_study_out(case):
    (case / "a_10_mask.png").unlink()
    assert code_of(case) == "NO_STUDIES"
    assert read_one(case, unlabelled=True).labelled == (frozenset(),) * 3


def test_too_many_pixels_in_all(case, monkeypatch):
    monkeypatch.setattr("tfrecords_tools.sources.png.MAX_VOXELS", 3 * 5 * 4 - 1)
    assert code_of(case) == "TOO_LARGE"


# Table

TABLES = {
    "absent": (None, "NOT_A_FILE"),
    "empty": (b"", "BAD_HEADER"),
    "header only": (HEADER.encode(), "BAD_HEADER"),
    "other columns": (b"study,spacing\na,1\n", "BAD_HEADER"),
    "binary": (b"\xff\xfe\0", "CORRUPT"),
    "open quote": (HEADER.encode() + b'a,"1,1,1\n', "CORRUPT"),
    "long field": (HEADER.encode() + b"a," + b"1" * 200_000, "CORRUPT"),
    "no row": (HEADER.encode() + b"b,1,1,1\n", "BAD_GEOMETRY"),
    "two rows": (HEADER.encode() + b"a,1,1,8\na,1,1,9\n", "BAD_GEOMETRY"),
    "short row": (HEADER.encode() + b"a,1,1\n", "BAD_GEOMETRY"),
    "text": (HEADER.encode() + b"a,1,x,8\n", "BAD_GEOMETRY"),
    "comma": (HEADER.encode() + b'a,"1,5",1,8\n', "BAD_GEOMETRY"),
    "zero": (HEADER.encode() + b"a,0,1,8\n", "BAD_GEOMETRY"),
    "NaN": (HEADER.encode() + b"a,nan,1,8\n", "BAD_GEOMETRY"),
    "metres": (HEADER.encode() + b"a,0.0015,0.0015,0.008\n", "BAD_GEOMETRY"),
}


@pytest.mark.parametrize("fault", TABLES)
def test_bad_table_is_refused(case, fault):
    content, code = TABLES[fault]
    (case / "spacing.csv").unlink()
    if content is not None:
        (case / "spacing.csv").write_bytes(content)
    assert code_of(case) == code


def test_table_of_a_spreadsheet_with_patients(case):
    table = "\ufeffpatient," + HEADER + "p,a,1.5,1.25,8\nq,a,9,9,9\n"
    (case / "spacing.csv").write_text(table, encoding="utf-8")
    (case / "p").mkdir()
    for path in case.glob("a_*.png"):
        path.rename(case / "p" / path.name)
    study = read_one(
        case,
        images="{patient}/{study}_{index}.png",
        references="{patient}/{study}_{index}_mask.png",
    )
    assert study.spacing_mm == (1.5, 1.25)
