"""One update is the gradient step of the documented loss, however it is computed."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.config import LossConfig
from jdl_keras.losses import l2
from jdl_keras.training.joint_trainer import JointTrainer

SIZE = (16, 24)
RATE = 0.01
LOSS = LossConfig(
    myocardium_weight=1.5, l2_myocardium=1e-3, l2_scar=2e-3, dice_over="sample"
)


@pytest.fixture
def make_trainer(build_toy):
    """A trainer that takes its steps eagerly: nothing is traced."""

    def make(norm="group", loss=LOSS, optimizer=None, batch_size=6, **arguments):
        keras.utils.set_random_seed(0)
        network = build_toy(SIZE, norm=norm)
        trainer = JointTrainer(network, loss, batch_size, **arguments)
        trainer.compile(optimizer=optimizer or keras.optimizers.SGD(RATE))
        trainer.optimizer.build(network.trainable_variables)
        return trainer

    return make


def make_batch(count=6, scar_labelled=None):
    random = np.random.default_rng(0)
    image = random.random((count, *SIZE, 1), np.float32)
    scar_labelled = np.ones(count) if scar_labelled is None else scar_labelled
    return {
        "image": tf.constant(image),
        "myocardium": tf.constant(np.float32(image > 0.4)),
        "scar": tf.constant(np.float32(image > 0.8)),
        "labelled": {
            "myocardium": tf.ones(count),
            "scar": tf.constant(scar_labelled, tf.float32),
        },
        "patient": tf.zeros(count, tf.int64),
    }


def weights_of(trainer):
    return [np.array(weight) for weight in trainer.network.get_weights()]


def movement(trainer, batch):
    """Weights after one step minus weights before it."""
    before = weights_of(trainer)
    trainer.train_step(batch)
    return [b - a for a, b in zip(before, weights_of(trainer), strict=True)]


def assert_close(actual, expected, tolerance=1e-6):
    # Steps are about 1e-3 to 1e-2 in size; float32 sums in another order differ by
    # 1e-8 or so, and 1e-6 leaves no room for a missing term.
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance)


def documented_loss(network, batch, batch_size):
    """The docstring's formula, sample by sample."""
    probabilities = network(batch["image"], training=True)
    total = 0.0
    for task, weight in (("myocardium", 1.5), ("scar", 1.0)):
        for i, labelled in enumerate(batch["labelled"][task].numpy()):
            r, p = batch[task][i], probabilities[task][i]
            entropy = -tf.reduce_mean(r * tf.math.log(p) + (1 - r) * tf.math.log(1 - p))
            both = 2 * tf.reduce_sum(r * p) + LOSS.smoothing
            dice = both / (tf.reduce_sum(r) + tf.reduce_sum(p) + LOSS.smoothing)
            total += weight * labelled * (entropy + 1 - dice) / batch_size
    for task, beta in (("myocardium", 1e-3), ("scar", 2e-3)):
        variables = network.get_layer(f"{task}_network").trainable_variables
        total += beta * tf.add_n([tf.reduce_sum(v.value**2) for v in variables])
    return total


@pytest.mark.parametrize("count", [6, 4])
def test_step_follows_the_gradient_of_the_documented_loss(make_trainer, count):
    # 4 samples where 6 are a batch: the sum is still divided by 6.
    trainer, batch = make_trainer(), make_batch(count, [1, 0, 1, 1, 0, 1][:count])
    variables = [v.value for v in trainer.network.trainable_variables]
    with tf.GradientTape() as tape:
        loss = documented_loss(trainer.network, batch, batch_size=6)
    expected = [-RATE * g.numpy() for g in tape.gradient(loss, variables)]
    before = [v.numpy() for v in variables]
    logs = trainer.train_step(batch)
    moved = [v.numpy() - b for v, b in zip(variables, before, strict=True)]
    assert max(np.abs(m).max() for m in moved) > 1e-4
    assert_close(moved, expected)
    assert float(logs["loss"]) == pytest.approx(float(loss), rel=1e-6)


