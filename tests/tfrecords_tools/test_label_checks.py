"""Labels with one known fault each: a ring of 1 mm pixels, and the phantom."""

import dataclasses
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from tfrecords_tools import check
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.finding_sheet import write_finding_sheet
from tfrecords_tools.findings import CODES
from tfrecords_tools.label_checks import check_labels, warnings_for
from tfrecords_tools.label_fixes import fixed, without_holes, without_islands
from tfrecords_tools.label_shapes import shape_of
from tfrecords_tools.labels import Tissue
from tfrecords_tools.sources import emidec, phantom
from tfrecords_tools.study import Study

pytestmark = pytest.mark.slow

EMIDEC = Path(__file__).parents[2].parent / "shared" / "data" / "emidec"

BOTH = frozenset({"myocardium", "scar"})
BLOOD, WALL, SCAR = Tissue.BLOOD_POOL, Tissue.HEALTHY_MYOCARDIUM, Tissue.SCAR

ROWS, COLUMNS = np.indices((80, 80)) - 40


def ring(inner=8, outer=16):
    """A wall between two radii in mm about pixel (40, 40), blood inside."""
    radius = np.hypot(ROWS, COLUMNS)
    labels = np.where(radius <= outer, WALL, 0)
    return np.where(radius < inner, BLOOD, labels).astype(np.uint8)


def study_of(label_map, **changes):
    label_map = np.stack(label_map)
    pixels = np.random.default_rng(0).random(label_map.shape, np.float32)
    values = {
        "patient_key": "patient-1",
        "study_key": "study-1",
        "source": "handmade",
        "pixels": pixels,
        "label_map": label_map,
        "labelled": (BOTH,) * len(label_map),
        "affine": np.diag([1.0, 1.0, 20.0, 1.0]),
    }
    return Study(**(values | changes))


@pytest.fixture
def rings():
    """Seven slices of the ring, to be damaged."""
    return [ring() for _ in range(7)]


def only(findings):
    (finding,) = findings
    return finding.code, finding.index, finding.value


# Good labels


def test_good_labels_give_no_finding(rings):
    # pi (16^2 - 8^2) mm2 x 20 mm x 7 slices x 1.05 g/ml = 89 g: plausible
    assert check_labels(study_of(rings)) == []


def test_open_base_and_apical_cap_are_anatomy(rings):
    rings[0][COLUMNS > 5] = 0
    rings[1][COLUMNS > 10] = 0
    rings[6][rings[6] == BLOOD] = WALL
    assert check_labels(study_of(rings)) == []


def test_wall_without_any_blood_pool_is_a_reference_of_its_own(rings):
    walls = [np.where(labels == BLOOD, 0, labels) for labels in rings]
    assert check_labels(study_of(walls)) == []


@pytest.mark.parametrize("tasks", [frozenset(), frozenset({"scar"})])
def test_what_has_no_reference_of_the_wall_is_not_judged(tasks, rings):
    blank = [np.zeros_like(labels) for labels in rings]
    assert check_labels(study_of(blank, labelled=(tasks,) * 7)) == []


def test_unread_slices_are_no_gap(rings):
    rings[2][:] = rings[4][:] = 0
    labelled = tuple(BOTH if rings[index].any() else frozenset() for index in range(7))
    assert check_labels(study_of(rings, labelled=labelled)) == []


@pytest.mark.skipif(not EMIDEC.is_dir(), reason="EMIDEC is not there")
def test_real_labels_give_no_finding():
    """Every tenth case; all 80 with their 567 slices give none either."""
    cases = emidec.source(EMIDEC)
    for case in cases.items[::10]:
        assert check_labels(cases.read(case)) == []


# One fault each


def test_shift_is_measured(rings):
    # A 3-4-5 triangle: 9 mm down and 12 mm to the right are 15 mm.
    rings[3] = np.roll(rings[3], (9, 12), (0, 1))
    finding = check_labels(study_of(rings))[0]
    assert (finding.code, finding.index) == ("SHIFTED", 3)
    assert finding.value == pytest.approx(15, abs=0.01)  # centres of pixels
    # Marked where the others are: back on the ring's disk.
    assert (finding.place == (ring() > 0)).mean() > 0.99


def test_only_the_shifted_slice_is_named(rings):
    rings[6] = np.roll(rings[6], 15, 0)
    assert only(check_labels(study_of(rings)))[:2] == ("SHIFTED", 6)


