import numpy as np
import pytest
from independent_references import (
    ENDO,
    ENHANCED,
    EPI,
    EXCLUDED,
    NO_REFLOW,
    REMOTE,
    contour,
    outline,
    workspace,
)

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import Tissue
from tfrecords_tools.references.cvi42_xml import read_workspace
from tfrecords_tools.references.matching import index

MYOCARDIUM, BOTH = frozenset({"myocardium"}), frozenset({"myocardium", "scar"})


def circle(radius, centre=(28.0, 36.0), steps=200):
    angles = np.linspace(0, 2 * np.pi, steps + 1)[:-1]
    return np.stack([np.sin(angles), np.cos(angles)], axis=1) * radius + centre


def ring(extra=()):
    return [contour(EPI, circle(15.3)), contour(ENDO, circle(9.3)), *extra]


def write_known(path, stack):
    """The rings of the known label map, with areas drawn for the rules."""
    remote = contour(f"{REMOTE}0001", circle(2, (17, 30)))
    enhanced = contour(ENHANCED, circle(1.5, (28, 48)))
    no_reflow = contour(f"{NO_REFLOW}0000", circle(1.7, (28, 47)))
    drawn = []
    for number in range(5):
        extra = [remote] if number in (0, 1, 2) else []
        extra += [enhanced] if number in (1, 3) else []
        extra += [no_reflow] if number == 2 else []
        drawn.append((stack.frames[number][0], ring(extra)))
    workspace(path, drawn)


@pytest.fixture
def file(tmp_path, stack):
    path = tmp_path / "study.cvi42wsx"
    write_known(path, stack)
    return path


def wall(label_map):
    return label_map >= Tissue.HEALTHY_MYOCARDIUM


def test_wall_and_pool(file, stack, known, read):
    reference = read(stack, file.parent)
    pool = [reference.label_map == 1, known == 1]
    for found, expected in ([wall(reference.label_map), wall(known)], pool):
        dice = 2 * (found & expected).sum() / (found.sum() + expected.sum())
        assert dice >= 0.99  # points are rounded to quarters of a pixel
    assert reference.labelled == (MYOCARDIUM,) * 5 + (frozenset(),)
    assert reference.warnings == (
        "no reference of scar: workspaces store none; the source dicom rebuilds it "
        "with --drawn.scar_rule",
    )


def test_phantom_wall(phantom, read, tmp_path):
    """Contours around the phantom's own masks, found at their half level."""
    stack, label_map = phantom
    drawn = []
    for (uid, _), labels in zip(stack.frames, label_map, strict=True):
        pool, disc = labels == Tissue.BLOOD_POOL, labels > 0
        if pool.any() and disc.any():
            both = [contour(EPI, outline(disc)), contour(ENDO, outline(pool))]
            drawn.append((uid, both))
    workspace(tmp_path / "a.cvi42wsx", drawn)
    found = read(stack, tmp_path)
    has = [bool(one) for one in found.labelled]
    a, b = wall(found.label_map[has]), wall(label_map[has])
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) >= 0.99


@pytest.mark.parametrize("radius", [4.1, 9.3, 15.3, 24.7])
def test_every_fourth_sample_of_a_grid_four_times_as_fine(
    radius, stack, read, tmp_path
):
    """As OpenCV fills the finer grid, which also takes what its line touches."""
    cv2 = pytest.importorskip("cv2")
    points = circle(radius, (28.3, 35.6))
    drawn = [contour(EPI, points), contour(ENDO, circle(1.0, (28.3, 35.6)))]
    workspace(tmp_path / "a.cvi42wsx", [(stack.frames[0][0], drawn)])
    found = read(stack, tmp_path).label_map[0] > 0
    fine = np.zeros((60 * 4, 72 * 4), np.uint8)
    cv2.fillPoly(fine, [np.rint(points[:, ::-1] * 4).astype(np.int32)], 1)
    # The line is one sample wide at most: a share of the rim's pixels differs.
    assert (found ^ (fine[::4, ::4] > 0)).sum() <= 0.1 * 2 * np.pi * radius


