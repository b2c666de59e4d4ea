"""A study as every source yields it, checked when it is built."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from tfrecords_tools import geometry
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS, Tissue


@dataclasses.dataclass(frozen=True, eq=False)
class Slice(geometry.Placed):
    """One short-axis slice with what a record of it holds.

    Attributes:
        pixels: (H, W) float32 intensities as acquired.
        label_map: (H, W) uint8 of `Tissue`; zeros where nothing is labelled.
        labelled: the tasks whose reference this slice has.
        index: place in the stack, 0 at the base.
        affine: (4, 4) of the stack, see `tfrecords_tools.geometry`.
    """

    patient_key: str
    study_key: str
    source: str
    pixels: np.ndarray
    label_map: np.ndarray
    labelled: frozenset[str]
    index: int
    slice_count: int
    affine: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Study(geometry.Placed):
    """The stack of one scan session, base to apex.

    Args:
        patient_key: pseudonym of the patient, never the identifier.
        study_key: pseudonym of the study.
        source: name of the source module.
        pixels: (S, H, W) float32 intensities as acquired.
        label_map: (S, H, W) uint8 of `Tissue`; zeros where nothing is labelled.
        labelled: for each slice the tasks whose reference it has.
        affine: (4, 4), see `tfrecords_tools.geometry`.
        warnings: oddities that were accepted, one line each.

    Raises:
        RefusedError: if the parts contradict each other or cannot be trusted.
    """

    patient_key: str
    study_key: str
    source: str
    pixels: np.ndarray
    label_map: np.ndarray
    labelled: tuple[frozenset[str], ...]
    affine: np.ndarray
    warnings: tuple[str, ...] = ()

    def __post_init__(self):
        self._check_arrays()
        self._check_labels()
        self._check_geometry()

    def _refuse(self, code: str, reason: str) -> None:
        raise RefusedError(self.study_key, code, reason)

    def _check_arrays(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.dtype != np.float32:
            found = f"{self.pixels.dtype} {self.pixels.shape}"
            self._refuse("SHAPE_MISMATCH", f"expected float32 (S, H, W), got {found}")
        if self.label_map.shape != self.pixels.shape:
            shapes = f"{self.label_map.shape} against {self.pixels.shape}"
            self._refuse("SHAPE_MISMATCH", f"label map and image differ: {shapes}")
        finite = np.isfinite(self.pixels).all(axis=(1, 2))
        if not finite.all():
            self._refuse("NOT_FINITE", f"NaN or infinity in slice {np.argmin(finite)}")
        constant = np.ptp(self.pixels, axis=(1, 2)) == 0
        if constant.any():
            self._refuse("CONSTANT", f"slice {np.argmax(constant)} has one value only")

    def _check_labels(self) -> None:
        if self.label_map.dtype != np.uint8 or self.label_map.max() > max(Tissue):
            self._refuse("LABELS", f"expected uint8 values 0 to {max(Tissue)}")
        if len(self.labelled) != len(self.pixels):
            self._refuse("LABELS", "one set of labelled tasks per slice is needed")
        unknown = frozenset().union(*self.labelled) - set(TASKS)
        if unknown:
            self._refuse("LABELS", f"unknown tasks {sorted(unknown)}; use {[*TASKS]}")

    def _check_geometry(self) -> None:
        fault = geometry.fault(self.affine)
        if fault:
            self._refuse("BAD_GEOMETRY", fault)

    def slices(self) -> Iterator[Slice]:
        """The slices in stack order."""
        for index, labelled in enumerate(self.labelled):
            yield Slice(
                patient_key=self.patient_key,
                study_key=self.study_key,
                source=self.source,
                pixels=self.pixels[index],
                label_map=self.label_map[index],
                labelled=labelled,
                index=index,
                slice_count=len(self.labelled),
                affine=self.affine,
            )
