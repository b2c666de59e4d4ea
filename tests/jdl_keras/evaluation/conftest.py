"""A small study on a grid of 2 x 2.5 x 10 mm: one voxel is 0.05 ml."""

import math

import numpy as np
import pandas as pd
import pytest

from jdl_keras.evaluation.finished_runs import FinishedRun
from jdl_keras.evaluation.masks import write_mask
from jdl_keras.evaluation.overlap import OverlapCounts
from jdl_keras.evaluation.per_patient import PatientResult
from jdl_keras.evaluation.summary import write_evaluation
from tfrecords_tools.labels import TASKS
from tfrecords_tools.study import Study


def build_study(
    label_map, labelled=None, patient="aa", study="01", step_mm=(2, 2.5, 10)
):
    label_map = np.asarray(label_map, np.uint8)
    return Study(
        patient_key=patient,
        study_key=study,
        source="test",
        pixels=np.arange(label_map.size, dtype=np.float32).reshape(label_map.shape),
        label_map=label_map,
        labelled=labelled or (frozenset(TASKS),) * len(label_map),
        affine=np.diag([*map(float, step_mm), 1.0]),
    )


@pytest.fixture
def make_study():
    return build_study


@pytest.fixture
def worked_case(make_study):
    """Three slices of 4 x 4; the scar of slice 2 has no label."""
    label_map = np.zeros((3, 4, 4))
    label_map[0, 0] = [2, 2, 3, 4]
    label_map[1, 0] = [2, 2, 0, 0]
    label_map[2, 0] = [2, 3, 0, 0]
    both, myocardium_only = frozenset(TASKS), frozenset({"myocardium"})
    myocardium, scar = np.zeros((2, 3, 4, 4), bool)
    myocardium[0, 0, 1:] = myocardium[0, 1, 3] = myocardium[1, 0, :2] = True
    scar[0, 0, 2] = scar[0, 1, 2:] = scar[2, 3] = True
    study = make_study(label_map, (both, both, myocardium_only))
    return study, {"myocardium": myocardium, "scar": scar}


def _patient_result(key, task, counts, hd95_mm):
    """Counts are (tp, fp, fn) voxels of 0.05 ml."""
    counts = OverlapCounts(*counts)
    return PatientResult(
        patient_key=key,
        task=task,
        counts=counts,
        reference_ml=counts.reference * 0.05,
        prediction_ml=counts.prediction * 0.05,
        false_positive_ml=counts.false_positive * 0.05,
        studies=1,
        slices=3,
        hd95_mm=hd95_mm,
        burden_reference_percent=math.nan,
        burden_prediction_percent=math.nan,
    )


@pytest.fixture
def write_run(tmp_path):
    """Writes a finished run: `scar` is patient to (tp, fp, fn), or with HD95 too."""

    def write(method, seed, scar, fold=0, myocardium=None, curve=(0.1, 0.2), **more):
        folder = tmp_path / "runs" / f"{method}-{seed}-{fold}"
        patients = [
            _patient_result(key, task, counts[:3], (*counts, math.nan)[3])
            for task, of_task in (("scar", scar), ("myocardium", myocardium or {}))
            for key, counts in of_task.items()
        ]
        write_evaluation(folder / "evaluation" / "test", "test", [], patients)
        history = {"epoch": range(len(curve)), "val_scar_dice": curve}
        pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
        return FinishedRun(method, seed, fold, folder, **more)

    return write


JDL = (
    {"a": (8, 2, 2, 2), "b": (6, 4, 4, 6), "c": (0, 0, 10), "d": (0, 0, 0)},
    {"a": (6, 4, 4, 4), "b": (4, 6, 6, 6), "c": (5, 5, 5, 5), "d": (0, 0, 0)},
)
DIRECT = {"a": (4, 6, 6, 5), "b": (2, 8, 8, 9), "c": (5, 5, 5), "d": (0, 2, 0)}
WALL = dict.fromkeys("abcde", (90, 10, 10))


@pytest.fixture
def two_methods(write_run):
    """`direct` and `jdl`, two seeds; a, b, c have 10 voxels of scar, d and e none."""
    jdl = (JDL[0] | {"e": (0, 5, 0)}, JDL[1] | {"e": (0, 0, 0)})
    cost = {"seconds": 30.0, "parameters": 2000}
    return [
        *(write_run("direct", s, DIRECT | {"e": (0, 0, 0)}) for s in (0, 1)),
        *(write_run("jdl", s, jdl[s], myocardium=WALL, **cost) for s in (0, 1)),
    ]


@pytest.fixture
def write_masks():
    """Writes the predicted masks of a study into the folder of a run."""

    def write(run, study, masks):
        for task, mask in masks.items():
            write_mask(run.evaluation / "masks", study, task, mask)

    return write
