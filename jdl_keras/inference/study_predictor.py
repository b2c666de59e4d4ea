"""From trained models to the prediction of a study, with passes that may disagree."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from keras import ops

from jdl_keras.config import Config
from jdl_keras.inference.calibration import Calibration, read_calibration
from jdl_keras.inference.mask_rule import MaskRule
from jdl_keras.inference.predictor import Pass, averaged, equal_rotations
from jdl_keras.inference.study_prediction import Provenance, StudyPrediction
from jdl_keras.inference.trained_run import TrainedRun
from jdl_keras.run_folder import RunFolder, checksum_file, versions
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.study import Study

LEAST_ROTATIONS = 4
"""A spread needs several passes; quarter turns differ most from each other."""

NO_MYOCARDIUM = "finds no myocardium, and burden is a share of it; use another method"


def why_not(config: Config) -> str:
    """Why a run cannot predict a study by itself; empty if it can."""
    if config.method == "direct":
        return NO_MYOCARDIUM
    if config.grid.centre == "reference":
        return "its crop needs a reference; train with --grid.centre localiser"
    return ""


@dataclasses.dataclass(frozen=True)
class Member:
    """One model of an ensemble, or the only one.

    Attributes:
        see: from a study and rotations in degrees to a pass for each of them.
        rotations: how many are averaged.
        rule: how masks are made.
        method: how the networks of the tasks are wired.
        preset: size of the networks.
        weights_sha256: of the network of the run.
        record_set_sha256: of what the run was trained on.
        calibration: what is usual for it, if that was measured.
        export: version, if it was exported.
    """

    see: Callable[[Study, Sequence[float]], list[Pass]]
    rotations: int
    rule: MaskRule
    method: str
    preset: str
    weights_sha256: str
    record_set_sha256: str
    calibration: Calibration | None = None
    export: int | None = None

    def passes(self, study: Study) -> tuple[list[Pass], list[Pass]]:
        """Those that are averaged, and those whose spread is looked at."""
        wanted = equal_rotations(self.rotations)
        spread = wanted
        if len(wanted) < LEAST_ROTATIONS:
            spread = equal_rotations(LEAST_ROTATIONS)
        degrees = list(dict.fromkeys([*wanted, *spread]))
        by_degrees = dict(zip(degrees, self.see(study, degrees), strict=True))
        return [by_degrees[d] for d in wanted], [by_degrees[d] for d in spread]


def member_of_run(path: Path) -> Member:
    """A trained run as what predicts.

    Raises:
        RefusedError: if it is no trained run, or cannot predict by itself.
    """
    folder = RunFolder(path)
    run = TrainedRun(folder)
    if reason := why_not(run.config):
        raise RefusedError(path, "CONFIG", reason)
    calibrated = folder.calibration.is_file()
    return Member(
        see=run.predictor(run.config.grid.centre).passes,
        rotations=run.config.evaluation.rotations,
        rule=MaskRule.of_run(folder, run.config.evaluation),
        method=run.config.method,
        preset=run.config.model.preset,
        weights_sha256=checksum_file(folder.model).read_text().split()[0],
        record_set_sha256=folder.record_set_sha256(),
        calibration=read_calibration(folder.calibration) if calibrated else None,
    )


class StudyPredictor:
    """Predicts studies with one model, or with several as an ensemble.

    The point estimate is that of `evaluate`: the mean over the rotations that the run
    is configured with. Its spread is taken over at least `LEAST_ROTATIONS`.

    Args:
        members: whose maps and thresholds are averaged.

    Attributes:
        rule: how masks are made.
        provenance: what made them.
        calibration: what is usual for the model, if that was measured.
    """

    def __init__(self, members: Sequence[Member]):
        self._members = members
        self.rule = MaskRule.mean([member.rule for member in members])
        self.provenance = _provenance(members)
        # What is usual for one says nothing of several together.
        self.calibration = members[0].calibration if len(members) == 1 else None

    def predict(self, study: Study) -> StudyPrediction:
        """Probability maps, masks, and the masks of every pass."""
        averages, spreads = zip(*(m.passes(study) for m in self._members), strict=True)
        maps = averaged([one for passes in averages for one in passes])
        whole = {task: ops.convert_to_numpy(values) for task, values in maps.items()}
        return StudyPrediction(
            study=study,
            maps=whole,
            masks=self.rule.masks(study, whole),
            passes=tuple(
                self.rule.masks(study, one) for passes in spreads for one, _ in passes
            ),
        )


def _provenance(members: Sequence[Member]) -> Provenance:
    return Provenance(
        version=versions().get("jdl-keras", "not installed"),
        method=members[0].method,
        preset=members[0].preset,
        weights_sha256=tuple(member.weights_sha256 for member in members),
        record_set_sha256=tuple(member.record_set_sha256 for member in members),
        exports=tuple(m.export for m in members if m.export is not None),
    )
