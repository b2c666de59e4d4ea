import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jdl_keras.evaluation.figures import (
    burden_bland_altman,
    dice_box_plot,
    save_figure,
    training_curves,
)


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


@pytest.mark.slow
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
