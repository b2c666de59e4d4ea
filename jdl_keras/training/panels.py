"""Pictures of the training for TensorBoard."""

import keras
import numpy as np
import tensorflow as tf
from skimage.segmentation import find_boundaries


class Panels(keras.callbacks.Callback):
    """Slices with reference and prediction, as images in TensorBoard.

    Args:
        log_dir: folder of the event files.
        batches: validation batches; the slices with most scar are shown.
        every: epochs between two looks; the last epoch is always shown.
        count: slices shown.
    """

    def __init__(
        self, log_dir: str, batches: tf.data.Dataset, every: int = 5, count: int = 4
    ):
        super().__init__()
        self.log_dir, self.every = log_dir, every
        samples = batches.unbatch()
        sizes = [float(tf.reduce_sum(s["scar"])) for s in samples]
        shown = set(np.argsort(sizes)[-count:].tolist())
        self.samples = [s for index, s in enumerate(samples) if index in shown]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Draws the panels of this epoch."""
        if (epoch + 1) % self.every and epoch + 1 < self.params["epochs"]:
            return
        images = tf.stack([sample["image"] for sample in self.samples])
        predictions = self.model.network(images, training=False)
        rows = [
            panel(sample, {task: p[index].numpy() for task, p in predictions.items()})
            for index, sample in enumerate(self.samples)
        ]
        with tf.summary.create_file_writer(self.log_dir).as_default():
            tf.summary.image(
                "slice, reference, prediction", np.stack(rows), epoch + 1, len(rows)
            )


OUTLINES = {"myocardium": (0.35, 0.7, 0.9), "scar": (0.9, 0.6, 0.0)}
"""Sky blue and orange, told apart with any colour vision (Okabe and Ito)."""


def panel(sample: dict, prediction: dict) -> np.ndarray:
    """(H, 3 W, 3): the slice, with outlines of the reference, of the prediction."""
    grey = np.repeat(np.asarray(sample["image"]), 3, axis=-1)
    parts = [grey]
    for masks in (sample, prediction):
        drawn = grey.copy()
        for task, colour in OUTLINES.items():
            if task in masks:
                mask = np.asarray(masks[task])[..., 0] >= 0.5
                drawn[find_boundaries(mask, mode="inner")] = colour
        parts.append(drawn)
    return np.concatenate(parts, axis=1)
