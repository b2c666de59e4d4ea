"""From a folder of a PACS to a record set, by the command: the phantom comes back.

Each patient's study lies among other series, its references written by another tool.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from independent_references import (
    ENDO,
    EPI,
    REGIONS,
    REMOTE,
    contour,
    layers,
    numbered,
    outline,
    reordered,
    segments,
    workspace,
    write_nifti,
    write_nrrd,
    write_rtstruct,
    write_seg,
)

from tfrecords_tools.build import main
from tfrecords_tools.labels import MYOCARDIUM, TASKS, Tissue, region_mask
from tfrecords_tools.manifest import load_manifest
from tfrecords_tools.pseudonyms import load_key, pseudonym
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.sources.phantom import PhantomConfig, studies
from tfrecords_tools.study import Study

pytestmark = [  # rt-utils' and highdicom's own
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "dicom"
SLOPE, INTERCEPT = 0.37, -310.0
SCAR_SD = 5.0
WHO = dict.fromkeys(
    ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName"), ""
) | dict.fromkeys(("StudyDate", "StudyTime", "StudyID"), "")


@dataclasses.dataclass
class Case:
    """A patient of the phantom, and how the reference of its study is written."""

    name: str
    truth: Study
    write: Callable

    @property
    def stored(self):
        return np.rint((self.truth.pixels - INTERCEPT) / SLOPE).astype(np.int16)

    @property
    def pixels(self):
        return (self.stored * SLOPE + INTERCEPT).astype(np.float32)


def as_seg(case, images, folder):
    regions = layers(case.truth.label_map).astype(np.uint8)
    write_seg(folder / "a", images, regions)


def as_rtstruct(case, images, folder):
    aside = folder.parents[1] / "aside" / case.name
    aside.mkdir(parents=True)
    here = {n: r for n, r in REGIONS.items() if np.isin(case.truth.label_map, r).any()}
    write_rtstruct(aside, images, case.truth.label_map, here).rename(folder / "a.dcm")


def as_seg_nrrd(case, images, folder):
    affine = case.truth.affine[:, [1, 0, 2, 3]]
    path = folder / "Segmentation.seg.nrrd"
    write_nrrd(path, numbered(case.truth.label_map), affine, segments())


def as_nifti(case, images, folder):
    turned = reordered(case.truth.label_map, case.truth.affine, (1, 0, 2), (0, 1, 1))
    write_nifti(folder / "labels.nii.gz", *turned)


def as_cvi42(case, images, folder):
    drawn = []
    for image, labels in zip(images, case.truth.label_map, strict=True):
        pool, disc, remote = labels == Tissue.BLOOD_POOL, labels > 0, labels == 2
        if pool.any():
            three = [(EPI, disc), (ENDO, pool), (f"{REMOTE}0001", remote_part(remote))]
            drawn.append(
                (image.SOPInstanceUID, [contour(n, outline(m)) for n, m in three])
            )
    workspace(folder / "study.cvi42wsx", drawn, images[0].StudyInstanceUID)


def remote_part(healthy):
    """The largest square of healthy wall, up to 7 x 7 pixels."""
    from scipy.ndimage import binary_dilation, binary_erosion

    for size in range(7, 0, -1):
        inside = np.argwhere(binary_erosion(healthy, np.ones((size, size))))
        if len(inside):
            middle = np.zeros_like(healthy)
            middle[tuple(inside[0])] = True
            return binary_dilation(middle, np.ones((size, size)))
    raise AssertionError("no healthy wall")


WAYS = {
    "classic": [as_seg, as_rtstruct, as_seg_nrrd, as_nifti, as_cvi42],
    "enhanced": [as_seg, as_seg_nrrd, as_nifti],
}


@dataclasses.dataclass
class Built:
    """What the command made of one folder."""

    cases: list[Case]
    studies: dict[str, Study]
    taken: dict[str, int]
    left_out: set[str]
    warnings: list[str]


@pytest.fixture(scope="module", params=WAYS)
def built(request, tmp_path_factory, dicom_writing):
    """Five classic or three enhanced studies, each among the series of a clinic."""
    tmp = tmp_path_factory.mktemp(request.param)
    writers = WAYS[request.param]
    cohort = studies(PhantomConfig(patients=9, seed=3))
    with_scar = (study for study in cohort if (study.label_map >= Tissue.SCAR).any())
    cases = [
        Case(write.__name__, truth, write)
        for write, truth in zip(writers, with_scar, strict=False)
    ]
    assert len(cases) == len(writers)
    for case in cases:
        write_case(case, request.param, tmp / "in", dicom_writing)
    command = ["dicom", str(tmp / "in"), str(tmp / "out"), "--workers", "1"]
    rule = ["--drawn.scar_rule", "nsd", "--drawn.scar_sd", str(SCAR_SD)]
    assert main([*command, *rule]) == 0
    return open_built(tmp / "out", cases)


def write_case(case, way, folder, dicom_writing):
    """PSIR with its references, magnitude, cine, long-axis and scout."""
    names, affine = (case.name, "S1"), case.truth.affine
    dicom_writing.clinical_study(case.stored // 2, affine, folder / case.name, names)
    write = getattr(dicom_writing, way)
    psir = write(
        case.stored,
        affine,
        (*names, "psir"),
        rescale=(SLOPE, INTERCEPT),
        **dicom_writing.PSIR | WHO,
    )
    dicom_writing.save_all(psir, folder / case.name / "deeper", seed=1)
    case.write(case, psir, folder / case.name)


def open_built(out, cases):
    records, key = open_record_set(out), load_key(out.with_name("out.key"))
    found = {
        study.patient_key: study
        for split in ("train", "validation", "test")
        for study in records.studies(split)
    }
    manifest = load_manifest(out)
    return Built(
        cases,
        {case.name: found.pop(pseudonym(case.name, key)) for case in cases},
        manifest.taken,
        {entry.reason for entry in manifest.left_out},
        [text for patient in manifest.patients for text in patient.warnings],
    )


def pairs(built):
    return [(case, built.studies[case.name]) for case in built.cases]


def test_pixels_are_those_that_were_stored(built):
    """Bit for bit, so that the slices are in order too."""
    for case, study in pairs(built):
        np.testing.assert_array_equal(study.pixels, case.pixels)


def test_slices_lie_where_they_were_from_base_to_apex(built):
    for case, study in pairs(built):
        # Decimal strings of 16 characters: 1e-13 of 100 mm; records are float32.
        np.testing.assert_allclose(study.affine, case.truth.affine, atol=1e-4, rtol=0)
        assert study.spacing_mm == pytest.approx(case.truth.spacing_mm, abs=1e-4)
        gap = abs(study.slice_spacing_mm - case.truth.slice_spacing_mm)
        assert gap <= 1e-4
        # The apex is to the left, in front and below.
        assert study.affine[:3, 2] @ (1, -1, -1) > 0


def dice(found, expected):
    return 2 * (found & expected).sum() / (found.sum() + expected.sum())


def test_references_come_back(built):
    for case, study in pairs(built):
        truth = case.truth.label_map
        rule = case.write is as_cvi42
        for region in [MYOCARDIUM] if rule else [MYOCARDIUM, *({t} for t in Tissue)]:
            found, expected = (region_mask(m, region) for m in (study.label_map, truth))
            if expected.any() or found.any():
                assert dice(found, expected) >= 0.99, (case.name, region)
        drawn = np.flatnonzero((truth == Tissue.BLOOD_POOL).any(axis=(1, 2)))
        assert all(study.labelled[index] == {*TASKS} for index in drawn)


def test_scar_of_a_workspace_is_what_the_rule_says(built):
    """Mean of the remote region + 5 SD, inside the wall that was drawn."""
    drawn = [pair for pair in pairs(built) if pair[0].write is as_cvi42]
    if not drawn:
        pytest.skip("a workspace does not say on which frame of a file it was drawn")
    ((case, study),) = drawn
    expected = by_rule(case)
    assert expected.sum() > 100
    assert dice(region_mask(study.label_map, {Tissue.SCAR}), expected) >= 0.99
    assert any("remote mean + 5 SD" in text for text in built.warnings)


def by_rule(case):
    expected = np.zeros(case.truth.label_map.shape, bool)
    for index, labels in enumerate(case.truth.label_map):
        if (labels == Tissue.BLOOD_POOL).any():
            values = case.pixels[index][remote_part(labels == 2)]
            limit = values.mean() + SCAR_SD * values.std()
            expected[index] = (labels >= 2) & (case.pixels[index] >= limit)
    return expected


def test_what_was_chosen_and_left_out_is_kept(built):
    assert sum(built.taken.values()) == len(built.cases)
    assert all(text.startswith("PSIR, ") for text in built.taken)
    assert built.left_out == {
        "LGE: magnitude; PSIR is preferred",
        "LGE: not short-axis",
        "cine: not wanted; dicom --series any takes it",
        "scout: not wanted",
    }


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="shared/data/dicom is not here")
@pytest.mark.parametrize(("name", "slices"), [("sunnybrook", 10), ("biv_me", 6)])
class TestRealCine:
    def test_by_default_it_is_told_why_nothing_is_taken(
        self, name, slices, tmp_path, capsys
    ):
        command = ["dicom", str(SAMPLES / name), str(tmp_path / "out")]
        assert main([*command, "--workers", "1"]) == 2
        said = capsys.readouterr()
        assert "cine: not wanted; dicom --series any takes it" in said.out
        assert "no LGE short-axis series in this study" in said.out
        (line,) = said.err.splitlines()
        assert line.startswith("ERROR ")
        assert ": NO_STUDIES: " in line
        assert [*(tmp_path / "out").iterdir()] == []

    def test_as_stacks_if_told_so(self, name, slices, tmp_path, capsys):
        command = ["dicom", str(SAMPLES / name), str(tmp_path / "out")]
        options = ["--series", "any", "--unlabelled", "--workers", "1"]
        assert main([*command, *options]) == 0
        assert capsys.readouterr().out.endswith("imported 1, skipped 0\n")
        (study,) = open_record_set(tmp_path / "out").studies("test")
        assert len(study.pixels) == slices
        assert not any(study.labelled)
        assert study.affine[:3, 2] @ (1, -1, -1) > 0
