"""Predictions without a network: hearts of rings, and stacks of counted voxels."""

import dataclasses

import numpy as np

from jdl_keras.inference.study_prediction import StudyPrediction
from tfrecords_tools.labels import TASKS, Tissue
from tfrecords_tools.study import Study

PIXEL_MM, SLICE_MM = 2.0, 10.0
SIDE, SLICES = 90, 7
HEART_MM, WALL_MM = 34.0, 10.0
CENTRE = (SIDE - 1) / 2


def counted(scar, passes=(), reference=None, wall=100, patient="aa"):
    """A study whose wall has 100 voxels, so that a voxel of scar is one percent.

    Args:
        scar: voxels of scar in the masks.
        passes: the same of each pass.
        reference: the same of the reference; None if there is none.
        wall: voxels of wall in masks and passes.
        patient: key.
    """

    def masks(voxels):
        flat = np.arange(200).reshape(1, 10, 20)
        return {"myocardium": flat < wall, "scar": flat < voxels}

    label_map = np.zeros((1, 10, 20), np.uint8)
    label_map.ravel()[:100] = Tissue.HEALTHY_MYOCARDIUM
    label_map.ravel()[: reference or 0] = Tissue.SCAR
    known = frozenset(TASKS if reference is not None else ())
    study = Study(
        patient_key=patient,
        study_key=patient,
        source="test",
        pixels=np.arange(200, dtype=np.float32).reshape(1, 10, 20),
        label_map=label_map,
        labelled=(known,),
        affine=np.diag([1.0, 1.0, 10.0, 1.0]),
    )
    found = masks(scar)
    maps = {task: mask.astype(np.float32) for task, mask in found.items()}
    return StudyPrediction(study, maps, found, [masks(n) for n in passes])


def rings(number=0, noise=4.0, scar_degrees=40.0):
    """Patient `number`, no two alike: rings that narrow towards the apex."""
    random = np.random.default_rng(number)
    heart_mm = HEART_MM * random.uniform(0.95, 1.05)
    scar_degrees = scar_degrees * random.uniform(0.9, 1.1)
    rows, columns = np.indices((SIDE, SIDE))
    rise, run = (rows - CENTRE) * PIXEL_MM, (columns - CENTRE) * PIXEL_MM
    radius, angle = np.hypot(rise, run), np.degrees(np.arctan2(rise, run)) % 360
    label_map = np.zeros((SLICES, SIDE, SIDE), np.uint8)
    for index in range(SLICES):
        outer = heart_mm * np.sqrt(1 - (index / (SLICES + 1)) ** 2)
        label_map[index][radius < outer] = Tissue.HEALTHY_MYOCARDIUM
        label_map[index][(radius < outer) & (angle < scar_degrees)] = Tissue.SCAR
        label_map[index][radius < outer - WALL_MM] = Tissue.BLOOD_POOL
    # A pattern around the heart that drifts from slice to slice, as organs do.
    drift = 3.0 * np.arange(SLICES)[:, None, None]
    body = 50 + 20 * np.sin((rise + drift) / 9) * np.cos((run - drift) / 11)
    grey = np.array([0, 100, 20, 130, 20])
    pixels = np.where(label_map == 0, body, grey[label_map])
    pixels = pixels + noise * random.standard_normal(pixels.shape)
    study = Study(
        patient_key=f"{number:02x}",
        study_key=f"{number:02x}",
        source="test",
        pixels=pixels.astype(np.float32),
        label_map=label_map,
        labelled=(frozenset(TASKS),) * SLICES,
        affine=np.diag([PIXEL_MM, PIXEL_MM, SLICE_MM, 1.0]),
    )
    wall = np.isin(label_map, [Tissue.HEALTHY_MYOCARDIUM, Tissue.SCAR])
    return predicted(study, wall, label_map == Tissue.SCAR, random)


def predicted(study, wall, scar, random=None):
    """These masks, and three passes that are moved by up to a pixel."""
    random = random or np.random.default_rng(0)
    moves = [(0, 0), *random.integers(-1, 2, (2, 2)).tolist()]
    masks = {"myocardium": wall, "scar": scar}
    passes = [
        {task: np.roll(mask, move, (1, 2)) for task, mask in masks.items()}
        for move in moves
    ]
    maps = {task: np.float32(0.05 + 0.9 * mask) for task, mask in masks.items()}
    return StudyPrediction(study, maps, masks, passes)


def with_masks(prediction, change):
    """The same with masks, maps and passes that `change(wall, scar)` changed."""

    def changed(masks):
        wall, scar = masks["myocardium"].copy(), masks["scar"].copy()
        change(wall, scar)
        return {"myocardium": wall, "scar": scar}

    masks = changed(prediction.masks)
    return dataclasses.replace(
        prediction,
        masks=masks,
        maps={task: np.float32(0.05 + 0.9 * mask) for task, mask in masks.items()},
        passes=[changed(one) for one in prediction.passes],
    )


def with_pixels(prediction, pixels):
    """The same with other images."""
    study = dataclasses.replace(prediction.study, pixels=np.float32(pixels))
    return dataclasses.replace(prediction, study=study)


def with_slices(prediction, index):
    """The stack as if only these slices had been acquired, one after the other."""
    study = prediction.study
    part = dataclasses.replace(
        study,
        pixels=study.pixels[index],
        label_map=study.label_map[index],
        labelled=tuple(study.labelled[i] for i in index),
    )

    def kept(volumes):
        return {task: volume[index] for task, volume in volumes.items()}

    passes = [kept(one) for one in prediction.passes]
    return StudyPrediction(part, kept(prediction.maps), kept(prediction.masks), passes)
