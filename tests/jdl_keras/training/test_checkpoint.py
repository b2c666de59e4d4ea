"""A checkpoint comes back bit for bit, or is refused; never half of it."""

import json

import keras
import numpy as np
import pytest

from jdl_keras.training import checkpoint
from jdl_keras.training.checkpoint import TrainingState
from tfrecords_tools.errors import RefusedError

pytestmark = pytest.mark.slow

FINGERPRINT = {"seed": 0, "model.dropout": 0.2, "record set": "ab12", "keras": "3.15"}
INPUT = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)


class Training:
    """A network with dropout and batch statistics, its optimizer, and its state."""

    def __init__(self, seed=0):
        keras.utils.set_random_seed(seed)
        layers = [
            keras.layers.Dense(4),
            keras.layers.Dropout(0.5),
            keras.layers.BatchNormalization(),
        ]
        self.network = keras.Sequential([keras.Input((3,)), *layers])
        self.optimizer = keras.optimizers.Adam(0.01)
        self.optimizer.build(self.network.trainable_variables)
        self.variables = [*self.network.variables, *self.optimizer.variables]
        self.state = TrainingState(FINGERPRINT)

    def epoch(self, folder):
        """Moves every variable, dropout's generator included, and saves."""
        self.network(INPUT, training=True)
        gradients = [keras.ops.ones_like(v) for v in self.network.trainable_variables]
        self.optimizer.apply(gradients, self.network.trainable_variables)
        self.state.epoch += 1
        self.state.history.append({"epoch": self.state.epoch, "loss": 1 / 3})
        checkpoint.save(folder, self.variables, self.state)
        return self.bits()

    def bits(self):
        return [np.array(variable).tobytes() for variable in self.variables]


@pytest.fixture
def saved(tmp_path):
    """A training of three epochs, and the bits after each of them."""
    training = Training()
    training.after = [training.epoch(tmp_path) for _ in range(3)]
    return training


def restore(folder, fingerprint=FINGERPRINT):
    training = Training(seed=1)
    training.state = checkpoint.restore(folder, training.variables, fingerprint)
    return training


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_everything_comes_back_bit_for_bit(saved, tmp_path):
    restored = restore(tmp_path)
    assert restored.bits() == saved.after[2]
    assert restored.state == saved.state
    assert restored.state.history[2] == {"epoch": 3, "loss": 1 / 3}


def test_training_goes_on_as_if_nothing_had_been(saved, tmp_path):
    restored = restore(tmp_path)
    kinds = [variable.path for variable in restored.variables]
    for part in ("seed_generator", "moving_mean", "iteration", "momentum"):
        assert any(part in path for path in kinds)
    # the same random numbers of dropout, batch statistics and optimizer steps
    one, other = tmp_path / "one", tmp_path / "other"
    assert restored.epoch(one) == saved.epoch(other)
    assert restored.bits() != saved.after[2]


def test_first_start_is_a_new_state(tmp_path):
    training = Training()
    before = training.bits()
    state = checkpoint.restore(tmp_path / "none", training.variables, FINGERPRINT)
    assert state == TrainingState(FINGERPRINT)
    assert training.bits() == before


def test_newest_two_are_kept(saved, tmp_path):
    assert names(tmp_path) == ["epoch-00002", "epoch-00003"]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {
    f"{what.__name__} {name}": (what, name)
    for name in ("variables.npz", "state.json", "manifest.json")
    for what in (flip, cut)
} | {
    f"no {name}": (lambda path: path.unlink(), name)
    for name in ("variables.npz", "state.json", "manifest.json")
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_falls_back_loudly(saved, tmp_path, capsys, damage):
    inflict, name = DAMAGES[damage]
    inflict(tmp_path / "epoch-00003" / name)
    restored = restore(tmp_path)
    assert restored.state.epoch == 2
    assert restored.bits() == saved.after[1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"WARNING {tmp_path / 'epoch-00003'}: CORRUPT: ")


def test_damaged_checkpoint_is_replaced_when_its_epoch_comes_again(saved, tmp_path):
    flip(tmp_path / "epoch-00003" / "variables.npz")
    restore(tmp_path).epoch(tmp_path)
    assert names(tmp_path) == ["epoch-00002", "epoch-00003"]
    assert restore(tmp_path).bits() == saved.after[2]


def test_only_damaged_checkpoints_are_refused(saved, tmp_path):
    for path in tmp_path.iterdir():
        flip(path / "variables.npz")
    with pytest.raises(RefusedError, match="--run_dir") as refused:
        restore(tmp_path)
    assert refused.value.code == "CORRUPT"


@pytest.mark.parametrize("key", FINGERPRINT)
def test_other_run_is_refused_by_the_name_of_the_key(saved, tmp_path, key):
    with pytest.raises(RefusedError) as refused:
        restore(tmp_path, FINGERPRINT | {key: "other"})
    assert (refused.value.subject, refused.value.code) == (key, "OTHER_RUN")
    assert str(FINGERPRINT[key]) in refused.value.reason
    assert "other" in refused.value.reason


def test_setting_that_the_run_did_not_have_is_refused(saved, tmp_path):
    with pytest.raises(RefusedError, match="ERROR new: OTHER_RUN: "):
        restore(tmp_path, FINGERPRINT | {"new": 1})


def test_refused_checkpoint_changes_no_variable(saved, tmp_path):
    training = Training(seed=1)
    before = training.bits()
    with pytest.raises(RefusedError):
        checkpoint.restore(tmp_path, training.variables, FINGERPRINT | {"seed": 1})
    assert training.bits() == before


def test_unfinished_checkpoint_is_ignored_and_written_anew(saved, tmp_path):
    left = tmp_path / ".tmp-epoch-00004"
    left.mkdir()
    (left / "variables.npz").write_bytes(b"half")
    (left / "extra").write_bytes(b"")
    restored = restore(tmp_path)
    assert restored.state.epoch == 3
    restored.epoch(tmp_path)
    assert names(tmp_path) == ["epoch-00003", "epoch-00004"]
    assert names(tmp_path / "epoch-00004") == [
        *("manifest.json", "state.json", "variables.npz")
    ]


def test_failed_write_leaves_the_checkpoints_before_it(saved, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        saved.epoch(tmp_path)
    restored = restore(tmp_path)
    assert restored.state.epoch == 3
    assert restored.bits() == saved.after[2]


def test_state_is_plain_json(saved, tmp_path):
    state = json.loads((tmp_path / "epoch-00003" / "state.json").read_text())
    assert TrainingState(**state) == saved.state
