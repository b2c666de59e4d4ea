"""Identifiers planted in a source, and leaked in every way that is searched for."""

import base64
import bz2
import gzip
import html
import io
import json
import lzma
import struct
import urllib.parse
import warnings
import zipfile
import zlib

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from tfrecords_tools import verify
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.privacy import needles, unpacking
from tfrecords_tools.privacy.identifiers import (
    Identifier,
    from_name,
    is_telling,
    searchable,
)
from tfrecords_tools.privacy.scan import scan
from tfrecords_tools.privacy.spellings import Spelling, spellings

pytestmark = pytest.mark.slow

HEADER = {
    "PatientName": "Krähenbühl^Ottilie",
    "PatientID": "QX-774411",
    "PatientBirthDate": "19430517",
    "OtherPatientIDs": "ALT/90210/B",
    "PatientAddress": "Am Weinberg 7, Querfurt",
    "PatientTelephoneNumbers": "+49 34771 55512",
    "PatientComments": "prefers to be called Tilly",
    "InstitutionName": "Sankt Barbara Klinik",
    "InstitutionAddress": "Lindenallee 12, 06268",
    "ReferringPhysicianName": "Wolkenstein^Ada",
    "PerformingPhysicianName": "Zwirner^Bodo",
    "OperatorsName": "Mustopf^Cilly",
    "AccessionNumber": "ACC0093411",
    "StudyID": "S55291",
    "StudyDescription": "Narbe nach Vorderwandinfarkt",
    "StudyDate": "20170223",
    "StudyTime": "113947",
    "AcquisitionDateTime": "20170224114501.250000",
    "StudyInstanceUID": "1.2.276.0.7230010.3.1.2.811753780.1.1487850000.101",
    "SOPInstanceUID": "1.2.276.0.7230010.3.1.4.811753780.1.1487850000.103",
    "StationName": "AWP45557",
    "DeviceSerialNumber": "SN-45557-K",
    "ImageComments": "seen by Dr Hagedorn",
}
ELSEWHERE = {
    "RequestedProcedureID": "RP-66012",
    "PersonName": "Eulenburg^Fritz",
    "preamble": "copied for Gundermann",
    "private (0029,1001)": "note 4711-A",
    "private (0029,1002)": "Nachbar: Isolde Jahn",
    "Overlay Data": "burnt in: Klopstock, K",
    "Overlay Comments": "overlay of Lessing",
    "file name": "MRN-0815-42",
    "folder name": "Patient Nepomuk",
    "NIfTI descrip": "converted for O. Pastior",
    "NIfTI aux_file": "Quirinius_Rilke",
    "NIfTI db_name": "db of Schiller",
    "NIfTI intent_name": "Tieck 1853-04",
    "NIfTI extension": "PatientName = Uhland",
}
PLANTED = HEADER | ELSEWHERE


def write_dicom(path):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    meta.MediaStorageSOPInstanceUID = HEADER["SOPInstanceUID"]
    preamble = PLANTED["preamble"].encode().ljust(128, b"\0")
    dataset = FileDataset(str(path), {}, preamble=preamble, file_meta=meta)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.Modality, dataset.Manufacturer = "MR", "Maker of scanners"
    dataset.BodyPartExamined, dataset.SliceThickness = "HEART", "8.00000"
    for keyword, value in HEADER.items():
        setattr(dataset, keyword, value)
    request, person = Dataset(), Dataset()
    person.PersonName = PLANTED["PersonName"]
    request.RequestedProcedureID = PLANTED["RequestedProcedureID"]
    request.PersonIdentificationCodeSequence = Sequence([person])
    dataset.RequestAttributesSequence = Sequence([request])
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x01, "LO", PLANTED["private (0029,1001)"])
    hidden = PLANTED["private (0029,1002)"].encode()
    block.add_new(0x02, "UN", b"\1\2\0" + hidden + b"\0\xff\xfe")
    burnt = PLANTED["Overlay Data"].encode()
    dataset.add_new(0x60003000, "OW", b"\0\xff" * 40 + burnt + b"\0\xff" * 40)
    dataset.add_new(0x60004000, "LT", PLANTED["Overlay Comments"])
    dataset.Rows, dataset.Columns, dataset.BitsAllocated = 2, 2, 16
    dataset.PixelData = b"\0" * 8
    dataset.save_as(path, enforce_file_format=True)


