"""The run folder: what `train` leaves behind and every other command reads."""

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
import subprocess
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jdl_keras.config import Config
from jdl_keras.config_file import read_config, write_config
from jdl_keras.data.centring import image_middle, reference_centre
from tfrecords_tools import files
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.study import Study

if TYPE_CHECKING:
    import keras

    from jdl_keras.models.localiser import Localiser

Locate = Callable[[Study], tuple[float, float]]
"""From a study to the native (row, column) on which its crop is centred."""

PACKAGES = ("keras", "keras-hub", "numpy", "jdl-keras")
"""Beside the backend, which is a package of its name."""


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
    localiser = property(lambda self: self.path / "localiser.keras")
    operating_point = property(lambda self: self.path / "operating_point.json")
    calibration = property(lambda self: self.path / "calibration.json")

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
        _save(network, self.model)

    def save_localiser(self, network: "keras.Model") -> None:
        """Replaces `localiser.keras`, and the checksum beside it."""
        _save(network, self.localiser)

    def load_config(self) -> Config:
        """The configuration of the run.

        Raises:
            RefusedError: if this is not the folder of a run.
        """
        if not self.config.is_file():
            reason = "no config.yaml here; give the folder that train printed"
            raise RefusedError(self.path, "NOT_A_RUN", reason)
        return read_config(self.config)

    def record_set_sha256(self) -> str:
        """Checksum of the record set that the run was trained on."""
        return json.loads(self.environment.read_text())["record_set_sha256"]

    def load_network(self, precision: str = "float32") -> "keras.Model":
        """The best network: built by our code, then given the verified weights.

        Args:
            precision: the Keras dtype policy in which it computes, whatever it was
                trained in, so that all commands find the same masks.

        Raises:
            RefusedError: if `model.keras` is missing or not what was written.
        """
        import keras

        from jdl_keras.models.methods import build_network

        keras.config.set_dtype_policy(precision)
        network = build_network(self.load_config())
        keras.config.set_dtype_policy("float32")
        self.load_weights(network)
        return network

    def load_weights(self, network: "keras.Model") -> None:
        """Gives the weights of the best network to one that is wired like it.

        Raises:
            RefusedError: if `model.keras` is missing, damaged or of other networks.
        """
        _load(network, self.model)

    def locate(self, centre: str) -> Locate:
        """How the centre of a study's crop is found, see `config.GridConfig.centre`."""
        if centre == "localiser":
            return self.load_localiser().study_centre
        return {"image": image_middle, "reference": reference_centre}[centre]

    def load_localiser(self) -> "Localiser":
        """The localiser of the run.

        Raises:
            RefusedError: if `localiser.keras` is missing or not what was written.
        """
        import keras

        from jdl_keras.models.localiser import Localiser, build_localiser
        from jdl_keras.preprocessing import Grid

        config = self.load_config().localiser
        keras.config.set_dtype_policy("float32")
        network = build_localiser(config)
        _load(network, self.localiser)
        return Localiser(network, Grid(config.size, config.spacing_mm))


def checksum_file(path: Path) -> Path:
    """The file beside a network that holds its SHA-256."""
    return path.with_name(f"{path.name}.sha256")


def _save(network: "keras.Model", path: Path) -> None:
    with files.whole_file(path, suffix=".keras") as temporary:
        network.save(temporary)
        checksum = files.sha256(temporary)
    files.write_text(checksum_file(path), f"{checksum}  {path.name}\n")


def _load(network: "keras.Model", path: Path) -> None:
    if not path.is_file() or not checksum_file(path).is_file():
        reason = "no trained network yet; finish the training of this run"
        raise RefusedError(path, "NOT_A_FILE", reason)
    checksum = checksum_file(path).read_bytes().partition(b" ")[0]
    if files.sha256(path).encode() != checksum:
        reason = f"its checksum is not that of {path.name}.sha256; train again"
        raise RefusedError(path, "CORRUPT", reason)
    try:
        with warnings.catch_warnings(), _unpacked(path) as weights:
            # Keras only warns where it leaves a layer with random weights.
            warnings.simplefilter("error", UserWarning)
            network.load_weights(weights)
    except (ValueError, KeyError, zipfile.BadZipFile, UserWarning):
        reason = "not the network of this configuration (method, model, grid.size)"
        raise RefusedError(path, "SHAPE_MISMATCH", reason) from None


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The weights in a `.keras` file, for as long as they are read.

    Keras would seek in the archive, and read it from its start at every step back:
    minutes for the largest networks.
    """
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        yield Path(archive.extract("model.weights.h5", folder))


def versions() -> dict[str, str]:
    """The active backend, and installed versions of what decides the bits of a run."""
    import keras

    backend = keras.config.backend()
    found = {"keras_backend": backend}
    for package in (backend, *PACKAGES):
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
    """What the active backend computes on."""
    import keras

    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return [f"{one.platform}:{one.id} {one.device_kind}" for one in jax.devices()]
    if backend == "torch":
        from torch import cuda

        names = map(cuda.get_device_name, range(cuda.device_count()))
        return [f"cuda:{i} {name}" for i, name in enumerate(names)] or ["cpu"]
    import tensorflow as tf

    return [device.name for device in tf.config.list_logical_devices()]
