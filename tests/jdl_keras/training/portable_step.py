"""Trains a toy for an epoch of two updates by the portable trainer.

`python portable_step.py CASE.npz OUT.npz` writes logs and weights. CASE.npz holds the
weights to start from, by number, and image and masks.
"""

import runpy
import sys
from pathlib import Path

import keras
import numpy as np

from jdl_keras.config import Config, LossConfig
from jdl_keras.training.portable_trainer import EpochFrame, PortableTrainer, skipping

SIZE, BATCH, RATE, CLIP_NORM = (16, 24), 6, 0.01, 0.5
LOSS = LossConfig(l2_myocardium=1e-3, l2_scar=2e-3, wall_weight=2.0)
build_toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))["build_toy"]


def network_of(case):
    network = build_toy(SIZE, method=str(case["method"]), norm="group")
    weights = [case[f"{i}"] for i in range(len(network.weights))]
    network.set_weights(weights)
    return network


def batches_of(case):
    """A full batch, and one that is two thirds full."""
    for part in (slice(0, 6), slice(6, 10)):
        labelled = {t: case[f"{t}_labelled"][part] for t in ("myocardium", "scar")}
        names = ("image", "myocardium", "scar", "patient")
        yield {**{name: case[name][part] for name in names}, "labelled": labelled}


def train(case):
    """Logs of training and validation, and the weights afterwards."""
    trainer = PortableTrainer(network_of(case), LOSS, BATCH)
    optimizer = keras.optimizers.SGD(RATE, global_clipnorm=CLIP_NORM)
    trainer.compile(optimizer=skipping(optimizer))
    trainer.optimizer.build(trainer.trainable_variables)
    logs = {}
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda _, end: logs.update(end)
    )
    batches = [
        {name: tensors(value) for name, value in batch.items()}
        for batch in batches_of(case)
    ]
    trainer.fit(
        ((batch,) for batch in batches),
        steps_per_epoch=2,
        shuffle=False,
        verbose=0,
        callbacks=[EpochFrame(Config(), batches, patients=3, steps=2), record],
    )
    weights = {f"{i}": w for i, w in enumerate(trainer.network.get_weights())}
    return {name: float(value) for name, value in logs.items()}, weights


def tensors(value):
    return keras.tree.map_structure(keras.ops.convert_to_tensor, value)


if __name__ == "__main__":
    with np.load(sys.argv[1]) as file:
        logs, weights = train(dict(file))
    np.savez(sys.argv[2], **logs, **weights)