def test_logs_name_losses_and_gradient_norms_of_both_tasks(make_trainer):
    trainer, batch = make_trainer(), make_batch(scar_labelled=[1, 0, 1, 1, 0, 1])
    network = trainer.network
    with tf.GradientTape() as tape:
        loss = documented_loss(network, batch, batch_size=6)
    by_task = {
        task: [
            v.value for v in network.get_layer(f"{task}_network").trainable_variables
        ]
        for task in ("myocardium", "scar")
    }
    gradients = tape.gradient(loss, by_task)
    # loss = 1.5 x myocardium_loss + scar_loss + 0.001 x sum + 0.002 x sum of squares
    terms = {task: float(l2(variables)) for task, variables in by_task.items()}
    logs = {name: float(value) for name, value in trainer.train_step(batch).items()}
    assert sorted(logs) == sorted(
        ["loss", "skipped_updates"]
        + [f"{task}_{what}" for task in by_task for what in ("loss", "gradient_norm")]
    )
    assert logs["loss"] == pytest.approx(
        1.5 * logs["myocardium_loss"]
        + logs["scar_loss"]
        + 1e-3 * terms["myocardium"]
        + 2e-3 * terms["scar"],
        rel=1e-6,  # float32
    )
    for task in by_task:
        norm = np.sqrt(sum(np.sum(g.numpy() ** 2) for g in gradients[task]))
        assert logs[f"{task}_gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert logs["skipped_updates"] == 0


def test_steps_decrease_the_loss(make_trainer):
    trainer, batch = make_trainer(), make_batch()
    first = float(documented_loss(trainer.network, batch, 6))
    trainer.train_step(batch)
    second = float(documented_loss(trainer.network, batch, 6))
    assert second < first


def test_unlabelled_task_leaves_its_network_only_the_regularization(make_trainer):
    trainer, batch = make_trainer(), make_batch(scar_labelled=np.zeros(6))
    scar = trainer.network.get_layer("scar_network").trainable_variables
    gradients, _ = trainer._gradients(batch)
    found = dict(
        zip(map(id, trainer.network.trainable_variables), gradients, strict=True)
    )
    for variable in scar:
        # d/dw of 0.002 x w^2; no tolerance, for nothing else may enter
        expected = 2 * 2e-3 * variable.value
        np.testing.assert_array_equal(found[id(variable)], expected)


def test_weight_0_leaves_the_myocardium_network_to_the_scar_loss(make_trainer):
    loss = LossConfig(myocardium_weight=0, l2_myocardium=0, l2_scar=0)
    trainer = make_trainer(loss=loss)
    myocardium = trainer.network.get_layer("myocardium_network").trainable_variables
    places = [id(v) for v in trainer.network.trainable_variables]

    def gradient_of_myocardium(batch):
        gradients, _ = trainer._gradients(batch)
        return [gradients[places.index(id(v))].numpy() for v in myocardium]

    # Through the message the scar loss still reaches it ...
    assert any(np.any(g) for g in gradient_of_myocardium(make_batch()))
    # ... and its own loss does not.
    without_scar = make_batch(scar_labelled=np.zeros(6))
    assert not any(np.any(g) for g in gradient_of_myocardium(without_scar))


@pytest.mark.parametrize("parts", [2, 6])
def test_micro_batches_take_the_step_of_the_whole_batch(make_trainer, parts):
    batch = make_batch(5, [1, 0, 1, 1, 0])
    # 5 samples in 6 parts: one part is empty
    whole = movement(make_trainer(), batch)
    assert_close(movement(make_trainer(micro_batches=parts), batch), whole)


def test_clipping_acts_on_the_norm_of_all_gradients(make_trainer):
    batch = make_batch()
    free = np.concatenate([m.ravel() for m in movement(make_trainer(), batch)])
    norm = np.linalg.norm(free) / RATE
    clipped = movement(make_trainer(clip_norm=norm / 4), batch)
    assert_close([m.ravel() for m in clipped], np.split(free / 4, _edges(clipped)))
    loose = movement(make_trainer(clip_norm=norm * 4), batch)
    assert_close([m.ravel() for m in loose], np.split(free, _edges(loose)))


def _edges(arrays):
    return np.cumsum([array.size for array in arrays])[:-1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_batch_that_is_not_finite_changes_no_bit(make_trainer, norm, value):
    trainer = make_trainer(norm, optimizer=keras.optimizers.Adam(RATE), clip_norm=1.0)
    good = make_batch()
    first = trainer.train_step(good)
    image = good["image"].numpy()
    image[2, 3, 4] = value
    # Averages of batch statistics are weights too, and move in the forward pass.
    variables = [*trainer.network.variables, *trainer.optimizer.variables]
    before = [v.numpy().tobytes() for v in variables]
    logs = trainer.train_step({**good, "image": tf.constant(image)})
    assert [v.numpy().tobytes() for v in variables] == before
    # 1 of 2 steps; the losses are those of the other one
    assert float(logs["skipped_updates"]) == 0.5
    assert float(logs["loss"]) == float(first["loss"])
    trainer.train_step(good)
    assert [v.numpy().tobytes() for v in variables] != before
    assert all(np.isfinite(weight).all() for weight in weights_of(trainer))


def test_validation_weighs_samples_and_patients_equally(make_trainer):
    trainer = make_trainer(patients=2)
    batch = make_batch(5, [1, 0, 1, 1, 0])
    batch["patient"] = tf.constant([0, 0, 0, 1, 1], tf.int64)
    probabilities = trainer.network(batch["image"], training=False)
    before = weights_of(trainer)
    for part in (slice(0, 4), slice(4, 5)):
        logs = trainer.test_step(tf.nest.map_structure(lambda t, p=part: t[p], batch))
    losses = trainer.task_loss(
        batch["scar"], probabilities["scar"], batch["labelled"]["scar"]
    )
    # the mean over all 5 samples; a mean of the two batches' means would be another
    assert float(logs["scar_loss"]) == pytest.approx(losses.numpy().mean(), rel=1e-6)

    reference = batch["scar"].numpy() > 0.5
    predicted = probabilities["scar"].numpy() >= 0.5
    dice = [
        2
        * np.sum(reference[samples] & predicted[samples])
        / (np.sum(reference[samples]) + np.sum(predicted[samples]))
        for samples in ([0, 2], [3])  # samples 1 and 4 have no reference
    ]
    assert float(logs["scar_dice"]) == pytest.approx(np.mean(dice), rel=1e-6)
    assert_close(weights_of(trainer), before, tolerance=0)


@pytest.fixture(scope="module")
def replicas(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("replicas") / "weights.npz"
    done = run(Path(__file__).with_name("replicas.py"), out)
    assert done.code == 0, done.err
    return np.load(out)


CASES = ("group", "batch", "clipped_micro", "batch_dice", "last_batch_of_one")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_replicas_learn_what_one_learns(replicas, case):
    before, one, two = (
        replicas[f"{case} {name}"] for name in ("one before", "one after", "two after")
    )
    # At a rate of 0.01 three steps move weights by 2e-3 and more, so that a wrong
    # factor shows; the order of float32 sums shows at 1e-7 (see replicas.py).
    assert np.abs(one - before).max() > 1e-3
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_replicas_report_what_one_reports(replicas, case):
    one, two = (replicas[f"{case} {name} logs"] for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=0, atol=2e-6)


@pytest.mark.slow
def test_comparison_sees_a_loss_that_each_replica_divides_by_its_share(replicas):
    one, two = replicas["group one after"], replicas["defect two after"]
    assert np.abs(two - one).max() > 1e-3
