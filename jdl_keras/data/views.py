"""The patients that a run learns from and is measured on."""

from pathlib import Path

from jdl_keras.config import Config, SplitConfig
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.splits import fold_splits, limited
from tfrecords_tools.study_set import StudySet


def open_records(config: Config) -> StudySet:
    """The record set of a run, as its configuration wants it seen.

    Raises:
        RefusedError: if it cannot be used, or has too few patients.
    """
    return configured_view(open_record_set(Path(str(config.records))), config.split)


def configured_view(record_set: StudySet, split: SplitConfig) -> StudySet:
    """The record set as a configuration wants it seen.

    Raises:
        RefusedError: if there are too few patients.
    """
    has_scar, assignment = record_set.has_scar, record_set.assignment
    if split.folds:
        unmeasured = record_set.without_reference
        dealt = {key: has_scar[key] for key in has_scar if key not in unmeasured}
        assignment = fold_splits(dealt, split.folds, split.fold, split.seed)
    if split.train_patients:
        assignment = limited(assignment, has_scar, split.train_patients, split.seed)
    view = record_set.with_splits(assignment)
    if split.scar_patients:
        kept = limited(assignment, has_scar, split.scar_patients, split.seed)
        view = view.without_labels("scar", assignment.keys() - kept.keys())
    return view
