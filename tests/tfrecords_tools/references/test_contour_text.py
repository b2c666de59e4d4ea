import dataclasses

import numpy as np
import pytest

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import Tissue


def circle(radius, centre=(28.0, 36.0)):
    angles = np.linspace(0, 2 * np.pi, 121)[:-1]
    return np.stack([np.sin(angles), np.cos(angles)], axis=1) * radius + centre


def write(folder, number, kind, points):
    lines = [f"{column:.2f} {row:.2f}" for row, column in points]
    path = folder / f"IM-0001-{number:04}-{kind}contour-manual.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_rings(folder, numbers):
    for number in numbers:
        write(folder, number, "i", circle(9.3))
        write(folder, number, "o", circle(15.3))


def test_rings_come_back(stack, known, read, tmp_path):
    write_rings(tmp_path, range(1, 6))
    write(tmp_path, 2, "p1", circle(2))  # a papillary muscle
    reference = read(stack, tmp_path)
    healthy = np.where(known > 2, 2, known)
    for tissue in (Tissue.BLOOD_POOL, Tissue.HEALTHY_MYOCARDIUM):
        a, b = reference.label_map == tissue, healthy == tissue
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) >= 0.99
    myocardium = frozenset({"myocardium"})
    assert reference.labelled == (myocardium,) * 5 + (frozenset(),)


def test_instance_numbers_count_not_the_order(stack, read, tmp_path):
    write_rings(tmp_path, [40, 20])
    numbers = dataclasses.replace(stack, instance_numbers=(60, 50, 40, 30, 20, 10))
    labelled = read(numbers, tmp_path).labelled
    assert [bool(one) for one in labelled] == [0, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("numbers", [(), (1,) * 6])
def test_without_instance_numbers_it_is_refused(numbers, stack, read, tmp_path):
    write_rings(tmp_path, [1])
    nameless = dataclasses.replace(stack, instance_numbers=numbers)
    with pytest.raises(RefusedError, match=r"CONTOUR: .* save the contours as DICOM"):
        read(nameless, tmp_path)


def test_a_number_of_other_images_is_refused(stack, read, tmp_path):
    write_rings(tmp_path, [1, 48])
    with pytest.raises(RefusedError, match="GEOMETRY_MISMATCH"):
        read(stack, tmp_path)


def test_two_of_a_kind_are_refused(stack, read, tmp_path):
    write_rings(tmp_path, [1])
    path = write(tmp_path, 1, "i", circle(8))
    path.rename(tmp_path / "IM-0002-0001-icontour-manual.txt")
    write(tmp_path, 1, "i", circle(9.3))
    with pytest.raises(RefusedError, match="CONTOUR: two contours of one kind"):
        read(stack, tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "0 points"),
        ("1 2\n3 4\n", "2 points"),
        ("1 2\n3 4\nnan 3\n", "NaN"),
        ("1 2\n3 4\n5 6 7\n", "two numbers a line"),
        ("Planted Name\n", "two numbers a line"),
        ("1 2\n3 400\n5 6\n", "leaves the image"),
        ("é 1\n", "two numbers a line"),
    ],
)
def test_damaged_text_is_refused(text, reason, stack, read, tmp_path):
    write_rings(tmp_path, [1])
    write(tmp_path, 2, "i", []).write_text(text)
    with pytest.raises(RefusedError, match=reason) as error:
        read(stack, tmp_path)
    assert error.value.code == "CONTOUR"
    assert error.value.reason.count("Planted") == 0


def test_very_long_text_is_refused(stack, read, tmp_path):
    write_rings(tmp_path, [1])
    write(tmp_path, 2, "i", []).write_text("1 2\n" * 300_000)
    with pytest.raises(RefusedError, match="TOO_LARGE"):
        read(stack, tmp_path)


def test_damage_of_no_plan(stack, tmp_path, fuzz):
    write(tmp_path, 1, "o", circle(15.3))
    fuzz(write(tmp_path, 1, "i", circle(9.3)))
