"""Predictions on the native grid."""

from collections.abc import Iterable, Sequence
from functools import partial

import keras
import numpy as np
from keras import KerasTensor, ops

from jdl_keras.inference.compilation import compiled
from jdl_keras.preprocessing import Grid, preprocess, to_native
from jdl_keras.run_folder import Locate
from tfrecords_tools.study import Study

Maps = dict[str, KerasTensor]

Pass = tuple[Maps, KerasTensor]
"""Probability maps by task, and how much of every native pixel the grid reaches: 1
inside, 0 outside, between them across the edge."""

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
        maps = averaged(self.passes(study, equal_rotations(self._rotations)))
        return {task: ops.convert_to_numpy(values) for task, values in maps.items()}

    def passes(self, study: Study, rotations_degrees: Iterable[float]) -> list[Pass]:
        """What is seen with the grid turned by each of these rotations, (S, H, W)."""
        centre = self._locate(study)
        return [self._pass(study, centre, degrees) for degrees in rotations_degrees]

    def _pass(self, study: Study, centre: tuple[float, float], degrees: float) -> Pass:
        starts = range(0, len(study.pixels), LARGEST_BATCH)
        batches = (study.pixels[i : i + LARGEST_BATCH] for i in starts)
        parts = [self._batch(b, study.spacing_mm, centre, degrees) for b in batches]
        return keras.tree.map_structure(lambda *p: np.concatenate(p), *parts)

    def _batch(
        self,
        images: np.ndarray,
        spacing_mm: tuple[float, float],
        centre: tuple[float, float],
        degrees: float,
    ) -> Pass:
        slices, rows, columns = images.shape
        if keras.config.backend() == "jax":
            images = _grown(images)
        pairs = (np.tile(np.float32(p), (len(images), 1)) for p in (spacing_mm, centre))
        inputs = map(ops.convert_to_tensor, (images, *pairs))
        return keras.tree.map_structure(
            lambda values: ops.convert_to_numpy(values)[:slices, :rows, :columns],
            self._predict_rotated(*inputs, degrees),
        )


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
    return averaged(
        [
            predict_rotated(network, grid, *inputs, degrees)
            for degrees in equal_rotations(rotations)
        ]
    )


def equal_rotations(count: int) -> list[float]:
    """So many rotations in degrees, equally spaced, 0 first."""
    return [360 * index / count for index in range(count)]


def predict_rotated(
    network: keras.Model,
    grid: Grid,
    images: KerasTensor,
    spacing_mm: KerasTensor,
    centre: KerasTensor,
    rotation_degrees: KerasTensor | float,
) -> Pass:
    """`predict` on a grid that is turned about its centre."""
    seen = preprocess(images, spacing_mm, grid, centre, rotation_degrees)
    size = ops.shape(images)[1:3]

    def back(maps: KerasTensor) -> KerasTensor:
        return to_native(maps, spacing_mm, grid, centre, size, rotation_degrees)

    maps = network(seen, training=False)
    return {task: back(m) for task, m in maps.items()}, back(ops.ones_like(seen))


def averaged(passes: Sequence[Pass]) -> Maps:
    """Mean over those passes whose grid reaches the pixel.

    It lies where the grid of the first one lies: so one rotation and many agree on what
    is outside, and a corner that only some of them reach is not dimmed.
    """
    (first, reach), *others = passes
    if not others:
        return first
    reaches = sum(more for _, more in passes)
    return {
        task: ops.divide_no_nan(sum(maps[task] for maps, _ in passes), reaches) * reach
        for task in first
    }
