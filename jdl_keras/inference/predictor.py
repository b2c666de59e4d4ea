"""Predictions on the native grid."""

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
from keras import KerasTensor, ops

from jdl_keras.inference.compilation import compiled
from jdl_keras.preprocessing import Grid, preprocess, to_native
from jdl_keras.run_folder import Locate
from tfrecords_tools.study import Study

Maps = dict[str, KerasTensor]

LARGEST_BATCH = 16
"""Slices that a network sees together, so that a long stack needs no more memory."""

SIZE_STEP = 64
"""Under JAX, which compiles for every shape anew, images grow to multiples of this."""


class Predictor:
    """Applies a network to native slices: preprocess, predict, map back.

    Args:
        network: from (B, rows, columns, 1) to probability maps by task.
        grid: the grid that the network was trained on.
        locate: the native (row, column) on which the grid is centred in all slices of
            a study.
        rotations: equally spaced rotations of the grid whose maps are averaged.
    """

    def __init__(
        self, network: keras.Model, grid: Grid, locate: Locate, rotations: int = 1
    ):
        self._predict_rotated = compiled(
            partial(predict_rotated, network, grid), network
        )
        self._locate = locate
        self._rotations = rotations

    def probability_maps(self, study: Study) -> dict[str, np.ndarray]:
        """For each task (S, H, W) foreground probabilities on the study's grid."""
        place = study.spacing_mm, self._locate(study)
        starts = range(0, len(study.pixels), LARGEST_BATCH)
        parts = [
            self._batch(study.pixels[i : i + LARGEST_BATCH], *place) for i in starts
        ]
        return {task: np.concatenate([p[task] for p in parts]) for task in parts[0]}

    def _batch(
        self,
        images: np.ndarray,
        spacing_mm: tuple[float, float],
        centre: tuple[float, float],
    ) -> dict[str, np.ndarray]:
        slices, rows, columns = images.shape
        if keras.config.backend() == "jax":
            images = _grown(images)
        pairs = (np.tile(np.float32(p), (len(images), 1)) for p in (spacing_mm, centre))
        inputs = map(ops.convert_to_tensor, (images, *pairs))
        maps = averaged(partial(self._predict_rotated, *inputs), self._rotations)
        return {
            task: ops.convert_to_numpy(values)[:slices, :rows, :columns]
            for task, values in maps.items()
        }


def _grown(images: np.ndarray) -> np.ndarray:
    """Images (B, H, W) of one of few shapes.

    Repeats the last slice, row and column, as `preprocess` would beyond the edge.
    """
    slices, rows, columns = images.shape
    more = (LARGEST_BATCH - slices, -rows % SIZE_STEP, -columns % SIZE_STEP)
    return np.pad(images, [(0, n) for n in more], "edge")


def predict(
    network: keras.Model,
    grid: Grid,
    images: KerasTensor,
    spacing_mm: KerasTensor,
    centre: KerasTensor,
    rotations: int = 1,
) -> Maps:
    """For each task the probability maps (B, H, W) of native images, in graph.

    Args:
        network: from (B, rows, columns, 1) to probability maps by task.
        grid: the grid that the network was trained on.
        images: (B, H, W) float32 intensities as acquired.
        spacing_mm: (B, 2) of rows and columns.
        centre: (B, 2) native (row, column) on which the grid is centred.
        rotations: equally spaced rotations of the grid whose maps are averaged. The
            graph holds the network as often.
    """
    inputs = (images, spacing_mm, centre)
    return averaged(partial(predict_rotated, network, grid, *inputs), rotations)


def predict_rotated(
    network: keras.Model,
    grid: Grid,
    images: KerasTensor,
    spacing_mm: KerasTensor,
    centre: KerasTensor,
    rotation_degrees: KerasTensor | float,
) -> tuple[Maps, KerasTensor]:
    """`predict` on a grid that is turned about its centre.

    Returns:
        The maps by task, and how much of every native pixel (B, H, W) the grid reaches:
        1 inside, 0 outside, between them across the edge.
    """
    seen = preprocess(images, spacing_mm, grid, centre, rotation_degrees)
    size = ops.shape(images)[1:3]

    def back(maps: KerasTensor) -> KerasTensor:
        return to_native(maps, spacing_mm, grid, centre, size, rotation_degrees)

    maps = network(seen, training=False)
    return {task: back(m) for task, m in maps.items()}, back(ops.ones_like(seen))


def averaged(
    rotated: Callable[[float], tuple[Maps, KerasTensor]], rotations: int
) -> Maps:
    """Mean over those rotations whose grid reaches the pixel.

    It lies where the grid that is not turned lies: so one rotation and many agree on
    what is outside, and a corner that only some of them reach is not dimmed.

    Args:
        rotated: `predict_rotated` of a rotation in degrees.
        rotations: how many, 360 degrees divided by them apart.
    """
    maps, reach = rotated(0.0)
    if rotations == 1:
        return maps
    sums, reaches = maps, reach
    for index in range(1, rotations):
        more, more_reach = rotated(360 * index / rotations)
        sums = {task: values + more[task] for task, values in sums.items()}
        reaches = reaches + more_reach
    return {
        task: ops.divide_no_nan(values, reaches) * reach
        for task, values in sums.items()
    }
