"""Where a run starts: its network and its learning rate, on any backend."""

from pathlib import Path

import keras

from jdl_keras.config import Config, OptimizerConfig
from jdl_keras.models.methods import build_network, parts
from jdl_keras.models.pretrained import load_npz
from jdl_keras.run_folder import RunFolder


def starting_network(config: Config) -> keras.Model:
    """The network with random weights, or those of a run or a file.

    Raises:
        RefusedError: if the weights are not of this network.
    """
    network = build_network(config)
    if config.model.initial_weights:
        RunFolder(Path(config.model.initial_weights)).load_weights(network)
    if config.model.pretrained:
        for name, part in parts(network).items():
            if not name.endswith("decoder"):
                load_npz(part, config.model.pretrained)
    return network


def learning_rate(
    config: OptimizerConfig, updates: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """What an optimizer takes as its rate, for a run of so many updates."""
    rate = config.learning_rate
    if config.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(rate, updates)
    return rate
