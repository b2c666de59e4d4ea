"""The methods with networks of three convolutions, and `jdl_keras.train` with them.

Run as a script it takes the arguments of `python -m jdl_keras.train`: the whole command
on networks whose graph is traced in seconds, with dropout and batch statistics.
"""

import sys
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[2]))

import keras

from jdl_keras.config import Config, GridConfig, ModelConfig
from jdl_keras.models import methods
from jdl_keras.models.cascaded_upsampler import convolve


def build_toy(image_size, dropout=0.0, method="jdl", **options):
    """A method as it is wired, of toys."""
    grid, model = GridConfig(image_size), ModelConfig(dropout=dropout)
    return toy_method(Config(method=method, grid=grid, model=model), **options)


def toy_method(config, norm="batch", channels=8):
    """In place of one of `methods.METHODS`."""
    size, dropout = config.grid.size, config.model.dropout

    def features(image):
        x = convolve(image, channels, norm, "first")
        x = keras.layers.Dropout(dropout)(x)
        return convolve(x, channels, norm, "second")

    def logits(x):
        head = keras.layers.Conv2D(2, 3, padding="same", dtype="float32", name="head")
        return head(x)

    def transunet(_config, name):
        image = keras.Input((*size, 1))
        return keras.Model(image, logits(features(image)), name=name)

    def build_encoder(*_):
        image = keras.Input((*size, 1))
        return keras.Model(image, features(image), name="encoder")

    def build_decoder(_preset, encoder, name):
        encoded = keras.Input(encoder.output.shape[1:])
        return keras.Model(encoded, logits(encoded), name=name)

    toys = (transunet, build_encoder, build_decoder)
    with mock.patch.multiple(methods, **{toy.__name__: toy for toy in toys}):
        return getattr(methods, f"build_{config.method}")(config)


if __name__ == "__main__":
    from jdl_keras.train import main

    methods.METHODS |= dict.fromkeys(methods.METHODS, toy_method)
    sys.exit(main())
