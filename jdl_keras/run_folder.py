"""The run folder: what `train` leaves behind and every other command reads."""

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from jdl_keras.config import Config
from jdl_keras.config_file import read_config, write_config
from tfrecords_tools import files
from tfrecords_tools.errors import RefusedError

if TYPE_CHECKING:
    import keras

PACKAGES = ("tensorflow", "keras", "keras-hub", "numpy", "jdl-keras")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Names in the folder of a run."""

    path: Path

    config = property(lambda self: self.path / "config.yaml")
    environment = property(lambda self: self.path / "environment.json")
    history = property(lambda self: self.path / "history.csv")
    checkpoints = property(lambda self: self.path / "checkpoints")
    tensorboard = property(lambda self: self.path / "tensorboard")
    model = property(lambda self: self.path / "model.keras")
    model_checksum = property(lambda self: self.path / "model.keras.sha256")

    def evaluation(self, split: str) -> Path:
        """Folder of the evaluation of a split."""
        return self.path / "evaluation" / split

    def describe(self, config: Config, record_set_sha256: str) -> None:
        """Writes `config.yaml` and `environment.json`."""
        write_config(config, self.config)
        environment = {
            **versions(),
            "python": platform.python_version(),
            "commit": _commit(),
            "record_set_sha256": record_set_sha256,
            "devices": _devices(),
        }
        files.write_text(self.environment, json.dumps(environment, indent=1) + "\n")

    def save_network(self, network: "keras.Model") -> None:
        """Replaces `model.keras`, and the checksum beside it."""
        with files.whole_file(self.model, suffix=".keras") as temporary:
            network.save(temporary)
            checksum = files.sha256(temporary)
        files.write_text(self.model_checksum, f"{checksum}  {self.model.name}\n")

    def load_config(self) -> Config:
        """The configuration of the run.

        Raises:
            RefusedError: if this is not the folder of a run.
        """
        if not self.config.is_file():
            reason = "no config.yaml here; give the folder that train printed"
            raise RefusedError(self.path, "NOT_A_RUN", reason)
        return read_config(self.config)

    def load_network(self) -> "keras.Model":
        """The best network: built by our code, then given the verified weights.

        Raises:
            RefusedError: if `model.keras` is missing or not what was written.
        """
        import keras

        from jdl_keras.models.methods import build_network

        if not self.model.is_file() or not self.model_checksum.is_file():
            reason = "no trained network yet; finish the training of this run"
            raise RefusedError(self.model, "NOT_A_FILE", reason)
        checksum = self.model_checksum.read_bytes().partition(b" ")[0]
        if files.sha256(self.model).encode() != checksum:
            reason = "its checksum is not that of model.keras.sha256; train again"
            raise RefusedError(self.model, "CORRUPT", reason)
        # Whatever it was trained in, so that all commands find the same masks.
        keras.config.set_dtype_policy("float32")
        network = build_network(self.load_config())
        try:
            with warnings.catch_warnings():
                # Keras only warns where it leaves a layer with random weights.
                warnings.simplefilter("error", UserWarning)
                network.load_weights(self.model)
        except (ValueError, UserWarning):
            reason = "not the network of config.yaml, which has been changed"
            raise RefusedError(self.model, "SHAPE_MISMATCH", reason) from None
        return network


def versions() -> dict[str, str]:
    """Installed versions of what decides the bits of a run."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _commit() -> str | None:
    """The commit of the source tree, if it is one."""
    with contextlib.suppress(OSError):
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() or None
    return None


def _devices() -> list[str]:
    import tensorflow as tf

    return [device.name for device in tf.config.list_logical_devices()]