def write_nifti(path):
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    for name in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[name] = PLANTED[f"NIfTI {name}"].encode()
    text = PLANTED["NIfTI extension"].encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", text))
    image.to_filename(path)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    folder = root / PLANTED["folder name"]
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom thinks the private value odd
        write_dicom(folder / f"{PLANTED['file name']}.dcm")
    write_nifti(folder / "image.nii.gz")
    return root


# Each kind, in each way of writing it


def packed_in_zip(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member.npy", data)
    return file.getvalue()


def png_with(text):
    """A PNG file whose only chunk of note is the compressed text of a keyword."""
    chunk = b"zTXtComment\0\0" + zlib.compress(text)
    length, crc = (
        struct.pack(">I", len(chunk) - 4),
        struct.pack(">I", zlib.crc32(chunk)),
    )
    end = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + length + chunk + crc + end


WAYS = {
    "as it stands": lambda text: f'{{"key": "{text}"}}'.encode(),
    "between other bytes": lambda text: b"\x0a\x93" + text.encode() + b"\x12\x00",
    "lower case": lambda text: f"({text.lower()})".encode(),
    "upper case": lambda text: f"({text.upper()})".encode(),
    "Latin-1": lambda text: f"; {text};".encode("latin-1"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16, big end first": lambda text: text.encode("utf-16-be"),
    "hexadecimal": lambda text: text.encode().hex().encode(),
    "HEXADECIMAL": lambda text: text.encode().hex().upper().encode(),
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64, one byte on": lambda text: base64.b64encode(b"!" + text.encode() + b"!!"),
    "base64, two bytes on": lambda text: base64.b64encode(b"!!" + text.encode()),
    "base64 of lower case": lambda text: base64.b64encode(text.lower().encode()),
    "JSON": lambda text: json.dumps({"key": text}).encode(),
    "URL": lambda text: urllib.parse.quote(f"dir/{text}/x").encode(),
    "HTML": lambda text: f"<td>{html.escape(text)}</td>".encode(),
    "gzip": lambda text: gzip.compress(f" {text} ".encode()),
    "bzip2": lambda text: bz2.compress(f" {text} ".encode()),
    "xz": lambda text: lzma.compress(f" {text} ".encode()),
    "zip": lambda text: packed_in_zip(f" {text} ".encode()),
    "gzip in zip": lambda text: packed_in_zip(gzip.compress(f" {text} ".encode())),
    "PNG text": lambda text: png_with(f" {text} ".encode()),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_is_found(way, source, tmp_path):
    for number, text in enumerate(PLANTED.values()):
        (tmp_path / f"leak-{number}").write_bytes(WAYS[way](text))
    found = {}
    for fault in scan(source, [tmp_path]).faults:
        assert fault.code == "IDENTIFIER"
        found.setdefault(fault.subject.split("/")[-1], []).append(fault.reason)
    assert len(PLANTED) >= 24
    for number, kind in enumerate(PLANTED):
        reasons = found.pop(f"leak-{number}", [])
        assert any(reason.startswith(kind) for reason in reasons), kind
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        *("1943-05-17", "17.05.1943", "17/05/1943", "05/17/1943", "1943/05/17"),
        *("17 May 1943", "17-May-1943", "May 17, 1943", "1943.05.17", "17-05-1943"),
        *("19430517", "19430517T113947", "194305171139"),
    ],
)
def test_every_form_of_a_date_is_found(text, source, tmp_path):
    (tmp_path / "log.txt").write_text(f"born {text}.")
    (fault,) = scan(source, [tmp_path]).faults
    assert fault.reason.startswith("PatientBirthDate")


@pytest.mark.parametrize(
    "text",
    [
        *("Krähenbühl", "Krahenbuhl", "KRÄHENBÜHL", "Ottilie", "ottilie krähenbühl"),
        *("Krähenbühl, Ottilie", "Krähenbühl_Ottilie", "KrähenbühlOttilie"),
    ],
)
def test_every_part_of_a_name_is_found(text, source, tmp_path):
    (tmp_path / "log.txt").write_text(f"read {text} now", encoding="utf-8")
    (fault,) = scan(source, [tmp_path]).faults
    assert fault.reason.startswith("PatientName")


def test_a_part_of_a_date_and_time_is_found(source, tmp_path):
    (tmp_path / "log.txt").write_text("on 24.02.2017 at the scanner")
    (fault,) = scan(source, [tmp_path]).faults
    assert fault.reason.startswith("AcquisitionDateTime")


def test_names_of_files_are_searched_and_not_repeated(source, tmp_path, capsys):
    folder = tmp_path / "runs" / "QX-774411"
    folder.mkdir(parents=True)
    (folder / "figure.png").write_bytes(b"nothing")
    assert verify.main([str(tmp_path / "runs"), "--privacy", str(source)]) == 2
    output = capsys.readouterr()
    expected = "ERROR runs/***/figure.png: IDENTIFIER: PatientID is in its name"
    assert output.err == f"{expected} (as it stands)\n"
    assert output.out == ""


def test_no_message_shows_a_value(source, tmp_path, capsys):
    for kind, text in PLANTED.items():
        (tmp_path / f"{kind} - {text}".replace("/", "_")).write_text(f"<{text}>")
    command = ["--privacy", str(source), str(tmp_path / "."), str(source)]
    assert verify.main(command) == 2
    output = capsys.readouterr().err.lower()
    assert not [text for text in PLANTED.values() if text.lower() in output]


def test_what_is_clean_is_clean(source, records, tmp_path, capsys):
    """A record set, and 8 MB of noise: chance is no hit, with about 3000 spellings."""
    noise = tmp_path / "noise"
    noise.write_bytes(np.random.default_rng(0).bytes(8_000_000))
    numbers = tmp_path / "numbers.csv"
    values = np.random.default_rng(1).random(20_000)
    numbers.write_text("\n".join(f"{value:.17g},{value:.3g}" for value in values))
    paths = [str(path) for path in (records, noise, numbers)]
    assert verify.main(["--privacy", str(source), *paths]) == 0
    # manifest, 6 shards of the record set (2 a split), noise and numbers
    assert capsys.readouterr().out.startswith("ok: 9 files, 8.")


# What is left out of the search


@pytest.mark.parametrize(
    "text",
    [
        *("Doe", "1234", "00000000", "HEAD", "CARDIAC MRI", "Siemens Healthineers"),
        *("1.40625", "0.7", "-12.5e3", "image", "mask", "White", "PSIR SAX"),
    ],
)
def test_short_and_ordinary_values_are_left_out(text):
    assert not [*searchable([Identifier("X", text)])]


@pytest.mark.parametrize("text", ["12345", "Doe^J", "Whitehead", "HEAD 12", "1.2.34.5"])
def test_other_values_are_searched_for(text):
    assert is_telling(text)


@pytest.mark.parametrize(
    ("text", "is_hit"),
    [
        *(("id 55123;", True), ("0.55123", False), ("155123", False), ("5512", False)),
        *(("55123.5", False), ("x_55123.nii", True), ("ab55123cd", False)),
        *(("by Raven.", True), ("ravenous", False), ("55123\n", True)),
    ],
)
def test_short_numbers_and_words_stand_alone(text, is_hit, tmp_path):
    wanted = spellings([Identifier("StudyID", "55123"), Identifier("PN", "Raven")])
    found = [*needles.Needles(wanted).found_in(io.BytesIO(text.encode()))]
    assert any(isinstance(item, Spelling) for item in found) == is_hit


def test_names_of_files_give_their_parts():
    parts = {
        i.text: i.form for i in from_name("file name", "KOLB_19610203_00017.nii.gz")
    }
    assert parts == {"KOLB_19610203_00017": "text", "KOLB": "text", "19610203": "date"}


# The search itself


@given(
    st.lists(st.binary(min_size=5, max_size=9), min_size=1, max_size=6, unique=True),
    st.data(),
)
def test_search_finds_what_a_plain_search_finds(wanted, data):
    """Windows of 16 bytes, so that most finds lie across an edge."""
    parts = st.one_of(st.sampled_from(wanted), st.binary(max_size=6))
    hay = b"".join(data.draw(st.lists(parts, max_size=12)))
    table = {needle: Spelling(needle.hex(), "UTF-16") for needle in wanted}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(needles, "WINDOW_BYTES", 16)
        found = [*needles.Needles(table).found_in(io.BytesIO(hay))]
    kinds = {item.kind for item in found if isinstance(item, Spelling)}
    assert kinds == {needle.hex() for needle in wanted if needle in hay}
    assert sum(item for item in found if isinstance(item, int)) == len(hay)


def test_identifier_across_two_windows_of_a_large_file(source, tmp_path):
    edge = needles.WINDOW_BYTES
    (tmp_path / "large").write_bytes(b"." * (edge - 4) + b"QX-774411" + b"." * edge)
    (fault,) = scan(source, [tmp_path]).faults
    assert fault.reason.startswith("PatientID")


# Damaged files


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"x" * 1000)[:-9], packed_in_zip(b"x" * 1000)[:-30], b"PK\3\4"],
    ids=["cut gzip", "cut zip", "no zip"],
)
def test_what_cannot_be_unpacked_is_a_fault(content, source, tmp_path):
    (tmp_path / "damaged").write_bytes(content)
    (fault,) = scan(source, [tmp_path]).faults
    assert fault.code == "CORRUPT"


