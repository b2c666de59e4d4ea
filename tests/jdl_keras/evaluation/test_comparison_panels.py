import numpy as np
import pytest
from matplotlib.colors import to_rgba

from jdl_keras.evaluation.comparison_panels import (
    Panel,
    panel_figure,
    quartile_patients,
    read_panels,
)
from jdl_keras.evaluation.figures import TASK_LINES, save_figure
from jdl_keras.evaluation.finished_runs import results_table


def scar_of(found, size=10):
    """Patient to counts with a Dice of found / size."""
    return {key: (tp, size - tp, size - tp) for key, tp in found.items()}


def test_quartiles_by_hand(write_run):
    # Dice 0.1, 0.3, 0.5, 0.7, 0.9: quartiles 0.3, 0.5, 0.7; "n" has no scar
    scar = scar_of({"e": 1, "d": 3, "c": 5, "b": 7, "a": 9}) | {"n": (0, 9, 0)}
    table = results_table([write_run("jdl", 0, scar)])
    assert quartile_patients(table, "jdl") == {25: "d", 50: "c", 75: "b"}


def test_quartiles_are_those_of_the_candidate_averaged_over_seeds(write_run):
    runs = [
        write_run("direct", 0, scar_of({"a": 9, "b": 5, "c": 1})),
        write_run("direct", 1, scar_of({"a": 9, "b": 5, "c": 1})),
        write_run("jdl", 0, scar_of({"a": 1, "b": 9, "c": 4})),
        write_run("jdl", 1, scar_of({"a": 3, "b": 9, "c": 6})),
    ]
    # jdl: a 0.2, c 0.5, b 0.9; quartiles 0.35, 0.5, 0.7. a and c are as near to 0.35:
    # the smaller key; b is what is left for 0.7.
    table = results_table(runs)
    assert quartile_patients(table, "jdl") == {25: "a", 50: "c", 75: "b"}


def test_few_patients_give_few_panels(write_run):
    # Dice 0.2 and 0.8: 0.2 is nearest to 0.35, 0.8 is left for the median
    table = results_table([write_run("jdl", 0, scar_of({"a": 2, "b": 8}))])
    assert quartile_patients(table, "jdl") == {25: "a", 50: "b"}


@pytest.fixture
def heart(make_study):
    """Two slices of 60 x 60; slice 1 has more scar; pixels of 2 x 2.5 mm."""

    def heart(patient, study="01", scar_rows=6):
        label_map = np.zeros((2, 60, 60))
        label_map[:, 20:40, 20:40] = 2
        label_map[0, 22:24, 22:30] = 3
        label_map[1, 22 : 22 + scar_rows, 22:30] = 3
        return make_study(label_map, patient=patient, study=study)

    return heart


def test_panels_show_the_first_seed_and_the_study_with_most_scar(
    heart, write_run, write_masks
):
    runs = [write_run("jdl", seed, scar_of({"a": 5})) for seed in (1, 0)]
    studies = [heart("a", "01"), heart("a", "02", scar_rows=9), heart("z", "03")]
    first, second = np.zeros((2, 2, 60, 60), bool)
    second[1, 22:25, 22:30] = True
    write_masks(runs[0], studies[1], {"scar": first})
    write_masks(runs[1], studies[1], {"scar": second})
    (panel,) = read_panels(results_table(runs), runs, studies)
    assert (panel.title, panel.study.study_key) == ("25 % quartile", "02")
    assert np.array_equal(panel.predictions["jdl"]["scar"], second)


def test_panels_take_the_runs_of_the_patients_fold(heart, write_run, write_masks):
    runs = [
        write_run("jdl", 0, scar_of({"a": 5})),
        write_run("jdl", 0, scar_of({"b": 9}), fold=1),
    ]
    studies = [heart("b"), heart("a")]
    for run, study in zip(runs, reversed(studies), strict=True):
        write_masks(run, study, {"scar": np.zeros((2, 60, 60), bool)})
    panels = read_panels(results_table(runs), runs, studies)
    assert [panel.study.patient_key for panel in panels] == ["a", "b"]


def contours(axes):
    """(task, solid) of every outline on a panel."""
    colours = {to_rgba(line["color"]): task for task, line in TASK_LINES.items()}
    return {
        (colours[tuple(line.get_edgecolor()[0])], line.get_linestyle()[0][1] is None)
        for line in axes.collections
        if line.get_paths()
    }


@pytest.fixture
def panel(heart):
    study = heart("abcdef0123456789")
    wall = study.label_map > 0
    half = (study.label_map == 3) & (np.arange(60) < 26)
    far = half.copy()
    far[1, 2:4, 2:4] = True
    predictions = {
        "direct": {"scar": far},
        "jdl": {"myocardium": wall, "scar": half},
    }
    return Panel("50 % quartile", study, predictions)


def test_columns_are_image_reference_and_methods(panel, tmp_path):
    figure = panel_figure([panel, panel])
    image, reference, direct, jdl = figure.axes[:4]
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == ["image", "reference", "direct", "jdl"]
    assert image.get_ylabel() == "50 % quartile\nabcdef01, slice 1"
    assert contours(image) == set()
    assert contours(reference) == {("myocardium", True), ("scar", True)}
    assert contours(direct) == {("scar", False)}
    assert contours(jdl) == {("myocardium", False), ("scar", False)}
    save_figure(figure, tmp_path / "panels.png")


def test_panels_give_the_dice_and_say_what_is_not_shown(panel):
    *_, direct, jdl = panel_figure([panel]).axes
    # Reference 2 x 8 + 6 x 8 = 64 voxels, prediction half of them: 64 / 96; with four
    # false ones 64 / 100
    assert jdl.texts[0].get_text() == "Dice 0.67"
    assert direct.texts[0].get_text() == "Dice 0.64, more outside"


def test_panels_show_a_square_around_the_heart(panel):
    axes = panel_figure([panel]).axes[0]
    # The wall spans 20 rows x 2 mm and 20 columns x 2.5 mm: half of 50 mm + 15 mm = 40
    # mm = 20 rows and 16 columns around the centre at 30
    assert axes.get_ylim() == (49.5, 9.5)
    assert axes.get_xlim() == (13.5, 45.5)
    assert axes.get_aspect() == 0.8
    assert np.array_equal(axes.images[0].get_array(), panel.study.pixels[1])


def test_no_panel_is_said():
    assert panel_figure([]).texts[0].get_text() == "no patient with scar"
