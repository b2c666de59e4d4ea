"""Predicted masks as NIfTI files, for viewers and for anyone who measures again."""

import gzip
from pathlib import Path

import nibabel
import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import safe_name, whole_file
from tfrecords_tools.geometry import RAS_TO_LPS
from tfrecords_tools.nifti_files import read_volume
from tfrecords_tools.study import Study


def mask_path(folder: Path, study: Study, task: str) -> Path:
    """Where the mask of a study and task lies: `PATIENT-STUDY-TASK.nii.gz`.

    Raises:
        ValueError: if a key would lead out of the folder.
    """
    name = safe_name(f"{study.patient_key}-{study.study_key}-{task}")
    return folder / f"{name}.nii.gz"


def write_mask(folder: Path, study: Study, task: str, mask: np.ndarray) -> Path:
    """Writes a mask on the study's grid, whole or not at all.

    Voxels are uint8, 0 and 1, in the order (column, row, slice). The header is made
    afresh and says nothing but the geometry; the same mask gives the same bytes.

    Args:
        folder: made if absent.
        study: whose grid and keys the mask has.
        task: what the mask is of.
        mask: (S, H, W) boolean.

    Returns:
        The file.

    Raises:
        ValueError: if the mask is not boolean or not on the study's grid, or a key
            would lead out of the folder.
    """
    if mask.dtype != bool or mask.shape != study.pixels.shape:
        raise ValueError(
            f"expected a boolean mask {study.pixels.shape}, got {mask.dtype} "
            f"{mask.shape}"
        )
    path = mask_path(folder, study, task)
    voxels = mask.transpose(2, 1, 0).astype(np.uint8)
    # The sform holds any affine; the qform holds none that is sheared and stays unset.
    image = nibabel.Nifti1Image(voxels, nifti_affine(study.affine))
    image.header.set_xyzt_units("mm")
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), mtime=0))
    return path


def read_mask(path: Path) -> np.ndarray:
    """The (S, H, W) boolean mask of a file.

    Raises:
        RefusedError: if the file is not a sound NIfTI file of 0 and 1.
    """
    voxels = read_volume(path).voxels.transpose(2, 1, 0)
    if not np.isin(voxels, (0, 1)).all():
        raise RefusedError(path, "LABELS", "expected a mask of 0 and 1 only")
    return voxels > 0


def nifti_affine(affine: np.ndarray) -> np.ndarray:
    """(column, row, slice) to RAS, from (row, column, slice) to LPS."""
    return RAS_TO_LPS @ affine[:, [1, 0, 2, 3]]
