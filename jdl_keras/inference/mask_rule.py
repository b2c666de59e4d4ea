"""From probability maps to masks, by a rule that is chosen before the test split."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jdl_keras.config import EvaluationConfig
from jdl_keras.evaluation.components import without_small_components
from jdl_keras.evaluation.operating_point import read_operating_point
from jdl_keras.run_folder import RunFolder
from tfrecords_tools.geometry import voxel_volume_ml
from tfrecords_tools.study import Study


@dataclasses.dataclass(frozen=True)
class MaskRule:
    """How masks are made.

    Attributes:
        myocardium_threshold: probability from which a voxel is myocardium.
        scar_threshold: probability from which a voxel is scar.
        smallest_scar_ml: connected scar below it is taken out.
    """

    myocardium_threshold: float
    scar_threshold: float
    smallest_scar_ml: float

    @classmethod
    def of_run(cls, folder: RunFolder, config: EvaluationConfig) -> "MaskRule":
        """The rule of a run: as configured, or as chosen on its validation split."""
        scar = (
            read_operating_point(folder.operating_point)
            if config.choose_operating_point
            else config
        )
        return cls(config.threshold, scar.threshold, scar.smallest_scar_ml)

    @classmethod
    def mean(cls, rules: Sequence["MaskRule"]) -> "MaskRule":
        """The rule of runs whose maps are averaged."""
        return cls(
            *np.mean([dataclasses.astuple(rule) for rule in rules], axis=0).tolist()
        )

    def masks(
        self, study: Study, maps: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """For each task the boolean (S, H, W) mask of a study.

        Args:
            study: whose spacings are needed.
            maps: task to (S, H, W) probabilities.
        """
        masks = {"scar": maps["scar"] >= self.scar_threshold}
        if self.smallest_scar_ml:
            voxel_ml = voxel_volume_ml(study.spacing_mm, study.slice_spacing_mm)
            masks["scar"] = without_small_components(
                masks["scar"], self.smallest_scar_ml, voxel_ml
            )
        if "myocardium" in maps:
            myocardium = maps["myocardium"] >= self.myocardium_threshold
            masks = {"myocardium": myocardium, **masks}
        return masks
