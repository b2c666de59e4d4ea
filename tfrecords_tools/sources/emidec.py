"""The EMIDEC data set: 100 LGE examinations with reference contours (emidec.com).

Layout: `Case_X/Images/Case_X.nii.gz` and `Case_X/Contours/Case_X.nii.gz`, arrays of
(x, y, slice). Source: Lalande et al., Data 2020, 5(4):89.

Two traps. The affine is diag(-1, -1, 1), so the voxel size stands only in `pixdim`.
And the slices run from the apex to the base: over the 80 cases of the training set the
blood pool grows along the slice index in every one.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.geometry import RAS_TO_LPS
from tfrecords_tools.labels import TASKS, Tissue
from tfrecords_tools.nifti_files import Volume, read_volume
from tfrecords_tools.pseudonyms import PUBLIC_KEY, pseudonym
from tfrecords_tools.study import Study

SOURCE = "emidec"


def case_names(folder: Path) -> list[str]:
    """The cases in a folder, sorted.

    Raises:
        RefusedError: if the folder holds none.
    """
    found = folder.glob("Case_*") if folder.is_dir() else ()
    names = sorted(p.name for p in found if re.fullmatch(r"Case_[NP]?\d+", p.name))
    if not names:
        reason = "no Case_X folders here; give the folder that holds them"
        raise RefusedError(folder, "NO_STUDIES", reason)
    return names


def studies(folder: Path) -> Iterator[Study | RefusedError]:
    """The cases of the data set in order; an unreadable one comes as its error."""
    for name in case_names(folder):
        try:
            yield _read_case(folder, name)
        except RefusedError as error:
            yield error


def _read_case(folder: Path, name: str) -> Study:
    image_path = folder / name / "Images" / f"{name}.nii.gz"
    contour_path = folder / name / "Contours" / f"{name}.nii.gz"
    image, contours = read_volume(image_path), read_volume(contour_path)
    _check_agreement(contour_path, image, contours)
    key = pseudonym(name, PUBLIC_KEY)
    try:
        return Study(
            patient_key=key,
            study_key=key,
            source=SOURCE,
            pixels=_base_first(image.voxels, np.float32),
            label_map=_base_first(_tissues(contour_path, contours.voxels), np.uint8),
            labelled=(frozenset(TASKS),) * image.voxels.shape[2],
            affine=_affine(image),
        )
    except RefusedError as error:
        raise RefusedError(image_path, error.code, error.reason) from None


def _check_agreement(path: Path, image: Volume, contours: Volume) -> None:
    if image.voxels.shape != contours.voxels.shape:
        shapes = f"{contours.voxels.shape} against {image.voxels.shape}"
        raise RefusedError(path, "SHAPE_MISMATCH", f"contours and image: {shapes}")
    same_size = np.allclose(image.voxel_size_mm, contours.voxel_size_mm, rtol=1e-3)
    if not same_size or not np.allclose(image.affine, contours.affine, rtol=1e-3):
        raise RefusedError(path, "GEOMETRY_MISMATCH", "not the geometry of the image")


def _tissues(path: Path, labels: np.ndarray) -> np.ndarray:
    """Labels (x, y, slice) checked to be tissues: the numbers are EMIDEC's own."""
    if not np.isin(labels, list(Tissue)).all():
        raise RefusedError(path, "LABELS", f"expected values 0 to {max(Tissue)} only")
    return labels


def _base_first(voxels: np.ndarray, dtype: type) -> np.ndarray:
    """(x, y, slice from apex) to (slice from base, row = y, column = x)."""
    with np.errstate(over="ignore"):  # infinity is refused by Study
        return np.ascontiguousarray(voxels.transpose(2, 1, 0)[::-1], dtype=dtype)


def _affine(image: Volume) -> np.ndarray:
    """From (row, column, slice) to LPS: directions of the file, steps of `pixdim`."""
    lengths = np.linalg.norm(image.affine[:3, :3], axis=0)
    with np.errstate(all="ignore"):  # a singular affine is refused by Study
        x, y, z = (image.affine[:3, :3] / lengths * image.voxel_size_mm).T
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = y, x, -z
    affine[:3, 3] = image.affine[:3, 3] + (image.voxels.shape[2] - 1) * z
    return RAS_TO_LPS @ affine
