import numpy as np
import pytest
from matplotlib.colors import to_hex

from jdl_keras.evaluation.comparison_figures import (
    curves_figure,
    dice_figure,
    draw_figures,
    false_positive_figure,
    method_styles,
    precision_recall_figure,
)
from jdl_keras.evaluation.figures import save_figure
from jdl_keras.evaluation.finished_runs import results_table
from jdl_keras.evaluation.report import CAPTIONS
from tfrecords_tools.errors import RefusedError


def heights(points):
    return sorted(points.get_offsets()[:, 1])


def test_methods_differ_in_colour_marker_and_line():
    styles = method_styles(["direct", "two_step", "multi_task", "jdl", "channels"])
    for part in ("color", "marker", "linestyle"):
        assert len({style[part] for style in styles.values()}) == len(styles)
    assert len(method_styles(map(str, range(20)))) == 20


def test_box_plot_has_a_point_per_patient_averaged_over_seeds(two_methods):
    (axes,) = dice_figure(results_table(two_methods)).axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["direct\nn = 3", "jdl\nn = 3"]
    direct, jdl = axes.collections
    assert heights(direct) == pytest.approx([0.2, 0.4, 0.5])
    # Worked out in test_comparison
    assert heights(jdl) == pytest.approx([0.25, 0.5, 0.7])


def test_precision_and_recall_have_a_panel_each(two_methods):
    precision, recall = precision_recall_figure(results_table(two_methods)).axes
    # jdl precision 0.7, 0.5 and 0.5; recall of c (0 + 0.5) / 2
    assert heights(precision.collections[1]) == pytest.approx([0.5, 0.5, 0.7])
    assert heights(recall.collections[1]) == pytest.approx([0.25, 0.5, 0.7])


def test_false_positives_are_those_of_patients_without_scar(two_methods):
    (axes,) = false_positive_figure(results_table(two_methods)).axes
    direct, direct_mean, jdl, jdl_mean = axes.collections
    # d 2 x 0.05 ml, e none; jdl: e 0.125 ml
    assert heights(direct) == pytest.approx([0, 0.1])
    assert heights(jdl) == pytest.approx([0, 0.125])
    assert direct_mean.get_segments()[0][0, 1] == pytest.approx(0.05)
    assert jdl_mean.get_segments()[0][0, 1] == pytest.approx(0.0625)


def test_equal_values_stand_beside_each_other(write_run):
    scar = dict.fromkeys("abcd", (0, 0, 0)) | {"e": (1, 0, 0)}
    (axes,) = false_positive_figure(results_table([write_run("jdl", 0, scar)])).axes
    x = axes.collections[0].get_offsets()[:, 0]
    assert len({*x}) == 4
    assert np.mean(x) == pytest.approx(0)


def test_curves_have_a_line_per_run_in_the_colour_of_its_method(write_run):
    runs = [
        write_run(method, seed, {"a": (1, 0, 0)}, curve=(0.1, 0.2, 0.3 + seed / 10))
        for method in ("direct", "jdl")
        for seed in (0, 1)
    ]
    (axes,) = curves_figure(runs).axes
    assert [[*line.get_xdata()] for line in axes.lines] == [[1, 2, 3]] * 4
    assert [line.get_ydata()[-1] for line in axes.lines] == [0.3, 0.4, 0.3, 0.4]
    colours = [to_hex(line.get_color()) for line in axes.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["direct", "jdl"]


@pytest.mark.parametrize("content", [None, "", "epoch,loss\n0,1\n"])
def test_a_run_without_history_is_refused(write_run, content):
    run = write_run("jdl", 0, {"a": (1, 0, 0)})
    path = run.folder / "history.csv"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(RefusedError, match="history.csv: CORRUPT: .*val_scar_dice"):
        curves_figure([run])


def test_every_figure_has_a_caption_and_can_be_saved(two_methods, tmp_path):
    figures = draw_figures(results_table(two_methods), two_methods, [])
    assert set(figures) == set(CAPTIONS)
    for name, figure in figures.items():
        save_figure(figure, tmp_path / f"{name}.png")


def test_nobody_with_scar_and_nobody_without(write_run, tmp_path):
    for scar in ((1, 0, 0), (0, 0, 0)):
        runs = [write_run("jdl", 0, {"a": scar})]
        figures = draw_figures(results_table(runs), runs, [])
        for name, figure in figures.items():
            save_figure(figure, tmp_path / f"{name}.png")
