"""What names the patients of a hospital comes out nowhere, whatever becomes of them.

Searched for twice: by the plain search of this test, and by `verify --privacy`.
"""

import base64
import io
import re
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from reference_bytes import SHAPE, cvi42, label_map, nifti, rtstruct, seg

from tfrecords_tools import build, check, show, verify

pytestmark = pytest.mark.slow

HEADER = {
    "PatientName": "Krahenbuhl^Ottilie",
    "PatientBirthDate": "19430517",
    "PatientBirthTime": "040711.25",
    "OtherPatientNames": "Sauerbruch^Ottilie",
    "PatientMotherBirthName": "Ferdinandsen",
    "PatientAddress": "Am Weinberg 7, Querfurt",
    "PatientTelephoneNumbers": "+49 34771 55512",
    "PatientComments": "prefers to be called Tillyane",
    "AdditionalPatientHistory": "fell from the roof of Neuschwanstein",
    "InstitutionName": "Sankt Barbara Klinik",
    "InstitutionAddress": "Lindenallee 12, 06268",
    "InstitutionalDepartmentName": "Station Semmelweis",
    "ReferringPhysicianName": "Wolkenstein^Ada",
    "PerformingPhysicianName": "Zwirner^Bodo",
    "NameOfPhysiciansReadingStudy": "Hagedorn^Emil",
    "OperatorsName": "Mustopf^Cilly",
    "AccessionNumber": "ACC0093411",
    "StudyID": "S55291",
    "StudyDescription": "Narbe nach Vorderwandinfarkt Kutusow",
    "ProtocolName": "LGE protocol of Mendelssohn",
    "StudyDate": "20170223",
    "SeriesTime": "113947",
    "AcquisitionDateTime": "20170224114501.250000",
    "StationName": "AWP45557",
    "DeviceSerialNumber": "SN-45557-K",
    "ImageComments": "seen by Dr Liebermann",
    "SeriesDescription": "LGE for Dr Pestalozzi",
    "PatientID": "QX-774411",
}
ELSEWHERE = {
    "nested": "Eulenburg^Fritz",
    "nested ID": "RP-66012-N",
    "preamble": "copied for Gundermann",
    "private": "note 4711-Abendroth",
    "private of unknown type": "Nachbar: Isolde Jahnsen",
    "overlay": "burnt in: Klopstock, K",
    "overlay comment": "overlay of Lessing-Kamenz",
    "file name": "MRN-0815-42",
    "folder name": "Patient Nepomuk",
    "segment label": "Ring by Scharnhorst",
    "segment description": "drawn for Blumenbach",
    "content creator": "Humboldt^Wilhelma",
    "structure set label": "Plan of Virchow",
    "ROI name": "Lippe of Gneisenau",
    "mapped ROI name": "Kontur nach Fontane",
    "workspace": "Stechlin^Dubslav",
    "NIfTI descrip": "converted for O. Pastior",
    "NIfTI aux_file": "Quirinius_Rilke",
    "NIfTI db_name": "db of Schiller",
    "NIfTI intent_name": "Tieck 1853-04",
    "NIfTI extension": "PatientName = Uhland",
    "left-out description": "Cine of Droysen",
}
PLANTED = HEADER | ELSEWHERE
DATES = ("1943-05-17", "17.05.1943", "05/17/1943", "2017-02-23", "23.02.2017")


# The search of this test


def written(text):
    """Each way in which bytes may spell a text, in lower case."""
    parts = {text, *re.split(r"\^", text)}
    spelled = {part.lower() for part in parts if len(part) > 4}
    for part in spelled:
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            data = part.encode(encoding)
            yield data
            yield data.hex().encode()