def test_a_tilted_axis_is_no_shift(rings):
    # 4 mm a slice: the last lies 24 mm beside the first, all on one line.
    tilted = [np.roll(labels, 4 * index - 12, 0) for index, labels in enumerate(rings)]
    assert check_labels(study_of(tilted)) == []


def test_breath_between_slices_is_no_shift(rings):
    rings[3] = np.roll(rings[3], 9, 1)
    assert check_labels(study_of(rings)) == []


def test_three_slices_are_too_few_for_a_line(rings):
    rings[1] = np.roll(rings[1], 15, 0)
    assert check_labels(study_of(rings[:3])) == []


@pytest.mark.parametrize("cut_degrees", [20, 60, 120])
def test_open_ring_is_measured(cut_degrees, rings):
    angle = np.degrees(np.arctan2(ROWS, COLUMNS)) % 360
    rings[3][(angle < cut_degrees) & (rings[3] == WALL)] = 0
    code, index, degrees = only(check_labels(study_of(rings)))
    assert (code, index) == ("OPEN_RING", 3)
    # The hull's centre moves away from the gap, which looks narrower from there: at
    # 120 degrees the chord cuts off r^2 (2.094 - 0.866) / 2 = 0.20 of the disk's area.
    assert 0.75 * cut_degrees <= degrees <= cut_degrees


def test_scar_apart_from_the_wall(rings):
    rings[2][39:42, 63:66] = SCAR
    # From column 65, row 39, to the wall at column 56, row 40: sqrt(81 + 1) mm
    expected = ("SCAR_OUTSIDE", 2, pytest.approx(82**0.5))
    assert only(check_labels(study_of(rings))) == expected


def test_scar_that_grows_out_of_the_wall(rings):
    rings[2][39:42, 50:70] = SCAR
    # Columns 57 to 69 are outside; the neighbours' hull ends at 56: 69 - 56 mm.
    assert only(check_labels(study_of(rings))) == ("SCAR_OUTSIDE", 2, 13.0)


def test_transmural_scar_is_inside(rings):
    for labels in rings:
        labels[(labels == WALL) & (COLUMNS > 0)] = SCAR
    assert check_labels(study_of(rings)) == []


def test_scar_in_the_blood_pool(rings):
    rings[2][39:42, 39:41] = SCAR
    assert only(check_labels(study_of(rings))) == ("SCAR_IN_BLOOD", 2, 6.0)


@pytest.mark.parametrize("tissue", [WALL, BLOOD])
def test_island(tissue, rings):
    rings[4][5:8, 5:9] = tissue
    assert only(check_labels(study_of(rings))) == ("ISLAND", 4, 12.0)


def test_hole_in_the_wall(rings):
    rings[4][40, 51:53] = 0
    assert only(check_labels(study_of(rings))) == ("HOLE", 4, 2.0)


def test_cavity_without_blood_pool(rings):
    cavity = np.count_nonzero(rings[4] == BLOOD)
    rings[4][rings[4] == BLOOD] = 0
    assert only(check_labels(study_of(rings))) == ("NO_BLOOD", 4, cavity)


def test_labels_that_leave_the_image(rings):
    # All seven 24 pixels up: the outer edge at row 40 - 16 = 24 comes to row 0.
    moved = [np.roll(labels, -24, 0) for labels in rings]
    findings = check_labels(study_of(moved))
    assert {finding.code for finding in findings} == {"BORDER"}
    # In the top row lies column 40 alone: sqrt(16^2 - 0^2) is reached there only.
    assert [finding.value for finding in findings] == [1.0] * 7


def test_labels_where_the_image_is_padded(rings):
    study = study_of(rings)
    study.pixels[5, :, 30:] = 0
    code, index, percent = only(check_labels(study))
    assert (code, index) == ("OFF_IMAGE", 5)
    # The disk has 33 columns from -16 to 16, of which -10 to 16 are padded.
    labelled = rings[5] > 0
    assert percent == pytest.approx(
        100 * (labelled & (COLUMNS >= -10)).sum() / labelled.sum()
    )


def test_empty_study(rings):
    blank = [np.zeros_like(labels) for labels in rings]
    assert only(check_labels(study_of(blank))) == ("EMPTY", None, 0.0)


def test_missing_slice(rings):
    rings[3][:] = 0
    assert only(check_labels(study_of(rings))) == ("MISSING_SLICE", 3, 0.0)


def test_lone_slice(rings):
    rings[1][:] = rings[2][:] = 0
    rings[0][:] = 0
    rings[4][:] = 0
    found = [(f.code, f.index) for f in check_labels(study_of(rings))]
    assert found == [("LONE_SLICE", 3), ("MISSING_SLICE", 4)]