def test_native_resolution_is_one_if_absent(stack, read, tmp_path):
    drawn = [contour(EPI, circle(15.3), None), contour(ENDO, circle(9.3), 1)]
    workspace(tmp_path / "a.cvi42wsx", [(stack.frames[1][0], drawn)])
    one = read(stack, tmp_path).label_map
    workspace(tmp_path / "a.cvi42wsx", [(stack.frames[1][0], ring())])
    assert np.array_equal(one, read(stack, tmp_path).label_map)


def test_scar_by_deviations_from_remote(file, stack, known, read):
    """Remote 100 +- 5, scar 600: both sides of 100 + 5 x 5 = 125 are clear."""
    reference = read(stack, file.parent, scar_rule="nsd", scar_sd=5.0)
    found = reference.label_map == Tissue.SCAR
    expected = (known == Tissue.SCAR) & wall(reference.label_map)
    dice = 2 * (found & expected).sum() / (found.sum() + expected.sum())
    assert dice >= 0.99  # the pool is 500: no pixel of it may count
    assert reference.labelled == (BOTH,) * 5 + (frozenset(),)
    (rule,) = reference.warnings
    assert rule.startswith("scar rebuilt by remote mean + 5 SD, thresholds 1")


def test_threshold_is_the_formula(stack, file, read):
    reference = read(stack, file.parent, scar_rule="nsd", scar_sd=2.0)
    rows, columns = np.indices((60, 72))
    remote = np.hypot(rows - 17, columns - 30) <= 2
    values = stack.pixels[0][remote]
    threshold = values.mean() + 2 * values.std()
    expected = wall(reference.label_map[0]) & (stack.pixels[0] >= threshold)
    assert np.array_equal(reference.label_map[0] == Tissue.SCAR, expected)


@pytest.mark.parametrize("base", ["remote", "minimum", "zero"])
def test_scar_by_half_maximum(base, file, stack, known, read):
    """Maximum about 610, base about 100, 75 or 0: the threshold is 305 to 355."""
    reference = read(stack, file.parent, scar_rule="fwhm", fwhm_base=base)
    expected = (known == Tissue.SCAR) & wall(reference.label_map)
    found = reference.label_map == Tissue.SCAR
    dice = 2 * (found & expected).sum() / (found.sum() + expected.sum())
    assert dice >= 0.99
    assert f"over the base '{base}'" in reference.warnings[0]


def test_no_reflow_is_scar_and_exclusions_are_not(stack, known, file, read):
    plain = read(stack, file.parent, scar_rule="nsd").label_map
    # Slice 2 has MVO of 90, under any threshold, but drawn.
    mvo = plain[2] == Tissue.MVO
    rows, columns = np.indices((60, 72))
    assert np.array_equal(mvo, np.hypot(rows - 28, columns - 47) <= 1.7)
    excluded = contour(f"{EXCLUDED}0002", circle(3, (28, 48)))
    remote = contour(REMOTE, circle(2, (17, 30)))
    workspace(file, [(stack.frames[1][0], ring([remote, excluded]))])
    without = read(stack, file.parent, scar_rule="nsd").label_map[1]
    away = np.hypot(rows - 28, columns - 48) <= 2.9
    assert not (without[away] == Tissue.SCAR).any()
    far = np.hypot(rows - 28, columns - 48) > 3.1
    assert np.array_equal(without[far] == 3, plain[1][far] == 3)


@pytest.mark.parametrize("rule", ["nsd", "fwhm"])
def test_without_the_contours_of_its_rule_there_is_no_reference_of_scar(
    rule, stack, read, tmp_path
):
    no_reflow = contour(NO_REFLOW, circle(1.7, (28, 47)))
    workspace(tmp_path / "a.cvi42wsx", [(stack.frames[2][0], ring([no_reflow]))])
    reference = read(stack, tmp_path, scar_rule=rule)
    assert reference.labelled[2] == MYOCARDIUM
    assert set(np.unique(reference.label_map)) == {0, 1, 2}
    assert reference.warnings == (
        f"no reference of scar: {rule} needs contours that are not drawn",
    )


def test_epicardium_alone_is_no_wall(stack, read, tmp_path):
    drawn = [(stack.frames[1][0], ring()), (stack.frames[2][0], ring()[:1])]
    workspace(tmp_path / "a.cvi42wsx", drawn)
    reference = read(stack, tmp_path)
    assert [bool(one) for one in reference.labelled] == [0, 1, 0, 0, 0, 0]
    assert "no endocardium on 1 slices" in reference.warnings[1]


