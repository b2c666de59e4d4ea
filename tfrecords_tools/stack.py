"""A series as a reading tool saw it, and the reference that was drawn on it."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """Voxels without their values.

    Attributes:
        shape: voxels along each axis.
        affine: (4, 4) from the indices along these axes to LPS.
    """

    shape: tuple[int, ...]
    affine: np.ndarray

    @property
    def middle_mm(self) -> np.ndarray:
        """(3,), the same whatever the order and direction of the axes."""
        return self.affine[:3] @ [*((size - 1) / 2 for size in self.shape), 1]


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """The slices of one DICOM series, base to apex, on the grid of its images.

    Attributes:
        pixels: (S, H, W) float32, rescaled as the headers say.
        affine: (4, 4), see `tfrecords_tools.geometry`.
        frames: for each slice its SOPInstanceUID and the frame in it, from 1.
        frame_of_reference_uid: of the series; empty if it has none.
        study_uid: StudyInstanceUID; an identifier, never to be written anywhere.
        instance_numbers: InstanceNumber of each slice; empty if not known.
    """

    pixels: np.ndarray
    affine: np.ndarray
    frames: tuple[tuple[str, int], ...]
    frame_of_reference_uid: str
    study_uid: str
    instance_numbers: tuple[int, ...] = ()

    @property
    def grid(self) -> Grid:
        """Rows, columns and slices, in this order."""
        slices, height, width = self.pixels.shape
        return Grid((height, width, slices), self.affine)


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Labels of a stack.

    Attributes:
        label_map: (S, H, W) uint8 of `Tissue`; zeros where nothing is labelled.
        labelled: for each slice the tasks whose reference it has.
        warnings: oddities that were accepted, one line each.
    """

    label_map: np.ndarray
    labelled: tuple[frozenset[str], ...]
    warnings: tuple[str, ...] = ()
