"""A small cohort on disk, commands in processes of their own, and one trained run."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tfrecords_tools.labels import Tissue

ROOT = Path(__file__).parents[2]
PIXEL_MM, SLICE_MM = 2.0, 10.0
SHAPE = (48, 40)
SMALL = {"width": 8, "token_width": 16, "mlp_width": 16, "heads": 2, "stem_groups": 8}
SETTINGS = (
    *("--model.preset", "tiny", "--grid.size", "[32, 32]"),
    *("--grid.spacing_mm", "[3.0, 3.0]", "--training.batch_size", "4"),
)
"""The smallest network and grid that the command line offers."""


def _draw_patient(number, slices=3):
    """Image and label map (S, H, W): a ring; odd numbers have an arc of scar."""
    random = np.random.default_rng(number)
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    row, column = random.uniform(-4, 4, 2) + np.array(SHAPE) / 2
    radius = np.hypot(rows - row, columns - column)
    angle = np.arctan2(rows - row, columns - column)
    label_map = np.zeros((slices, *SHAPE), np.uint8)
    label_map[:, radius < 11] = Tissue.HEALTHY_MYOCARDIUM
    if number % 2:
        label_map[:2, (radius < 11) & (np.abs(angle) < 1)] = Tissue.SCAR
    label_map[:, radius < 6] = Tissue.BLOOD_POOL
    signal = np.array([40, 150, 60, 220, 60])[label_map]
    return signal + random.normal(0, 10, label_map.shape), label_map


def _write_nifti(path, voxels):
    # EMIDEC keeps the voxel size in the header only, slices from the apex on.
    image = nibabel.Nifti1Image(
        voxels[::-1].transpose(2, 1, 0).astype(np.int16), np.diag([-1.0, -1, 1, 1])
    )
    image.header.set_zooms((PIXEL_MM, PIXEL_MM, SLICE_MM))
    path.parent.mkdir(parents=True)
    nibabel.save(image, path)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Twelve cases in the layout of EMIDEC; the odd ones have scar."""
    folder = tmp_path_factory.mktemp("cohort")
    for number in range(12):
        name = f"Case_{'P' if number % 2 else 'N'}{CASE_NUMBER + number}"
        image, label_map = _draw_patient(number)
        _write_nifti(folder / name / "Images" / f"{name}.nii.gz", image)
        _write_nifti(folder / name / "Contours" / f"{name}.nii.gz", label_map)
    return folder


CASE_NUMBER = 734510
"""Digits that no file holds by chance."""


@pytest.fixture(scope="session")
def records(cohort, tmp_path_factory):
    """A record set of 18 training, 9 validation and 9 test slices; do not change."""
    from tfrecords_tools.build import main

    out = tmp_path_factory.mktemp("built") / "records"
    fractions = ("--fractions.train", "6", "--fractions.validation", "3")
    shards = ("--fractions.test", "3", "--shards", "2")
    assert main(["emidec", str(cohort), str(out), *fractions, *shards]) == 0
    return out
