"""From trained runs to the prediction of a study, with passes that may disagree."""

from collections.abc import Sequence
from pathlib import Path

from keras import ops

from jdl_keras.config import Config
from jdl_keras.inference.mask_rule import MaskRule
from jdl_keras.inference.predictor import Pass, averaged, equal_rotations
from jdl_keras.inference.study_prediction import Provenance, StudyPrediction
from jdl_keras.inference.trained_run import TrainedRun
from jdl_keras.run_folder import RunFolder, checksum_file, versions
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.study import Study

LEAST_ROTATIONS = 4
"""A spread needs several passes; quarter turns differ most from each other."""


def why_not(config: Config) -> str:
    """Why a run cannot predict a study by itself; empty if it can."""
    if config.method == "direct":
        return "finds no myocardium, and burden is a share of it; use another method"
    if config.grid.centre == "reference":
        return "its crop needs a reference; train with --grid.centre localiser"
    return ""


class _Member:
    """One run: its networks, and how its masks are made."""

    def __init__(self, path: Path):
        self.folder = RunFolder(path)
        run = TrainedRun(self.folder)
        self.config = run.config
        if reason := why_not(self.config):
            raise RefusedError(path, "CONFIG", reason)
        self.rule = MaskRule.of_run(self.folder, self.config.evaluation)
        self.predictor = run.predictor(self.config.grid.centre)

    def passes(self, study: Study) -> tuple[list[Pass], list[Pass]]:
        """Those that are averaged, and those whose spread is looked at."""
        wanted = equal_rotations(self.config.evaluation.rotations)
        spread = wanted
        if len(wanted) < LEAST_ROTATIONS:
            spread = equal_rotations(LEAST_ROTATIONS)
        degrees = list(dict.fromkeys([*wanted, *spread]))
        found = self.predictor.passes(study, degrees)
        by_degrees = dict(zip(degrees, found, strict=True))
        return [by_degrees[d] for d in wanted], [by_degrees[d] for d in spread]


class StudyPredictor:
    """Predicts studies with one run, or with several as an ensemble.

    The point estimate is that of `evaluate`: the mean over the rotations that the run
    is configured with. Its spread is taken over at least `LEAST_ROTATIONS`.

    Args:
        runs: folders of trained runs; their maps and thresholds are averaged.

    Raises:
        RefusedError: if one is no trained run, or cannot predict by itself.
    """

    def __init__(self, runs: Sequence[Path]):
        self._members = [_Member(path) for path in runs]
        self.rule = MaskRule.mean([member.rule for member in self._members])
        self.provenance = _provenance(self._members)

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


def _provenance(members: Sequence[_Member]) -> Provenance:
    first, folders = members[0].config, [member.folder for member in members]
    return Provenance(
        version=versions().get("jdl-keras", "not installed"),
        method=first.method,
        preset=first.model.preset,
        weights_sha256=tuple(
            checksum_file(folder.model).read_text().split()[0] for folder in folders
        ),
        record_set_sha256=tuple(folder.record_set_sha256() for folder in folders),
    )