def in_base64(text):
    """The middle of the text in base64, at each of three places in a group."""
    data = text.encode()
    for before in range(3):
        middle = data[3 - before if before else 0 :]
        yield base64.b64encode(middle[: len(middle) // 3 * 3])


def contents(data):
    """A file as it stands, and what its PNG chunks and deflated parts hold."""
    yield data
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return
    place = 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, chunk = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            yield zlib.decompressobj().decompress(chunk.split(b"\0\0", 1)[-1])
        place += length + 12


def leaks(data):
    """Kinds of what is planted that some bytes hold."""
    found = set()
    for content in contents(data):
        lower = content.lower()
        for kind, text in PLANTED.items():
            plain = any(form in lower for form in written(text))
            if plain or any(form in content for form in in_base64(text)):
                found.add(kind)
        found |= {date for date in DATES if date.encode() in content}
    return found


@pytest.mark.parametrize("kind", PLANTED)
def test_the_search_finds_what_is_there(kind):
    text = PLANTED[kind]
    assert kind in leaks(b"x " + text.encode() + b" y")
    assert kind in leaks(text.upper().encode("utf-16"))
    assert kind in leaks(base64.b64encode(b"12" + text.encode() + b"1"))
    assert kind in leaks(text.lower().encode().hex().encode())
    assert leaks(b"nothing of it") == set()


# The hospital


def planted(datasets, number, **changes):
    """The headers with all that is planted; `number` tells studies apart."""
    for dataset in datasets:
        for keyword, value in (HEADER | changes).items():
            setattr(dataset, keyword, value)
        dataset.PatientID = f"{HEADER['PatientID']}-{number}"
        request, person = Dataset(), Dataset()
        person.PersonName = PLANTED["nested"]
        request.RequestedProcedureID = PLANTED["nested ID"]
        request.PersonIdentificationCodeSequence = [person]
        dataset.RequestAttributesSequence = [request]
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x01, "LO", PLANTED["private"])
        hidden = PLANTED["private of unknown type"].encode()
        block.add_new(0x02, "OB", b"\1\2\0" + hidden + b"\0\xff\xfe")
        burnt = PLANTED["overlay"].encode()
        dataset.add_new(0x60003000, "OW", b"\0\xff" * 40 + burnt + b"\0\xff" * 40)
        dataset.add_new(0x60004000, "LT", PLANTED["overlay comment"])
    return datasets


def save(writing, datasets, folder):
    paths = []
    for index, dataset in enumerate(datasets):
        path = folder / f"{PLANTED['file name']}.{index}"
        writing.save(dataset, path)
        content = path.read_bytes()
        preamble = PLANTED["preamble"].encode().ljust(128, b"\0")
        path.write_bytes(preamble + content[128:])
        paths.append(path)
    return paths


def drawn(content, **values):
    """A SEG or RTSTRUCT with the header and these values too."""
    dataset, file = dcmread(io.BytesIO(content)), io.BytesIO()
    for keyword, value in (HEADER | values).items():
        setattr(dataset, keyword, value)
    dataset.save_as(file)
    return file.getvalue()


def as_seg(images, affine, label="Myocardium"):
    def change(dataset):
        (segment,) = dataset.SegmentSequence
        segment.SegmentLabel = label
        segment.SegmentDescription = PLANTED["segment description"]

    creator = PLANTED["content creator"]
    return drawn(seg(images, affine, change), ContentCreatorName=creator)


def as_rtstruct(images, affine, name="Epi"):
    made = rtstruct(images, affine, names=(name, "Endo"))
    return drawn(made, StructureSetLabel=PLANTED["structure set label"])


def as_workspace(images, _):
    text = cvi42(images).decode()
    person = f'<Hash:item Hash:key="PatientName">{PLANTED["workspace"]}</Hash:item>'
    return text.replace("</W>", f"{person}</W>").encode()


def as_nifti(array, affine):
    content = nifti(affine, array)
    image = nibabel.Nifti1Image.from_bytes(content)
    for name in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[name] = PLANTED[f"NIfTI {name}"].encode()
    text = PLANTED["NIfTI extension"].encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", text))
    return image.to_bytes()


ELSEWHERE_BY_A_PIXEL = np.eye(4) + np.outer([1, 0, 0, 0], [0, 0, 0, 1])

REFERENCES = {
    "seg": as_seg,
    "rtstruct": as_rtstruct,
    "workspace.cvi42wsx": as_workspace,
    "labels.nii": lambda images, affine: as_nifti(label_map(), affine),
    # A name that only the settings explain.
    "mapped": lambda i, a: as_rtstruct(i, a, PLANTED["mapped ROI name"]),
    # Those are refused.
    "unknown segment": lambda i, a: as_seg(i, a, PLANTED["segment label"]),
    "unknown ROI": lambda i, a: as_rtstruct(i, a, PLANTED["ROI name"]),
    "cut.cvi42wsx": lambda i, a: as_workspace(i, a)[:-50],
    "elsewhere.nii": lambda i, a: as_nifti(label_map(), a @ ELSEWHERE_BY_A_PIXEL),
}


def add_study(writing, folder, number, reference=None, **changes):
    random = np.random.default_rng(number)
    stored = random.integers(0, 900, SHAPE).astype(np.int16)
    affine = writing.short_axis_affine(origin=(7.0 * number, -80.0, 90.0))
    names = (f"P{number}", "S", "lge")
    images = writing.classic(stored, affine, names, **writing.LGE)
    planted(images, number, **changes)
    place = folder / f"{PLANTED['folder name']} {number}"
    paths = save(writing, images, place / "images")
    if reference:
        # The ending tells the format; words that are ours would not identify anybody.
        name = f"{PLANTED['file name']}{Path(reference).suffix}"
        (place / name).write_bytes(REFERENCES[reference](images, affine))
    return paths


@pytest.fixture(scope="module")
def hospital(tmp_path_factory, dicom_writing):
    folder = tmp_path_factory.mktemp("hospital")
    for number, reference in enumerate(REFERENCES):
        add_study(dicom_writing, folder, number, reference)
    add_study(dicom_writing, folder, 20)
    add_study(dicom_writing, folder, 21, "seg", BurnedInAnnotation="YES")
    add_study(dicom_writing, folder, 22, "seg", PixelSpacing=["0", "0"])
    description = PLANTED["left-out description"]
    add_study(dicom_writing, folder, 23, SeriesDescription=description)
    paths = add_study(dicom_writing, folder, 24, "seg")
    paths[1].write_bytes(paths[1].read_bytes()[:-40])
    (folder / f"{PLANTED['PatientID']}.dcm").write_bytes(b"damaged")
    return folder


def run(command, *arguments):
    return command.main([*map(str, arguments)])


def check_all(source, folder, capfd, private, code, *command):
    """Builds, shows, checks and verifies; nothing of it may hold a thing planted."""
    out = folder / "set"
    assert run(build, *command, source, out, "--workers", 1) == code
    assert run(show, out, "--png", folder / "figures") == 0
    assert run(check, out, "--out", folder / "checks") == 0
    told = capfd.readouterr()
    (folder / "told").write_text(told.out + told.err)
    made = {path for path in folder.rglob("*") if path.is_file()} - private
    assert {path.suffix for path in made} >= {".tfrecord", ".json", ".png", ".csv"}
    for path in made:
        name = str(path.relative_to(folder)).encode()
        assert leaks(path.read_bytes()) | leaks(name) == set(), path.name
        assert str(source).encode() not in path.read_bytes()
    targets = [out, folder / "figures", folder / "checks", folder / "told"]
    assert run(verify, *targets, "--privacy", source) == 0
    assert capfd.readouterr().err == ""
    for path in private:
        assert path.stat().st_mode & 0o777 == 0o600
        assert not path.is_relative_to(out)
    return told


def private_files(folder):
    return {folder / "set.key", folder / "set.key.studies.csv"}


def test_nothing_of_a_pacs_comes_out(hospital, tmp_path, capfd):
    mapped = f'{{"{PLANTED["mapped ROI name"]}": EPICARDIUM}}'
    private = private_files(tmp_path)
    command = ("dicom", "--drawn.names", mapped)
    told = check_all(hospital, tmp_path, capfd, private, 2, *command)
    assert "\nimported 5, skipped 8\n" in told.out
    # The four references, burned in, no spacing, cut and not DICOM.
    assert told.err.count("ERROR ") == 8
    table = (tmp_path / "set.key.studies.csv").read_text()
    assert PLANTED["file name"] in table


def test_nothing_of_folders_of_volumes_comes_out(tmp_path, tmp_path_factory, capfd):
    source = tmp_path_factory.mktemp("volumes")
    affine = np.diag([1.4, 1.3, 9.0, 1.0])
    for number in range(5):
        name = PLANTED["PatientName"].replace("^", "_") + f"_{number}"
        place = source / name
        place.mkdir()
        random = np.random.default_rng(number)
        image = random.integers(0, 900, SHAPE).astype(np.int16)
        labels = label_map() + 90 * (number == 3)
        study = f"{PLANTED['StudyDate']}-{PLANTED['AccessionNumber']}"
        for part, array in (("LGE", image), ("mask", labels)):
            content = as_nifti(array, affine)
            content = content[: -99 * (number == 4) or None]
            (place / f"{study}_{part}.nii").write_bytes(content)
    patterns = ("{patient}/{study}_LGE.nii", "{patient}/{study}_mask.nii")
    command = ("nifti", "--images", patterns[0], "--references", patterns[1])
    private = private_files(tmp_path)
    told = check_all(source, tmp_path, capfd, private, 2, *command)
    assert "\nimported 3, skipped 2\n" in told.out
    assert sorted(re.findall(r"ERROR \w{16}: (\w+)", told.err)) == [
        "LABELS",
        "PIXEL_LENGTH",
    ]
