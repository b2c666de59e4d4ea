"""Predicts a split of a record set with a trained run, and measures it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from jdl_keras.evaluation.figures import overlay_figures
from jdl_keras.evaluation.per_patient import measure_study, patient_results
from jdl_keras.evaluation.summary import table, write_evaluation
from jdl_keras.inference.predictor import Predictor
from jdl_keras.preprocessing import Grid
from jdl_keras.run_folder import RunFolder
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.study import Study

Case = tuple[Study, dict[str, np.ndarray]]


def evaluate_run(run: Path, split: str, records: Path | None = None) -> dict:
    """Writes `evaluation/<split>` of a run, prints its table, returns its summary.

    Args:
        run: the run folder.
        split: train, validation or test.
        records: a record set other than the one that the run was trained on.

    Raises:
        RefusedError: if run or record set cannot be used.
    """
    folder = RunFolder(run)
    config = folder.load_config()
    record_set = open_record_set(Path(records or config.records))
    patients = record_set.patients(split)
    if not patients:
        reason = f"the {split} split has no patients"
        raise RefusedError(record_set.folder, "SPLIT", reason)
    predictor = Predictor(folder.load_network(), Grid.from_config(config.grid))

    def cases() -> Iterator[Case]:
        for study in record_set.studies(split):
            yield study, predictor.masks(study, config.evaluation.threshold)

    console = Console(stderr=True)
    results = [
        measure_study(study, masks)
        for study, masks in track(
            cases(),
            f"measuring {split}",
            total=sum(p.studies for p in record_set.manifest.of_split(split)),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
    ]
    summary = write_evaluation(
        folder.evaluation(split),
        split,
        [row for result in results for row in result.slices],
        patient_results(results),
        # Predicted once more, so that only one study is in memory at a time.
        overlay_figures(cases()) if config.evaluation.figures else (),
    )
    Console().print(table(summary))
    return summary
