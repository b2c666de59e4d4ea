"""Bad DICOM among good: each is refused by its code or left out with a reason."""

import errno
import io
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread, uid
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info

pytestmark = pytest.mark.slow

SLICES = 4
BEFORE_PIXELS = struct.pack("<HH", 0x0028, 0x0002)


def setting(at=None, **values):
    """Sets elements, or deletes those that are None, of slice `at` or of all."""

    def change(datasets):
        for dataset in datasets if at is None else [datasets[at]]:
            for keyword, value in values.items():
                if value is None:
                    delattr(dataset, keyword)
                else:
                    dataset.add_new(keyword, VRS[keyword], value)

    return change


VRS = {
    **dict.fromkeys(("RescaleSlope", "RescaleIntercept", "PixelSpacing"), "LO"),
    **dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient"), "LO"),
    **dict.fromkeys(("Rows", "Columns", "SamplesPerPixel"), "US"),
    **dict.fromkeys(("BitsAllocated", "BitsStored", "HighBit"), "US"),
    **dict.fromkeys(("PhotometricInterpretation", "Modality"), "CS"),
    "PatientID": "LO",
    "PixelData": "OW",
    "FloatPixelData": "OF",
    "NumberOfFrames": "IS",
    "BurnedInAnnotation": "CS",
    "SOPInstanceUID": "UI",
    "ModalityLUTSequence": "SQ",
}
"""Numbers as free text (LO), so that what is written can be any nonsense."""


def constant(datasets):
    datasets[1].PixelData = bytes(len(datasets[1].PixelData))


def moved(index, slices):
    """Slice `index` lies `slices` further along the stack."""

    def change(datasets):
        first, second = (np.array(d.ImagePositionPatient, float) for d in datasets[:2])
        place = np.array(datasets[index].ImagePositionPatient, float)
        place += slices * (second - first)
        datasets[index].ImagePositionPatient = [f"{value:.9g}" for value in place]

    return change


def shifted(datasets):
    """Every other slice by 3 mm along its rows: two pixels."""
    for dataset in datasets[::2]:
        place = np.array(dataset.ImagePositionPatient, float)
        place += 3 * np.array(dataset.ImageOrientationPatient[:3], float)
        dataset.ImagePositionPatient = [f"{value:.9g}" for value in place]


