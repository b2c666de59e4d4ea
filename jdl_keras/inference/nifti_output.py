"""Volumes of a study as NIfTI, voxel for voxel on the grid of the input."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
from nibabel import orientations

from jdl_keras.evaluation.masks import nifti_affine
from tfrecords_tools.files import whole_file


def write_volume(
    path: Path, volume: np.ndarray, affine: np.ndarray, like: Path | None = None
) -> None:
    """Writes a volume, whole or not at all.

    The header is made afresh and says nothing but the geometry.

    Args:
        path: a name that ends in .nii.gz.
        volume: (S, H, W), of uint8 or float32.
        affine: (4, 4) of the study, see `tfrecords_tools.geometry`.
        like: the NIfTI file that the image came from: then array, affine and codes are
            in its order. Else the order is (column, row, slice), base first.
    """
    voxels, to_ras = volume.transpose(2, 1, 0), nifti_affine(affine)
    image = nibabel.Nifti1Image(voxels, to_ras)
    if like:
        image = _in_order_of(like, voxels, to_ras)
    image.header.set_xyzt_units("mm")
    with whole_file(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), mtime=0))


def _in_order_of(
    like: Path, voxels: np.ndarray, to_ras: np.ndarray
) -> nibabel.Nifti1Image:
    """The voxels with their axes turned as in another file, whose headers it gets."""
    header = nibabel.Nifti1Image.from_filename(like).header
    grid = header.get_best_affine()
    order = orientations.io_orientation(np.linalg.solve(grid, to_ras))
    image = nibabel.Nifti1Image(orientations.apply_orientation(voxels, order), grid)
    image.set_sform(header.get_sform(), int(header["sform_code"]))
    image.set_qform(header.get_qform(), int(header["qform_code"]))
    return image
