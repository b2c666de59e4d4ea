"""Trains toy networks on one and on two processors; writes their weights to a file.

`python replicas.py OUT.npz`, in a process of its own: TensorFlow takes a second logical
processor only before its start.
"""

import dataclasses
import functools
import runpy
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from jdl_keras.config import LossConfig
from jdl_keras.models.methods import METHODS
from jdl_keras.training.fused_adam import FusedAdam
from jdl_keras.training.joint_trainer import JointTrainer

BATCH, SIZE = 6, (16, 24)
LEARNING_RATE = 1e-2
# L2 is as large as the other terms, so that a wrong share of it shows too.
LOSS = LossConfig(l2_myocardium=1e-2, l2_scar=1e-2, dice_over="sample")
LOSS_OF_BATCH = dataclasses.replace(LOSS, dice_over="batch")
LOSS_OF_WALL = dataclasses.replace(LOSS, wall_weight=2.0)
build_toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))["build_toy"]


class DividesByItsShare(JointTrainer):
    """The defect: each replica takes the mean over its own samples."""

    def _data_loss(self, task_sums):
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return super()._data_loss(task_sums) * replicas


CASES = {
    # name: trainer, network, samples, further arguments of the trainer
    "group": (JointTrainer, {"norm": "group"}, 15, {}),
    "batch": (JointTrainer, {"norm": "batch"}, 15, {}),
    "batch_dice": (
        JointTrainer,
        {"norm": "group", "method": "multi_task"},
        15,
        {"loss": LOSS_OF_BATCH, "warmup_steps": 1},
    ),
    # Every method, clipped, in micro-batches, with a last batch of one sample.
    **{
        method: (
            JointTrainer,
            {"norm": "group", "method": method},
            13,
            {
                "loss": LOSS if method == "direct" else LOSS_OF_WALL,
                "clip_norm": 0.5,
                "micro_batches": 2,
            },
        )
        for method in METHODS
    },
    # In bfloat16 too, where micro-batches would round another time.
    **{
        f"{method} bfloat16": (
            JointTrainer,
            {"norm": "group", "method": method, "policy": "mixed_bfloat16"},
            13,
            {"clip_norm": 0.5},
        )
        for method in METHODS
    },
    "adam": (
        JointTrainer,
        {"norm": "group"},
        15,
        # An epsilon of about the gradients: else the sign of a rounding error would
        # move a weight as far as that of a gradient.
        {"clip_norm": 0.5, "optimizer": functools.partial(FusedAdam, epsilon=0.1)},
    ),
    "defect": (DividesByItsShare, {"norm": "group"}, 15, {}),
}


def samples(count):
    """Random samples; every third has no reference of the scar."""
    random = np.random.default_rng(0)
    image = random.random((count, *SIZE, 1), np.float32)
    labelled = np.ones(count, np.float32)
    return {
        "image": image,
        "myocardium": np.float32(image > 0.4),
        "scar": np.float32(image > 0.8),
        "labelled": {
            "myocardium": labelled,
            "scar": labelled * (np.arange(count) % 3 > 0),
        },
        "patient": np.arange(count) // 4,
    }


def train(strategy, trainer_class, network_options, count, arguments):
    """Weights before and after one epoch of three steps, and what was logged."""
    keras.utils.set_random_seed(0)
    options = {"policy": "float32", **network_options}
    keras.config.set_dtype_policy(options.pop("policy"))
    with strategy.scope():
        network = build_toy(SIZE, **options)
        arguments = {"loss": LOSS, "batch_size": BATCH, "patients": 4, **arguments}
        optimizer = arguments.pop("optimizer", keras.optimizers.SGD)
        trainer = trainer_class(network, **arguments)
        trainer.compile(optimizer=optimizer(LEARNING_RATE))
        trainer.optimizer.build(network.trainable_variables)
    before = network.get_weights()
    batches = tf.data.Dataset.from_tensor_slices(samples(count)).batch(BATCH)
    validation = batches if keras.config.dtype_policy().name == "float32" else None
    history = trainer.fit(batches, validation_data=validation, verbose=0).history
    logs = {name: values[-1] for name, values in history.items()}
    return flat(before), flat(network.get_weights()), logs


def flat(weights):
    return np.concatenate([np.ravel(weight) for weight in weights])


def main(out):
    processor = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, two)
    strategies = {
        "one": tf.distribute.get_strategy(),
        "two": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    }
    arrays = {}

    for case, settings in CASES.items():
        for name, strategy in strategies.items():
            if (case, name) == ("defect", "one"):
                continue  # On one replica it is no defect, but "group" again.
            before, after, logs = train(strategy, *settings)
            arrays[f"{case} {name} before"], arrays[f"{case} {name} after"] = (
                before,
                after,
            )
            arrays[f"{case} {name} logs"] = np.array(
                [logs[key] for key in sorted(logs)]
            )
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
