"""The configuration of a run: frozen dataclasses with the only defaults.

The defaults are those of the synthetic example that two CPU cores train in minutes.
"""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """The grid that the networks see.

    Attributes:
        size: rows and columns, multiples of 16.
        spacing_mm: distances of neighbouring rows and columns.
        percentiles: of the intensities on the grid, mapped to 0 and 1.
        centre: what the grid is centred on: what the `localiser` finds, the middle of
            the `image`, or the myocardium of the `reference`, an upper bound that no
            user has. The localiser's networks train around the reference too.
    """

    size: tuple[int, int] = (96, 96)
    spacing_mm: tuple[float, float] = (1.5, 1.5)
    percentiles: tuple[float, float] = (1.0, 99.0)
    centre: Literal["localiser", "image", "reference"] = "localiser"


@dataclasses.dataclass(frozen=True)
class LocaliserConfig:
    """The network that finds the heart on a coarse grid over the whole field of view.

    Attributes:
        size: rows and columns, multiples of 16.
        spacing_mm: distances of neighbouring rows and columns.
        width: channels of its first convolution, a multiple of 8.
        steps: updates of its training.
        batch_size: samples of one update.
        learning_rate: at the start; it decays to 0 by a cosine.
        run: run folder whose localiser is taken in place of a new one, or none.
    """

    size: tuple[int, int] = (96, 96)
    spacing_mm: tuple[float, float] = (5.0, 5.0)
    width: int = 16
    steps: int = 1200
    batch_size: int = 16
    learning_rate: float = 3e-3
    run: str | None = None


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The networks.

    Attributes:
        preset: size of each TransUNet.
        dropout: rate in the transformers.
        share_weights: one network for both tasks (`jdl` with the plain message).
        pretrained: npz file of published weights for every TransUNet, or none.
        initial_weights: run folder whose best network this one starts from, or none.
    """

    preset: Literal["r50_vit_b16", "small", "tiny"] = "small"
    dropout: float = 0.0
    share_weights: bool = False
    pretrained: str | None = None
    initial_weights: str | None = None


@dataclasses.dataclass(frozen=True)
class MessageConfig:
    """What `jdl` passes from the myocardium network to the scar network.

    Attributes:
        form: `product`, the paper's image times probability map; `channels`, image,
            map and product side by side; `standardised`, the same with the product's
            intensities in deviations from the remote wall; `features`, the image, with
            the map multiplying the features of the hybrid stem at every scale.
        conditional: the scar network's map is taken as the probability of scar given
            myocardium, and multiplied by that of myocardium.
        hard: a mask of 0 and 1 in place of the probability map; no gradient flows.
        stop_gradient: the scar loss does not reach the myocardium network.
        widen_mm: radius by which the map is dilated.
        warmup_epochs: epochs in which only the myocardium network learns.
    """

    form: Literal["product", "channels", "standardised", "features"] = "product"
    conditional: bool = False
    hard: bool = False
    stop_gradient: bool = False
    widen_mm: float = 0.0
    warmup_epochs: int = 0


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
        wall_weight: how much more a pixel counts in the scar's cross entropy where the
            myocardium is predicted: 1 + wall_weight * probability.
    """

    myocardium_weight: float = 1.02
    dice_weight: float = 1.0
    smoothing: float = 1e-6
    dice_over: Literal["batch", "sample"] = "batch"
    l2_myocardium: float = 5.58e-6
    l2_scar: float = 5.58e-6
    wall_weight: float = 0.0


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
        micro_batches: parts in which a replica computes its share of a batch, one
            after another; they need less memory.
        streams: parts of a micro-batch that are computed at the same time, each on its
            share of the cores; they need less time where there is no accelerator.
        patience: epochs without a better validation score until the run stops; 0
            for never.
        mixed_precision: the Keras dtype policy. bfloat16 has the range of float32,
            so that no loss has to be scaled.
        strategy: `auto` mirrors where several accelerators are visible, and over the
            workers that TF_CONFIG names, if it does; `mirrored` mirrors over all
            devices of this machine; `multi_worker` insists on TF_CONFIG; `single`
            takes one device.
        cache: keep the slices of the training split in memory.
    """

    epochs: int = 12
    batch_size: int = 8
    micro_batches: int = 1
    streams: int = 1
    patience: int = 0
    mixed_precision: Literal["float32", "mixed_bfloat16"] = "float32"
    strategy: Literal["auto", "mirrored", "multi_worker", "single"] = "auto"
    cache: bool = True


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How masks are made and measured.

    Attributes:
        split: what `train` measures at its end; `validation` keeps the test split
            unread while settings are still being chosen.
        threshold: probability from which a pixel belongs to the mask.
        smallest_scar_ml: connected scar below this volume is taken out.
        rotations: passes over equally spaced rotations whose maps are averaged; 1 for
            the image as it is. The cost grows with it.
        choose_operating_point: choose threshold and smallest scar on the validation
            split, for specificity, in place of the two above.
        figures: draw the overlays of every patient.
    """

    split: Literal["test", "validation"] = "test"
    threshold: float = 0.5
    smallest_scar_ml: float = 0.0
    rotations: int = 1
    choose_operating_point: bool = True
    figures: bool = True


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Another use of a record set's patients than that of its manifest.

    Attributes:
        folds: parts of a cross-validation; 0 keeps the splits of the manifest.
        fold: the part that is the test split.
        seed: of the folds and of the choice of patients, the same for all runs that
            are compared.
        train_patients: of the training split, this many are used; 0 for all.
        scar_patients: the scar reference of this many training patients is used, only
            the myocardium of the others; 0 for all.
    """

    folds: int = 0
    fold: int = 0
    seed: int = 0
    train_patients: int = 0
    scar_patients: int = 0


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
    method: Literal["direct", "two_step", "multi_task", "jdl"] = "jdl"
    split: SplitConfig = dataclasses.field(default_factory=SplitConfig)
    grid: GridConfig = dataclasses.field(default_factory=GridConfig)
    localiser: LocaliserConfig = dataclasses.field(default_factory=LocaliserConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    message: MessageConfig = dataclasses.field(default_factory=MessageConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    augmentation: AugmentationConfig = dataclasses.field(
        default_factory=AugmentationConfig
    )
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
