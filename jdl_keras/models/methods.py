"""The methods: how the networks of the tasks are wired together."""

import keras
from keras import KerasTensor

from jdl_keras.config import Config
from jdl_keras.models.message_passing import pass_message
from jdl_keras.models.transunet import build_transunet


def foreground(logits: KerasTensor, task: str) -> KerasTensor:
    """Probability map (B, H, W, 1) of the second of two classes, float32."""
    softmax = keras.layers.Softmax(dtype="float32", name=f"{task}_softmax")
    return softmax(logits)[..., 1:]


def build_jdl(
    preset: str, image_size: tuple[int, int], dropout: float = 0.0
) -> keras.Model:
    """Joint deep learning: the myocardium's map masks the image of the scar network.

    Args:
        preset: size of both TransUNets, see `jdl_keras.models.presets`.
        image_size: (H, W), multiples of 16.
        dropout: rate in both transformers.

    Returns:
        A model from (B, H, W, 1) in [0, 1] to `{"myocardium", "scar"}`, probability
        maps (B, H, W, 1). The sub-models are `myocardium_network`, `scar_network`.
    """
    # === Layers ===
    myocardium_network, scar_network = (
        build_transunet(preset, image_size, dropout=dropout, name=f"{task}_network")
        for task in ("myocardium", "scar")
    )

    # === Functional Model ===
    image = keras.Input((*image_size, 1), name="image")
    myocardium = foreground(myocardium_network(image), "myocardium")
    message = pass_message(image, myocardium)
    scar = foreground(scar_network(message), "scar")
    return keras.Model(image, {"myocardium": myocardium, "scar": scar}, name="jdl")


METHODS = {"jdl": build_jdl}


def build_network(config: Config) -> keras.Model:
    """The network of a run, with random weights."""
    build = METHODS[config.method]
    return build(config.model.preset, config.grid.size, config.model.dropout)
