"""A run folder whose training is over, as what predicts."""

import dataclasses
from functools import cached_property
from pathlib import Path

import keras

from jdl_keras.config import Config
from jdl_keras.data.views import configured_view, open_records
from jdl_keras.inference.predictor import Predictor
from jdl_keras.preprocessing import Grid
from jdl_keras.run_folder import RunFolder
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.study_set import StudySet


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run that can predict."""

    folder: RunFolder

    @cached_property
    def config(self) -> Config:
        """The configuration of the run."""
        return self.folder.load_config()

    @cached_property
    def network(self) -> keras.Model:
        """The best network."""
        return self.folder.load_network()

    def predictor(self, centre: str) -> Predictor:
        """Predicts with crops around this centre, see `config.GridConfig.centre`."""
        return Predictor(
            self.network,
            Grid.from_config(self.config.grid),
            self.folder.locate(centre),
            self.config.evaluation.rotations,
        )

    def records(self, records: Path | None = None) -> StudySet:
        """Another record set, or the run's own as its configuration wants it seen.

        The run's own may lie elsewhere by now, or in one file.
        """
        if records is None:
            return open_records(self.config)
        record_set = open_record_set(records)
        if record_set.sha256 == self.folder.record_set_sha256():
            return configured_view(record_set, self.config.split)
        return record_set
