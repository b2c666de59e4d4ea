"""Bad references among good: the images are fine, what was drawn on them is not."""

import gzip
import zlib

import numpy as np
import pytest
from reference_bytes import (
    SHAPE,
    circle,
    cvi42,
    label_map,
    nifti,
    nrrd,
    rtstruct,
    seg,
    text_contours,
    zipped,
)

pytestmark = pytest.mark.slow

# Bad ones


def flipped_bit(content):
    """One bit of the compressed voxels; nibabel hands out other voxels."""
    damaged = bytearray(content)
    damaged[-40] ^= 4
    return bytes(damaged)


def moved(affine, x_mm=0.0, scale=1.0):
    affine = affine.copy()
    affine[:3, :3] *= scale
    affine[0, 3] += x_mm
    return affine


def with_value(labels, value, dtype=np.uint8):
    labels = labels.astype(dtype)
    labels[0, 0, 0] = value
    return labels


def gzip_bomb(head=b""):
    """200 MB of zeros in 200 kB, after a header that declares less."""
    press = zlib.compressobj(9, wbits=31)
    parts = [press.compress(part) for part in (head, *[bytes(2**20)] * 200)]
    return b"".join(parts) + press.flush()


def attributes(**values):
    def change(dataset):
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return change


def frame_elsewhere(dataset):
    group = dataset.PerFrameFunctionalGroupsSequence[1]
    group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]


def frame_of_no_segment(dataset):
    group = dataset.PerFrameFunctionalGroupsSequence[1]
    group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9


def of_another_study(dataset):
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "2.25.80", "2.25.81"
    for group in dataset.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        source.ReferencedSOPInstanceUID += ".9"


def named(label):
    return lambda dataset: setattr(dataset.SegmentSequence[0], "SegmentLabel", label)


def nan_point(points):
    points = np.array(points)
    points[3, 0] = np.nan
    return points


ENTITY = '<!DOCTYPE W [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
LAUGHS = "<!DOCTYPE W [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]>"
ZEROS = np.zeros((200, 40, 44), np.uint8)

