"""One file that is damaged, hostile or too large: a code, never another exception."""

import io
import logging
import os
import stat
import struct
import time
import zlib

import numpy as np
import pytest
from pydicom import Dataset, dcmread, uid
from pydicom.filebase import DicomBytesIO

from tfrecords_tools.dicom import files, pixels
from tfrecords_tools.dicom.files import read_identity
from tfrecords_tools.dicom.scan import read_one
from tfrecords_tools.dicom.stacks import read_stack
from tfrecords_tools.errors import RefusedError

SECRET = "Doe^Jane"


@pytest.fixture
def image(dicom_writing, tmp_path):
    """One file of a stack, whose patient must not come up in any message."""
    datasets = dicom_writing.classic(
        dicom_writing.small_stack(),
        dicom_writing.short_axis_affine(),
        (SECRET, "S", "1"),
    )
    return dicom_writing.save(datasets[0], tmp_path / "image.dcm")


def outcome(path):
    """Code of whatever happens on the way from a file to pixels, or `accepted`."""
    header = read_one(path)
    code, reason = header.fault or ("accepted", "")
    if not header.fault:
        slices = [(path, frame.number) for frame in header.frames]
        try:
            read_stack(slices or [(path, 1)])
        except RefusedError as error:
            code, reason = error.code, error.reason
    assert SECRET not in reason
    # A stack of one slice: all that is wrong is that the others are not there.
    return "accepted" if code == "GAP" else code


def rewrite(path, change):
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path, overwrite=True)


def setting(**values):
    def inflict(path):
        def change(dataset):
            for keyword, value in values.items():
                if value is None:
                    delattr(dataset, keyword)
                else:
                    setattr(dataset, keyword, value)

        rewrite(path, change)

    return inflict


def cut(count):
    return lambda path: path.write_bytes(path.read_bytes()[:-count])


def syntax(value):
    """The same bytes, said to be in another transfer syntax."""

    def inflict(path):
        content, meta = path.read_bytes(), dcmread(path).file_meta
        meta.TransferSyntaxUID = value
        start = content.index(struct.pack("<HH", 0x0008, 0x0016))
        head = DicomBytesIO()
        files.write_file_meta_info(head, meta)
        path.write_bytes(bytes(128) + b"DICM" + head.getvalue() + content[start:])

    return inflict


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def folder(path):
    path.unlink()
    path.mkdir()