def test_what_holds_too_much_is_a_fault(source, tmp_path, monkeypatch):
    monkeypatch.setattr("tfrecords_tools.privacy.scan.LARGEST_UNPACKED_BYTES", 10**6)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"\0" * 10**7))
    (fault,) = scan(source, [tmp_path]).faults
    assert fault.code == "TOO_LARGE"


def test_damaged_dicom_gives_the_texts_of_its_header(source, tmp_path, capfd):
    (good,) = source.rglob("*.dcm")
    cut = good.read_bytes()
    # The length of the first element of the data set becomes absurd.
    place = cut.index(b"\x08\x00\x05\x00CS")
    damaged = tmp_path / "source" / "x.dcm"
    damaged.parent.mkdir()
    damaged.write_bytes(cut[: place + 6] + b"\xff\xff" + cut[place + 8 : -100])
    log = tmp_path / "log"
    log.write_text("for QX-774411")
    (fault,) = scan(damaged.parent, [log]).faults
    assert fault.code == "IDENTIFIER"
    assert capfd.readouterr() == ("", "")


def test_deflated_dicom_is_read(source, tmp_path):
    (good,) = source.rglob("*.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(good)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        dataset.save_as(tmp_path / "x.dcm")
    log = tmp_path / "log"
    log.write_text("for QX-774411")
    (fault,) = scan(tmp_path / "x.dcm", [log]).faults
    assert fault.reason.startswith("PatientID")


def test_packages_are_opened_so_deep_only():
    content = b"QX-774411"
    for _ in range(unpacking.DEEPEST + 1):
        content = gzip.compress(content)
    layers = [file.read() for file in unpacking.contents(io.BytesIO(content))]
    # the file itself and what lies in DEEPEST packages
    assert len(layers) == unpacking.DEEPEST + 1


# The command


@pytest.mark.parametrize("missing", ["source", "target"])
def test_a_path_that_is_not_there_is_refused(missing, source, tmp_path):
    paths = {"source": source, "target": source} | {missing: tmp_path / "none"}
    with pytest.raises(RefusedError, match="NOT_A_FILE"):
        scan(paths["source"], [paths["target"]])


def test_a_source_without_identifiers_is_refused(source, tmp_path):
    (tmp_path / "a.txt").write_text("no name")
    with pytest.raises(RefusedError, match="nothing|no identifier"):
        scan(tmp_path, [source])


def test_runs_are_for_the_search_only(records, tmp_path, capsys):
    assert verify.main([str(records), str(tmp_path)]) == 2
    assert "--privacy" in capsys.readouterr().err
