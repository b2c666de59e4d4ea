"""Label volumes: NIfTI and NRRD by their values, .seg.nrrd by its segment names."""

import re
from pathlib import Path

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.geometry import RAS_TO_LPS, same_grid
from tfrecords_tools.nifti_files import read_volume
from tfrecords_tools.references.config import ReferenceConfig, Structure
from tfrecords_tools.references.grids import lay_whole
from tfrecords_tools.references.nrrd_files import NrrdVolume, read_nrrd
from tfrecords_tools.references.painting import paint_volume, tasks_of
from tfrecords_tools.references.reference_file import ReferenceFile
from tfrecords_tools.stack import Reference, Stack

_MAX_VALUES = 64
"""Different values or segments; more are an image."""


def read_nifti(file: ReferenceFile, stack: Stack, config: ReferenceConfig) -> Reference:
    """The reference in a NIfTI label map on the grid of `stack`.

    Raises:
        RefusedError: what `read_volume` refuses; `GEOMETRY_MISMATCH` or `LABELS`.
    """
    path = file.path
    volume = read_volume(path)
    lengths = np.linalg.norm(volume.affine[:3, :3], axis=0)
    if not np.allclose(lengths, volume.voxel_size_mm, rtol=1e-3):
        reason = "affine and pixdim state different voxel sizes; none can be trusted"
        raise RefusedError(path, "GEOMETRY_MISMATCH", reason)
    qform, shape = volume.qform, volume.voxels.shape
    # In this order: a qform always spans a space.
    if qform is not None and not same_grid(qform, volume.affine, shape):
        reason = "sform and qform state different places; none can be trusted"
        raise RefusedError(path, "GEOMETRY_MISMATCH", reason)
    voxels = lay_whole(path, volume.voxels, RAS_TO_LPS @ volume.affine, stack)
    return _by_values(path, voxels, config)


def read_nrrd_labels(
    file: ReferenceFile, stack: Stack, config: ReferenceConfig
) -> Reference:
    """The reference in an NRRD volume on the grid of `stack`.

    Raises:
        RefusedError: what `read_nrrd` refuses; `GEOMETRY_MISMATCH` or `LABELS`.
    """
    path = file.path
    volume = read_nrrd(path)
    layers = [lay_whole(path, one, volume.affine, stack) for one in volume.layers]
    numbers = sorted(
        int(key[7:-5])
        for key in volume.keys
        if re.fullmatch(r"Segment\d{1,4}_Name", key)
    )
    if not numbers:
        if len(layers) > 1:
            raise RefusedError(path, "LABELS", "layers without a table of segments")
        return _by_values(path, layers[0], config)
    return _by_segments(path, layers, volume, numbers[:_MAX_VALUES], config)


def _by_values(path: Path, voxels: np.ndarray, config: ReferenceConfig) -> Reference:
    values = np.unique(voxels)
    whole = np.isfinite(values).all() and (values == np.rint(values)).all()
    if not whole or len(values) > _MAX_VALUES:
        reason = "values not whole or too many: an image, not labels"
        raise RefusedError(path, "UNSUPPORTED", reason)
    masks = {Structure.IGNORED: voxels == 0}
    for value in values[values != 0]:
        structure = config.structure_of_value(path, int(value))
        masks[structure] = masks.get(structure, False) | (voxels == value)
    return paint_volume(path, masks, frozenset(config.tasks))


def _by_segments(
    path: Path,
    layers: list[np.ndarray],
    volume: NrrdVolume,
    numbers: list[int],
    config: ReferenceConfig,
) -> Reference:
    masks: dict[Structure, np.ndarray] = {}
    known: list[set[int]] = [{0} for _ in layers]
    for number in numbers:
        structure = _structure(path, volume.keys, number, config)
        try:
            layer = int(volume.keys.get(f"Segment{number}_Layer", 0))
            value = int(volume.keys[f"Segment{number}_LabelValue"])
            mask = layers[layer] == value
            known[layer].add(value)
        except (KeyError, ValueError, IndexError, OverflowError):
            reason = f"segment {number} has no LabelValue or no such layer"
            raise RefusedError(path, "LABELS", reason) from None
        masks[structure] = masks.get(structure, False) | mask
    for voxels, expected in zip(layers, known, strict=True):
        if not np.isin(voxels, list(expected)).all():
            raise RefusedError(path, "LABELS", "voxels of no segment of the table")
    return paint_volume(path, masks, tasks_of(masks))


def _structure(
    path: Path, keys: dict[str, str], number: int, config: ReferenceConfig
) -> Structure:
    """By name, else by the type code in the terminology entry of 3D Slicer."""
    entry = re.search(
        r"TerminologyEntry:([^|]*)", keys.get(f"Segment{number}_Tags", "")
    )
    parts = entry[1].split("~") if entry else []
    code = ":".join(parts[2].split("^")[:2]) if len(parts) > 2 else ""
    return config.structure(path, keys[f"Segment{number}_Name"], code)
