"""Label volumes: NIfTI and NRRD by their values, .seg.nrrd by its segment names."""

import re
from pathlib import Path

import numpy as np

from tfrecords_tools import nifti_files
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.geometry import RAS_TO_LPS, same_grid
from tfrecords_tools.nifti_files import Placed, read_volume
from tfrecords_tools.references import nrrd_files
from tfrecords_tools.references.config import ReferenceConfig, Structure
from tfrecords_tools.references.grids import lay_whole
from tfrecords_tools.references.nrrd_files import NrrdVolume, read_nrrd
from tfrecords_tools.references.painting import paint_volume, tasks_of
from tfrecords_tools.references.reference_file import ReferenceFile
from tfrecords_tools.stack import Grid, Reference, Stack

_MAX_VALUES = 64
"""Different values or segments; more are an image."""


_SAMPLE = 20_000
"""Voxels; an image of few values among so many would be no picture of anything."""


def describe_nifti(path: Path) -> ReferenceFile:
    """Where a NIfTI file says that it lies.

    Raises:
        RefusedError: what `nifti_files.read_place` refuses, or `GEOMETRY_MISMATCH`.
    """
    grid = _grid(path, nifti_files.read_place(path))
    return ReferenceFile("nifti", (path,), grid=grid)


def describe_nrrd(path: Path) -> ReferenceFile:
    """Where an NRRD file says that it lies.

    Raises:
        RefusedError: what `nrrd_files.read_place` refuses.
    """
    return ReferenceFile("nrrd", (path,), grid=Grid(*nrrd_files.read_place(path)))


def read_nifti(file: ReferenceFile, stack: Stack, config: ReferenceConfig) -> Reference:
    """The reference in a NIfTI label map on the grid of `stack`.

    Raises:
        RefusedError: what `read_volume` refuses; `GEOMETRY_MISMATCH` or `LABELS`.
    """
    path = file.path
    volume = read_volume(path)
    voxels = lay_whole(path, volume.voxels, _grid(path, volume).affine, stack.grid)
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
    grid = stack.grid
    layers = [lay_whole(path, one, volume.affine, grid) for one in volume.layers]
    numbers = _segments(volume)
    if not numbers:
        if len(layers) > 1:
            raise RefusedError(path, "LABELS", "layers without a table of segments")
        return _by_values(path, layers[0], config)
    return _by_segments(path, layers, volume, numbers[:_MAX_VALUES], config)


def is_image(file: ReferenceFile) -> bool:
    """Whether a volume has more values than labels have, as far as a sample shows.

    Raises:
        RefusedError: what reading it refuses.
    """
    if file.kind == "nifti":
        voxels = read_volume(file.path).voxels
    else:
        volume = read_nrrd(file.path)
        if _segments(volume):
            return False
        voxels = volume.layers
    return (
        len(np.unique(voxels.ravel("K")[:: 1 + voxels.size // _SAMPLE])) > _MAX_VALUES
    )


def _grid(path: Path, placed: Placed) -> Grid:
    """The one grid that the headers of a NIfTI file agree on."""
    lengths = np.linalg.norm(placed.affine[:3, :3], axis=0)
    if not np.allclose(lengths, placed.voxel_size_mm, rtol=1e-3):
        reason = "affine and pixdim state different voxel sizes; none can be trusted"
        raise RefusedError(path, "GEOMETRY_MISMATCH", reason)
    qform, affine, shape = placed.qform, placed.affine, placed.shape
    # In this order: a qform always spans a space.
    if qform is not None and not same_grid(qform, affine, shape):
        reason = "sform and qform state different places; none can be trusted"
        raise RefusedError(path, "GEOMETRY_MISMATCH", reason)
    return Grid(shape, RAS_TO_LPS @ affine)


def _segments(volume: NrrdVolume) -> list[int]:
    names = (re.fullmatch(r"Segment(\d{1,4})_Name", key) for key in volume.keys)
    return sorted(int(name[1]) for name in names if name)


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
