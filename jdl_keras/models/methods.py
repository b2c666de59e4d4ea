"""The four methods: how TransUNets of the tasks are wired together.

Source of `direct`, `two_step`, `multi_task` and `jdl`: Xing et al. 2023, section 3. All
of them map an image (B, H, W, 1) in [0, 1] to a dict of probability maps (B, H, W, 1)
by task; `direct` has no "myocardium".
"""

import keras
from keras import KerasTensor

from jdl_keras.config import Config
from jdl_keras.models.message_passing import (
    hardened,
    mask_of,
    pass_message,
    remote_deviations,
)
from jdl_keras.models.transunet import build_decoder, build_encoder, build_transunet


def foreground(logits: KerasTensor, task: str) -> KerasTensor:
    """Probability map (B, H, W, 1) of the second of two classes, float32.

    The softmax of two classes is the sigmoid of their difference, and cheaper.
    """
    difference = logits[..., 1:] - logits[..., :1]
    sigmoid = keras.layers.Activation("sigmoid", dtype="float32", name=f"{task}_map")
    return sigmoid(difference)


def transunet(config: Config, name: str, **options: int | bool) -> keras.Model:
    """A TransUNet of the configured size; `options` as in `build_transunet`."""
    model = config.model
    return build_transunet(
        model.preset, config.grid.size, dropout=model.dropout, name=name, **options
    )


def build_direct(config: Config) -> keras.Model:
    """Image to scar."""
    image = keras.Input((*config.grid.size, 1), name="image")
    scar = foreground(transunet(config, "scar_network")(image), "scar")
    return keras.Model(image, {"scar": scar}, name="direct")


def build_two_step(config: Config) -> keras.Model:
    """Image to myocardium; image masked by the thresholded myocardium to scar.

    `training_network` masks by the reference instead.
    """
    image = keras.Input((*config.grid.size, 1), name="image")
    myocardium_network = transunet(config, "myocardium_network")
    myocardium = foreground(myocardium_network(image), "myocardium")
    message = pass_message(image, hardened(myocardium))
    scar = foreground(transunet(config, "scar_network")(message), "scar")
    return keras.Model(image, {"myocardium": myocardium, "scar": scar}, name="two_step")


def build_multi_task(config: Config) -> keras.Model:
    """One encoder, a decoder for each task."""
    model = config.model
    image = keras.Input((*config.grid.size, 1), name="image")
    encoder = build_encoder(model.preset, config.grid.size, model.dropout)
    encoded = encoder(image)
    maps = {}
    for task in ("myocardium", "scar"):
        decoder = build_decoder(model.preset, encoder, name=f"{task}_decoder")
        maps[task] = foreground(decoder(encoded), task)
    return keras.Model(image, maps, name="multi_task")


def build_jdl(config: Config) -> keras.Model:
    """Joint deep learning: the myocardium's map masks the image of the scar network.

    With the default message this is the paper's model; see `MessageConfig` for others.
    """
    message, size = config.message, config.grid.size
    image = keras.Input((*size, 1), name="image")
    if config.model.share_weights:
        myocardium_network = scar_network = transunet(config, "shared_network")
    else:
        options = {"product": {}, "features": {"with_gate": True}}
        options = options.get(message.form, {"channels": 3})
        myocardium_network = transunet(config, "myocardium_network")
        scar_network = transunet(config, "scar_network", **options)
    myocardium = foreground(myocardium_network(image), "myocardium")
    mask = mask_of(myocardium, message, config.grid.spacing_mm)
    scar = foreground(scar_network(compose(image, mask, message.form)), "scar")
    if message.conditional:
        inside = keras.layers.Multiply(dtype="float32", name="scar_in_myocardium")
        scar = inside([scar, mask])
    return keras.Model(image, {"myocardium": myocardium, "scar": scar}, name="jdl")


def compose(
    image: KerasTensor, mask: KerasTensor, form: str
) -> KerasTensor | list[KerasTensor]:
    """What the scar network sees, see `MessageConfig.form`."""
    if form == "features":
        return [image, mask]
    product = pass_message(image, mask)
    if form == "product":
        return product
    if form == "standardised":
        product = remote_deviations(image, mask) * mask
    return keras.layers.Concatenate(name="channels")([image, mask, product])


METHODS = {
    "direct": build_direct,
    "two_step": build_two_step,
    "multi_task": build_multi_task,
    "jdl": build_jdl,
}


def build_network(config: Config) -> keras.Model:
    """The network of a run, with random weights."""
    return METHODS[config.method](config)


def training_network(network: keras.Model) -> keras.Model:
    """The network as it is trained, over the same weights.

    Returns:
        A model from a list of the image and the myocardium's reference, (B, H, W, 1)
        both, to the maps. Only `two_step` looks at the reference: its scar network
        learns from images masked by it, and no gradient reaches its other network.
    """
    image = keras.Input(network.input_shape[1:], name="image")
    reference = keras.Input(network.input_shape[1:], name="reference")
    if network.name != "two_step":
        return keras.Model([image, reference], network(image))
    networks = {t: network.get_layer(f"{t}_network") for t in network.output}
    maps = {
        "myocardium": foreground(networks["myocardium"](image), "myocardium"),
        "scar": foreground(networks["scar"](pass_message(image, reference)), "scar"),
    }
    return keras.Model([image, reference], maps)


def parts(network: keras.Model) -> dict[str, keras.Model]:
    """The networks, encoders and decoders that hold the weights, by name."""
    models = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    return {model.name: model for model in models}
