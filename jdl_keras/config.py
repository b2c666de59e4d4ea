"""The configuration of a run: frozen dataclasses with the only defaults.

The defaults are those of the synthetic example that two CPU cores train in minutes.
"""

import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any, Literal

from tfrecords_tools.errors import RefusedError

STRIDE = 16
"""The networks halve the image four times."""


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """The grid that the networks see.

    Attributes:
        size: rows and columns, multiples of 16.
        spacing_mm: distances of neighbouring rows and columns.
        percentiles: of the intensities on the grid, mapped to 0 and 1.
    """

    size: tuple[int, int] = (96, 96)
    spacing_mm: tuple[float, float] = (1.5, 1.5)
    percentiles: tuple[float, float] = (1.0, 99.0)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The networks.

    Attributes:
        preset: size of each TransUNet.
        dropout: rate in the transformers.
        pretrained: npz file of published weights for both networks, or none.
    """

    preset: Literal["r50_vit_b16", "small", "tiny"] = "small"
    dropout: float = 0.0
    pretrained: str | None = None


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss: `myocardium_weight * L_myocardium + L_scar + L2 of both networks`.

    Attributes:
        myocardium_weight: lambda of the paper.
        dice_weight: w of the paper.
        smoothing: epsilon of the paper, in pixels.
        dice_over: `batch` sums pixels over the batch of all replicas before the ratio
            is taken; `sample` takes a ratio per sample.
        l2_myocardium: beta of the myocardium network.
        l2_scar: beta of the scar network.
    """

    myocardium_weight: float = 1.02
    dice_weight: float = 1.0
    smoothing: float = 1e-6
    dice_over: Literal["batch", "sample"] = "batch"
    l2_myocardium: float = 5.58e-6
    l2_scar: float = 5.58e-6


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of a training sample, uniform in their ranges.

    Attributes:
        scale: smallest and largest magnification.
        rotation_degrees: largest rotation to either side.
        translation_mm: largest shift along rows and along columns.
        shear_degrees: largest shear to either side.
        gamma: smallest and largest exponent of the intensities.
        noise_sd: largest standard deviation of added Gaussian noise.
    """

    scale: tuple[float, float] = (0.9, 1.1)
    rotation_degrees: float = 30.0
    translation_mm: float = 10.0
    shear_degrees: float = 5.0
    gamma: tuple[float, float] = (0.7, 1.4)
    noise_sd: float = 0.02


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam.

    Attributes:
        learning_rate: at the start.
        schedule: `cosine` decays it to 0 over all epochs.
        clip_norm: largest norm of the gradients of all weights together; 0 for none.
    """

    learning_rate: float = 2e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    clip_norm: float = 1.0


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a run is trained.

    Attributes:
        epochs: passes over the training split.
        batch_size: samples of one update, over all replicas.
        micro_batches: parts in which a replica computes its share of a batch.
        patience: epochs without a better validation score until the run stops; 0
            for never.
        mixed_precision: the Keras dtype policy. bfloat16 has the range of float32,
            so that no loss has to be scaled.
        strategy: `auto` mirrors where several accelerators are visible.
        cache: keep the slices of the training split in memory.
    """

    epochs: int = 12
    batch_size: int = 8
    micro_batches: int = 1
    patience: int = 0
    mixed_precision: Literal["float32", "mixed_bfloat16"] = "float32"
    strategy: Literal["auto", "mirrored", "single"] = "auto"
    cache: bool = True


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How masks are made and measured.

    Attributes:
        split: what `train` measures at its end; `validation` keeps the test split
            unread while settings are still being chosen.
        threshold: probability from which a pixel belongs to the mask.
        figures: draw the overlays of every patient.
    """

    split: Literal["test", "validation"] = "test"
    threshold: float = 0.5
    figures: bool = True


