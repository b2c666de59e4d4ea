"""A prediction as its signs see it: the wall, findings, a window about the heart."""

import dataclasses
from functools import cached_property

import numpy as np

from jdl_keras.inference.study_prediction import StudyPrediction
from tfrecords_tools.findings import Finding
from tfrecords_tools.label_checks import check_labels
from tfrecords_tools.label_shapes import SliceShape
from tfrecords_tools.labels import TASKS

WINDOW_MM = 144.0
"""Side of the square about the heart that is looked at: a large heart with what borders
on it, about what the networks see."""

LEAST_PIXELS = 8
"""Fewer pixels say nothing about brightness."""


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """A prediction in which a wall was found, and the window about its heart.

    Attributes:
        prediction: the study.
    """

    prediction: StudyPrediction

    @cached_property
    def shapes(self) -> dict[int, SliceShape]:
        """The wall of each slice that has any."""
        return {i: s for i, s in enumerate(self.prediction.wall.shapes) if s}

    @cached_property
    def findings(self) -> list[Finding]:
        """What a second reader would ask about labels like these."""
        study, label_map = self.prediction.study, self.prediction.wall.label_map
        labelled = (frozenset(TASKS),) * len(label_map)
        return check_labels(
            dataclasses.replace(study, label_map=label_map, labelled=labelled)
        )

    @cached_property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the window, as far as the image reaches."""
        low, high = self._edges
        rows, columns = self.prediction.study.pixels.shape[1:]
        return (
            slice(max(low[0], 0), min(high[0], rows)),
            slice(max(low[1], 0), min(high[1], columns)),
        )

    @cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        centre = np.median([shape.centre for shape in self.shapes.values()], axis=0)
        half = WINDOW_MM / 2 / np.array(self.prediction.study.spacing_mm)
        return np.rint(centre - half).astype(int), np.rint(centre + half).astype(int)

    @cached_property
    def images(self) -> np.ndarray:
        """The windows (S, h, w) of the images."""
        return self.prediction.study.pixels[:, *self.window]

    @cached_property
    def empty(self) -> np.ndarray:
        """(S, h, w) boolean: pixels of the window where nothing was acquired.

        Padding has one value and lies in one piece; so do its pixels' neighbours.
        """
        same = np.ones(self.images.shape, bool)
        for axis in (1, 2):
            steps = np.diff(self.images, axis=axis) == 0
            before, after = [(0, 0)] * 3, [(0, 0)] * 3
            before[axis], after[axis] = (1, 0), (0, 1)
            same &= np.pad(steps, before, constant_values=True)
            same &= np.pad(steps, after, constant_values=True)
        return same

    @property
    def window_pixels(self) -> int:
        """Pixels of a window that no edge of the image cuts."""
        low, high = self._edges
        return int(np.prod(high - low))

    def range_of(self, index: int) -> float:
        """Difference of bright and dark in a slice's window, never 0."""
        content = self.images[index][~self.empty[index]]
        if content.size < LEAST_PIXELS:
            return 1.0
        low, high = np.percentile(content, (5, 95))
        return float(high - low) or 1.0
