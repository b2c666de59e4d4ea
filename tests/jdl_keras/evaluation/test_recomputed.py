"""Every number of summary.json again, from the written masks and the reference.

Nothing of the evaluation is called: SimpleITK reads the files, counts, measures volumes
with the spacing that it finds in the header, and measures distances; the statistics are
those of the standard library, and the bootstrap is enumerated.
"""

import copy
import csv
import dataclasses
import functools
import itertools
import json
import math
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK
from scipy import stats

from jdl_keras.evaluation.masks import write_mask
from jdl_keras.evaluation.per_patient import measure_study, patient_results
from jdl_keras.evaluation.summary import write_evaluation
from tfrecords_tools.labels import Tissue
from tfrecords_tools.record_set import open_record_set

NAN = math.nan
TISSUES = {
    "myocardium": [Tissue.HEALTHY_MYOCARDIUM, Tissue.SCAR, Tissue.MVO],
    "scar": [Tissue.SCAR, Tissue.MVO],
}
HEADER = {"rel": 1e-5, "abs": 1e-5}
"""The header and ITK's distance maps hold float32: 7 digits, of up to 100 ml or mm."""
MONTE_CARLO = 4 * math.sqrt(0.025 * 0.975 / 2000)
"""Four standard errors of the 2.5 % tail of 2000 resamples: 0.014."""


def measure_again(folder, study, task):
    """One task of a study on its labelled slices; None if it was not predicted."""
    path = folder / "masks" / f"{study.patient_key}-{study.study_key}-{task}.nii.gz"
    labelled = [index for index, tasks in enumerate(study.labelled) if task in tasks]
    if not path.exists() or not labelled:
        return None
    image = SimpleITK.ReadImage(str(path))
    pair = np.zeros((2, *study.label_map.shape), np.uint8)
    written = SimpleITK.GetArrayFromImage(image)
    for index in labelled:
        pair[0, index] = np.isin(study.label_map[index], TISSUES[task])
        pair[1, index] = written[index]
    reference, prediction = map(SimpleITK.GetImageFromArray, pair)
    reference.CopyInformation(image)
    prediction.CopyInformation(image)
    return SimpleNamespace(
        study=study.study_key,
        slices={index: (pair[0, index], pair[1, index]) for index in labelled},
        voxel_ml=math.prod(image.GetSpacing()) / 1000,
        reference_ml=volume_ml(reference),
        prediction_ml=volume_ml(prediction),
        both=voxels(SimpleITK.And(reference, prediction)),
        reference=voxels(reference),
        prediction=voxels(prediction),
        hd95_mm=distance_mm(reference, prediction),
        dice=itk_dice(reference, prediction),
    )


def voxels(image):
    counter = SimpleITK.StatisticsImageFilter()
    counter.Execute(image)
    return int(counter.GetSum())


def volume_ml(image):
    shapes = SimpleITK.LabelShapeStatisticsImageFilter()
    shapes.Execute(image)
    return shapes.GetPhysicalSize(1) / 1000 if shapes.HasLabel(1) else 0.0


def itk_dice(reference, prediction):
    if not voxels(SimpleITK.Or(reference, prediction)):
        return NAN
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(reference, prediction)
    return overlap.GetDiceCoefficient()


def distance_mm(reference, prediction):
    """HD95; None where there is no structure, NaN where there is only one."""
    sizes = voxels(reference), voxels(prediction)
    if not all(sizes):
        return NAN if any(sizes) else None
    contours = [contour(reference), contour(prediction)]
    return max(itk_percentile(*pair) for pair in itertools.permutations(contours))


def contour(image):
    padded = SimpleITK.ConstantPad(image, [1] * 3, [1] * 3, 0)
    return SimpleITK.LabelContour(padded, fullyConnected=False)


def itk_percentile(origin, target):
    distances = SimpleITK.SignedMaurerDistanceMap(
        target, squaredDistance=False, useImageSpacing=True
    )
    values = np.abs(SimpleITK.GetArrayFromImage(distances))
    return float(np.percentile(values[SimpleITK.GetArrayFromImage(origin) > 0], 95))


def recompute(folder, studies):
    """Task to patient to what was measured again on each of its studies."""
    found = {task: {} for task in TISSUES}
    for study in studies:
        for task in TISSUES:
            again = measure_again(folder, study, task)
            if again:
                found[task].setdefault(study.patient_key, []).append(again)
    return {task: patients for task, patients in found.items() if patients}


