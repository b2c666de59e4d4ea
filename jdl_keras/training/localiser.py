"""Trains the localiser on the slices whose myocardium is known.

Study images are often centred on the heart and cut around it; those of users are not.
So every sample shows the heart in a field of view that is cut at random, and neither
its place in the field nor the field's borders tell where it is.
"""

import dataclasses
import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import KerasTensor, ops
from scipy import ndimage

from jdl_keras.config import Config
from jdl_keras.data.centring import slice_reference_centre
from jdl_keras.models.localiser import build_localiser
from jdl_keras.preprocessing import Grid
from tfrecords_tools.errors import DivergedError, RefusedError
from tfrecords_tools.study import Slice
from tfrecords_tools.study_set import StudySet

SCALE = (0.7, 1.4)
GAMMA = (0.6, 1.6)
NOISE_SD = 0.05
MARGIN_MM = 50.0
"""The field is never cut nearer to the heart's centre: it is 46 mm in radius at most
in EMIDEC."""
KEPT = (0.7, 1.0)
"""Share that is kept of the longest field that has the heart at a drawn place."""
DARK_SHARE = 0.25
TARGET_SD_MM = 10.0
"""Width of the target around the heart's centre."""
CLIP_NORM = 1.0


@dataclasses.dataclass(frozen=True)
class View:
    """A random look at a slice, in millimetres from the heart's centre.

    Attributes:
        to_native: (2, 2) from the sample's (y, x) to the slice's.
        kept: (2, 2) first and last (y, x) that is kept of the slice.
        field: (2, 2) first and last (y, x) of the sample's field of view.
        dark: whether there is nothing beyond the field; else its edge is repeated.
    """

    to_native: np.ndarray
    kept: np.ndarray
    field: np.ndarray
    dark: bool


def random_view(random: np.random.Generator, extent: np.ndarray) -> View:
    """Cuts, turns, mirrors and magnifies.

    Args:
        random: source of the randomness.
        extent: (2, 2) first and last (y, x) of the slice.
    """
    kept = np.stack([random_cut(random, *limits) for limits in extent.T], axis=1)
    angle = random.uniform(0, 2 * math.pi)
    scale = math.exp(random.uniform(*np.log(SCALE)))
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) * [1, random.choice([-1, 1])]
    # How far the kept part reaches along the sample's axes, backwards and forwards.
    directions = np.stack([-turn.T, turn.T])  # (2, 2, 2): way, axis, (y, x)
    limits = np.abs(np.where(directions < 0, kept[0], kept[1]))
    reach = np.min(limits / np.maximum(np.abs(directions), 1e-6), axis=2)
    field = scale * reach * [[-1], [1]]
    return View(turn / scale, kept, field, random.random() < DARK_SHARE)


def random_cut(random: np.random.Generator, low: float, high: float) -> np.ndarray:
    """First and last position that are kept of one axis, from low < 0 to high > 0.

    The heart, at 0, is equally likely everywhere in what is kept, but for a margin: how
    far it lies from one border says nothing about how far it lies from the other.
    """
    low, high = min(low, -1.0), max(high, 1.0)  # A heart may lie on the border itself.
    nearest = np.minimum(MARGIN_MM, [-low, high])
    place = random.uniform(nearest[0] / (nearest[0] + high), low / (low - nearest[1]))
    length = min(-low / place, high / (1 - place)) * random.uniform(*KEPT)
    sides = np.maximum(length * np.array([place, 1 - place]), nearest)
    return sides * [-1, 1]


