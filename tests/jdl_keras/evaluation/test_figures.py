import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from jdl_keras.evaluation.figures import (
    TASK_LINES,
    burden_bland_altman,
    dice_box_plot,
    overlay_figure,
    overlay_figures,
    save_figure,
    training_curves,
)

SQUARE = slice(45, 55)


@pytest.fixture
def case(make_study):
    """Two slices; the myocardium a square of 10, the scar of slice 1 missed."""
    label_map = np.zeros((2, 100, 100))
    label_map[:, SQUARE, SQUARE] = 2
    label_map[1, 48:50, 48:52] = 3
    study = make_study(label_map, step_mm=(1.5, 3, 10), patient="ab12", study="cd34")
    scar = np.zeros(label_map.shape, bool)
    return study, {"myocardium": label_map > 0, "scar": scar}


def drawn(axes):
    """(colour, solid) of each contour on a panel."""
    lines = [artist for artist in axes.collections if artist.get_paths()]
    return {
        (tuple(line.get_edgecolor()[0]), line.get_linestyle()[0][1] is None)
        for line in lines
    }


def test_reference_is_solid_and_prediction_broken(case):
    basal, apical = overlay_figure(*case).axes
    blue = to_rgba(TASK_LINES["myocardium"]["color"])
    orange = to_rgba(TASK_LINES["scar"]["color"])
    assert drawn(basal) == {(blue, True), (blue, False)}
    # The missed scar has a reference contour only.
    assert drawn(apical) == {(blue, True), (blue, False), (orange, True)}


def test_panels_show_the_heart_with_15_mm_around_it(case):
    shown = overlay_figure(*case).axes[0].images[0].get_array()
    # 15 mm: 10 rows of 1.5 mm, 5 columns of 3 mm on each side of 10 x 10 pixels
    assert shown.shape == (10 + 2 * 10, 10 + 2 * 5)
    assert shown[0, 0] == case[0].pixels[0, 35, 40]


def test_pixels_are_drawn_in_their_true_proportion(case):
    # Rows 1.5 mm, columns 3 mm apart: a pixel is half as high as it is wide.
    assert overlay_figure(*case).axes[0].get_aspect() == 0.5


def test_title_gives_the_key_and_the_dice(case):
    ((name, figure),) = overlay_figures([case])
    assert name == "overlay-ab12-cd34"
    title = figure.get_suptitle()
    assert title == "patient ab12   myocardium Dice 1.00   scar Dice 0.00"


def test_empty_and_unlabelled_slices_are_named(make_study, tmp_path):
    study = make_study(np.zeros((5, 6, 6)), (frozenset({"scar"}),) * 4 + (frozenset(),))
    figure = overlay_figure(study, {"scar": np.zeros((5, 6, 6), bool)})
    assert figure.get_suptitle().endswith("scar Dice undefined (both empty)")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [*(f"slice {i}" for i in range(4)), "slice 4, no scar label"]
    assert figure.axes[0].images[0].get_array().shape == (6, 6)
    save_figure(figure, tmp_path / "empty.png")


def test_a_saved_figure_is_a_whole_png(case, tmp_path):
    save_figure(overlay_figure(*case), tmp_path / "panel.png")
    content = (tmp_path / "panel.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content.endswith(b"IEND\xaeB`\x82")
    assert [path.name for path in tmp_path.iterdir()] == ["panel.png"]


def test_box_plot_shows_each_patient_and_how_many(tmp_path):
    figure = dice_box_plot({"jdl": [0.5, 0.7, np.nan], "direct": []})
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["jdl\nn = 2", "direct\nn = 0"]
    heights = axes.collections[0].get_offsets()[:, 1]
    assert sorted(heights) == [0.5, 0.7]
    save_figure(figure, tmp_path / "box.png")


def test_bland_altman_draws_bias_and_limits(tmp_path):
    figure = burden_bland_altman([10, 20, 30, 40], [12, 21, 33, 42])
    (axes,) = figure.axes
    # Bias 2, limits 2 -+ 1.600304 (worked out in test_statistics); a grey line at 0
    heights = sorted(line.get_ydata()[0] for line in axes.lines)
    assert heights == pytest.approx([0, 0.399696, 2, 3.600304], abs=1e-5)
    assert [*axes.collections[0].get_offsets()[0]] == [11, 2]
    assert axes.get_title() == "scar burden, 4 patients, CCC 0.98"
    save_figure(figure, tmp_path / "agreement.png")


@pytest.mark.parametrize(("pair", "lines"), [(([], []), 1), (([5], [6]), 2)])
def test_bland_altman_of_few_patients(pair, lines, tmp_path):
    figure = burden_bland_altman(*pair)
    assert len(figure.axes[0].lines) == lines
    save_figure(figure, tmp_path / "few.png")


def test_training_curves_pair_training_with_validation(tmp_path):
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "loss": [3.0, 2.0, 1.0],
            "val_loss": [4.0, 3.0, 3.5],
            "learning_rate": [1e-3] * 3,
            "note": ["a", "b", "c"],
        }
    )
    figure = training_curves(history)
    loss, rate = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["loss", "learning_rate"]
    assert [[*line.get_ydata()] for line in loss.lines] == [[3, 2, 1], [4, 3, 3.5]]
    assert [*loss.lines[0].get_xdata()] == [1, 2, 3]
    assert len(rate.lines) == 1
    save_figure(figure, tmp_path / "curves.png")


def test_no_pyplot_and_no_tensorflow():
    script = (
        "import sys, jdl_keras.evaluation.summary\n"
        "print([m for m in ('matplotlib.pyplot', 'tensorflow', 'keras') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
