"""What an epoch leaves: the best network, the history, a checkpoint, panels, a line."""

import csv
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.run_folder import RunFolder
from jdl_keras.training import checkpoint
from jdl_keras.training.callbacks import Keeper, ProgressBar, as_csv
from jdl_keras.training.checkpoint import TrainingState
from jdl_keras.training.panels import OUTLINES, Panels, panel
from tfrecords_tools.errors import DivergedError


class Training:
    """A Keeper, and epochs that bring a score."""

    def __init__(self, path, patience=0, state=None):
        self.folder = RunFolder(path)
        self.state = state or TrainingState({})
        self.network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        self.keeper = Keeper(self.folder, self.state, self.network.variables, patience)
        self.model = SimpleNamespace(network=self.network, stop_training=False)
        self.keeper.set_model(self.model)

    def epoch(self, score, **logs):
        """Ends an epoch; the weights are its number."""
        number = self.state.epoch + 1
        self.network.set_weights([np.full((2, 1), number), np.full(1, number)])
        logs = {"loss": 0.5, "skipped_updates": 0.0, "val_scar_dice": score} | logs
        self.keeper.on_epoch_end(self.state.epoch, logs)
        return self.model.stop_training

    def saved_weight(self):
        return keras.saving.load_model(self.folder.model).get_weights()[1].item()


@pytest.fixture
def training(tmp_path):
    return Training(tmp_path)


def test_best_network_on_validation_is_kept(training):
    kept = []
    for score in (0.0, 0.4, 0.3, 0.4, 0.5):
        training.epoch(score)
        kept.append(training.saved_weight())
    # epoch 4 only equals epoch 2: the earlier one stays
    assert kept == [1, 2, 2, 2, 5]
    assert (training.state.best, training.state.best_epoch) == (0.5, 5)


def test_history_has_a_line_an_epoch(training):
    for score in (0.25, 1 / 3):
        training.epoch(score)
    rows = list(csv.DictReader(training.folder.history.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [float(row["val_scar_dice"]) for row in rows] == [0.25, 1 / 3]


def test_checkpoint_has_what_the_epoch_brought(training):
    training.epoch(0.25)
    variables = training.network.variables
    restored = checkpoint.restore(training.folder.checkpoints, variables, {})
    assert restored == training.state
    assert restored.epoch == restored.best_epoch == 1


def test_patience_counts_epochs_without_a_better_score(tmp_path):
    training = Training(tmp_path, patience=2)
    scores = (0.3, 0.2, 0.4, 0.4, 0.1)
    assert [training.epoch(s) for s in scores] == [False, False, False, False, True]
    assert training.state.stopped


def test_patience_goes_on_where_the_run_was_interrupted(tmp_path):
    first = Training(tmp_path, patience=2)
    first.epoch(0.3)
    first.epoch(0.2)
    state = checkpoint.restore(first.folder.checkpoints, first.network.variables, {})
    second = Training(tmp_path, patience=2, state=state)
    assert second.epoch(0.2)


@pytest.mark.parametrize(
    "logs",
    [{"loss": np.nan}, {"val_scar_loss": np.inf}, {"skipped_updates": 0.6}],
)
def test_divergence_ends_the_run_and_keeps_the_epoch_before(training, logs):
    training.epoch(0.3)
    with pytest.raises(DivergedError, match="epoch 2 .* optimizer.learning_rate"):
        training.epoch(0.9, **logs)
    assert training.saved_weight() == 1
    assert len(training.folder.history.read_text().splitlines()) == 2
    assert [p.name for p in training.folder.checkpoints.iterdir()] == ["epoch-00001"]


def test_some_skipped_updates_are_no_divergence(training):
    training.epoch(0.3, skipped_updates=0.5)
    assert training.state.epoch == 1


def test_csv_has_a_header_and_full_precision():
    text = as_csv([{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-9}])
    assert text == "epoch,loss\n1,0.30000000000000004\n2,1e-09\n"


SCAR_PIXELS = (3, 0, 7, 5)


@pytest.fixture
def samples():
    """Four slices of 8 x 12 whose scar has 3, 0, 7 and 5 pixels."""
    scar = np.zeros((4, 96), np.float32)
    for index, pixels in enumerate(SCAR_PIXELS):
        scar[index, :pixels] = 1
    image = np.stack(
        [np.full((8, 12, 1), index / 10, np.float32) for index in range(4)]
    )
    scar = scar.reshape(image.shape)
    return {"image": image, "scar": scar, "myocardium": np.ones_like(image)}


def panels(path, samples, **changes):
    batches = tf.data.Dataset.from_tensor_slices(samples).batch(3)
    callback = Panels(str(path), batches, **changes)

    def network(images, training):
        return {"myocardium": images, "scar": images}

    callback.set_model(SimpleNamespace(network=network))
    callback.set_params({"epochs": 7})
    return callback


def test_panels_show_the_slices_with_most_scar(samples, tmp_path):
    chosen = panels(tmp_path, samples, count=2).samples
    assert [float(tf.reduce_sum(sample["scar"])) for sample in chosen] == [7, 5]


def drawn_epochs(path):
    found = []
    for file in sorted(path.glob("events*")):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            found += [(event.step, value.tensor) for value in event.summary.value]
    return found


def test_panels_are_drawn_every_few_epochs_and_at_the_end(samples, tmp_path):
    callback = panels(tmp_path, samples, every=3, count=2)
    for epoch in range(7):
        callback.on_epoch_end(epoch)
    drawn = sorted(drawn_epochs(tmp_path), key=lambda pair: pair[0])
    assert [step for step, _ in drawn] == [3, 6, 7]
    # width, height, then one PNG a slice
    width, height, *images = tf.make_ndarray(drawn[0][1])
    assert (int(width), int(height), len(images)) == (36, 8, 2)


def test_panel_outlines_reference_and_prediction():
    image = np.full((6, 8, 1), 0.5, np.float32)
    square = np.zeros((6, 8, 1), np.float32)
    square[1:4, 1:4] = 1
    shown = panel(
        {"image": image, "scar": square}, {"scar": np.roll(square, 2, axis=1)}
    )
    assert shown.shape == (6, 24, 3)
    np.testing.assert_array_equal(shown[:, :8], 0.5)
    # the edge of a 3 x 3 square without its centre: 8 pixels
    for left, centre in ((8, (2, 2)), (16, (2, 4))):
        part = shown[:, left : left + 8]
        outlined = (part == np.float32(OUTLINES["scar"])).all(axis=-1)
        assert outlined.sum() == 8
        assert not outlined[centre]


def test_line_an_epoch_without_a_terminal(capsys):
    with ProgressBar(epochs=4, first_epoch=2, steps=3) as bar:
        bar.on_train_batch_end(0)
        bar.on_epoch_end(2, {"loss": 0.5, "val_scar_dice": 0.25, "other": 1.0})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("training, epoch 3/4: loss 0.500, val_scar_dice 0.250, ")
    assert line.endswith(" min left")
