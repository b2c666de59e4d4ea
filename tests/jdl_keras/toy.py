"""A joint network of six convolutions, and `jdl_keras.train` with it in place of jdl.

Run as a script it takes the arguments of `python -m jdl_keras.train`: the whole command
on a network whose graph is traced in seconds, with dropout and batch statistics.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import keras

from jdl_keras.models import methods
from jdl_keras.models.cascaded_upsampler import convolve
from jdl_keras.models.message_passing import pass_message


def build_toy(image_size, dropout=0.0, norm="batch", channels=8):
    myocardium_network, scar_network = (
        _network(f"{task}_network", image_size, dropout, norm, channels)
        for task in ("myocardium", "scar")
    )
    image = keras.Input((*image_size, 1), name="image")
    myocardium = methods.foreground(myocardium_network(image), "myocardium")
    message = pass_message(image, myocardium)
    scar = methods.foreground(scar_network(message), "scar")
    return keras.Model(image, {"myocardium": myocardium, "scar": scar}, name="toy")


def toy_method(config, **options):
    """In place of one of `methods.METHODS`."""
    return build_toy(config.grid.size, config.model.dropout, **options)


def _network(name, image_size, dropout, norm, channels):
    image = keras.Input((*image_size, 1))
    x = convolve(image, channels, norm, "first")
    x = keras.layers.Dropout(dropout)(x)
    x = convolve(x, channels, norm, "second")
    logits = keras.layers.Conv2D(2, 3, padding="same", dtype="float32", name="head")(x)
    return keras.Model(image, logits, name=name)


if __name__ == "__main__":
    from jdl_keras.train import main

    methods.METHODS["jdl"] = toy_method
    sys.exit(main())