def render(
    one: Slice, heart: np.ndarray, view: View, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """What the localiser sees of a view: image (h, w) and the heart's place on it."""
    low, high = view.field
    middle = (low + high) / 2  # The grid lies around the middle of the field.
    y, x = (
        (np.arange(n) - (n - 1) / 2) * mm + centre
        for n, mm, centre in zip(grid.size, grid.spacing_mm, middle, strict=True)
    )
    inside = np.stack(
        np.meshgrid(y.clip(low[0], high[0]), x.clip(low[1], high[1]), indexing="ij")
    )
    native_mm = np.tensordot(view.to_native, inside, axes=1)
    native_mm = native_mm.clip(*view.kept[..., None, None])
    native = native_mm / np.reshape(one.spacing_mm, (2, 1, 1)) + heart[:, None, None]
    image = ndimage.map_coordinates(one.pixels, native, order=1, mode="nearest")
    if view.dark:
        rows, columns = (y < low[0]) | (y > high[0]), (x < low[1]) | (x > high[1])
        image[rows[:, None] | columns] = image.min()
    return image, -middle / grid.spacing_mm + (np.array(grid.size) - 1) / 2


def change_intensities(
    image: np.ndarray, random: np.random.Generator, percentiles: tuple[float, float]
) -> np.ndarray:
    """Scales an image (h, w) to [0, 1] as preprocessing does; then gamma and noise."""
    ranks = np.round(np.array(percentiles) / 100 * (image.size - 1)).astype(int)
    low, high = np.partition(image.ravel(), ranks)[ranks]
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        return np.zeros_like(image)
    image = np.clip((image - low) / (high - low), 0, 1)
    image = image ** np.float32(math.exp(random.uniform(*np.log(GAMMA))))
    noise = random.standard_normal(image.shape, np.float32)
    return np.clip(image + random.uniform(0, NOISE_SD) * noise, 0, 1)


def target(place: np.ndarray, grid: Grid) -> np.ndarray:
    """Gaussian (h, w) of sum 1 around a place (row, column) of the grid."""
    rows, columns = (
        np.exp(-0.5 * ((np.arange(n) - at) * mm / TARGET_SD_MM) ** 2)
        for n, mm, at in zip(grid.size, grid.spacing_mm, place, strict=True)
    )
    heat = rows[:, None] * columns[None, :]
    return (heat / heat.sum()).astype(np.float32)


class Views(keras.utils.PyDataset):
    """Batches of random views, each a function of (seed, step)."""

    def __init__(self, slices: list[Slice], config: Config, **options: object):
        super().__init__(**options)
        self.config, self.slices = config, slices
        self.hearts = [slice_reference_centre(one) for one in slices]
        self.grid = Grid(config.localiser.size, config.localiser.spacing_mm)

    def __len__(self) -> int:
        return self.config.localiser.steps

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Images and targets (B, h, w, 1) of a step."""
        random = np.random.default_rng([self.config.seed, step])
        chosen = random.integers(
            len(self.slices), size=self.config.localiser.batch_size
        )
        images, targets = zip(*(self.sample(i, random) for i in chosen), strict=True)
        return np.stack(images)[..., None], np.stack(targets)[..., None]

    def sample(
        self, index: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A view of one slice: image and target (h, w)."""
        one, heart = self.slices[index], np.array(self.hearts[index])
        corners = np.array([np.zeros(2), np.array(one.pixels.shape) - 1.0])
        view = random_view(random, (corners - heart) * one.spacing_mm)
        image, place = render(one, heart, view, self.grid)
        image = change_intensities(image, random, self.grid.percentiles)
        return image, target(place, self.grid)


def place_loss(reference: KerasTensor, logits: KerasTensor) -> KerasTensor:
    """Cross entropy (B,) of the target and the softmax over all positions."""
    cells = math.prod(logits.shape[1:])
    reference = ops.reshape(reference, (-1, cells))
    log_probability = ops.log_softmax(ops.reshape(logits, (-1, cells)))
    return -ops.sum(reference * log_probability, axis=1)


def train_localiser(
    config: Config,
    record_set: StudySet,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.Model:
    """Trains the localiser on the training split.

    Sets the global seed of Keras.

    Args:
        config: its `localiser` and `seed`.
        record_set: its slices with a myocardium are held in memory.
        callbacks: of Keras, such as a progress bar; the training is one epoch.

    Raises:
        RefusedError: if no slice shows a myocardium.
        DivergedError: if the loss is not finite.
    """
    slices = [s for s in record_set.slices("train") if slice_reference_centre(s)]
    if not slices:
        reason = (
            "no slice of the training split has a myocardium; use grid.centre image"
        )
        raise RefusedError(record_set.path, "LABELS", reason)
    keras.utils.set_random_seed(config.seed)
    network = build_localiser(config.localiser)
    rate = config.localiser.learning_rate
    schedule = keras.optimizers.schedules.CosineDecay(rate, config.localiser.steps)
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=CLIP_NORM)
    network.compile(optimizer=optimizer, loss=place_loss)
    history = network.fit(
        Views(slices, config), shuffle=False, verbose=0, callbacks=[*callbacks]
    )
    if not math.isfinite(history.history["loss"][-1]):
        raise DivergedError(
            "the localiser's loss is not finite; lower its learning rate"
        )
    return network