@dataclasses.dataclass(frozen=True)
class Config:
    """A run.

    Attributes:
        records: record set; without one, a phantom cohort is made.
        run_dir: folder of the run; the same command continues what it finds there.
        seed: of weights, order, augmentation and dropout.
        method: how the networks of the tasks are wired.
    """

    records: str | None = None
    run_dir: str = "runs/jdl"
    seed: int = 0
    method: Literal["jdl"] = "jdl"
    grid: GridConfig = dataclasses.field(default_factory=GridConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    augmentation: AugmentationConfig = dataclasses.field(
        default_factory=AugmentationConfig
    )
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)


RANGE = ("0 < smallest <= largest", lambda limits: 0 < limits[0] <= limits[1])
POSITIVE = ("a positive number", lambda value: value > 0)
NOT_NEGATIVE = ("0 or more", lambda value: value >= 0)
COUNT = ("1 to 1000000", lambda value: 1 <= value <= 1_000_000)

RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    # The generators of TensorFlow and Keras take 31 bits; a run adds 1.
    "seed": ("0 to 2147483646", lambda seed: 0 <= seed < 2**31 - 1),
    "grid.spacing_mm": ("positive numbers", lambda spacing: min(spacing) > 0),
    "grid.percentiles": (
        "0 <= low < high <= 100",
        lambda limits: 0 <= limits[0] < limits[1] <= 100,
    ),
    "model.dropout": ("0 <= rate < 1", lambda rate: 0 <= rate < 1),
    "loss.myocardium_weight": NOT_NEGATIVE,
    "loss.dice_weight": NOT_NEGATIVE,
    # At 0 an empty mask would be 0 / 0.
    "loss.smoothing": POSITIVE,
    "loss.l2_myocardium": NOT_NEGATIVE,
    "loss.l2_scar": NOT_NEGATIVE,
    "augmentation.scale": RANGE,
    "augmentation.rotation_degrees": NOT_NEGATIVE,
    "augmentation.translation_mm": NOT_NEGATIVE,
    "augmentation.shear_degrees": ("0 <= shear < 90", lambda shear: 0 <= shear < 90),
    "augmentation.gamma": RANGE,
    "augmentation.noise_sd": NOT_NEGATIVE,
    "optimizer.learning_rate": POSITIVE,
    "optimizer.clip_norm": NOT_NEGATIVE,
    "training.epochs": COUNT,
    "training.batch_size": COUNT,
    "training.micro_batches": COUNT,
    "training.patience": NOT_NEGATIVE,
    "evaluation.threshold": ("0 < t < 1", lambda threshold: 0 < threshold < 1),
}
"""For the keys whose type alone is not enough: what is right, in words and in code."""


def check(config: Config) -> None:
    """Refuses values that are of the right type and still impossible.

    Raises:
        RefusedError: `CONFIG`, with the key, what is expected and what was given.
    """
    for key, (expected, holds) in RULES.items():
        value = operator.attrgetter(key)(config)
        _require(_is_finite(value) and holds(value), key, expected, value)
    size = config.grid.size
    near = [max(2, round(n / STRIDE)) * STRIDE for n in size]
    _require(
        all(n % STRIDE == 0 and n >= 2 * STRIDE for n in size),
        "grid.size",
        f"multiples of {STRIDE} from {2 * STRIDE}, such as {near}",
        size,
    )
    training = config.training
    _require(
        training.batch_size % training.micro_batches == 0,
        "training.micro_batches",
        f"a divisor of training.batch_size ({training.batch_size})",
        training.micro_batches,
    )


def _is_finite(value: float | tuple[float, ...]) -> bool:
    numbers = value if isinstance(value, tuple) else (value,)
    return all(math.isfinite(number) for number in numbers)


def _require(holds: bool, key: str, expected: str, value: object) -> None:
    if not holds:
        shown = [*value] if isinstance(value, tuple) else value
        raise RefusedError(key, "CONFIG", f"expected {expected}, got {shown}")
