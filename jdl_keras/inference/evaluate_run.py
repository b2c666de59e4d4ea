"""Predicts a split of a record set with a trained run, and measures it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console

from jdl_keras.evaluation import emidec_protocol
from jdl_keras.evaluation.crops import measure_crop, summarise_crops
from jdl_keras.evaluation.masks import mask_path, read_mask, write_mask
from jdl_keras.evaluation.operating_point import (
    choose_operating_point,
    write_operating_point,
)
from jdl_keras.evaluation.overlays import overlay_figures
from jdl_keras.evaluation.per_patient import measure_study, patient_results
from jdl_keras.evaluation.summary import summarise, table, write_evaluation
from jdl_keras.inference.calibration import fit_calibration, write_calibration
from jdl_keras.inference.mask_rule import MaskRule
from jdl_keras.inference.study_predictor import StudyPredictor, member_of_run, why_not
from jdl_keras.inference.trained_run import TrainedRun
from jdl_keras.run_folder import RunFolder
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import write_text
from tfrecords_tools.progress import shown
from tfrecords_tools.study import Study
from tfrecords_tools.study_set import StudySet

Case = tuple[Study, dict[str, np.ndarray]]
"""A study, and for each task the predicted boolean (S, H, W) mask."""


def choose_on_validation(folder: RunFolder) -> None:
    """Writes `operating_point.json`, chosen on the run's validation split."""
    run = TrainedRun(folder)
    predictor = run.predictor(run.config.grid.centre)
    chosen = choose_operating_point(
        (study, predictor.probability_maps(study)["scar"])
        for study in _shown(run.records(), "validation", "choosing the threshold on")
    )
    write_operating_point(folder.operating_point, chosen)


def calibrate_on_validation(folder: RunFolder) -> None:
    """Writes `calibration.json`: what `predict` says of a burden and of a study.

    A run that cannot predict by itself gets none.
    """
    run = TrainedRun(folder)
    if why_not(run.config):
        return
    folder.calibration.unlink(missing_ok=True)  # whatever it is, it is made anew
    predictor = StudyPredictor([member_of_run(folder.path)])
    studies = _shown(run.records(), "validation", "calibrating on")
    calibration = fit_calibration(predictor.predict(study) for study in studies)
    write_calibration(folder.calibration, calibration)


def evaluate_run(
    path: Path, split: str, records: Path | None = None, protocol: str | None = None
) -> dict:
    """Writes `evaluation/<split>` of a run, prints its table, returns its summary.

    Args:
        path: the run folder.
        split: train, validation or test.
        records: a record set other than the one that the run was trained on.
        protocol: `emidec` for the challenge's numbers beside ours.

    Raises:
        RefusedError: if run or record set cannot be used.
    """
    folder = RunFolder(path)
    run = TrainedRun(folder)
    record_set = run.records(records)
    if not record_set.can_measure(split):
        reason = f"the {split} split has no patients with a reference"
        raise RefusedError(record_set.path, "SPLIT", reason)
    target = folder.evaluation(split)
    rule = MaskRule.of_run(folder, run.config.evaluation)
    predictor = run.predictor(run.config.grid.centre)
    folder_of_masks = target / "masks"
    # Of another record set, perhaps.
    shutil.rmtree(folder_of_masks, ignore_errors=True)
    results = []
    for study in _shown(record_set, split, "measuring"):
        masks = rule.masks(study, predictor.probability_maps(study))
        for task, mask in masks.items():
            write_mask(folder_of_masks, study, task, mask)
        results.append(measure_study(study, masks))
    tasks = [*run.network.output]
    summary = write_evaluation(
        target,
        split,
        [row for result in results for row in result.slices],
        patient_results(results),
        overlay_figures(_written(record_set, split, tasks, folder_of_masks))
        if run.config.evaluation.figures
        else (),
    )
    console = Console()
    console.print(table(summary))
    if protocol == "emidec":
        cases = _written(record_set, split, tasks, folder_of_masks)
        numbers = emidec_protocol.write_emidec(
            target, [emidec_protocol.measure_case(*case) for case in cases]
        )
        console.print(emidec_protocol.emidec_table(numbers))
    if run.config.grid.centre == "localiser":
        gap = _localiser_report(run, record_set, split, rule, summary)
        write_text(target / "localiser.json", json.dumps(gap, indent=2) + "\n")
    return summary


def _written(
    record_set: StudySet, split: str, tasks: list[str], folder: Path
) -> Iterator[Case]:
    """The studies of a split with their masks as written, one in memory at a time."""
    for study in record_set.studies(split):
        paths = {task: mask_path(folder, study, task) for task in tasks}
        yield study, {task: read_mask(path) for task, path in paths.items()}


def _localiser_report(
    run: TrainedRun, record_set: StudySet, split: str, rule: MaskRule, summary: dict
) -> dict:
    """How well the crops sit, and what crops around the reference would bring."""
    localiser, grid = run.folder.load_localiser(), run.config.grid
    crop_mm = tuple(np.multiply(grid.size, grid.spacing_mm))
    oracle = run.predictor("reference")
    results, crops = [], []
    for study in _shown(record_set, split, "measuring crops of"):
        masks = rule.masks(study, oracle.probability_maps(study))
        results.append(measure_study(study, masks))
        slices, centre = localiser.slice_centres(study), localiser.study_centre(study)
        crops.append(measure_crop(study, slices, centre, crop_mm))
    oracle_summary = summarise(split, [], patient_results(results))
    dice = {
        task: {
            "localiser": values["dice"]["mean"],
            "reference": oracle_summary["tasks"][task]["dice"]["mean"],
        }
        for task, values in summary["tasks"].items()
    }
    return {"crops": summarise_crops(crops), "dice_by_crop_centre": dice}


def _shown(record_set: StudySet, split: str, doing: str) -> Iterator[Study]:
    """The studies of a split, with a bar and the time left."""
    total = record_set.totals(split)["studies"]
    return shown(record_set.studies(split), f"{doing} {split}", total)