def total(studies, name):
    return sum(getattr(study, name) for study in studies)


def ratio(part, whole):
    return part / whole if whole else NAN


def patient_numbers(studies):
    """The values of one patient, one task."""
    distances = [s.hd95_mm for s in studies if s.hd95_mm is not None]
    undefined = not distances or any(map(math.isnan, distances))
    both, ours, theirs = (
        total(studies, n) for n in ("both", "prediction", "reference")
    )
    difference = total(studies, "prediction_ml") - total(studies, "reference_ml")
    return {
        "dice": ratio(2 * both, ours + theirs),
        "precision": ratio(both, ours),
        "recall": ratio(both, theirs),
        "hd95_mm": NAN if undefined else max(distances),
        "volume_difference_ml": difference,
        "false_positive_ml": sum((s.prediction - s.both) * s.voxel_ml for s in studies),
        "in_reference": theirs > 0,
        "in_prediction": ours > 0,
    }


def burden_percent(scar, wall, which):
    """100 x scar / wall over the slices that were measured for both."""
    volumes = [0.0, 0.0]
    for one, other in itertools.product(scar, wall):
        if one.study == other.study:
            for index in one.slices.keys() & other.slices.keys():
                volumes[0] += one.slices[index][which].sum() * one.voxel_ml
                volumes[1] += other.slices[index][which].sum() * one.voxel_ml
    return 100 * ratio(*volumes)


def check_summary(summary, again, split="test"):
    """Raises AssertionError if a number of the summary is another."""
    every = [study for tasks in again.values() for s in tasks.values() for study in s]
    assert set(summary) == {"split", "patients", "slices", "tasks"}
    assert summary["split"] == split
    assert summary["patients"] == len(set().union(*again.values()))
    assert summary["slices"] == len({(s.study, i) for s in every for i in s.slices})
    assert list(summary["tasks"]) == list(again)
    for task, patients in again.items():
        found = dict(summary["tasks"][task])
        if task == "scar":
            check_burden(found.pop("burden_percent"), again)
        check_task(found, patients)


def check_task(found, patients):
    numbers = [patient_numbers(studies) for studies in patients.values()]
    ill = [values for values in numbers if values["in_reference"]]
    healthy = [values for values in numbers if not values["in_reference"]]
    every = [study for studies in patients.values() for study in studies]
    for name in ("dice", "precision", "recall", "hd95_mm", "volume_difference_ml"):
        check_description(found.pop(name), [values[name] for values in ill])
    false_ml = [values["false_positive_ml"] for values in healthy]
    check_description(found.pop("false_positive_ml"), false_ml)
    of_all = found.pop("dice_all_patients")
    assert "undefined" in of_all.pop("empty_rule")
    check_description(of_all, [values["dice"] for values in numbers])
    whole = total(every, "prediction") + total(every, "reference")
    check(found.pop("dice_pooled"), ratio(2 * total(every, "both"), whole))
    assert found.pop("missed") == sum(not values["in_prediction"] for values in ill)
    of_patients = [(v["in_reference"], v["in_prediction"]) for v in numbers]
    of_slices = [(a.any(), b.any()) for s in every for a, b in s.slices.values()]
    assert found.pop("detection") == {
        "per_patient": table_of_four(of_patients),
        "per_slice": table_of_four(of_slices),
    }
    assert not found  # nothing is left unchecked


def table_of_four(pairs):
    names = {(True, True): "tp", (False, True): "fp", (True, False): "fn"}
    found = [names.get(tuple(map(bool, pair)), "tn") for pair in pairs]
    return {name: found.count(name) for name in ("tp", "fp", "fn", "tn")}


def check_description(found, values):
    known = [value for value in values if not math.isnan(value)]
    several = len(known) > 1
    assert set(found) == {"mean", "sd", "median", "ci95", "patients"}
    assert found["patients"] == len(known)
    check(found["mean"], statistics.fmean(known) if known else NAN)
    check(found["median"], statistics.median(known) if known else NAN)
    check(found["sd"], statistics.stdev(known) if several else NAN)
    if several:
        check_bootstrap(found["ci95"], known)
    else:
        assert found["ci95"] == [None, None]


def check(found, expected):
    assert found == (
        None if math.isnan(expected) else pytest.approx(expected, **HEADER)
    )


@functools.cache
def resampled_means(values):
    return np.mean([*itertools.product(values, repeat=len(values))], axis=1)


