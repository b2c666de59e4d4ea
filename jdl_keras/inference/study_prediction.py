"""What was predicted in one study, and how sure it is."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from jdl_keras.quantification.burden import burden
from jdl_keras.quantification.masks import WallMasks, masks_of
from tfrecords_tools.study import Study

Masks = Mapping[str, np.ndarray]
"""Boolean (S, H, W) of `myocardium` and `scar`."""


@dataclasses.dataclass(frozen=True, eq=False)
class StudyPrediction:
    """One study with what was predicted in it, on its own grid.

    Attributes:
        study: the images, base to apex.
        maps: (S, H, W) probabilities of `myocardium` and `scar`, mean of the passes.
        masks: of these maps, by the rule of the run.
        passes: the masks of each pass by the same rule; a pass is one rotation of one
            run. With one pass there is nothing to compare.
    """

    study: Study
    maps: Mapping[str, np.ndarray]
    masks: Masks
    passes: Sequence[Masks]

    @cached_property
    def wall(self) -> WallMasks:
        """The masks as they are measured: scar is wall wherever it lies.

        Raises:
            RefusedError: `LABELS` where no myocardium was found.
        """
        return self._measured(self.masks)

    @cached_property
    def pass_burdens_percent(self) -> tuple[float, ...]:
        """Scar burden by each pass; those that find no wall are left out."""
        walls = [self._measured(masks) for masks in self.passes if any_wall(masks)]
        found = (burden(wall).burden_percent for wall in walls)
        return tuple(percent for percent in found if percent is not None)

    def _measured(self, masks: Masks) -> WallMasks:
        return masks_of(masks["myocardium"], masks["scar"], self.study.affine)


def any_wall(masks: Masks) -> bool:
    """Whether there is anything to measure scar in."""
    return bool(masks["myocardium"].any() or masks["scar"].any())


@dataclasses.dataclass(frozen=True)
class Interval:
    """Where the scar burden lies that a reader would have drawn.

    Attributes:
        low_percent: of the wall.
        high_percent: of the wall.
        coverage_percent: of patients whose value lies inside, as calibrated; None if
            the interval is only the spread of the passes.
        rule: how it was made, in one line.
    """

    low_percent: float
    high_percent: float
    coverage_percent: float | None
    rule: str


@dataclasses.dataclass(frozen=True)
class Concern:
    """Why a person should look before the numbers are used.

    Attributes:
        code: what kind, in capitals.
        text: one plain sentence.
        slices: to look at first, 0 at the base; empty if it is about the study.
    """

    code: str
    text: str
    slices: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The gate: `PASS`, or `REVIEW` with reasons.

    Attributes:
        concerns: the gravest first; none is a PASS.
    """

    concerns: tuple[Concern, ...] = ()

    @property
    def name(self) -> str:
        """`PASS` or `REVIEW`."""
        return "REVIEW" if self.concerns else "PASS"

    @property
    def slices(self) -> tuple[int, ...]:
        """To look at first, in the order of the concerns, each once."""
        return tuple(dict.fromkeys(i for one in self.concerns for i in one.slices))


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Who made a prediction.

    Attributes:
        version: of this package.
        method: `two_step`, `multi_task` or `jdl`.
        preset: size of the networks.
        weights_sha256: of the network of each run.
        record_set_sha256: of what each run was trained on.
        exports: versions of the exported models among the runs.
    """

    version: str
    method: str
    preset: str
    weights_sha256: tuple[str, ...]
    record_set_sha256: tuple[str, ...]
    exports: tuple[int, ...] = ()