@pytest.mark.parametrize("spacing_mm", [0.4, 4.0])
def test_implausible_mass(spacing_mm, rings):
    # 89 g at 1 mm: 0.16 of it, 14 g, or 16 times as much, 1420 g
    affine = np.diag([spacing_mm, spacing_mm, 20.0, 1.0])
    code, _, mass_g = only(check_labels(study_of(rings, affine=affine)))
    wall = sum(np.count_nonzero(labels == WALL) for labels in rings)
    assert code == "MASS"
    assert mass_g == pytest.approx(wall * spacing_mm**2 * 20 / 1000 * 1.05)


def test_wall_mostly_of_scar(rings):
    for labels in rings:
        labels[(labels == WALL) & (np.abs(COLUMNS) >= 4)] = SCAR
    code, index, percent = only(check_labels(study_of(rings)))
    share = np.mean(
        [(x == SCAR).sum() / ((x == SCAR) | (x == WALL)).sum() for x in rings]
    )
    assert (code, index, percent) == ("SCAR_SHARE", None, pytest.approx(100 * share))
    assert percent > 60


def test_every_code_has_its_test():
    text = Path(__file__).read_text(encoding="utf-8")
    assert not [code for code in CODES if f'"{code}"' not in text]


# The phantom, damaged in many places


def damaged(study, index, change):
    label_map = study.label_map.copy()
    label_map[index] = change(label_map[index])
    return dataclasses.replace(study, label_map=label_map)


def shifted(study, index, mm, degrees):
    direction = np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])
    steps = np.rint(direction * mm / study.spacing_mm).astype(int)
    return damaged(study, index, lambda labels: np.roll(labels, steps, (0, 1)))


def polar(study, index):
    """Angle in degrees and distance in mm from the centre, and the shape."""
    shape = shape_of(list(study.slices())[index])
    rows, columns = np.indices(shape.wall.shape)
    rise = (rows - shape.centre[0]) * shape.spacing_mm[0]
    run = (columns - shape.centre[1]) * shape.spacing_mm[1]
    return np.degrees(np.arctan2(rise, run)) % 360, np.hypot(rise, run), shape


def cut(study, index, width, start):
    angle, _, shape = polar(study, index)
    gone = shape.wall & ((angle - start) % 360 < width)
    return damaged(study, index, lambda labels: np.where(gone, 0, labels).astype("u1"))


def spot(study, index, degrees, tissue, beyond_mm=12, size_mm=3):
    """A piece of tissue that many millimetres outside the wall."""
    angle, distance, shape = polar(study, index)
    outer = distance[shape.wall].max() + beyond_mm
    near = (angle - degrees + 180) % 360 - 180
    here = (np.abs(distance - outer) < size_mm) & (
        np.abs(np.radians(near)) * outer < size_mm
    )
    return damaged(
        study, index, lambda labels: np.where(here, tissue, labels).astype("u1")
    )


@pytest.fixture(scope="module")
def patients():
    return list(phantom.studies(phantom.PhantomConfig(patients=1)))


def share_found(patients, code, damage):
    """Over inner slices and directions: how often the damaged slice is named."""
    found = []
    for study in patients:
        for index in range(1, len(study.pixels) - 1):
            for degrees in (20, 200):
                findings = check_labels(damage(study, index, degrees))
                found.append((code, index) in {(f.code, f.index) for f in findings})
    return np.mean(found)


@pytest.mark.parametrize(
    ("code", "damage", "least"),
    [
        ("SHIFTED", lambda s, i, d: shifted(s, i, 15, d), 1.0),
        ("OPEN_RING", lambda s, i, d: cut(s, i, 60, d), 1.0),
        ("OPEN_RING", lambda s, i, d: cut(s, i, 20, d), 1.0),
        ("ISLAND", lambda s, i, d: spot(s, i, d, WALL), 1.0),
        ("SCAR_OUTSIDE", lambda s, i, d: spot(s, i, d, SCAR), 1.0),
        ("BORDER", lambda s, i, d: shifted(s, i, 150, 90), 1.0),
        ("MISSING_SLICE", lambda s, i, d: damaged(s, i, np.zeros_like), 1.0),
        # Half of the limit, and less, is not reported.
        ("SHIFTED", lambda s, i, d: shifted(s, i, 5, d), None),
        ("OPEN_RING", lambda s, i, d: cut(s, i, 5, d), None),
    ],
)
def test_damage_of_the_phantom_is_found(code, damage, least, patients):
    share = share_found(patients, code, damage)
    assert share >= least if least is not None else share == 0