def check_bootstrap(bounds, values):
    """The tails beyond the interval, in the distribution of all n^n resamples."""
    means = resampled_means(tuple(values))
    for bound, sample in zip(bounds, (means, -means), strict=True):
        edge = bound if sample is means else -bound
        assert np.mean(sample <= edge + 1e-5) >= 0.025 - MONTE_CARLO
        assert np.mean(sample < edge - 1e-5) <= 0.025 + MONTE_CARLO


def check_burden(found, again):
    """Bland-Altman and Lin, from sums over the pairs."""
    found = dict(found)
    pairs = [
        [
            burden_percent(scar, again.get("myocardium", {}).get(key, []), w)
            for w in (0, 1)
        ]
        for key, scar in again["scar"].items()
    ]
    pairs = [pair for pair in pairs if not any(map(math.isnan, pair))]
    n = len(pairs)
    assert found.pop("patients") == n
    differences = [prediction - reference for reference, prediction in pairs]
    bias = statistics.fmean(differences) if n else NAN
    sd, t = NAN, NAN
    if n > 1:
        sd, t = statistics.stdev(differences), stats.t.ppf(0.975, n - 1)
    check(found.pop("bias"), bias)
    check_around(found.pop("bias_ci95"), bias, t * sd / math.sqrt(max(n, 1)))
    # 1.959964 is the 97.5 % point of the normal distribution.
    check_around(found.pop("limits_of_agreement"), bias, 1.959964 * sd)
    error = sd * math.sqrt(1 / max(n, 1) + 1.959964**2 / (2 * max(n - 1, 1)))
    low, high = found.pop("limits_of_agreement_ci95")
    check_around(low, bias - 1.959964 * sd, t * error)
    check_around(high, bias + 1.959964 * sd, t * error)
    check(found.pop("ccc"), lin(*zip(*pairs, strict=True)) if n > 1 else NAN)
    check(found.pop("icc_a1"), agreement_of_two(pairs) if n > 1 else NAN)
    assert not found  # nothing is left unchecked


def agreement_of_two(pairs):
    """ICC(A,1) of two raters, whose mean squares are those of sums and differences."""
    n = len(pairs)
    subjects = statistics.variance([x + y for x, y in pairs]) / 2
    rest = statistics.variance([x - y for x, y in pairs]) / 2
    raters = n * statistics.fmean([x - y for x, y in pairs]) ** 2 / 2
    return (subjects - rest) / (subjects + rest + 2 * (raters - rest) / n)


def lin(x, y):
    squares = statistics.pvariance(x) + statistics.pvariance(y)
    distance = squares + (statistics.fmean(x) - statistics.fmean(y)) ** 2
    return ratio(2 * statistics.covariance(x, y) * (len(x) - 1) / len(x), distance)


def check_around(found, centre, half_width):
    for bound, sign in zip(found, (-1, 1), strict=True):
        check(bound, centre + sign * half_width)


def check_table(folder, again):
    """The rows of per_patient.csv, and ITK's own Dice where it has one study to see."""
    with (folder / "per_patient.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = {(task, key): s for task, p in again.items() for key, s in p.items()}
    assert {(row["task"], row["patient_key"]) for row in rows} == set(expected)
    for row in rows:
        studies = expected[row["task"], row["patient_key"]]
        numbers = patient_numbers(studies)
        for name in ("dice", "precision", "recall", "hd95_mm", "volume_difference_ml"):
            check(float(row[name]) if row[name] else None, numbers[name])
        check(float(row["reference_ml"]), total(studies, "reference_ml"))
        check(float(row["prediction_ml"]), total(studies, "prediction_ml"))
        if len(studies) == 1:
            check(float(row["dice"]) if row["dice"] else None, studies[0].dice)


def draw(make_study, seed, scar=True, **more):
    """Five slices with a wall, on a grid that lies obliquely; half of it is scar."""
    random = np.random.default_rng(seed)
    rows, columns = np.ogrid[:20, :16]
    radius = np.hypot(rows - random.uniform(8, 11), columns - random.uniform(7, 9))
    label_map = np.zeros((5, 20, 16), np.uint8)
    label_map[:4, (radius < 6.5) & (radius > 3)] = Tissue.HEALTHY_MYOCARDIUM
    if scar:
        half = (label_map > 0) & (columns > 9)
        label_map[half] = random.choice([Tissue.SCAR, Tissue.MVO], half.sum())
    study = make_study(label_map, **more)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]  # any orthogonal axes
    affine = np.eye(4)
    affine[:3, :3] = turn * random.uniform((1, 1, 6), (2, 2, 12))
    affine[:3, 3] = random.uniform(-99, 99, 3)
    return dataclasses.replace(study, affine=affine)