BAD = {
    # Label volumes
    "volume cut": ("a.nii.gz", lambda i, a: zipped(a)[:-9], "TRUNCATED"),
    "volume bit": ("a.nii.gz", lambda i, a: flipped_bit(zipped(a)), "CORRUPT"),
    "volume and more": ("a.nii.gz", lambda i, a: zipped(a) + b"x", "CORRUPT"),
    "volume bomb": ("a.nii.gz", lambda i, a: gzip_bomb(nifti(a)), "TOO_LARGE"),
    "volume empty": ("a.nii.gz", lambda i, a: b"", "NOT_NIFTI"),
    "volume short": ("a.nii", lambda i, a: nifti(a)[:-1], "PIXEL_LENGTH"),
    "volume of text": ("a.nii", lambda i, a: b"x" * 900, "NOT_NIFTI"),
    "volume NaN affine": (
        "a.nii",
        lambda i, a: nifti(a, srow_x=np.nan),
        "GEOMETRY_",
    ),
    "volume singular": (
        "a.nii",
        lambda i, a: nifti(a, srow_x=0),
        "GEOMETRY_MISMATCH",
    ),
    "volume pixdim": (
        "a.nii",
        lambda i, a: nifti(a, zoom=1.5),
        "GEOMETRY_MISMATCH",
    ),
    "volume pixdim 0": ("a.nii", lambda i, a: nifti(a, zoom=0), "BAD_GEOMETRY"),
    "volume moved": (
        "a.nii",
        lambda i, a: nifti(moved(a, 3)),
        "GEOMETRY_MISMATCH",
    ),
    "volume scaled": (
        "a.nii",
        lambda i, a: nifti(moved(a, scale=1.1)),
        "GEOMETRY_MISMATCH",
    ),
    "volume in microns": (
        "a.nii",
        lambda i, a: nifti(a, xyzt_units=3),
        "UNSUPPORTED",
    ),
    "volume of 200": ("a.nii", lambda i, a: nifti(a, ZEROS), "GEOMETRY_MISMATCH"),
    "volume value 9": (
        "a.nii",
        lambda i, a: nifti(a, with_value(label_map(), 9)),
        "LABELS",
    ),
    "volume value 1.5": (
        "a.nii",
        lambda i, a: nifti(a, with_value(label_map(), 1.5, np.float32)),
        "UNSUPPORTED",
    ),
    "volume value NaN": (
        "a.nii",
        lambda i, a: nifti(a, with_value(label_map(), np.nan, np.float32)),
        "UNSUPPORTED",
    ),
    "volume 4-D": (
        "a.nii",
        lambda i, a: nifti(a, np.stack([label_map()] * 2)),
        "UNSUPPORTED",
    ),
    "volume qform": (
        "a.nii",
        lambda i, a: nifti(a, qform_code=1, qoffset_x=9),
        "GEOMETRY_MISMATCH",
    ),
    # NRRD
    "nrrd elsewhere": (
        "a.nrrd",
        lambda i, a: nrrd(a, data=b"", data_file="../../../secret"),
        "UNSUPPORTED",
    ),
    "nrrd cut": ("a.nrrd", lambda i, a: nrrd(a)[:-7], "PIXEL_LENGTH"),
    "nrrd of 1e15": (
        "a.nrrd",
        lambda i, a: nrrd(a, sizes="99999 99999 99999"),
        "TOO_",
    ),
    "nrrd bomb": (
        "a.nrrd",
        lambda i, a: nrrd(a, data=gzip_bomb(), encoding="gzip"),
        "PIXEL_LENGTH",
    ),
    "nrrd singular": (
        "a.nrrd",
        lambda i, a: nrrd(a, space_directions="(0,0,0) (0,1,0) (0,0,1)"),
        "BAD_GEOMETRY",
    ),
    "nrrd NaN": (
        "a.nrrd",
        lambda i, a: nrrd(a, space_origin="(nan,0,0)"),
        "BAD_GEO",
    ),
    "nrrd of text": (
        "a.nrrd",
        lambda i, a: b"NRRD0004\nspace: moon\n\n",
        "BAD_HEADER",
    ),
    "nrrd value 9": (
        "a.nrrd",
        lambda i, a: nrrd(a, with_value(label_map(), 9)),
        "LABELS",
    ),
    # DICOM SEG
    "seg cut": ("a.dcm", lambda i, a: seg(i, a)[:-9], "PIXEL_LENGTH"),
    "seg cut in header": ("a.dcm", lambda i, a: seg(i, a)[:1500], ""),
    "seg 65535 rows": (
        "a.dcm",
        lambda i, a: seg(i, a, attributes(Rows=65535)),
        "PIXEL_",
    ),
    "seg of 3 frames": (
        "a.dcm",
        lambda i, a: seg(i, a, attributes(NumberOfFrames=3)),
        "PIXEL_LENGTH",
    ),
    "seg without segments": (
        "a.dcm",
        lambda i, a: seg(i, a, attributes(SegmentSequence=None)),
        "MISSING_TAG",
    ),
    "seg of 16 bits": (
        "a.dcm",
        lambda i, a: seg(i, a, attributes(BitsAllocated=16)),
        "UNSUPPORTED",
    ),
    "seg elsewhere": (
        "a.dcm",
        lambda i, a: seg(i, a, frame_elsewhere),
        "GEOMETRY_",
    ),
    "seg segment 9": (
        "a.dcm",
        lambda i, a: seg(i, a, frame_of_no_segment),
        "LABELS",
    ),
    "seg of liver": ("a.dcm", lambda i, a: seg(i, a, named("Liver")), "LABELS"),
    "seg of others": (
        "a.dcm",
        lambda i, a: seg(i, a, of_another_study),
        "GEOMETRY_",
    ),
    # RTSTRUCT
    "rt cut": ("a.dcm", lambda i, a: rtstruct(i, a)[:-99], ""),
    "rt NaN": ("a.dcm", lambda i, a: rtstruct(i, a, nan_point), "CONTOUR"),
    "rt two points": (
        "a.dcm",
        lambda i, a: rtstruct(i, a, lambda p: p[:2]),
        "CONTOUR",
    ),
    "rt no points": (
        "a.dcm",
        lambda i, a: rtstruct(i, a, lambda p: p[:0]),
        "CONTOUR",
    ),
    "rt half a point": (
        "a.dcm",
        lambda i, a: rtstruct(i, a, lambda p: p.ravel()[:-1]),
        "CONTOUR",
    ),
    "rt outside": (
        "a.dcm",
        lambda i, a: rtstruct(i, a, lambda p: p * 99),
        "GEOMETRY_",
    ),
    "rt between": (
        "a.dcm",
        lambda i, a: rtstruct(i, a, lambda p: p + 3),
        "GEOMETRY_",
    ),
    "rt open": (
        "a.dcm",
        lambda i, a: rtstruct(i, a, kind="OPEN_PLANAR"),
        "CONTOUR",
    ),
    "rt of lung": (
        "a.dcm",
        lambda i, a: rtstruct(i, a, names=("Lung", "Endo")),
        "LABELS",
    ),
    "rt of others": (
        "a.dcm",
        lambda i, a: rtstruct(i, a, uids=[f"2.25.9{n}" for n in range(4)]),
        "GEOMETRY_MISMATCH",
    ),
    # cvi42
    "cvi cut": ("a.cvi42wsx", lambda i, a: cvi42(i)[:-60], "CORRUPT"),
    "cvi empty": ("a.cvi42wsx", lambda i, a: b"", "CORRUPT"),
    "cvi binary": ("a.cvi42ws", lambda i, a: bytes(range(256)), "UNSUPPORTED"),
    "cvi entity": ("a.cvi42wsx", lambda i, a: cvi42(i, head=ENTITY), "CORRUPT"),
    "cvi laughs": ("a.cvi42wsx", lambda i, a: cvi42(i, head=LAUGHS), "CORRUPT"),
    "cvi deep": ("a.cvi42wsx", lambda i, a: b"<a>" * 100_000, "NESTING"),
    "cvi NaN": (
        "a.cvi42wsx",
        lambda i, a: cvi42(i, nan_point(circle(9))),
        "CONTOUR",
    ),
    "cvi two points": (
        "a.cvi42wsx",
        lambda i, a: cvi42(i, circle(9)[:2]),
        "CONTOUR",
    ),
    "cvi a word": (
        "a.cvi42wsx",
        lambda i, a: cvi42(i, [["a", "b"]] * 9),
        "CONTOUR",
    ),
    "cvi far": ("a.cvi42wsx", lambda i, a: cvi42(i, circle(9) + 99), "CONTOUR"),
    "cvi grid 0": ("a.cvi42wsx", lambda i, a: cvi42(i, resolution=0), "CONTOUR"),
    "cvi of others": (
        "a.cvi42wsx",
        lambda i, a: cvi42(i, study="2.25.5"),
        "GEOMETRY_",
    ),
    # Contours as text
    "text NaN": (
        "i",
        lambda i, a: text_contours(nan_point(circle(9))),
        "CONTOUR",
    ),
    "text two points": (
        "i",
        lambda i, a: text_contours(circle(9)[:2]),
        "CONTOUR",
    ),
    "text of words": ("i", lambda i, a: b"left right\n" * 20, "CONTOUR"),
    "text of bytes": ("i", lambda i, a: bytes(range(256)), "CONTOUR"),
    "text empty": ("i", lambda i, a: b"", "CONTOUR"),
    "text long": ("i", lambda i, a: b"1 1\n" * 300_000, "TOO_LARGE"),
    "text outside": ("i", lambda i, a: text_contours(circle(9) + 99), "CONTOUR"),
}
"""By name: the file's name, its content for images at an affine, and the code (or how
it begins)."""

