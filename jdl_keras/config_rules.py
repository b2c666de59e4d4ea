"""What a value of the configuration must be, where its type alone is not enough."""

import math
import operator
from collections.abc import Callable
from typing import Any

from jdl_keras.config import Config, MessageConfig
from tfrecords_tools.errors import RefusedError

STRIDE = 16
"""The networks halve the image four times."""

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
    "localiser.spacing_mm": ("positive numbers", lambda spacing: min(spacing) > 0),
    # The groups of its GroupNorm.
    "localiser.width": ("a positive multiple of 8", lambda n: n > 0 and n % 8 == 0),
    "localiser.steps": COUNT,
    "localiser.batch_size": COUNT,
    "localiser.learning_rate": POSITIVE,
    "split.folds": ("0, or 2 and more", lambda folds: folds == 0 or folds >= 2),
    "split.fold": NOT_NEGATIVE,
    "split.seed": NOT_NEGATIVE,
    "split.train_patients": NOT_NEGATIVE,
    "split.scar_patients": NOT_NEGATIVE,
    "message.widen_mm": NOT_NEGATIVE,
    "message.warmup_epochs": NOT_NEGATIVE,
    "model.dropout": ("0 <= rate < 1", lambda rate: 0 <= rate < 1),
    "loss.myocardium_weight": NOT_NEGATIVE,
    "loss.dice_weight": NOT_NEGATIVE,
    # At 0 an empty mask would be 0 / 0.
    "loss.smoothing": POSITIVE,
    "loss.wall_weight": NOT_NEGATIVE,
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
    "training.streams": COUNT,
    "training.patience": NOT_NEGATIVE,
    "evaluation.threshold": ("0 < t < 1", lambda threshold: 0 < threshold < 1),
    "evaluation.smallest_scar_ml": NOT_NEGATIVE,
    "evaluation.rotations": ("1 to 360", lambda count: 1 <= count <= 360),
}
"""For each key what is right, in words and in code."""


def check(config: Config) -> None:
    """Refuses values that are of the right type and still impossible.

    Raises:
        RefusedError: `CONFIG`, with the key, what is expected and what was given.
    """
    for key, (expected, holds) in RULES.items():
        value = operator.attrgetter(key)(config)
        _require(_is_finite(value) and holds(value), key, expected, value)
    for key in ("grid.size", "localiser.size"):
        size = operator.attrgetter(key)(config)
        near = [max(2, round(n / STRIDE)) * STRIDE for n in size]
        _require(
            all(n % STRIDE == 0 and n >= 2 * STRIDE for n in size),
            key,
            f"multiples of {STRIDE} from {2 * STRIDE}, such as {near}",
            size,
        )
    _check_counts(config)
    _check_method(config)


def _check_counts(config: Config) -> None:
    training, warmup = config.training, config.message.warmup_epochs
    _require(
        training.batch_size % training.micro_batches == 0,
        "training.micro_batches",
        f"a divisor of training.batch_size ({training.batch_size})",
        training.micro_batches,
    )
    samples = training.batch_size // training.micro_batches
    _require(
        samples % training.streams == 0,
        "training.streams",
        f"a divisor of the samples of a micro-batch ({samples})",
        training.streams,
    )
    split = config.split
    _require(
        split.fold < max(split.folds, 1),
        "split.fold",
        f"below split.folds ({split.folds})",
        split.fold,
    )
    _require(
        warmup < training.epochs,
        "message.warmup_epochs",
        f"fewer than training.epochs ({training.epochs})",
        warmup,
    )
    # Until then the score that patience waits for cannot rise.
    _require(
        not training.patience or training.patience > warmup,
        "training.patience",
        f"0, or more than message.warmup_epochs ({warmup})",
        training.patience,
    )


def _check_method(config: Config) -> None:
    message, default = config.message, MessageConfig()
    _require(
        config.method == "jdl"
        or (message == default and not config.model.share_weights),
        "message and model.share_weights",
        "their defaults unless method is jdl",
        config.method,
    )
    _require(
        config.method != "direct" or not config.loss.wall_weight,
        "loss.wall_weight",
        "0 for direct, which predicts no myocardium",
        config.loss.wall_weight,
    )
    _require(
        not config.model.share_weights or message.form == "product",
        "model.share_weights",
        "false unless message.form is product, since both networks take the same input",
        message.form,
    )


def _is_finite(value: float | tuple[float, ...]) -> bool:
    numbers = value if isinstance(value, tuple) else (value,)
    return all(math.isfinite(number) for number in numbers)


def _require(holds: bool, key: str, expected: str, value: object) -> None:
    if not holds:
        shown = [*value] if isinstance(value, tuple) else value
        raise RefusedError(key, "CONFIG", f"expected {expected}, got {shown}")
