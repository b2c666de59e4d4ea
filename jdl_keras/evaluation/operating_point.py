"""The scar's operating point: threshold and smallest scar, chosen on validation.

Counts of every patient are gathered for every point of a grid, one study after another,
then one point is chosen; see `RULE`. The myocardium keeps its own threshold.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from jdl_keras.evaluation.components import label_components, smallest_voxels
from jdl_keras.evaluation.overlap import OverlapCounts
from jdl_keras.evaluation.per_patient import reference_mask
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import write_text
from tfrecords_tools.geometry import voxel_volume_ml
from tfrecords_tools.strict_json import strictly
from tfrecords_tools.study import Study

THRESHOLDS = tuple(percent / 100 for percent in range(20, 95, 5))
SMALLEST_SCARS_ML = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0)
WANTED_SPECIFICITY = 0.8
USUAL_THRESHOLD = 0.5
NEGLIGIBLE_DICE = 0.01
"""Less than a few validation patients can tell apart."""
RULE = (
    f"of the points at which at least {WANTED_SPECIFICITY:.0%} of the patients without "
    "scar have no predicted scar voxel (3 of 3, 4 of 4, 4 of 5), those whose mean scar "
    f"Dice over the patients with scar is within {NEGLIGIBLE_DICE} of the largest, a "
    "miss being 0; among them the most specific, then the threshold nearest to "
    f"{USUAL_THRESHOLD}, then the smallest volume, then the higher threshold. If no "
    "point is specific enough (reached: false), the most specific ones take the place "
    "of all. Without patients free of scar specificity is unknown (reached: false) and "
    "does not count."
)


@dataclasses.dataclass(frozen=True)
class GridPoint:
    """What one threshold with one smallest scar gives on the validation split.

    Attributes:
        threshold: probability from which a voxel is scar.
        smallest_scar_ml: components below it are taken out.
        dice: mean over the patients with scar; None if there are none.
        sensitivity: share of the patients with scar in whom any is predicted.
        specificity: share of the patients without scar in whom none is predicted.
    """

    threshold: float
    smallest_scar_ml: float
    dice: float | None
    sensitivity: float | None
    specificity: float | None


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """The chosen point.

    Attributes:
        threshold: probability from which a voxel is scar.
        smallest_scar_ml: components below it are taken out.
        reached: whether specificity is as high as wanted.
        dice: mean over the validation patients with scar.
        specificity: over the validation patients without scar.
        patients_with_scar: how many chose by Dice.
        patients_without_scar: how many chose by specificity.
        rule: how it was chosen.
        points: all of the grid.
    """

    threshold: float
    smallest_scar_ml: float
    reached: bool
    dice: float | None
    specificity: float | None
    patients_with_scar: int
    patients_without_scar: int
    rule: str
    points: list[GridPoint]


def choose_operating_point(
    cases: Iterable[tuple[Study, np.ndarray]],
    thresholds: Sequence[float] = THRESHOLDS,
    smallest_scars_ml: Sequence[float] = SMALLEST_SCARS_ML,
) -> OperatingPoint:
    """Chooses by `RULE`; one study is in memory at a time.

    Args:
        cases: validation studies, each with its (S, H, W) scar probability map. A
            study without any label of scar says nothing.
        thresholds: of the grid.
        smallest_scars_ml: of the grid.
    """
    grid = [(t, ml) for t in thresholds for ml in smallest_scars_ml]
    by_patient: dict[str, list[OverlapCounts]] = {}
    for study, probability in cases:
        if not any("scar" in tasks for tasks in study.labelled):
            continue
        counts = _count_study(study, probability, thresholds, smallest_scars_ml)
        before = by_patient.get(study.patient_key, [OverlapCounts()] * len(grid))
        by_patient[study.patient_key] = [
            old + new for old, new in zip(before, counts, strict=True)
        ]
    points = [
        _grid_point(*place, [counts[index] for counts in by_patient.values()])
        for index, place in enumerate(grid)
    ]
    # The reference is the same at every point.
    with_scar = sum(counts[0].reference > 0 for counts in by_patient.values())
    return _choose(points, with_scar, len(by_patient) - with_scar)


def _count_study(
    study: Study,
    probability: np.ndarray,
    thresholds: Sequence[float],
    smallest_scars_ml: Sequence[float],
) -> list[OverlapCounts]:
    """Counts of each point of the grid over the slices with a label of scar."""
    if probability.shape != study.pixels.shape:
        raise ValueError(f"expected {study.pixels.shape}, got {probability.shape}")
    labelled = ["scar" in tasks for tasks in study.labelled]
    voxel_ml = voxel_volume_ml(study.spacing_mm, study.slice_spacing_mm)
    limits = [smallest_voxels(ml, voxel_ml) for ml in smallest_scars_ml]
    reference = reference_mask(study, "scar")
    return [
        counts
        for threshold in thresholds
        for counts in _count_mask(probability >= threshold, reference, labelled, limits)
    ]


def _count_mask(
    mask: np.ndarray, reference: np.ndarray, labelled: list[bool], limits: list[int]
) -> Iterator[OverlapCounts]:
    """Counts for each limit; components are labelled once, then sizes are summed."""
    # Over the whole stack, as they are when they are taken out.
    components, sizes = label_components(mask)
    compared = np.bincount(components[labelled].ravel(), minlength=len(sizes))
    hits = np.bincount(components[reference], minlength=len(sizes))
    in_reference = int(hits.sum())
    for limit in limits:
        stays = sizes >= limit
        stays[0] = False
        found, predicted = int(hits[stays].sum()), int(compared[stays].sum())
        yield OverlapCounts(found, predicted - found, in_reference - found)


def _grid_point(
    threshold: float, smallest_scar_ml: float, patients: Sequence[OverlapCounts]
) -> GridPoint:
    ill = [counts for counts in patients if counts.reference]
    healthy = [counts for counts in patients if not counts.reference]
    return GridPoint(
        threshold=threshold,
        smallest_scar_ml=smallest_scar_ml,
        dice=_mean([counts.dice for counts in ill]),
        sensitivity=_mean([counts.prediction > 0 for counts in ill]),
        specificity=_mean([counts.prediction == 0 for counts in healthy]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _choose(points: list[GridPoint], with_scar: int, without: int) -> OperatingPoint:
    best_specificity = max(_or_zero(point.specificity) for point in points)
    wanted = min(WANTED_SPECIFICITY, best_specificity)
    specific = [p for p in points if _or_zero(p.specificity) >= wanted]
    largest = max(_or_zero(point.dice) for point in specific)
    as_good = [p for p in specific if _or_zero(p.dice) >= largest - NEGLIGIBLE_DICE]
    chosen = max(as_good, key=_preference)
    return OperatingPoint(
        threshold=chosen.threshold,
        smallest_scar_ml=chosen.smallest_scar_ml,
        reached=best_specificity >= WANTED_SPECIFICITY,
        dice=chosen.dice,
        specificity=chosen.specificity,
        patients_with_scar=with_scar,
        patients_without_scar=without,
        rule=RULE,
        points=points,
    )


def _preference(point: GridPoint) -> tuple[float, ...]:
    # Rounded, because 0.55 - 0.5 and 0.5 - 0.45 differ in their last digits.
    distance = round(abs(point.threshold - USUAL_THRESHOLD), 9)
    specificity = _or_zero(point.specificity)
    return (specificity, -distance, -point.smallest_scar_ml, point.threshold)


def _or_zero(value: float | None) -> float:
    return 0.0 if value is None else value


def write_operating_point(path: Path, point: OperatingPoint) -> None:
    """Writes `operating_point.json` with the table of all points."""
    text = json.dumps(dataclasses.asdict(point), indent=1, allow_nan=False)
    write_text(path, text + "\n")


def read_operating_point(path: Path) -> OperatingPoint:
    """What `write_operating_point` wrote.

    Raises:
        RefusedError: if it is missing or something else.
    """
    if not path.is_file():
        raise RefusedError(path, "NOT_A_FILE", "no operating point was chosen")
    try:
        return strictly(OperatingPoint, json.loads(path.read_bytes()), "point")
    except ValueError as error:
        raise RefusedError(path, "CORRUPT", f"{error}; choose it again") from None