TEXT_NAME = "IM-0001-0001-icontour-manual.txt"

FORMATS = {
    "a.nii": lambda i, a: nifti(a),
    "a.nii.gz": lambda i, a: zipped(a),
    "a.nrrd": lambda i, a: nrrd(a),
    "z.nrrd": lambda i, a: nrrd(a, data=gzip.compress(label_map()), encoding="gzip"),
    "seg.dcm": lambda i, a: seg(i, a),
    "rt.dcm": lambda i, a: rtstruct(i, a),
    "a.cvi42wsx": lambda i, a: cvi42(i),
    TEXT_NAME: lambda i, a: text_contours(circle(9)),
}


@pytest.fixture(scope="module")
def write(dicom_writing):
    def write(folder, name, reference=None):
        """Images of a study, moved a little from the others; and its reference."""
        random = np.random.default_rng(len(name))
        stored = random.integers(0, 900, SHAPE).astype(np.int16)
        shift = zlib.crc32(name.encode()) % 1000 / 10
        affine = dicom_writing.short_axis_affine(origin=(shift, -80.0, 90.0))
        names = (name, "S", "lge")
        images = dicom_writing.classic(stored, affine, names, **dicom_writing.LGE)
        dicom_writing.save_all(images, folder / name / "images")
        if reference:
            file, content = reference
            (folder / name / file).write_bytes(content(images, affine))

    return write