FAULTS = {
    "absent": (lambda p: p.unlink(), "NOT_A_FILE"),
    "a folder": (folder, "NOT_A_FILE"),
    "a pipe": (pipe, "NOT_A_FILE"),
    "empty": (lambda p: p.write_bytes(b""), "NOT_DICOM"),
    "text": (lambda p: p.write_text("x" * 4000), "NOT_DICOM"),
    "only a preamble": (
        lambda p: p.write_bytes(bytes(128) + b"DICM"),
        "UNSUPPORTED_TS",
    ),
    "no preamble": (lambda p: p.write_bytes(p.read_bytes()[132:]), "NOT_DICOM"),
    "cut pixels": (cut(100), "TRUNCATED"),
    "pixels gone": (setting(PixelData=None), "NO_PIXELS"),
    "too few pixels": (setting(PixelData=bytes(20 * 24 * 2 - 2)), "PIXEL_LENGTH"),
    "too many pixels": (setting(PixelData=bytes(20 * 24 * 2 + 2)), "PIXEL_LENGTH"),
    "absurd size": (setting(Rows=65535, Columns=65535), "TOO_LARGE"),
    "no rows": (setting(Rows=None), "MISSING_TAG"),
    "zero rows": (setting(Rows=0), "MISSING_TAG"),
    "no image UID": (setting(SOPInstanceUID=None), "MISSING_TAG"),
    "no series": (setting(SeriesInstanceUID=None), "MISSING_TAG"),
    "no study": (setting(StudyInstanceUID=None), "MISSING_TAG"),
    "no bits": (setting(BitsAllocated=None), "MISSING_TAG"),
    "odd bits": (setting(BitsAllocated=12), "UNSUPPORTED"),
    "shifted bits": (setting(BitsStored=12, HighBit=15), "UNSUPPORTED"),
    "one bit": (setting(BitsAllocated=1, BitsStored=1, HighBit=0), "UNSUPPORTED"),
    "colour": (setting(SamplesPerPixel=3), "UNSUPPORTED"),
    "palette": (setting(PhotometricInterpretation="PALETTE COLOR"), "UNSUPPORTED"),
    "CT": (setting(Modality="CT"), "WRONG_MODALITY"),
    "frames without groups": (setting(NumberOfFrames=2), "UNSUPPORTED"),
    "no frames": (setting(NumberOfFrames=-1), "UNSUPPORTED"),
    "slope 0": (setting(RescaleSlope=0, RescaleIntercept=0), "BAD_RESCALE"),
    "slope infinite": (setting(RescaleSlope="1e300"), "BAD_RESCALE"),
    "two slopes": (setting(RescaleSlope=[1, 2]), "BAD_RESCALE"),
    "a table of values": (setting(ModalityLUTSequence=[Dataset()]), "BAD_RESCALE"),
    "position far away": (setting(ImagePositionPatient=[1e9, 0, 0]), "BAD_GEOMETRY"),
    "position of two": (setting(ImagePositionPatient=[1, 0]), "BAD_GEOMETRY"),
    "orientation of three": (
        setting(ImageOrientationPatient=[1, 0, 0]),
        "BAD_GEOMETRY",
    ),
    "no position": (setting(ImagePositionPatient=None), "MISSING_TAG"),
    "burned in": (setting(BurnedInAnnotation="YES"), "UNSUPPORTED"),
    "private syntax": (syntax("1.2.840.113619.5.2"), "UNSUPPORTED_TS"),
    "video": (syntax(uid.MPEG2MPML), "UNSUPPORTED_TS"),
    "RLE that is none": (syntax(uid.RLELossless), "DECODE"),
    "deflated that is none": (syntax(uid.DeflatedExplicitVRLittleEndian), "CORRUPT"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_has_its_code(fault, image):
    inflict, code = FAULTS[fault]
    inflict(image)
    assert outcome(image) == code


def test_whole_file_is_accepted(image):
    assert outcome(image) == "accepted"


def test_every_cut_is_noticed(image):
    whole = image.read_bytes()
    for length in [
        *range(132, len(whole) - 20, 5),
        *range(len(whole) - 20, len(whole)),
    ]:
        image.write_bytes(whole[:length])
        assert outcome(image) in {
            *("TRUNCATED", "NO_PIXELS", "BAD_HEADER", "MISSING_TAG", "UNSUPPORTED_TS")
        }


@pytest.mark.parametrize("name", ["deflated", "RLE", "enhanced"])
def test_every_cut_of_other_files_is_noticed(name, image, dicom_writing, tmp_path):
    path = tmp_path / "other.dcm"
    dataset = dcmread(image)
    if name == "deflated":
        dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
    elif name == "RLE":
        dataset.compress(uid.RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    else:
        affine = dicom_writing.short_axis_affine()
        (dataset,) = dicom_writing.enhanced(dicom_writing.small_stack(), affine)
        dicom_writing.save(dataset, path)
    whole = path.read_bytes()
    assert outcome(path) == "accepted"
    # The last 8 bytes are the end of a sequence, or of the deflated stream.
    for length in range(140, len(whole) - 8, max(1, len(whole) // 200)):
        path.write_bytes(whole[:length])
        assert outcome(path) != "accepted", length


def test_identity_of_a_cut_file(image):
    whole = image.read_bytes()
    expected = (
        str(dcmread(image).StudyInstanceUID),
        str(dcmread(image).SeriesInstanceUID),
    )
    image.write_bytes(whole[:-500])
    assert read_identity(image) == expected
    place = whole.index(expected[0].encode())
    image.write_bytes(whole[: place + 10])  # inside the UID: no other study is named
    assert read_identity(image) == ("", "")


def measured(path, limit_seconds=10.0):
    start = time.monotonic()
    code = outcome(path)
    assert time.monotonic() - start < limit_seconds
    return code


def test_deflated_bomb(image):
    dataset = dcmread(image)
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    with image.open("wb") as file:
        file.write(bytes(128) + b"DICM")
        files.write_file_meta_info(file, dataset.file_meta)
        press = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        # A private element that says it is 2 GiB of zeros.
        file.write(press.compress(struct.pack("<HH2sHL", 9, 1, b"OB", 0, 2**31 - 2)))
        for _ in range(256):
            file.write(press.compress(bytes(2**20)))
        file.write(press.flush())
    assert image.stat().st_size < 2**20
    assert measured(image) == "TOO_LARGE"


def test_many_items(image):
    """A sequence of empty items: eight bytes in the file, a kilobyte in memory."""
    head = image.read_bytes()
    place = head.index(struct.pack("<HH", 0x0028, 0x0002))
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    bomb = struct.pack("<HH2sHL", 0x0021, 0x1001, b"SQ", 0, 0xFFFFFFFF) + item * 200_000
    image.write_bytes(head[:place] + bomb + head[place:])
    assert measured(image) == "TOO_LARGE"


def test_deep_nesting(image):
    head = image.read_bytes()
    place = head.index(struct.pack("<HH", 0x0028, 0x0002))
    level = struct.pack("<HH2sHL", 0x0021, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    level += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    image.write_bytes(head[:place] + level * 20_000 + head[place:])
    assert measured(image) == "NESTING"


def test_header_without_end(image, monkeypatch):
    monkeypatch.setattr(files, "MAX_HEADER_BYTES", 700)
    assert outcome(image) == "TOO_LARGE"


def test_file_too_large(image, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 1200)
    assert outcome(image) == "TOO_LARGE"


def test_stack_too_large(image, monkeypatch):
    monkeypatch.setattr("tfrecords_tools.dicom.stacks.MAX_STACK_PIXELS", 479)
    assert outcome(image) == "TOO_LARGE"  # 20 x 24 = 480


def test_codestream_of_another_size_is_not_decoded(image, monkeypatch):
    """A decoder allocates what the codestream says, not what the header says."""
    pytest.importorskip("openjpeg")
    dataset = dcmread(image)
    dataset.Rows = dataset.Columns = 64
    dataset.PixelData = np.arange(64 * 64, dtype="<i2").tobytes()
    dataset.compress(uid.JPEG2000Lossless, generate_instance_uid=False)
    content = dataset.PixelData
    place = content.index(b"\xff\x4f\xff\x51") + 8
    bomb = content[:place] + struct.pack(">2L", 40_000, 40_000) + content[place + 8 :]
    dataset.PixelData = bomb
    dataset.save_as(image, overwrite=True)
    monkeypatch.setattr(pixels, "get_decoder", None)
    assert outcome(image) == "DECODE"


def test_random_damage_raises_nothing_unplanned(image):
    random = np.random.default_rng(0)
    original = np.frombuffer(image.read_bytes(), np.uint8)
    codes = set()
    for _ in range(400):
        damaged = original.copy()
        places = random.integers(128, len(original) - 960, size=3)
        damaged[places] = random.integers(0, 256, size=3)
        image.write_bytes(damaged.tobytes())
        codes.add(outcome(image))
    assert len(codes) > 6  # the damage reached several checks


def test_what_pydicom_says_goes_nowhere(image, capfd):
    """It quotes values: here an invalid UID and a position that is no number."""
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    logging.getLogger().addHandler(handler)
    try:
        content = image.read_bytes()
        place = content.index(b"2.25.")
        image.write_bytes(content[:place] + b"Jane." + content[place + 5 :])
        outcome(image)
        rewrite(image, lambda dataset: dataset.add_new(0x00200032, "SH", "Jane"))
        outcome(image)
    finally:
        logging.getLogger().removeHandler(handler)
    assert "Jane" not in shown.getvalue()
    assert not any(capfd.readouterr())


def test_input_is_not_changed(image):
    image.chmod(stat.S_IRUSR)
    before = image.read_bytes(), image.stat().st_mtime_ns
    outcome(image)
    assert before == (image.read_bytes(), image.stat().st_mtime_ns)