def halved(datasets):
    datasets[2].Rows //= 2
    datasets[2].PixelData = datasets[2].PixelData[: len(datasets[2].PixelData) // 2]


def same_uid(datasets):
    datasets[2].SOPInstanceUID = datasets[1].SOPInstanceUID


def float_pixels(datasets):
    for dataset in datasets:
        size = dataset.Rows * dataset.Columns
        del dataset.PixelData
        dataset.FloatPixelData = np.full(size, np.nan, "<f4").tobytes()


CHANGED = {
    **{
        f"no {keyword}": (setting(2, **{keyword: None}), "MISSING_TAG")
        for keyword in (
            *("Rows", "Columns", "PatientID", "PixelSpacing"),
            *("ImagePositionPatient", "ImageOrientationPatient"),
            *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
            "PhotometricInterpretation",
        )
    },
    "no pixels": (setting(2, PixelData=None), "NO_PIXELS"),
    "pixels of floats, NaN": (float_pixels, "NO_PIXELS"),
    "pixels too short": (setting(1, PixelData=bytes(100)), "PIXEL_LENGTH"),
    "pixels too long": (setting(1, PixelData=bytes(4000)), "PIXEL_LENGTH"),
    "constant slice": (constant, "CONSTANT"),
    "65535 rows": (setting(Rows=65535, Columns=65535), "TOO_LARGE"),
    "one row": (setting(Rows=1, PixelData=bytes(48)), "TOO_LARGE"),
    "spacing 0": (setting(PixelSpacing=["0", "0"]), "BAD_GEOMETRY"),
    "spacing below 0": (setting(PixelSpacing=["-1.4", "1.4"]), "BAD_GEOMETRY"),
    "spacing 1e9": (setting(PixelSpacing=["1e9", "1e9"]), "BAD_GEOMETRY"),
    "spacing NaN": (setting(PixelSpacing=["nan", "nan"]), "BAD_GEOMETRY"),
    "spacing of one": (setting(PixelSpacing=["1.4"]), "BAD_GEOMETRY"),
    "spacing a word": (setting(PixelSpacing=["wide", "1"]), "BAD_HEADER"),
    "position inf": (
        setting(0, ImagePositionPatient=["inf", "0", "0"]),
        "BAD_GEOMETRY",
    ),
    "position 1e30": (setting(ImagePositionPatient=["1e30"] * 3), "BAD_GEOMETRY"),
    "orientation NaN": (setting(ImageOrientationPatient=["nan"] * 6), "BAD_GEOMETRY"),
    "orientation 0": (setting(ImageOrientationPatient=["0"] * 6), "BAD_GEOMETRY"),
    "orientation mixed": (
        setting(1, ImageOrientationPatient=["1", "0", "0", "0", "1", "0"]),
        "MIXED_ORIENTATION",
    ),
    "spacing mixed": (setting(1, PixelSpacing=["1.5", "1.4"]), "MIXED_SPACING"),
    "matrix mixed": (halved, "SHAPE_MISMATCH"),
    "positions twice": (moved(2, -1), "DUP_POSITION"),
    "position missing": (moved(3, 1), "GAP"),
    "slices shifted": (shifted, "BAD_GEOMETRY"),
    "same UID": (same_uid, "DUP_SOP"),
    "two patients in one study": (setting(2, PatientID="X"), "MIXED_PATIENT"),
    "slope 0": (setting(RescaleSlope="0", RescaleIntercept="0"), "BAD_RESCALE"),
    "slope NaN": (setting(RescaleSlope="nan"), "BAD_RESCALE"),
    "slope 1e300": (setting(RescaleSlope="1e300"), "BAD_RESCALE"),
    "a table of values": (setting(ModalityLUTSequence=[Dataset()]), "BAD_RESCALE"),
    "12 bits allocated": (setting(BitsAllocated=12), "UNSUPPORTED"),
    "colour": (setting(SamplesPerPixel=3), "UNSUPPORTED"),
    "palette": (setting(PhotometricInterpretation="PALETTE COLOR"), "UNSUPPORTED"),
    "burned in": (setting(BurnedInAnnotation="YES"), "UNSUPPORTED"),
    "frames in a classic image": (setting(NumberOfFrames="9"), "UNSUPPORTED"),
    "another modality": (setting(Modality="CT"), "WRONG_MODALITY"),
}
"""By name: a change of the data sets before they are written, and the code."""


def cut(share):
    return lambda content: content[: int(share * len(content))]


def without(keyword):
    """An element gone, from the file meta information too."""

    def change(content):
        dataset, file = dcmread(io.BytesIO(content)), io.BytesIO()
        for part in (dataset, dataset.file_meta):
            for element in [e for e in part if e.keyword.endswith(keyword)]:
                del part[element.tag]
        dataset.save_as(file, implicit_vr=False, little_endian=True)
        return file.getvalue()

    return change


def syntax(value):
    """The same bytes, said to be in another transfer syntax."""

    def change(content):
        meta = DicomBytesIO(content)
        meta = dcmread(meta, stop_before_pixels=True).file_meta
        meta.TransferSyntaxUID = value
        head = DicomBytesIO()
        write_file_meta_info(head, meta)
        start = content.index(struct.pack("<HH", 0x0008, 0x0016))
        return bytes(128) + b"DICM" + head.getvalue() + content[start:]

    return change


def inserted(content, bomb):
    place = content.index(BEFORE_PIXELS)
    return content[:place] + bomb + content[place:]


def items(content):
    sequence = struct.pack("<HH2sHL", 0x0021, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    return inserted(
        content, sequence + 150_000 * struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    )


def nested(content):
    level = struct.pack("<HH2sHL", 0x0021, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    level += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return inserted(content, 10_000 * level)


def deflated_bomb(content):
    """Up to the pixels as it was, and then a private element of 64 MB of zeros."""
    content = syntax(uid.DeflatedExplicitVRLittleEndian)(content)
    start = content.index(struct.pack("<HH", 0x0008, 0x0016))
    place = content.index(BEFORE_PIXELS)
    press = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = struct.pack("<HH2sHL", 0x0021, 0x1001, b"OB", 0, 2**31 - 2) + bytes(2**26)
    deflated = press.compress(content[start:place] + zeros) + press.flush()
    return content[:start] + deflated


def uid_not_of_digits(content):
    """A transfer syntax of control characters."""
    known = str(uid.ExplicitVRLittleEndian).encode()
    return content.replace(known, b"\x1b[2J".ljust(len(known), b"\x07"), 1)


DAMAGED = {
    **{
        f"no {keyword}": (without(keyword), "MISSING_TAG")
        for keyword in (
            *("SOPClassUID", "SOPInstanceUID"),
            *("StudyInstanceUID", "SeriesInstanceUID"),
        )
    },
    "no TransferSyntaxUID": (without("TransferSyntaxUID"), "UNSUPPORTED_TS"),
    "cut in the pixels": (cut(0.8), "TRUNCATED"),
    "cut in the header": (cut(0.3), "TRUNCATED"),
    "last byte gone": (lambda content: content[:-1], "TRUNCATED"),
    "empty": (lambda content: b"", "NOT_DICOM"),
    "text": (lambda content: b"x" * 5000, "NOT_DICOM"),
    "only a preamble": (lambda content: bytes(128) + b"DICM", "UNSUPPORTED_TS"),
    "without preamble": (lambda content: content[132:], "NOT_DICOM"),
    "private syntax": (syntax("1.2.840.113619.5.2"), "UNSUPPORTED_TS"),
    "video": (syntax(uid.MPEG2MPML), "UNSUPPORTED_TS"),
    "no syntax": (uid_not_of_digits, "UNSUPPORTED_TS"),
    "RLE that is none": (syntax(uid.RLELossless), "DECODE"),
    "JPEG 2000 that is none": (syntax(uid.JPEG2000Lossless), "DECODE"),
    "deflated that is none": (syntax(uid.DeflatedExplicitVRLittleEndian), "CORRUPT"),
    "deflated bomb": (deflated_bomb, "TOO_LARGE"),
    "150,000 items": (items, "TOO_LARGE"),
    "10,000 levels": (nested, "NESTING"),
}
"""By name: damage to the bytes of the last slice, whose name ends in .dcm, and code."""

DUPLICATED = "other content under one UID"
STUDIES = {**CHANGED, **DAMAGED}


def files(writing, name, patient=None):
    """A study by its name alone."""
    names = (patient or name, "S", "lge")
    stored = writing.small_stack(SLICES, seed=len(name))
    made = writing.classic(stored, writing.short_axis_affine(), names, **writing.LGE)
    for dataset in made:
        dataset["PixelData"].VR = "OW"  # else pydicom wants to know the bits
    return made


def write_good(writing):
    """Two patients in one folder, one patient in two, names that no terminal likes."""

    def write(folder):
        for patient, study, where in (
            ("A", "S1", "Doe \x1b[2J\x07\r\n"),
            ("B", "S1", "Doe \x1b[2J\x07\r\n"),
            ("C", "S1", os.fsdecode(b"M\xfcller")),
            ("C", "S2", "x.dcm"),
        ):
            made = writing.classic(
                writing.small_stack(SLICES),
                writing.short_axis_affine(),
                (patient, study, "lge"),
                **writing.LGE,
            )
            writing.save_all(made, folder / where, seed=ord(patient))

    return write


def write_bad(writing):
    def write(folder):
        for name, (change, _) in CHANGED.items():
            datasets = files(writing, name)
            change(datasets)
            writing.save_all(datasets, folder / name)
        for name, (damage, _) in DAMAGED.items():
            *_, last = writing.save_all(files(writing, name), folder / name)
            last.write_bytes(damage(last.read_bytes()))
            last.rename(last.with_suffix(".dcm"))
        for number in range(2):
            datasets = files(writing, DUPLICATED)
            datasets[1].EchoTime = str(number)
            writing.save_all(datasets, folder / f"{DUPLICATED} {number}")
        write_left_out(writing, folder)

    return write


def write_left_out(writing, folder):
    outside = folder.parent / "outside"
    writing.save_all(files(writing, "linked"), outside)
    (folder / "linked folder").symlink_to(outside)
    (folder / "linked file.dcm").symlink_to(next(outside.iterdir()))
    (folder / "loop").symlink_to(folder)
    (folder / "loop.dcm").symlink_to(folder / "loop.dcm")
    os.mkfifo(folder / "pipe.dcm")
    (folder / "folder.dcm").mkdir()
    (folder / ".hidden.dcm").write_bytes(b"x")
    (folder / "DICOMDIR").write_bytes(b"../../etc/passwd")
    # The same study once more, byte for byte.
    shutil.copytree(folder / "x.dcm", folder / "x.dcm copy")
    two = files(writing, "two slices")[:2]
    writing.save_all(two, folder / "two slices")
    across = writing.short_axis_affine()[:, [2, 1, 0, 3]]
    names = ("long axis", "S", "lge")
    stored = writing.small_stack(3)
    series = writing.classic(stored, across, names, **writing.LGE)
    writing.save_all(series, folder / "long axis")
    names, affine = ("cine", "S", "cine"), writing.short_axis_affine()
    series = writing.classic(stored, affine, names, **writing.CINE)
    writing.save_all(series, folder / "cine")


@pytest.fixture(scope="module")
def outcome(survive, dicom_writing):
    good, bad = write_good(dicom_writing), write_bad(dicom_writing)
    return survive("dicom", good, bad, ["--unlabelled"])


@pytest.fixture
def study_uid(dicom_writing):
    return lambda name: dicom_writing.new_uid("study", name, "S")


@pytest.mark.parametrize("name", STUDIES)
def test_study_is_refused_with_its_code(name, outcome, study_uid):
    assert outcome.codes(study_uid(name)) == [STUDIES[name][1]]


def test_other_content_under_one_uid_is_refused(outcome, study_uid):
    assert outcome.codes(study_uid(DUPLICATED)) == ["DUP_SOP"]


def test_nothing_else_is_refused(outcome):
    assert sum(map(len, outcome.refused.values())) == len(STUDIES) + 1
    assert outcome.warned == {}


def test_good_ones_are_three_patients(outcome):
    assert len(outcome.patients) == 3


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("two slices", "LGE: fewer than 3 slices"),
        ("long axis", "LGE: not short-axis"),
        ("cine", "cine: not wanted; dicom --series any takes it"),
    ],
)
def test_what_is_no_stack_is_left_out_with_the_reason(name, reason, outcome, study_uid):
    assert reason in outcome.reasons(study_uid(name))


def test_what_is_no_study_is_left_out_and_counted(outcome, dicom_writing):
    copied = dicom_writing.new_uid("study", "C", "S2")
    assert outcome.reasons(copied) == ["copy of an image that is taken"]
    counts = {what: n for (what, _), n in outcome.left_out.items() if " " in what}
    assert counts == {
        # Two names end in .dcm; the links to folders are not gone into.
        "links, which are not followed": 2,
        "pipes and the like": 1,
        "hidden files": 1,
    }
    assert outcome.left_out["file", "no DICOM file, and no reference"] == 1


def test_no_name_is_printed(outcome):
    names = ("Name", "Doe", "ller", "linked", "outside", "2.25.")
    assert not [name for name in names if name in outcome.text]


def test_a_file_that_may_not_be_read_costs_its_study(
    survive, dicom_writing, study_uid, monkeypatch
):
    """Also where the tests run as root, who may read everything."""
    opened = Path.open

    def refuse(path, *args, **kwargs):
        if path.name == "closed.dcm":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    def bad(folder):
        paths = dicom_writing.save_all(files(dicom_writing, "closed"), folder / "a")
        paths[1].rename(folder / "a" / "closed.dcm")
        monkeypatch.setattr(Path, "open", refuse)

    found = survive("dicom", write_good(dicom_writing), bad, ["--unlabelled"])
    assert found.codes(study_uid("closed")) == ["NOT_A_FILE"]


def test_files_of_nobody_are_refused_one_by_one(survive, dicom_writing):
    """Whole series without a study: no other file says which one it is."""

    def bad(folder):
        datasets = files(dicom_writing, "nobody")
        for dataset in datasets:
            del dataset.StudyInstanceUID
        paths.extend(dicom_writing.save_all(datasets, folder / "nobody"))

    paths = []
    found = survive("dicom", write_good(dicom_writing), bad, ["--unlabelled"])
    assert [found.codes(str(path)) for path in paths] == [["MISSING_TAG"]] * SLICES


# Damage of no plan

ENCODINGS = {
    "classic": uid.ExplicitVRLittleEndian,
    "implicit": uid.ImplicitVRLittleEndian,
    "big endian": uid.ExplicitVRBigEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
    "RLE": uid.RLELossless,
    "JPEG 2000": uid.JPEG2000Lossless,
    "enhanced": uid.ExplicitVRLittleEndian,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_damage_of_no_plan(encoding, fuzz, dicom_writing, tmp_path):
    syntax = ENCODINGS[encoding]
    write = dicom_writing.enhanced if encoding == "enhanced" else dicom_writing.classic
    stored = dicom_writing.small_stack(3, 32, 32)
    made = write(stored, dicom_writing.short_axis_affine(), **dicom_writing.LGE)
    if syntax in (uid.RLELossless, uid.JPEG2000Lossless):
        for dataset in made:
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
            dataset.compress(syntax, generate_instance_uid=False)
    paths = dicom_writing.save_all(made, tmp_path, syntax=syntax)
    fuzz("dicom", tmp_path, paths[0], unlabelled=True)