@pytest.fixture(scope="module")
def outcome(survive, write):
    def good(folder):
        write(folder, "good nifti", ("a.nii.gz", lambda i, a: zipped(a)))
        write(folder, "good nrrd", ("a.seg.nrrd", lambda i, a: nrrd(a)))
        write(folder, "good seg", ("seg", lambda i, a: seg(i, a)))
        write(folder, "good rtstruct", ("rt", lambda i, a: rtstruct(i, a)))
        write(folder, "good cvi42", ("a.cvi42wsx", lambda i, a: cvi42(i)))
        write(folder, "none")

    def bad(folder):
        for name, (file, content, _) in BAD.items():
            write(folder, name, (TEXT_NAME if file == "i" else file, content))
        two = "two references"
        write(folder, two, ("a.nii", lambda i, a: nifti(a)))
        write(folder, two, ("b.nii.gz", lambda i, a: zipped(a)))
        write(folder, "linked")
        (folder / "linked" / "a.nii").symlink_to(folder / two / "a.nii")
        (folder / "linked" / "b.nii").mkdir()
        (folder / "linked" / TEXT_NAME).symlink_to("/etc/passwd")

    return survive("dicom", good, bad)


@pytest.fixture
def study_uid(dicom_writing):
    return lambda name: dicom_writing.new_uid("study", name, "S")


@pytest.mark.parametrize("name", BAD)
def test_study_is_refused_with_the_code_of_its_reference(name, outcome, study_uid):
    (code,) = outcome.codes(study_uid(name))
    assert code.startswith(BAD[name][2])


def test_two_references_are_refused(outcome, study_uid):
    assert outcome.codes(study_uid("two references")) == ["LABELS"]


def test_nothing_else_is_refused(outcome):
    assert sum(map(len, outcome.refused.values())) == len(BAD) + 1
    assert len(outcome.patients) == 5


def test_links_are_no_references(outcome, study_uid):
    reason = "has no reference; --unlabelled takes it"
    assert outcome.reasons(study_uid("linked")) == [reason]
    assert outcome.left_out["links, which are not followed", "no image"] == 2


def test_references_in_one_folder_cost_nobody_else_anything(
    survive, write, study_uid, tmp_path_factory
):
    """Nothing but its place says whose a volume is; some broken ones still tell it."""
    references = tmp_path_factory.mktemp("references")

    def good(folder):
        for name in ("first", "second"):
            write(folder, name, ("a.nii.gz", lambda i, a: zipped(a)))
            (folder / name / "a.nii.gz").rename(references / f"{name}.nii.gz")

    def bad(folder):
        write(folder, "bad", ("a.nii.gz", BAD["volume cut"][1]))
        (folder / "bad" / "a.nii.gz").rename(references / "bad.nii.gz")
        (references / "bad.nrrd").write_bytes(b"NRRD")
        (references / "rt.dcm").write_bytes(bytes(128) + b"DICM" + bytes(99))
        (references / "bad.cvi42wsx").write_bytes(b"<a>")
        (references / TEXT_NAME).write_bytes(text_contours(circle(9)))
        write(folder, "refused", ("a.nii", BAD["volume moved"][1]))

    options = ["--references", str(references)]
    found = survive("dicom", good, bad, options)
    assert len(found.patients) == 2
    told = {w: r.partition(":")[0] for w, r in found.left_out if "reference" in w}
    assert told == {
        "reference (nrrd)": "BAD_HEADER",
        "reference (cvi42)": "CORRUPT",
        "reference (text)": "lies in no study's folder, and in none that is called as "
        "one",
    }
    assert found.codes(study_uid("bad")) == ["TRUNCATED"]


# Damage of no plan


@pytest.mark.parametrize("file", FORMATS)
def test_damage_of_no_plan(file, fuzz, write, tmp_path):
    write(tmp_path, "study", (file, FORMATS[file]))
    fuzz("dicom", tmp_path, tmp_path / "study" / file)
