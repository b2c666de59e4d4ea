"""Batches of samples from slices in memory, on any backend.

What `data.pipeline` makes of TFRecords, with other random numbers: order and
augmentation are functions of (seed, epoch, place in the record set).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from keras import KerasTensor, ops

from jdl_keras.config import Config
from jdl_keras.data.augmentation import random_affine, random_intensity
from jdl_keras.data.samples import limits_on_grid, millimetres_to_grid, resampled
from jdl_keras.preprocessing import Grid, finite, grid_to_native
from tfrecords_tools.labels import TASKS
from tfrecords_tools.study_set import StudySet

Batch = dict[str, KerasTensor | dict[str, KerasTensor]]
"""Samples of `data.samples`, stacked."""


class SlicesOnGrid:
    """The slices of a split in memory, and where the grid lies on each of them.

    Args:
        record_set: whose slices are held.
        split: their split.
        config: of the run.
        centres: (slices, 2) native (row, column) on which the grid is centred.
    """

    def __init__(
        self, record_set: StudySet, split: str, config: Config, centres: np.ndarray
    ):
        self.config, self.grid = config, Grid.from_config(config.grid)
        self.slices = list(record_set.slices(split))
        self.size = np.max([one.pixels.shape for one in self.slices], axis=0)
        patients = record_set.patients(split)
        owners = [patients.index(one.patient_key) for one in self.slices]
        self.patient = np.array(owners, np.int32)
        spacing_mm = _tensor([one.spacing_mm for one in self.slices])
        transforms = grid_to_native(self.grid, spacing_mm, _tensor(centres))
        self.transforms = ops.convert_to_numpy(transforms)
        self.limits = np.concatenate([*map(self._limits, self.in_order())])

    def in_order(self) -> list[np.ndarray]:
        """The places of all batches; the last one holds what is left."""
        return self._batched(np.arange(len(self.slices)))

    def shuffled(self, epoch: int) -> list[np.ndarray]:
        """The places of an epoch's batches."""
        random = np.random.default_rng([self.config.seed, epoch])
        return self._batched(random.permutation(len(self.slices)))

    def _batched(self, places: np.ndarray) -> list[np.ndarray]:
        size = self.config.training.batch_size
        return [places[i : i + size] for i in range(0, len(places), size)]

    def _native(self, places: Sequence[int]) -> tuple[KerasTensor, KerasTensor]:
        """Images and label maps (B, H, W) of the split's largest height and width.

        An image is grown by its last row and column, and a label map by background, as
        both are read beyond their edges. So all batches have one shape, for backends
        that compile for every shape anew.
        """
        chosen = [self.slices[place] for place in places]
        more = [[(0, n) for n in self.size - one.pixels.shape] for one in chosen]
        pairs = list(zip(chosen, more, strict=True))
        pixels = np.stack([np.pad(one.pixels, n, "edge") for one, n in pairs])
        label_maps = np.stack([np.pad(one.label_map, n) for one, n in pairs])
        return finite(_tensor(pixels)), ops.convert_to_tensor(label_maps)

    def _limits(self, places: np.ndarray) -> np.ndarray:
        pixels, _ = self._native(places)
        transform = _tensor(self.transforms[places])
        return ops.convert_to_numpy(limits_on_grid(pixels, transform, self.grid))

    def batch(self, places: np.ndarray, transforms: np.ndarray | None = None) -> Batch:
        """The samples at these places.

        Args:
            places: (B,) in the split.
            transforms: (B, 3, 3) from the grid to native pixels; as the grid lies on
                the slices if not given.
        """
        transforms = self.transforms[places] if transforms is None else transforms
        on_grid = resampled(
            *self._native(places),
            _tensor(transforms),
            _tensor(self.limits[places]),
            self.grid,
        )
        chosen = [self.slices[place] for place in places]
        labelled = {t: _tensor([t in one.labelled for one in chosen]) for t in TASKS}
        patient = ops.convert_to_tensor(self.patient[places])
        return {**on_grid, "labelled": labelled, "patient": patient}

    def augmented(self, places: np.ndarray, epoch: int) -> Batch:
        """The samples at these places, changed as an epoch wants it."""
        keys = [[self.config.seed, epoch, 1 + place] for place in places]
        draws = zip(
            *(self._draw(np.random.default_rng(key)) for key in keys), strict=True
        )
        affine, intensity, noise = map(_tensor, draws)
        change = random_affine(affine, self.config.augmentation)
        transforms = self._changed(places, ops.convert_to_numpy(change))
        result = self.batch(places, transforms)
        result["image"] = random_intensity(
            result["image"], intensity, noise, self.config.augmentation
        )
        return result

    def _draw(self, random: np.random.Generator) -> tuple[np.ndarray, ...]:
        """What `random_affine` and `random_intensity` take, for one sample."""
        noise = random.standard_normal((*self.grid.size, 1), np.float32)
        return random.uniform(-1, 1, 5), random.random(2), noise

    def _changed(self, places: np.ndarray, change: np.ndarray) -> np.ndarray:
        """(B, 3, 3) from the grid to native pixels, by way of a change of the grid.

        By NumPy: accelerators multiply matrices in fewer bits, which would move pixels
        by tenths.
        """
        mm_to_grid = millimetres_to_grid(self.grid)
        grid_to_mm = np.linalg.inv(mm_to_grid)
        on_grid = np.float32(mm_to_grid) @ change @ np.float32(grid_to_mm)
        return self.transforms[places] @ on_grid


def training_batches(
    record_set: StudySet, config: Config, centres: np.ndarray, first_epoch: int = 0
) -> Iterator[tuple[Batch]]:
    """Augmented, shuffled batches of all epochs from `first_epoch` on, in one row.

    The last batch of an epoch holds what is left: filled up with empty samples, it
    would have other batch statistics.

    Args:
        record_set: whose training split is read.
        config: of the run.
        centres: (slices, 2) native (row, column) on which the grid is centred.
        first_epoch: finished epochs.

    Yields:
        The arguments of one call of the network, as Keras wants them of a generator.
    """
    slices = SlicesOnGrid(record_set, "train", config, centres)
    return _one_ahead(
        (slices.augmented(places, epoch),)
        for epoch in range(first_epoch, config.training.epochs)
        for places in slices.shuffled(epoch)
    )


def validation_batches(
    record_set: StudySet, config: Config, centres: np.ndarray
) -> list[Batch]:
    """The samples of the validation split in order, as they are."""
    slices = SlicesOnGrid(record_set, "validation", config, centres)
    return [slices.batch(places) for places in slices.in_order()]


def _one_ahead(batches: Iterator[tuple[Batch]]) -> Iterator[tuple[Batch]]:
    """The same batches; while one is used, the next is made."""
    with ThreadPoolExecutor(1) as worker:
        following = worker.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = worker.submit(next, batches, None)
            yield batch


def _tensor(values: Sequence | np.ndarray) -> KerasTensor:
    return ops.convert_to_tensor(np.asarray(values, np.float32))
