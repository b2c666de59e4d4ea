"""How far scar reaches through the wall, and in which layer it lies."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from jdl_keras.quantification.burden import percent
from jdl_keras.quantification.chords import SliceChords

TRANSMURALITY_RULE = (
    "scar length / wall length on radial chords from endo- to epicardium, one a "
    "degree; mean over chords"
)
CLASS_RULE = (
    "classes 0, 1-25, 26-50, 51-75, 76-100 % after Kim et al., NEJM 2000, of the value "
    "in whole percent"
)
LAYER_RULE = (
    "thirds of each chord's way from endo- to epicardium; samples weigh as the area "
    "they stand for"
)

CLASSES = ("0", "1-25", "26-50", "51-75", "76-100")
LAYERS = ("endocardial", "mid-wall", "epicardial")


@dataclasses.dataclass(frozen=True)
class Layer:
    """One third of the wall's depth.

    Attributes:
        name: of `LAYERS`.
        share_of_scar_percent: which part of all scar lies in it; None without scar.
        scarred_percent: which part of it is scar.
    """

    name: str
    share_of_scar_percent: float | None
    scarred_percent: float | None


def transmurality_class(value_percent: float) -> str:
    """Of `CLASSES`, by the value in whole percent, halves rounded up."""
    whole = math.floor(value_percent + 0.5)
    return CLASSES[int(np.searchsorted((0, 25, 50, 75), whole, side="left"))]


def mean_transmurality_percent(
    chords: Sequence[SliceChords], only_with_scar: bool = False
) -> float | None:
    """Mean over all chords, or over those that meet scar; None if there are none."""
    values = np.concatenate([[], *(one.transmurality_percent for one in chords)])
    counted = values > 0 if only_with_scar else ~np.isnan(values)
    return float(values[counted].mean()) if counted.any() else None


def layers(chords: Sequence[SliceChords]) -> list[Layer]:
    """The three layers of the wall, over the chords of some slices."""
    wall, scar = np.zeros(len(LAYERS)), np.zeros(len(LAYERS))
    for one in chords:
        depth = one.depth
        for number in range(len(LAYERS)):
            low, high = number / len(LAYERS), (number + 1) / len(LAYERS)
            within = (depth >= low) & (depth < high)
            wall[number] += ((one.wall & within) @ one.radius_mm).sum()
            scar[number] += ((one.scar & within) @ one.radius_mm).sum()
    return [
        Layer(name, percent(scar[i], scar.sum()), percent(scar[i], wall[i]))
        for i, name in enumerate(LAYERS)
    ]