def test_contours_of_cine_only_are_no_reference(stack, read, tmp_path):
    workspace(tmp_path / "a.cvi42wsx", [("2.25.70007", ring())])
    assert read(stack, tmp_path) is None


def test_of_another_study_is_refused(stack, read, tmp_path):
    workspace(tmp_path / "a.cvi42wsx", [("2.25.70007", ring())], study="2.25.5")
    with pytest.raises(RefusedError, match="GEOMETRY_MISMATCH") as error:
        read(stack, tmp_path)
    assert "2.25" not in str(error.value)


def test_other_contours_are_passed_over(stack, read, tmp_path):
    extra = [contour("sarvendocardialContour", circle(5)[:2])]
    workspace(tmp_path / "a.cvi42wsx", [(stack.frames[1][0], ring(extra))])
    assert read(stack, tmp_path).labelled[1] == MYOCARDIUM


def test_binary_workspace_is_refused_with_the_way_out(stack, read, tmp_path):
    (tmp_path / "a.cvi42ws").write_bytes(bytes(100))
    with pytest.raises(RefusedError, match=r"UNSUPPORTED: .* Export Workspace"):
        read(stack, tmp_path)


def test_multi_frame_images_are_refused(stack, file, read):
    import dataclasses

    uid = stack.frames[0][0]
    frames = tuple((uid, number) for number in range(1, 7))
    with pytest.raises(RefusedError, match="UNSUPPORTED: contours on multi-frame"):
        read(dataclasses.replace(stack, frames=frames), file.parent)


CASES = {
    "NaN": (contour(EPI, [(1, 1), (np.nan, 2), (3, 1)]), "NaN"),
    "two points": (contour(EPI, circle(9)[:2]), "2 points"),
    "off the image": (contour(EPI, circle(15, (5, 5))), "leaves the image"),
    "open": (contour(EPI, circle(15)[:150]), "open"),
    "on a line": (contour(EPI, circle(0.001)), "encloses nothing"),
    "resolution 0": (contour(EPI, circle(9)).replace(">4<", ">0<"), "resolution"),
    "resolution NaN": (contour(EPI, circle(9)).replace(">4<", ">nan<"), "resolution"),
    "text": (contour(EPI, [(1, 1)]).replace(">4<", ">Planted^Name<"), "no number"),
    "only x": (contour(EPI, circle(9)).replace("Point:y", "Point:z"), "one coordinate"),
}


@pytest.mark.parametrize("case", CASES)
def test_damaged_contour_is_refused(case, stack, read, tmp_path):
    drawn, reason = CASES[case]
    workspace(tmp_path / "a.cvi42wsx", [(stack.frames[1][0], [drawn, ring()[1]])])
    with pytest.raises(RefusedError, match=reason) as error:
        read(stack, tmp_path)
    assert error.value.code == "CONTOUR"
    assert "Planted" not in str(error.value)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
    + "]><x>&j;</x>"
)
EXTERNAL = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    "<x>&a;</x>"
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (BOMB, "CORRUPT"),
        (EXTERNAL, "CORRUPT"),
        ("", "CORRUPT"),
        ("<a><b></a>", "CORRUPT"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', "CORRUPT"),
        ("<a>" * 100_000, "NESTING"),
        ("\0" * 100, "CORRUPT"),
    ],
)
def test_hostile_xml_is_refused(text, code, tmp_path):
    path = tmp_path / "a.cvi42wsx"
    path.write_text(text)
    with pytest.raises(RefusedError) as error:
        read_workspace(path)
    assert error.value.code == code


def test_large_file_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "a.cvi42wsx"
    with path.open("wb") as file:
        file.truncate(65 * 2**20)  # sparse
    with pytest.raises(RefusedError, match="TOO_LARGE"):
        read_workspace(path)


def test_truncated_workspace_is_refused(file, tmp_path):
    content = file.read_bytes()
    for size in range(0, len(content), len(content) // 50):
        file.write_bytes(content[:size])
        (found,) = index(tmp_path)
        assert found.fault == ("CORRUPT", "not well-formed XML")


def test_damage_of_no_plan(file, fuzz):
    fuzz(file)
