"""The picture of a record set: its table and its contact sheets."""

import matplotlib.image
import numpy as np

from tfrecords_tools import show
from tfrecords_tools.contact_sheet import write_contact_sheet


def test_table_counts_and_ranges(records, capsys):
    assert show.main([str(records)]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = {}
    for line in lines:
        name, *values = (part.strip() for part in line.strip("│").split("│"))
        cells[name] = values
    # 8 patients at 0.5, 0.25, 0.25, half of them with one slice of scar
    assert cells["patients"] == ["4", "2", "2"]
    assert cells["with scar"] == ["2", "1", "1"]
    assert cells["slices"] == ["12", "6", "6"]
    assert cells["slices with scar"] == ["2", "1", "1"]
    assert cells["image rows"] == ["12", "12", "12"]
    assert cells["pixel spacing, mm"] == ["1.25 - 1.5"] * 3
    assert cells["slice spacing, mm"] == ["8", "8", "8"]


def test_one_sheet_a_patient_named_by_its_key(records, tmp_path, capsys):
    sheets = tmp_path / "sheets"
    assert show.main([str(records), "--split", "test", "--png", str(sheets)]) == 0
    names = sorted(path.stem for path in sheets.iterdir())
    from tfrecords_tools.record_set import open_record_set

    assert names == open_record_set(records).patients("test")
    assert "validation" not in capsys.readouterr().out


def test_sheet_outlines_scar_in_its_colour(tmp_path, make_study):
    def red_pixels(scar):
        path = tmp_path / "sheet.png"
        write_contact_sheet(make_study(0, slices=7, scar=scar), path, "title")
        red, green, blue = np.moveaxis(matplotlib.image.imread(path)[..., :3], -1, 0)
        return np.count_nonzero((red > 0.9) & (green < 0.4) & (blue < 0.4))

    # The legend has the colour too, so only the difference counts.
    assert red_pixels(scar=True) > red_pixels(scar=False) > 0


def test_sheet_of_an_unlabelled_study_shows_the_whole_slice(tmp_path, make_study):
    label_map = np.zeros((3, 12, 10), np.uint8)
    study = make_study(0, label_map=label_map, labelled=(frozenset(),) * 3)
    write_contact_sheet(study, tmp_path / "sheet.png", "title")
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_wrong_split_is_refused(records, capsys):
    assert show.main([str(records), "--split", "dev"]) == 2
    assert "dev" in capsys.readouterr().err
