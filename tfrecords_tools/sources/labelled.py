"""Settings of labelled files, and what the values in them mean."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import MYOCARDIUM, Tissue, region_mask
from tfrecords_tools.sources.pairing import placeholders

SliceOrder = Literal["auto", "base_first", "apex_first"]


@dataclasses.dataclass(frozen=True)
class MaskPatterns:
    """Patterns of binary masks, one file a tissue; scar is laid over myocardium.

    Attributes:
        blood_pool: cavity of the left ventricle.
        myocardium: its wall, with or without what is scar.
        scar: enhanced wall.
        mvo: microvascular obstruction.
    """

    blood_pool: str | None = None
    myocardium: str | None = None
    scar: str | None = None
    mvo: str | None = None

    def by_tissue(self) -> dict[Tissue, str]:
        """The patterns that are given, in the order in which masks are laid."""
        patterns = dataclasses.astuple(self)
        return {t: p for t, p in zip(list(Tissue)[1:], patterns, strict=True) if p}


@dataclasses.dataclass(frozen=True)
class LabelledFiles:
    """What the names and the values of labelled files mean.

    Raises:
        RefusedError: `CONFIG`, if patterns do not fit together or label no task.
    """

    images: str
    references: str
    masks: MaskPatterns = MaskPatterns()
    labels: dict[int, Tissue] = dataclasses.field(
        default_factory=lambda: {int(tissue): tissue for tissue in Tissue}
    )
    slice_order: SliceOrder = "auto"
    unlabelled: bool = False

    NEEDED: ClassVar[frozenset[str]] = frozenset({"study"})
    """Placeholders of every pattern, beside `{patient}`."""

    def __post_init__(self):
        names = placeholders("images", self.images)
        if names - {"patient"} != self.NEEDED:
            needed = " and ".join(f"{{{name}}}" for name in sorted(self.NEEDED))
            reason = f"expected {needed}, and {{patient}} if names tell it"
            raise RefusedError("images", "CONFIG", reason)
        for pattern in self.reference_patterns:
            if placeholders("references", pattern) != names:
                reason = "expected the placeholders of `images` in every pattern"
                raise RefusedError("references", "CONFIG", reason)
        if not self.reference_patterns and not self.unlabelled:
            reason = "no pattern of label maps and none of masks: add --unlabelled"
            raise RefusedError("references", "CONFIG", reason)
        if not self.tasks:
            reason = "neither HEALTHY_MYOCARDIUM nor SCAR is among the tissues"
            raise RefusedError("labels", "CONFIG", reason)

    @property
    def reference_patterns(self) -> tuple[str, ...]:
        """Of the masks if there are any, else of the label maps; may be none."""
        label_maps = (self.references,) if self.references else ()
        return tuple(self.masks.by_tissue().values()) or label_maps

    @property
    def tasks(self) -> frozenset[str]:
        """What the references label: each task whose tissue is named."""
        named = set(self.masks.by_tissue()) or set(self.labels.values())
        tissues = {"myocardium": Tissue.HEALTHY_MYOCARDIUM, "scar": Tissue.SCAR}
        return frozenset(task for task, tissue in tissues.items() if tissue in named)

    def settings(self) -> dict[str, str | int | float]:
        """What decides a study's bits; no patterns, for they may hold names."""
        masks = ", ".join(tissue.name for tissue in self.masks.by_tissue())
        table = ", ".join(f"{v}: {t.name}" for v, t in sorted(self.labels.items()))
        return {
            "labels": f"masks of {masks}" if masks else table,
            "slice_order": self.slice_order,
            "unlabelled": self.unlabelled,
        }


def tissues(
    config: LabelledFiles,
    paths: Sequence[Path],
    arrays: Iterable[np.ndarray],
    shape: tuple[int, ...],
) -> tuple[np.ndarray, list[str]]:
    """The label map (uint8 of `Tissue`) of one study's references, and warnings.

    Args:
        config: what values mean.
        paths: one file for each of `config.reference_patterns`, or none.
        arrays: their content, taken one by one, so that one is in memory at a time.
        shape: of each of the arrays.

    Raises:
        RefusedError: `LABELS`.
    """
    if not paths:
        return np.zeros(shape, np.uint8), []
    layers = list(config.masks.by_tissue())
    if layers:
        return _painted(layers, paths, arrays, shape)
    return _translated(config.labels, paths[0], next(iter(arrays))), []


def _translated(table: dict[int, Tissue], path: Path, array: np.ndarray) -> np.ndarray:
    label_map = np.zeros(array.shape, np.uint8)
    known = array == 0
    for value, tissue in table.items():
        here = array == value
        label_map[here] = tissue
        known |= here
    if not known.all():
        found = ", ".join(f"{value:g}" for value in np.unique(array[~known][:1000])[:5])
        reason = f"values without a tissue: {found}; name them in the table `labels`"
        raise RefusedError(path, "LABELS", reason)
    return label_map


def _painted(
    layers: Sequence[Tissue],
    paths: Sequence[Path],
    arrays: Iterable[np.ndarray],
    shape: tuple[int, ...],
) -> tuple[np.ndarray, list[str]]:
    label_map = np.zeros(shape, np.uint8)
    warnings = []
    for tissue, path, array in zip(layers, paths, arrays, strict=True):
        mask = array != 0
        values = array[mask]
        if not (values == values[:1]).all():
            reason = "more than one value beside 0; a label map goes to `references`"
            raise RefusedError(path, "LABELS", reason)
        below = label_map[mask]
        if tissue == Tissue.HEALTHY_MYOCARDIUM and below.any():
            shared = np.count_nonzero(below)
            reason = f"{shared} pixels of the wall lie in the blood pool too"
            raise RefusedError(path, "LABELS", reason)
        inside = region_mask(below, MYOCARDIUM)
        # None inside means a mask of the myocardium without its scar.
        if tissue == Tissue.SCAR and inside.any() and not inside.all():
            count = np.count_nonzero(~inside)
            warnings.append(f"LABELS: {count} pixels of scar outside the myocardium")
        label_map[mask] = tissue
    return label_map, warnings
