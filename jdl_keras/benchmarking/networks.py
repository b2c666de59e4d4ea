"""Forward pass and train step of a preset, as runs compute them, on any backend."""

import dataclasses
import functools

import keras
import numpy as np

from jdl_keras.benchmarking.arithmetic import STEP_FORWARDS, forward_flop
from jdl_keras.benchmarking.rows import Row
from jdl_keras.benchmarking.timing import (
    Call,
    as_long_as,
    interleaved,
    matrix_product,
    repeated,
)
from jdl_keras.config import Config, GridConfig, ModelConfig, TrainingConfig
from jdl_keras.models.methods import build_network
from jdl_keras.serving.lean import lean
from jdl_keras.training.loop import choose_road
from tfrecords_tools.labels import TASKS

USUAL = {"tiny": (32, 8), "small": (96, 8), "r50_vit_b16": (224, 4)}
"""Rows and columns of the grid, and slices of a batch, by preset."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is measured.

    Attributes:
        presets: sizes of the networks.
        method: how they are wired.
        batch_size: slices of a batch, for all presets; 0 for the usual ones.
        mixed_precision: the Keras dtype policy.
        seconds: how long each of them is measured.
        train: also the train step, which needs several times the memory.
    """

    presets: tuple[str, ...]
    method: str
    batch_size: int
    mixed_precision: str
    seconds: float
    train: bool


def network_rows(request: Request) -> list[Row]:
    """A row for the forward pass and one for the train step of every preset."""
    product, product_flop = matrix_product()
    rows = []
    for preset in request.presets:
        config = _config(request, preset)
        work = {"forward": forward}
        if request.train:
            work["train step"] = train_step
        for what, make in work.items():
            keras.utils.clear_session()
            keras.utils.set_random_seed(1)
            call, flop = make(config)
            times = as_long_as(call, product)
            calls = {"products": repeated(product, times), "work": call}
            median = interleaved(calls, request.seconds)
            row = Row(
                what=what,
                network=f"{preset} {request.method}",
                size=config.grid.size,
                batch_size=config.training.batch_size,
                seconds_per_slice=median["work"] / config.training.batch_size,
                gflop_per_second=flop / median["work"] / 1e9,
                peak_gflop_per_second=times * product_flop / median["products"] / 1e9,
            )
            rows.append(row)
    return rows


def _config(request: Request, preset: str) -> Config:
    side, usual = USUAL[preset]
    training = TrainingConfig(
        batch_size=request.batch_size or usual,
        mixed_precision=request.mixed_precision,
        strategy="single",
    )
    return Config(
        method=request.method,
        grid=GridConfig(size=(side, side)),
        model=ModelConfig(preset=preset),
        training=training,
    )


def forward(config: Config) -> tuple[Call, int]:
    """The maps of a batch as an exported model has them, and their operations."""
    keras.config.set_dtype_policy(config.training.mixed_precision)
    network = build_network(config)
    images = _batch(config)["image"]
    flop = forward_flop(network) * len(images)
    return functools.partial(lean(network).predict_on_batch, images), flop


def train_step(config: Config) -> tuple[Call, int]:
    """An update from a batch, as a run's, and the operations that it takes."""
    batch = keras.tree.map_structure(keras.ops.convert_to_tensor, _batch(config))
    trainer = choose_road().make_trainer(config, patients=1, steps=1000)
    flop = STEP_FORWARDS * forward_flop(trainer.network) * config.training.batch_size
    if keras.config.backend() != "tensorflow":
        return functools.partial(trainer.train_on_batch, batch), flop
    import tensorflow as tf

    step = tf.function(trainer.train_step)
    return lambda: float(step(batch)["loss"]), flop


def _batch(config: Config) -> dict:
    """Noise with labels, as `data.samples` has them."""
    samples, random = config.training.batch_size, np.random.default_rng(1)
    shape = (samples, *config.grid.size, 1)
    masks = {task: np.float32(random.random(shape) > 0.8) for task in TASKS}
    return {
        "image": random.random(shape, np.float32),
        "patient": np.zeros(samples, np.int32),
        "labelled": {task: np.ones(samples, np.float32) for task in TASKS},
        **masks,
    }
