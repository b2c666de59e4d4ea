"""Pairs by name: what a pattern matches, and what is left over."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.pseudonyms import pseudonym
from tfrecords_tools.sources import pairing
from tfrecords_tools.sources.pairing import check_inside, find_pairs

KEY = b"a key"


@pytest.fixture
def pairs(tmp_path):
    """Finds pairs among empty files of the given names."""

    def pairs(names, images, *references, unlabelled=False):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        found, left_out = find_pairs(tmp_path, images, references, KEY, unlabelled)
        relative = {
            name: tuple(path.relative_to(tmp_path).as_posix() for path in study.files)
            for name, study in found.items()
        }
        return relative, left_out

    return pairs


def test_same_name_pairs_and_order_does_not(pairs):
    names = ["b.nii", "a.nii", "masks/b.nii", "masks/a.nii"]
    found, left_out = pairs(names, "{study}.nii", "masks/{study}.nii")
    assert found == {
        ("", "a"): ("a.nii", "masks/a.nii"),
        ("", "b"): ("b.nii", "masks/b.nii"),
    }
    assert left_out == []


def test_reference_is_no_image(pairs):
    found, _ = pairs(["a.nii", "a_mask.nii"], "{study}.nii", "{study}_mask.nii")
    assert found == {("", "a"): ("a.nii", "a_mask.nii")}


def test_wildcards_and_repeated_names(pairs):
    names = ["x/y/p1/p1_s.nii.gz", "p2/p2_s.nii", "p2/p3_s.nii"]
    pattern = "**/{patient}/{patient}_{study}.nii*"
    found, left_out = pairs(names, pattern, unlabelled=True)
    assert list(found) == [("p1", "s"), ("p2", "s")]
    assert [(e.what, e.count) for e in left_out] == [("file", 1)]


def test_dots_and_brackets_mean_themselves(pairs):
    found, _ = pairs(["a[1].nii", "a1xnii"], "{study}[1].nii", unlabelled=True)
    assert list(found) == [("", "a")]


def test_what_is_left_out_is_counted_without_names(pairs):
    names = ["a.nii", "b.nii", "a_mask.nii", "c_mask.nii", "notes.txt"]
    found, left_out = pairs(names, "{study}.nii", "{study}_mask.nii")
    assert list(found) == [("", "a")]
    assert [(entry.what, entry.count) for entry in left_out] == [
        (pseudonym("b", KEY), 1),
        ("reference", 1),
        ("file", 1),
    ]


def test_slices_need_a_reference_each(pairs):
    names = ["a_1.png", "a_02.png", "a_1_m.png", "b_1.png", "b_1_m.png"]
    found, left_out = pairs(names, "{study}_{index}.png", "{study}_{index}_m.png")
    assert list(found) == [("", "b")]
    assert left_out[0].what == pseudonym("a", KEY)


def test_patients_tell_studies_of_one_name_apart(tmp_path):
    for name in ("p1/s.nii", "p2/s.nii", "p1/t.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, _ = find_pairs(tmp_path, "{patient}/{study}.nii", (), KEY, True)
    one, other, third = (
        found[name] for name in (("p1", "s"), ("p1", "t"), ("p2", "s"))
    )
    assert one.patient_key == other.patient_key == pseudonym("p1", KEY)
    assert third.patient_key == pseudonym("p2", KEY)
    assert len({one.key, other.key, third.key}) == 3


def test_nothing_found_names_the_way_out(pairs):
    with pytest.raises(RefusedError, match=r"NO_STUDIES: 1 studies .*--unlabelled"):
        pairs(["a.nii"], "{study}.nii", "{study}_mask.nii")
    with pytest.raises(RefusedError, match=r"NO_STUDIES: none of its 1 .*see --help"):
        pairs(["a.nii"], "{study}_lge.nii", "{study}_mask.nii")


def test_absent_folder_has_no_studies(tmp_path):
    with pytest.raises(RefusedError, match="NO_STUDIES"):
        find_pairs(tmp_path / "none", "{study}", (), KEY, True)


def test_folder_that_cannot_be_opened_is_counted(tmp_path, monkeypatch):
    (tmp_path / "a.nii").touch()
    real = pairing.os.walk

    def walk(folder, onerror):
        onerror(PermissionError())
        return real(folder)

    monkeypatch.setattr(pairing.os, "walk", walk)
    _, left_out = find_pairs(tmp_path, "{study}.nii", (), KEY, True)
    assert [(entry.what, entry.count) for entry in left_out] == [("folder", 1)]


def test_linked_folders_are_not_followed(tmp_path, pairs):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "again").symlink_to(tmp_path)
    found, _ = pairs(["in/a.nii"], "**/{study}.nii", unlabelled=True)
    assert found == {("", "a"): ("in/a.nii",)}


def test_link_inside_is_let_pass_and_out_is_not(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "real").touch()
    (tmp_path / "secret").touch()
    (folder / "inside").symlink_to("real")
    (folder / "outside").symlink_to("../secret")
    check_inside(folder, [folder / "inside"])
    with pytest.raises(RefusedError, match="NOT_A_FILE"):
        check_inside(folder, [folder / "outside"])


def test_names_of_other_encodings_have_a_pseudonym():
    assert pseudonym("M\udcfcller", KEY) != pseudonym("Muller", KEY)


PARTS = ["{study}", "{patient}", "{index}", "*", "**/", "/", "a", "(", "\\"]


@given(st.lists(st.sampled_from(PARTS), max_size=6), st.text("a1/(\\*\n", max_size=12))
def test_any_pattern_can_be_matched(parts, name):
    expression = "".join(pairing._expression("".join(parts)))
    match = re.fullmatch(expression, name, re.DOTALL)
    literal = not any(part.startswith(("{", "*")) for part in parts)
    assert not literal or bool(match) == (name == "".join(parts))
