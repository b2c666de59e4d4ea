"""Predictions on the native grid."""

import keras
import numpy as np
import tensorflow as tf

from jdl_keras.preprocessing import Grid, image_centre, preprocess, to_native
from tfrecords_tools.study import Study


class Predictor:
    """Applies a network to native slices: preprocess, predict, map back.

    Args:
        network: from (B, rows, columns, 1) to probability maps by task.
        grid: the grid that the network was trained on.
    """

    def __init__(self, network: keras.Model, grid: Grid):
        self._predict = tf.function(
            lambda images, spacing_mm: predict(network, grid, images, spacing_mm),
            input_signature=[
                tf.TensorSpec([None, None, None], tf.float32),
                tf.TensorSpec([None, 2], tf.float32),
            ],
        )

    def probability_maps(self, study: Study) -> dict[str, np.ndarray]:
        """For each task (S, H, W) foreground probabilities on the study's grid."""
        spacing_mm = np.tile(np.float32(study.spacing_mm), (len(study.pixels), 1))
        maps = self._predict(study.pixels, spacing_mm)
        return {task: values.numpy() for task, values in maps.items()}

    def masks(self, study: Study, threshold: float) -> dict[str, np.ndarray]:
        """For each task the boolean (S, H, W) mask of `probability >= threshold`."""
        maps = self.probability_maps(study)
        return {task: values >= threshold for task, values in maps.items()}


def predict(
    network: keras.Model, grid: Grid, images: tf.Tensor, spacing_mm: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Probability maps (B, H, W) of native images (B, H, W) with spacing (B, 2)."""
    centre = image_centre(images)
    maps = network(preprocess(images, spacing_mm, grid, centre), training=False)
    size = tf.shape(images)[1:3]
    return {
        task: to_native(values, spacing_mm, grid, centre, size)
        for task, values in maps.items()
    }
