"""One update is the gradient step of the documented loss, however it is computed."""

import dataclasses
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.config import Config, GridConfig, LossConfig, ModelConfig
from jdl_keras.losses import l2
from jdl_keras.models.methods import METHODS, build_network, parts
from jdl_keras.training.fused_adam import FusedAdam
from jdl_keras.training.joint_trainer import JointTrainer

pytestmark = pytest.mark.slow

SIZE = (16, 24)
RATE = 0.01
LOSS = LossConfig(
    myocardium_weight=1.5, l2_myocardium=1e-3, l2_scar=2e-3, dice_over="sample"
)


@pytest.fixture
def make_trainer(build_toy):
    """A trainer that takes its steps eagerly: nothing is traced."""

    def make(
        norm="group",
        loss=LOSS,
        optimizer=None,
        batch_size=6,
        method="jdl",
        network=None,
        **arguments,
    ):
        keras.utils.set_random_seed(0)
        network = network or build_toy(SIZE, norm=norm, method=method)
        trainer = JointTrainer(network, loss, batch_size, **arguments)
        trainer.compile(optimizer=optimizer or keras.optimizers.SGD(RATE))
        trainer.optimizer.build(network.trainable_variables)
        return trainer

    return make


def make_batch(count=6, scar_labelled=None, myocardium_labelled=None, size=SIZE):
    random = np.random.default_rng(0)
    image = random.random((count, *size, 1), np.float32)
    scar_labelled = np.ones(count) if scar_labelled is None else scar_labelled
    if myocardium_labelled is None:
        myocardium_labelled = np.ones(count)
    return {
        "image": tf.constant(image),
        "myocardium": tf.constant(np.float32(image > 0.4)),
        "scar": tf.constant(np.float32(image > 0.8)),
        "labelled": {
            "myocardium": tf.constant(myocardium_labelled, tf.float32),
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


def training_maps(network, batch):
    """What each method computes in training, wired once more."""
    if network.name != "two_step":
        return network(batch["image"], training=True)
    seen = {"myocardium": batch["image"], "scar": batch["image"] * batch["myocardium"]}
    logits = {
        task: network.get_layer(f"{task}_network")(image, training=True)
        for task, image in seen.items()
    }
    return {task: tf.nn.softmax(values)[..., 1:] for task, values in logits.items()}


def documented_loss(network, batch, batch_size):
    """The docstring's formula, sample by sample."""
    probabilities = training_maps(network, batch)
    total = 0.0
    for task in network.output:
        weight = {"myocardium": 1.5, "scar": 1.0}[task]
        for i, labelled in enumerate(batch["labelled"][task].numpy()):
            if network.name == "two_step" and not batch["labelled"]["myocardium"][i]:
                continue  # nothing to mask its image by
            r, p = batch[task][i], probabilities[task][i]
            entropy = -tf.reduce_mean(r * tf.math.log(p) + (1 - r) * tf.math.log(1 - p))
            both = 2 * tf.reduce_sum(r * p) + LOSS.smoothing
            dice = both / (tf.reduce_sum(r) + tf.reduce_sum(p) + LOSS.smoothing)
            total += weight * labelled * (entropy + 1 - dice) / batch_size
    for name, part in parts(network).items():
        beta = 2e-3 if name in ("scar_network", "scar_decoder") else 1e-3
        squares = [tf.reduce_sum(v.value**2) for v in part.trainable_variables]
        total += beta * tf.add_n(squares)
    return total


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [6, 4])
def test_step_follows_the_gradient_of_the_documented_loss(make_trainer, count, method):
    # 4 samples where 6 are a batch: the sum is still divided by 6.
    batch = make_batch(count, [1, 0, 1, 1, 0, 1][:count], [1, 1, 1, 0, 0, 1][:count])
    trainer = make_trainer(method=method)
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
    names = ("{}_loss", "{}_network_gradient_norm")
    assert sorted(logs) == sorted(
        ["loss", "skipped_updates"]
        + [name.format(task) for task in by_task for name in names]
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
        assert logs[f"{task}_network_gradient_norm"] == pytest.approx(norm, rel=1e-5)
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


# Samples without a reference


def gradients_by_part(trainer, batch):
    gradients, _ = trainer._gradients(batch)
    found = {
        id(variable): gradient.numpy()
        for variable, gradient in zip(
            trainer.network.trainable_variables, gradients, strict=True
        )
    }
    return {
        name: [found[id(v)] for v in part.trainable_variables]
        for name, part in parts(trainer.network).items()
    }


def scar_losses(trainer, batch):
    """Of every sample, and what was counted."""
    batch = trainer._trainable_labels(batch)
    inputs = [batch["image"], batch["myocardium"]]
    probability = trainer.training_network(inputs, training=True)["scar"]
    labelled = batch["labelled"]["scar"]
    return trainer.task_loss(batch["scar"], probability, labelled).numpy()


def first(batch, count):
    return tf.nest.map_structure(lambda t: t[:count], batch)


@pytest.mark.parametrize("dice_over", ["sample", "batch"])
@pytest.mark.parametrize("method", METHODS)
def test_samples_of_the_myocardium_alone_change_no_scar_loss(
    make_trainer, method, dice_over
):
    loss = dataclasses.replace(LOSS, dice_over=dice_over)
    trainer = make_trainer(method=method, loss=loss, batch_size=7)
    more = make_batch(7, [1, 1, 1, 1, 0, 0, 0])
    fewer = first(more, 4)
    found, expected = scar_losses(trainer, more), scar_losses(trainer, fewer)
    assert expected.min() > 0.1
    # The same sums of float32; a convolution of another batch may order them anew.
    np.testing.assert_allclose(found[:4], expected, rtol=1e-6)
    assert (found[4:] == 0).all()
    with_more, without = (gradients_by_part(trainer, b) for b in (more, fewer))
    own = {"multi_task": "scar_decoder"}.get(method, "scar_network")
    assert_close(with_more[own], without[own])
    logs = [
        make_trainer(method=method, loss=loss, batch_size=7).train_step(batch)
        for batch in (more, fewer)
    ]
    assert float(logs[0]["scar_loss"]) == pytest.approx(
        float(logs[1]["scar_loss"]), rel=1e-6
    )
    if method != "direct":  # they do teach the other task
        added = float(logs[0]["myocardium_loss"]) - float(logs[1]["myocardium_loss"])
        assert added > 0.1
        (other,) = {*with_more} - {"scar_network", "scar_decoder", "encoder"}
        pairs = zip(with_more[other], without[other], strict=True)
        assert max(np.abs(a - b).max() for a, b in pairs) > 1e-3


def test_two_step_cannot_learn_scar_without_a_myocardium_to_mask_by(make_trainer):
    batch = make_batch(6, np.ones(6), [1, 1, 0, 1, 1, 0])
    trainer = make_trainer(method="two_step")
    counted = scar_losses(trainer, batch) > 0
    assert counted.tolist() == [True, True, False, True, True, False]
    # jdl has its own map, and needs no reference of it.
    assert (scar_losses(make_trainer(method="jdl"), batch) > 0).all()


def test_two_step_masks_by_the_reference_and_validates_on_its_own_map(make_trainer):
    trainer, batch = make_trainer(method="two_step"), make_batch(6)
    other = {**batch, "myocardium": 1 - batch["myocardium"]}
    assert np.abs(scar_losses(trainer, batch) - scar_losses(trainer, other)).min() > 0
    validated = []
    for one in (batch, other):
        trainer.reset_metrics()
        validated.append(float(trainer.test_step(one)["scar_loss"]))
    assert validated[0] == validated[1]


# Options of the message and of the loss


@pytest.mark.parametrize("method", ["jdl", "two_step", "multi_task"])
def test_in_the_warm_up_only_the_myocardium_learns(make_trainer, method):
    trainer, batch = make_trainer(method=method, warmup_steps=2), make_batch()
    no_scar = {**batch, "labelled": {**batch["labelled"], "scar": tf.zeros(6)}}
    for _ in range(2):
        warming = gradients_by_part(trainer, batch)
        alone = gradients_by_part(trainer, no_scar)
        for name, expected in alone.items():
            # Factor 0 of the scar's gradient, or factor 0 of its loss: both exactly 0.
            for gradient, e in zip(warming[name], expected, strict=True):
                np.testing.assert_array_equal(gradient, e)
        own = parts(trainer.network)[
            {"multi_task": "scar_decoder"}.get(method, "scar_network")
        ]
        scar = warming[own.name]
        for gradient, variable in zip(scar, own.trainable_variables, strict=True):
            np.testing.assert_array_equal(gradient, 2 * 2e-3 * variable.value)
        logs = trainer.train_step(batch)
        # It is shown all the same.
        assert float(logs["scar_loss"]) > 0.1
    warm = make_trainer(method=method)
    warm.network.set_weights(trainer.network.get_weights())
    expected = gradients_by_part(warm, batch)
    for name, gradients in gradients_by_part(trainer, batch).items():
        assert_close(gradients, expected[name], tolerance=0)


def test_loss_that_is_logged_leaves_the_scar_out_in_the_warm_up(make_trainer):
    loss = LossConfig(myocardium_weight=1.5, l2_myocardium=0, l2_scar=0)
    logs = make_trainer(loss=loss, warmup_steps=1).train_step(make_batch())
    expected = 1.5 * float(logs["myocardium_loss"])
    assert float(logs["loss"]) == pytest.approx(expected, rel=1e-6)


def test_wall_weight_by_hand(make_trainer):
    loss = LossConfig(wall_weight=2, dice_weight=0)
    trainer = make_trainer(loss=loss)
    shape = (1, 2, 2, 1)
    reference = np.float32([1, 1, 0, 0]).reshape(shape)
    batch = {"myocardium": reference, "scar": reference}
    batch["labelled"] = {"myocardium": np.float32([1]), "scar": np.float32([1])}
    myocardium = tf.Variable(np.float32([0.9, 0.5, 0.25, 0.0]).reshape(shape))
    scar = tf.constant(np.float32([0.8, 0.5, 0.5, 0.2]).reshape(shape))
    with tf.GradientTape() as tape:
        maps = {"myocardium": tf.identity(myocardium), "scar": scar}
        sums = trainer._task_sums(batch, maps)
    # Probabilities of the right class 0.8, 0.5, 0.5, 0.8; weights 1 + 2 x 0.9 = 2.8,
    # 2, 1.5 and 1; over 4 pixels.
    expected = -(2.8 * np.log(0.8) + 3.5 * np.log(0.5) + np.log(0.8)) / 4
    assert float(sums["scar"]) == pytest.approx(expected, rel=1e-6)
    # The wall is not made smaller to make the loss smaller.
    assert tape.gradient(sums["scar"], myocardium) is None
    # The other task has no weight: 0.9, 0.5, 0.75, and 1.
    expected = -(np.log(0.9) + np.log(0.5) + np.log(0.75)) / 4
    assert float(sums["myocardium"]) == pytest.approx(expected, abs=1e-6)


# Updates


@pytest.mark.parametrize(("micro_batches", "streams"), [(2, 1), (6, 1), (1, 2), (2, 3)])
def test_parts_take_the_step_of_the_whole_batch(make_trainer, micro_batches, streams):
    batch = make_batch(5, [1, 0, 1, 1, 0])
    # 5 samples in 6 parts: one part is empty
    whole = movement(make_trainer(), batch)
    divided = make_trainer(micro_batches=micro_batches, streams=streams)
    assert_close(movement(divided, batch), whole)


def test_parts_of_a_transunet_take_the_step_of_the_whole_batch(make_trainer):
    # Its positions are looked up in a table, whose gradient is sparse.
    grid, model = GridConfig((32, 32)), ModelConfig("small")
    network = build_network(Config(method="direct", grid=grid, model=model))
    weights, moved = network.get_weights(), []
    for parts_of_two in ({}, {"micro_batches": 2}, {"streams": 2}):
        network.set_weights(weights)
        trainer = make_trainer(network=network, batch_size=2, **parts_of_two)
        moved.append(movement(trainer, make_batch(2, size=grid.size)))
    assert max(np.abs(step).max() for step in moved[0]) > 1e-3
    assert_close(moved[1], moved[0])
    assert_close(moved[2], moved[0])


def test_micro_batches_wait_for_each_other(make_trainer):
    # All at once, they would need the memory of the whole batch.
    events = []

    @tf.custom_gradient
    def noted(image):
        def gradient(upstream):
            return note("backward", upstream)

        return note("forward", image), gradient

    def note(event, values):
        def happened(array):
            events.append(event)
            time.sleep(0.05)  # in which whatever does not wait goes ahead
            return array

        # Of what has state, TensorFlow keeps the order by itself.
        same = tf.numpy_function(happened, [values], values.dtype, stateful=False)
        return tf.ensure_shape(same, values.shape)

    trainer = make_trainer(method="direct", micro_batches=3)
    network = trainer.training_network
    trainer.training_network = lambda inputs, training: keras.tree.map_structure(
        noted, network(inputs, training=training)
    )
    tf.function(trainer.train_step)(make_batch())
    assert events == ["forward", "backward"] * 3


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
    trainer = make_trainer(norm, optimizer=FusedAdam(RATE), clip_norm=1.0)
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


CASES = ("group", "batch", "batch_dice", "adam", *METHODS)
IN_BFLOAT16 = tuple(f"{method} bfloat16" for method in METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_replicas_learn_what_one_learns(replicas, case):
    before, one, two = (
        replicas[f"{case} {name}"] for name in ("one before", "one after", "two after")
    )
    # At a rate of 0.01 three steps move weights by 1e-3 and more, so that a wrong
    # factor shows; the order of float32 sums shows at 1e-7 (see replicas.py).
    assert np.abs(one - before).max() > 1e-3
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", IN_BFLOAT16)
def test_two_replicas_learn_what_one_learns_in_bfloat16(replicas, case):
    before, one, two = (
        replicas[f"{case} {name}"] for name in ("one before", "one after", "two after")
    )
    assert np.abs(one - before).max() > 1e-3
    # bfloat16 has 8 bits: a gradient from half of the batch, and what is added up from
    # two halves, are rounded by up to 1/256 each.
    assert np.linalg.norm(two - one) < np.linalg.norm(one - before) / 128


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_replicas_report_what_one_reports(replicas, case):
    one, two = (replicas[f"{case} {name} logs"] for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=0, atol=2e-6)


@pytest.mark.slow
def test_comparison_sees_a_loss_that_each_replica_divides_by_its_share(replicas):
    one, two = replicas["group one after"], replicas["defect two after"]
    assert np.abs(two - one).max() > 1e-3
    # Nor would it pass as rounding.
    moved = np.linalg.norm(one - replicas["group one before"])
    assert np.linalg.norm(two - one) > moved / 16
