"""From drawn structures to the label map of a stack, and to what it is a reference of.

Where structures overlap, MVO hides scar, scar hides the blood pool, and the blood pool
hides the wall: outlines of the whole wall, or of all inside the epicardium, are drawn
first and the rest over them.

Label volumes and segmentations speak of the whole stack: each slice is labelled. A
contour file speaks of the slices it has contours on: without a contour of the wall a
slice has no reference of the myocardium, and with one it has a reference of scar if
the file draws scar anywhere.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS, Tissue, tissues_without
from tfrecords_tools.references.config import Structure
from tfrecords_tools.stack import Reference

Masks = Mapping[Structure, np.ndarray]
"""(S, H, W) boolean by structure."""

_LAYERS = (
    (Structure.EPICARDIUM, Tissue.HEALTHY_MYOCARDIUM),
    (Structure.MYOCARDIUM, Tissue.HEALTHY_MYOCARDIUM),
    (Structure.BLOOD_POOL, Tissue.BLOOD_POOL),
    (Structure.SCAR, Tissue.SCAR),
    (Structure.MVO, Tissue.MVO),
)

_WALL = {Structure.MYOCARDIUM, Structure.EPICARDIUM}
_SCAR = {Structure.SCAR, Structure.MVO}


def tasks_of(declared: Collection[Structure]) -> frozenset[str]:
    """The tasks that a file answers that knows the structures `declared`."""
    found = (("myocardium", _WALL), ("scar", {Structure.SCAR}))
    return frozenset(task for task, needed in found if needed & set(declared))


def paint_volume(
    subject: object,
    masks: Masks,
    tasks: frozenset[str],
    warnings: tuple[str, ...] = (),
) -> Reference:
    """The reference of a file that speaks of the whole stack.

    Args:
        subject: the file at fault.
        masks: at least one.
        tasks: that the file answers.
        warnings: oddities found before.

    Raises:
        RefusedError: `LABELS`, if it answers no task.
    """
    _check_tasks(subject, tasks)
    labelled = (tasks,) * len(next(iter(masks.values())))
    return Reference(_paint(masks, labelled), labelled, warnings + _oddities(masks))


def paint_contours(
    subject: object, masks: Masks, warnings: tuple[str, ...] = ()
) -> Reference:
    """The reference of a file of contours, see the module.

    A slice with an epicardium and no blood pool is left without a reference: whether
    the wall fills it or the inner contour is missing, nobody knows.

    Raises:
        RefusedError: `LABELS`, if it answers no task.
    """
    tasks = tasks_of(masks)
    _check_tasks(subject, tasks)
    empty = np.zeros_like(next(iter(masks.values())))
    on = {s: masks.get(s, empty).any(axis=(1, 2)) for s in Structure}
    closed = on[Structure.EPICARDIUM] & on[Structure.BLOOD_POOL]
    wall = closed | on[Structure.MYOCARDIUM]
    scar = (wall | on[Structure.SCAR]) & ("scar" in tasks)
    halves = on[Structure.EPICARDIUM] & ~wall
    if halves.any():
        reason = f"no endocardium on {halves.sum()} slices: no reference of their wall"
        warnings = (*warnings, reason)
    has = np.stack([wall, scar], axis=1)
    labelled = tuple(
        frozenset(task for task, drawn in zip(TASKS, one, strict=True) if drawn)
        for one in has.tolist()
    )
    return Reference(_paint(masks, labelled), labelled, warnings + _oddities(masks))


def _check_tasks(subject: object, tasks: Collection[str]) -> None:
    if not tasks:
        reason = "neither myocardium nor scar is drawn; if it is, say so in names"
        raise RefusedError(subject, "LABELS", reason)


def _paint(masks: Masks, labelled: Sequence[frozenset[str]]) -> np.ndarray:
    label_map = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for structure, tissue in _LAYERS:
        if structure in masks:
            label_map[masks[structure]] = tissue
    for index, tasks in enumerate(labelled):
        known = tissues_without(set(TASKS) - tasks)[label_map[index]]
        label_map[index] = known if tasks else Tissue.BACKGROUND
    return label_map


def _oddities(masks: Masks) -> tuple[str, ...]:
    """Scar where none can be, which the label map itself could not tell any more."""
    scars = [masks[one] for one in _SCAR if one in masks]
    found = []
    if scars and Structure.BLOOD_POOL in masks:
        lost = int((np.any(scars, axis=0) & masks[Structure.BLOOD_POOL]).sum())
        if lost:
            found.append(f"{lost} pixels are drawn as scar and as blood pool")
    walls = [masks[one] for one in _WALL if one in masks]
    if scars and walls:
        scar, wall = np.any(scars, axis=0), np.any(walls, axis=0)
        outside = int((scar & ~wall).sum())
        # Half inside: the wall was drawn with its scar, not beside it.
        if 0 < outside < scar.sum() / 2:
            found.append(f"{outside} pixels of scar lie outside the myocardium")
    return tuple(found)
