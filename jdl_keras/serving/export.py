"""From a trained run to a version that servers load."""

import dataclasses
import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from jdl_keras.config import Config
from jdl_keras.inference.calibration import read_calibration
from jdl_keras.inference.mask_rule import MaskRule
from jdl_keras.preprocessing import Grid
from jdl_keras.run_folder import RunFolder, checksum_file, versions
from jdl_keras.serving.lean import lean
from jdl_keras.serving.model_card import INPUTS, OUTPUTS, ModelCard, write_card
from jdl_keras.serving.signatures import ServedFunctions, Signatures, input_specs
from jdl_keras.serving.warmup import write_warmup
from tfrecords_tools import files
from tfrecords_tools.errors import RefusedError


def export_run(
    run: Path,
    out: Path,
    version: int | None = None,
    precision: str = "float32",
    onnx: bool = False,
) -> Path:
    """Writes a version of a served model; it is there whole or not at all.

    Until then its name is no number, so that no server takes it for a version.

    Args:
        run: folder of a trained run.
        out: folder of the model, with a folder for each version.
        version: its number; None for the next free one.
        precision: the Keras dtype policy of the networks' graph.
        onnx: whether to write the networks as ONNX too; needs tf2onnx.

    Returns:
        The folder of the version.

    Raises:
        RefusedError: if the run cannot be served, or has this version already.
        OSError: if the system refuses.
    """
    folder = RunFolder(run)
    config = folder.load_config()
    if config.grid.centre == "reference":
        reason = "its crop needs a reference; train with --grid.centre localiser"
        raise RefusedError(run, "CONFIG", reason)
    out.mkdir(parents=True, exist_ok=True)
    with files.locked(out):
        for stale in out.glob(".tmp-*"):  # of one that was killed
            shutil.rmtree(stale)
        target = out / str(_free_version(out, version))
        _export(folder, config, target, precision, onnx)
    return target


def _export(
    folder: RunFolder, config: Config, target: Path, precision: str, onnx: bool
) -> None:
    network = folder.load_network(precision)
    localiser = folder.load_localiser() if config.grid.centre == "localiser" else None
    networks = [network, *([localiser.network] if localiser else [])]
    grid, lean_network = Grid.from_config(config.grid), lean(network)
    rotations = config.evaluation.rotations
    functions = ServedFunctions(lean_network, grid, localiser, rotations)
    with _version_folder(target) as version_folder:
        signatures = functions.signatures()
        save(signatures, version_folder)
        write_warmup(version_folder, signatures)
        if onnx:
            from jdl_keras.serving.onnx_export import write_onnx

            write_onnx(lean_network, grid, version_folder / "networks.onnx")
        card = _card(folder, config, int(target.name), networks, signatures)
        write_card(version_folder, card)


def version_numbers(out: Path) -> list[int]:
    """The versions of a served model, ascending."""
    names = (path.name for path in out.iterdir() if path.is_dir())
    return sorted(int(name) for name in names if name.isdecimal())


def _free_version(out: Path, version: int | None) -> int:
    if version is None:
        return max(version_numbers(out), default=0) + 1
    if (out / str(version)).exists():
        reason = "this version exists, and servers may have it; give another --version"
        raise RefusedError(out / str(version), "EXISTS", reason)
    return version


@contextmanager
def _version_folder(path: Path) -> Iterator[Path]:
    """`files.whole_folder`; TensorFlow's own errors become those of the system."""
    try:
        with files.whole_folder(path) as folder:
            yield folder
    except tf.errors.OpError as error:
        reason = error.message.splitlines()[0]
        raise OSError(errno.EIO, reason, str(path)) from None


def save(signatures: Signatures, folder: Path) -> None:
    """Writes a SavedModel of these functions, and of the weights that they use."""
    module = tf.Module()
    used = {v.ref(): v for one in signatures.values() for v in one.graph.variables}
    module.weights = [*used.values()]
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _card(
    folder: RunFolder,
    config: Config,
    version: int,
    networks: list[keras.Model],
    signatures: Signatures,
) -> ModelCard:
    calibrated = folder.calibration.is_file()
    used = _names(signatures)
    names = {name for both in used.values() for one in both.values() for name in one}
    return ModelCard(
        version=version,
        package_version=versions().get("jdl-keras", "not installed"),
        method=config.method,
        preset=config.model.preset,
        message=dataclasses.asdict(config.message),
        precision=networks[0].dtype_policy.name,
        parameters=sum(network.count_params() for network in networks),
        grid=dataclasses.asdict(config.grid),
        rotations=config.evaluation.rotations,
        signatures=used,
        inputs={name: told for name, told in INPUTS.items() if name in names},
        outputs={name: told for name, told in OUTPUTS.items() if name in names},
        mask_rule=MaskRule.of_run(folder, config.evaluation),
        calibration=read_calibration(folder.calibration) if calibrated else None,
        metrics=_metrics(folder),
        weights_sha256=checksum_file(folder.model).read_text().split()[0],
        record_set_sha256=folder.record_set_sha256(),
        files={},
    )


def _names(signatures: Signatures) -> dict:
    return {
        name: {
            "inputs": [*input_specs(signature)],
            "outputs": [*signature.structured_outputs],
        }
        for name, signature in signatures.items()
    }


def _metrics(folder: RunFolder) -> dict:
    """The summaries of all splits that were measured but the training split."""
    paths = {split: folder.evaluation(split) for split in ("validation", "test")}
    return {
        split: json.loads((path / "summary.json").read_bytes())
        for split, path in paths.items()
        if (path / "summary.json").is_file()
    }