def predict(study, seed, scar="moved", wall="moved"):
    """Masks that are wrong in a way that is known: moved, some voxels lost, or none."""
    random = np.random.default_rng(seed)
    masks = {}
    for task, how in (("myocardium", wall), ("scar", scar)):
        mask = np.isin(study.label_map, TISSUES[task])
        mask = np.roll(mask, random.integers(-2, 3, 3), (0, 1, 2))
        masks[task] = mask & (random.random(mask.shape) < 0.8) & (how == "moved")
    if scar == "false alarm":
        masks["scar"][1, 4:6, 3:9] = True
    return masks


WALL, BOTH = frozenset({"myocardium"}), frozenset(TISSUES)
STUDIES = {
    "a1": ({}, {}),
    "a2": ({}, {}),
    "b1": ({}, {"scar": "missed", "wall": "missed"}),
    "c1": ({"scar": False}, {"scar": "false alarm"}),
    "d1": ({"scar": False}, {}),
    "e1": ({"labelled": (BOTH, BOTH, WALL, BOTH, frozenset())}, {}),
    "f1": ({}, {}),
    "f2": ({"scar": False}, {}),
}
"""Of six patients: how the reference is drawn and how the prediction is wrong. Scar is
found in two studies, missed, a false alarm, rightly absent, partly labelled, and found
in one study of two."""


@pytest.fixture
def cases(make_study):
    found = []
    for seed, (key, (reference, prediction)) in enumerate(STUDIES.items()):
        study = draw(make_study, seed, patient=key[0], study=key, **reference)
        found.append((study, predict(study, seed, **prediction)))
    return found


@pytest.fixture
def evaluation(cases, tmp_path):
    """The folder that an evaluation leaves, the studies, and the summary."""
    studies, results = [], []
    for study, masks in cases:
        studies.append(study)
        results.append(measure_study(study, masks))
        for task, mask in masks.items():
            write_mask(tmp_path / "masks", study, task, mask)
    slices = [row for result in results for row in result.slices]
    write_evaluation(tmp_path, "test", slices, patient_results(results))
    summary = json.loads((tmp_path / "summary.json").read_text())
    return tmp_path, studies, summary


def test_every_number_agrees(evaluation):
    folder, studies, summary = evaluation
    again = recompute(folder, studies)
    check_summary(summary, again)
    check_table(folder, again)


def test_the_made_up_patients_are_what_they_are_meant_to_be(evaluation):
    scar = evaluation[2]["tasks"]["scar"]
    assert scar["detection"]["per_patient"] == {"tp": 3, "fp": 1, "fn": 1, "tn": 1}
    assert (scar["dice"]["patients"], scar["hd95_mm"]["patients"]) == (4, 3)
    assert scar["false_positive_ml"]["mean"] > 0
    assert scar["burden_percent"]["patients"] == 5
    assert evaluation[2]["tasks"]["myocardium"]["missed"] == 1


def leaves(value, path=()):
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    else:
        yield path, value
        return
    for key, part in pairs:
        yield from leaves(part, (*path, key))


def test_no_number_can_be_wrong_unseen(evaluation):
    folder, studies, summary = evaluation
    again = recompute(folder, studies)
    numbers = [p for p, v in leaves(summary) if not isinstance(v, str)]
    assert len(numbers) > 100
    for *path, last in numbers:
        wrong = copy.deepcopy(summary)
        outer, place = None, wrong
        for key in path:
            outer, place = place, place[key]
        if place[last] is None:
            place[last] = 0.5
        elif "ci95" in path:  # random to a part of the tails; the mean is in none
            place[last] = outer["mean"]
        else:
            place[last] *= 1.001
            place[last] += 0.001
        with pytest.raises(AssertionError):
            check_summary(wrong, again)


@pytest.mark.slow
def test_numbers_of_a_trained_run(trained_run, cohort_records):
    folder = trained_run.folder / "evaluation" / "test"
    studies = list(open_record_set(cohort_records).studies("test"))
    again = recompute(folder, studies)
    assert {task: len(patients) for task, patients in again.items()} == {
        "myocardium": 3,
        "scar": 3,
    }
    check_summary(json.loads((folder / "summary.json").read_text()), again)
    check_table(folder, again)
