"""The median rule, with histories of which the medians are worked by hand."""

from types import SimpleNamespace

import pytest

from jdl_keras.tuning.outcome import Outcome, write_outcome
from jdl_keras.tuning.search import trial_folder

pytestmark = pytest.mark.slow

HISTORIES = {
    # means until epoch 1, 2, 3
    0: [0.1, 0.3, 0.5],  # 0.1, 0.2, 0.3
    1: [0.2, 0.2, 0.8],  # 0.2, 0.2, 0.4
    2: [0.0, 0.2, 0.4],  # 0.0, 0.1, 0.2
    3: [0.9],  # was stopped: counts for the first epoch only
}


@pytest.fixture
def out(tmp_path):
    for number, scores in HISTORIES.items():
        write(tmp_path, number, scores)
        write_outcome(trial_folder(tmp_path, number), Outcome("finished", 0.5))
    write(tmp_path, 4, [1.0, 1.0, 1.0])  # is still running
    return tmp_path


def write(out, number, scores):
    folder = trial_folder(out, number)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{epoch},{score}" for epoch, score in enumerate(scores, 1)]
    (folder / "history.csv").write_text("\n".join(["epoch,val_scar_dice", *rows]))


def test_median_of_the_means_until_an_epoch(out):
    from jdl_keras.tuning.stopping import median_of_means

    assert median_of_means(out, 9, 1) == pytest.approx(0.15)  # of 0.1, 0.2, 0.0, 0.9
    assert median_of_means(out, 9, 2) == pytest.approx(0.2)  # of 0.2, 0.2, 0.1
    assert median_of_means(out, 9, 3) == pytest.approx(0.3)  # of 0.3, 0.4, 0.2
    assert median_of_means(out, 9, 4) is None
    assert median_of_means(out, 0, 2) is None  # two are left, too few


def stops(out, scores, after_epochs=2, number=5):
    """The epochs at which a trial with these scores would be stopped."""
    from jdl_keras.tuning.stopping import MedianRule

    rule = MedianRule(out, number, after_epochs)
    rule.set_model(SimpleNamespace(stop_training=False))
    trial_folder(out, number).mkdir(exist_ok=True)
    rule.on_train_begin()
    found = []
    for epoch, score in enumerate(scores):
        rule.model.stop_training = False
        rule.on_epoch_end(epoch, {"val_scar_dice": score})
        if rule.model.stop_training:
            found.append(epoch + 1)
    return found


def test_stops_below_the_median_and_says_so(out):
    assert stops(out, [0.0, 0.19, 0.31]) == [2]
    reason = (trial_folder(out, 5) / "stopped.txt").read_text()
    assert "after epoch 2 the best scar Dice is 0.190" in reason
    assert reason.endswith("0.200\n")


def test_its_best_score_counts_not_its_last(out):
    assert stops(out, [0.35, 0.0, 0.0]) == []


def test_not_before_it_has_its_epochs(out):
    assert stops(out, [0.0, 0.0, 0.0], after_epochs=3) == [3]


def test_scores_before_an_interruption_count(out):
    write(out, 6, [0.35])
    assert stops(out, [0.0, 0.0, 0.0], number=6) == []
