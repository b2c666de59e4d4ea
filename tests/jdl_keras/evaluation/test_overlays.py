import numpy as np
import pytest
from matplotlib.colors import to_rgba

from jdl_keras.evaluation.figures import TASK_LINES, save_figure
from jdl_keras.evaluation.overlays import overlay_figure, overlay_figures

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
