"""NIfTI volumes with label maps or binary masks, paired by their names.

Two headers say where a voxel lies, and `pixdim` says its size a third time. Where they
contradict each other, the file cannot be trusted until the settings say which is right.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from nibabel import orientations

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.geometry import RAS_TO_LPS, same_grid
from tfrecords_tools.nifti_files import Volume, read_volume
from tfrecords_tools.sources.config import NiftiConfig
from tfrecords_tools.sources.labelled import tissues
from tfrecords_tools.sources.pairing import (
    Files,
    PairedStudy,
    check_inside,
    find_pairs,
)
from tfrecords_tools.sources.source import Source
from tfrecords_tools.sources.volume_study import make_study
from tfrecords_tools.study import Study

SOURCE = "nifti"


@dataclasses.dataclass(frozen=True, eq=False)
class _Grid:
    """An array (x, y, z) and the affine (4, 4) that maps its indices to RAS."""

    voxels: np.ndarray
    affine: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledVolume:
    """A volume as it lies in its file, first slice first.

    Attributes:
        pixels: (S, H, W) of the file that gave the grid.
        label_map: (S, H, W) uint8 of `Tissue`.
        affine: (4, 4), see `tfrecords_tools.geometry`.
        file_affine: (4, 4) from the indices of the file to LPS.
        warnings: what was accepted.
    """

    pixels: np.ndarray
    label_map: np.ndarray
    affine: np.ndarray
    file_affine: np.ndarray
    warnings: tuple[str, ...]


def source(folder: Path, config: NiftiConfig, key: bytes) -> Source:
    """The studies that the patterns of `config` find under `folder`.

    Raises:
        RefusedError: `NO_STUDIES`.
    """
    return paired_source(SOURCE, folder, config, key, private=True)


def paired_source(
    name: str, folder: Path, config: NiftiConfig, key: bytes, private: bool
) -> Source:
    """The same for a data set of another name and privacy."""
    pairs, left_out = find_pairs(
        folder, config.images, config.reference_patterns, key, config.unlabelled
    )
    return Source(
        name=name,
        items=list(pairs.values()),
        read=partial(read, name=name, folder=folder, config=config),
        settings=config.settings(),
        left_out=left_out,
        private=private,
    )


def read(item: PairedStudy, name: str, folder: Path, config: NiftiConfig) -> Study:
    """Reads one study.

    Args:
        item: the files.
        name: of the source.
        folder: the input, which links must not leave.
        config: how they are understood.

    Raises:
        RefusedError: of the image or of the reference at fault.
    """
    check_inside(folder, item.files)
    masks = [_only(files) for files in item.references]
    found = read_labelled(_only(item.images), masks, config)
    volume = (found.pixels, found.label_map, found.affine)
    return make_study(item, name, config, *volume, found.warnings)


def read_labelled(
    image: Path, references: Sequence[Path], config: NiftiConfig
) -> LabelledVolume:
    """A volume and what is labelled in it.

    Args:
        image: whose grid counts; where there is no image, one of the references.
        references: one file for each of `config.reference_patterns`, or none.
        config: how they are understood.

    Raises:
        RefusedError: of the image or of the reference at fault.
    """
    grid = _grid(image, read_volume(image), config)
    arrays = (_laid_on(grid, path, config) for path in references)
    labels, warnings = tissues(config, references, arrays, grid.voxels.shape)
    axes = _stack_axes(image, grid, config.slice_axis)
    to_lps = RAS_TO_LPS @ grid.affine
    return LabelledVolume(
        pixels=grid.voxels.transpose(axes),
        label_map=labels.transpose(axes),
        affine=to_lps[:, [axes[1], axes[2], axes[0], 3]],
        file_affine=to_lps,
        warnings=tuple(warnings),
    )


def _only(files: Files) -> Path:
    if len(files) > 1:
        reason = f"{len(files)} files of this study match one pattern"
        raise RefusedError(files[0][1], "DUP_STUDY", reason)
    return files[0][1]


def _grid(path: Path, volume: Volume, config: NiftiConfig) -> _Grid:
    """The volume with the one affine that its headers and the settings leave."""
    sform = _sized(path, volume.affine, volume.voxel_size_mm, config)
    if volume.qform is None or config.orientation == "sform":
        return _Grid(volume.voxels, sform)
    qform = _sized(path, volume.qform, volume.voxel_size_mm, config)
    if config.orientation == "agree" and not same_grid(
        sform, qform, volume.voxels.shape
    ):
        reason = "sform and qform differ; `orientation` tells the source nifti which "
        reason += "is right"
        raise RefusedError(path, "GEOMETRY_MISMATCH", reason)
    return _Grid(volume.voxels, sform if config.orientation == "agree" else qform)


def _sized(
    path: Path, affine: np.ndarray, voxel_size_mm: np.ndarray, config: NiftiConfig
) -> np.ndarray:
    """The affine with the steps that the rule of `spacing` says are right."""
    with np.errstate(all="ignore"):  # a length of 0 makes NaN, refused below
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        axes = affine[:3, :3] / lengths
        cosines = np.abs(axes.T @ axes - np.eye(3))
    if not (np.isfinite(affine).all() and (cosines < 0.01).all()):
        reason = "the affine is not finite, or its axes are not perpendicular"
        raise RefusedError(path, "BAD_GEOMETRY", reason)
    if config.spacing == "agree" and not np.allclose(lengths, voxel_size_mm, rtol=1e-3):
        reason = (
            f"voxels of {_text(voxel_size_mm)} mm in pixdim, {_text(lengths)} mm in "
            "the affine; `spacing` tells the source nifti which is right"
        )
        raise RefusedError(path, "GEOMETRY_MISMATCH", reason)
    if config.spacing == "pixdim":
        affine = affine.copy()
        affine[:3, :3] = axes * voxel_size_mm
    return affine


def _text(sizes_mm: np.ndarray) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes_mm)


def _laid_on(image: _Grid, path: Path, config: NiftiConfig) -> np.ndarray:
    """A reference's voxels in the order of the image's.

    Tools save masks with axes in another order or direction. The headers of both say
    exactly which voxel is which, so that is undone; nothing is ever interpolated.
    """
    mask = _grid(path, read_volume(path), config)
    shape, expected = mask.voxels.shape, image.voxels.shape
    if sorted(shape) != sorted(expected):
        reason = f"reference and image: {shape} against {expected}"
        raise RefusedError(path, "SHAPE_MISMATCH", reason)
    order = orientations.io_orientation(np.linalg.solve(image.affine, mask.affine))
    voxels = orientations.apply_orientation(mask.voxels, order)
    affine = mask.affine @ orientations.inv_ornt_aff(order, shape)
    if voxels.shape != expected or not same_grid(image.affine, affine, expected):
        reason = "not the geometry of the image; save it on the image's grid"
        raise RefusedError(path, "GEOMETRY_MISMATCH", reason)
    return voxels


def _stack_axes(path: Path, image: _Grid, slice_axis: int) -> tuple[int, int, int]:
    """Axes of the array that are slices, rows and columns."""
    columns, rows = (axis for axis in range(3) if axis != slice_axis - 1)
    steps = np.linalg.norm(image.affine[:3, [rows, columns]], axis=0)
    if steps.max() > 2 * steps.min():
        reason = (
            f"pixels of {_text(steps)} mm across axis {slice_axis}: no slice is so; "
            "`slice_axis` tells the source nifti which axis counts slices"
        )
        raise RefusedError(path, "BAD_GEOMETRY", reason)
    return slice_axis - 1, rows, columns