# Warnings and fixes


def test_serious_findings_become_warnings(rings):
    rings[3] = np.roll(rings[3], 15, 0)
    rings[4][40, 51:53] = 0
    expected = "SHIFTED slice 4: Its centre is 15 mm off the line of the others."
    assert warnings_for(study_of(rings)) == (expected,)


def test_islands_are_dropped_below_their_size():
    labels = ring()
    labels[5:8, 5:8] = WALL  # 9 mm2
    labels[5:10, 70:75] = SCAR  # 25 mm2
    labels[40, 40] = SCAR  # 1 mm2 in the blood pool
    mended = without_islands(labels, pixel_mm2=1.0, below_mm2=20)
    assert not mended[5:8, 5:8].any()
    assert (mended[5:10, 70:75] == SCAR).all()
    assert mended[40, 40] == BLOOD
    assert np.count_nonzero(mended != labels) == 10


def test_holes_take_the_nearest_label():
    labels = ring()
    labels[40, 55] = 0  # the outermost column but one of the wall
    labels[38:43, 38:43] = 0  # 25 mm2 of blood pool
    mended = without_holes(labels, pixel_mm2=1.0, below_mm2=20)
    assert mended[40, 55] == WALL
    assert (mended[38:43, 38:43] == 0).all()
    assert np.count_nonzero(mended != labels) == 1


@pytest.mark.parametrize("mend", [without_islands, without_holes])
@pytest.mark.parametrize("labels", [ring(), np.zeros((9, 9), np.uint8)])
def test_what_is_whole_stays(mend, labels):
    np.testing.assert_array_equal(mend(labels, 1.0), labels)


def test_fixes_are_recorded_and_ask_for_their_names(rings):
    rings[1][5:8, 5:8] = WALL
    rings[4][40, 51:53] = 0
    study = study_of(rings)
    assert fixed(study, []) is study
    mended = fixed(study, ["holes", "islands"])
    assert mended.warnings == (
        "FIXED slice 2: islands, 9 pixels",
        "FIXED slice 5: holes, 2 pixels",
    )
    assert check_labels(mended) == []
    with pytest.raises(RefusedError, match="islands"):
        fixed(study, ["corners"])


# The command and its pictures


def test_command_without_findings(rings, build, tmp_path, capsys):
    build(tmp_path / "records", studies=_cohort(rings))
    assert check.main([str(tmp_path / "records")]) == 0
    assert capsys.readouterr().out == "4 studies checked, 0 with findings\n"


def test_command_tells_and_draws_what_it_found(rings, build, tmp_path, capsys):
    studies = _cohort(rings)
    studies[2] = shifted(studies[2], 3, 15, 0)
    build(tmp_path / "records", studies=studies)
    out = tmp_path / "out"
    assert check.main([str(tmp_path / "records"), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "findings.csv",
        "patient-2-study-2.png",
    ]
    header, row = (out / "findings.csv").read_text().splitlines()
    assert header == "patient_key,study_key,split,code,slice_index,value,unit,text"
    cells = row.split(",")
    assert cells[:2] == ["patient-2", "study-2"]
    assert cells[3:7] == ["SHIFTED", "3", "15", "mm"]
    printed = capsys.readouterr().out
    assert "4 studies checked, 1 with findings (SHIFTED 1)" in printed


def _cohort(rings):
    return [
        study_of(
            rings,
            patient_key=f"patient-{number}",
            study_key=f"study-{number}",
            pixels=np.random.default_rng(number).random((7, 80, 80), np.float32),
        )
        for number in range(4)
    ]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_cells_are_no_formulas(cell):
    rows = [("patient", "study", "train", "CODE", "", "1", "mm", cell)]
    assert check.csv_text(check.COLUMNS, rows).splitlines()[1].endswith(f",'{cell}")


def test_picture_marks_the_slice(rings, tmp_path):
    """Orange, which no outline of a tissue has, in the panel of the finding only."""
    rings[0] = np.roll(rings[0], 15, 0)
    study = study_of(rings[:4])
    write_finding_sheet(study, check_labels(study), tmp_path / "x.png", "title")
    image = matplotlib.image.imread(tmp_path / "x.png")[..., :3]
    # #ffa726 is 1.0, 0.65, 0.15
    orange = (np.abs(image - (1.0, 0.655, 0.149)) < 0.05).all(axis=2)
    columns = np.flatnonzero(orange.any(axis=0))
    quarter = image.shape[1] / 4
    assert 0 <= columns.min() < columns.max() < quarter
