"""From a record set to honest numbers: the real commands on the smallest networks."""

import base64
import csv
import gzip
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tensorflow as tf

from jdl_keras.evaluate import main as evaluate
from jdl_keras.evaluation.operating_point import (
    choose_operating_point,
    read_operating_point,
)
from jdl_keras.inference.mask_rule import MaskRule
from jdl_keras.inference.predictor import Predictor
from jdl_keras.preprocessing import Grid
from jdl_keras.run_folder import RunFolder, checksum_file
from jdl_keras.train import main as train
from tfrecords_tools import files
from tfrecords_tools.errors import DONE, ENVIRONMENT, REFUSED
from tfrecords_tools.labels import TASKS, region_mask
from tfrecords_tools.record_set import open_record_set

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(trained_run):
    return RunFolder(trained_run.folder)


@pytest.fixture
def copy(trained_run, tmp_path):
    """The run, to be damaged."""
    skip = shutil.ignore_patterns("checkpoints")
    return RunFolder(shutil.copytree(trained_run.folder, tmp_path / "run", ignore=skip))


def predicted(folder, centre, split="test"):
    """(study, masks) of a split, predicted again from the saved networks."""
    config = folder.load_config()
    grid, locate = Grid.from_config(config.grid), folder.locate(centre)
    predictor = Predictor(folder.load_network(), grid, locate)
    rule = MaskRule.of_run(folder, config.evaluation)
    return [
        (study, rule.masks(study, predictor.probability_maps(study)))
        for study in open_record_set(Path(config.records)).studies(split)
    ]


@pytest.fixture(scope="module")
def native(trained_run, cohort_records):
    """(study, masks) of the test split, as they were written."""
    written = RunFolder(trained_run.folder).evaluation("test") / "masks"

    def mask(study, task):
        name = f"{study.patient_key}-{study.study_key}-{task}.nii.gz"
        voxels = np.asarray(nibabel.load(written / name).dataobj)
        return voxels.transpose(2, 1, 0) == 1  # columns, rows, slices in the file

    studies = open_record_set(cohort_records).studies("test")
    return [(study, {task: mask(study, task) for task in TASKS}) for study in studies]


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def summary_of(folder, split="test"):
    return json.loads((folder.evaluation(split) / "summary.json").read_text())


def test_run_folder_has_what_the_contract_names(folder, cohort_records):
    found = {
        str(path.relative_to(folder.path))
        for path in folder.path.rglob("*")
        if path.is_file() and "tfevents" not in path.name
        # Pictures, and the trace of the profile.
        if path.suffix not in {".png", ".pb"}
    }
    checkpoints = {
        f"checkpoints/epoch-0000{epoch}/{name}"
        for epoch in (1, 2)
        for name in ("manifest.json", "state.json", "variables.npz")
    }
    assert found == checkpoints | {
        *("config.yaml", "environment.json", "history.csv"),
        *("model.keras", "model.keras.sha256", "operating_point.json"),
        *("localiser.keras", "localiser.keras.sha256", "calibration.json"),
        *(f"evaluation/test/{n}.csv" for n in ("per_slice", "per_patient")),
        *(f"evaluation/test/{n}.json" for n in ("summary", "localiser")),
        *(
            f"evaluation/test/masks/{study.patient_key}-{study.study_key}-{task}.nii.gz"
            for study in open_record_set(cohort_records).studies("test")
            for task in TASKS
        ),
    }
    figures = list((folder.evaluation("test") / "figures").glob("*.png"))
    assert len(figures) == 3  # a patient each
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in figures)


def test_settings_and_record_set_stand_in_the_run(folder, cohort_records):
    config = folder.load_config()
    assert config.records == str(cohort_records)
    assert (config.model.preset, config.grid.size) == ("tiny", (32, 32))
    assert config.training.epochs == 2
    environment = json.loads(folder.environment.read_text())
    assert environment["record_set_sha256"] == open_record_set(cohort_records).sha256


@pytest.mark.parametrize("name", ["model.keras", "localiser.keras"])
def test_checksum_file_is_that_of_sha256sum(folder, name):
    path = folder.path / name
    expected = f"{files.sha256(path)}  {name}\n"
    assert checksum_file(path).read_text() == expected


def test_history_shows_learning(folder):
    first, second = rows_of(folder.history)
    assert (first["epoch"], second["epoch"]) == ("1", "2")
    assert float(second["loss"]) < float(first["loss"])
    for task in TASKS:
        for name in ("loss", "network_gradient_norm"):
            assert float(first[f"{task}_{name}"]) > 0
        assert 0 <= float(first[f"val_{task}_dice"]) <= 1


def test_command_says_what_was_kept_and_where(trained_run, folder):
    rows = rows_of(folder.history)
    scores = [float(row["val_scar_dice"]) for row in rows]
    best = f"network of epoch {np.argmax(scores) + 1}, chosen on validation"
    assert best in trained_run.out
    assert f"(scar Dice {max(scores):.3f} on the grid)" in trained_run.out
    assert str(folder.path) in trained_run.out


def events(folder):
    """(split or ".", plugin, tag, step, value) of all that TensorBoard shows."""
    for path in folder.tensorboard.rglob("*tfevents*"):
        split = str(path.parent.relative_to(folder.tensorboard))
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                plugin = value.metadata.plugin_data.plugin_name
                array = tf.make_ndarray(value.tensor)
                yield split, plugin, value.tag, event.step, array


def test_tensorboard_has_the_curves_of_the_history(folder):
    scalars = {
        (split, tag, step): float(value)
        for split, plugin, tag, step, value in events(folder)
        if plugin == "scalars"
    }
    for row in rows_of(folder.history):
        step = int(row.pop("epoch")) - 1
        for column, value in row.items():
            split = "validation" if column.startswith("val_") else "train"
            tag = f"epoch_{column.removeprefix('val_')}"
            # TensorBoard holds float32
            assert scalars[split, tag, step] == pytest.approx(float(value), rel=1e-6)


def test_profile_leaves_a_trace_and_says_how_long_steps_waited(trained_run, folder):
    # 18 slices in batches of 4, twice: ten steps, of which the first is no measure
    (line,) = [li for li in trained_run.out.splitlines() if li.startswith("trace of")]
    found = re.fullmatch(
        rf"trace of steps 2 to 10 in {folder.tensorboard}: "
        r"(\d+) % of their time was spent waiting for input",
        line,
    )
    assert 0 <= int(found[1]) <= 100
    (trace,) = folder.tensorboard.glob("plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 10_000


def test_tensorboard_has_images(folder):
    (image,) = [event for event in events(folder) if event[1] == "images"]
    _, _, tag, step, (width, height, *slices) = image
    assert "reference, prediction" in tag
    assert (step, int(width), int(height)) == (2, 3 * 32, 32)
    assert len(slices) == 4
    assert all(png[:4] == b"\x89PNG" for png in slices)


def test_masks_are_what_the_saved_networks_predict(folder, native):
    again = predicted(folder, "localiser")
    assert len(again) == len(native) == 3
    for (study, written), (_, masks) in zip(native, again, strict=True):
        assert set(masks) == set(TASKS)
        for task, mask in masks.items():
            assert mask.shape == study.label_map.shape
            np.testing.assert_array_equal(written[task], mask)
    assert any(masks[task].any() for _, masks in native for task in TASKS)


def test_masks_lie_where_the_images_lie(folder, native, cohort):
    """In the scanner's space, as the source file says."""
    for path in (folder.evaluation("test") / "masks").glob("*.nii.gz"):
        header = nibabel.load(path).header
        assert header.get_data_dtype() == np.uint8
        assert header.get_zooms() == (2.0, 2.0, 10.0)


def test_operating_point_was_chosen_on_validation(folder):
    config = folder.load_config()
    grid, locate = Grid.from_config(config.grid), folder.locate("localiser")
    predictor = Predictor(folder.load_network(), grid, locate)
    expected = choose_operating_point(
        (study, predictor.probability_maps(study)["scar"])
        for study in open_record_set(Path(config.records)).studies("validation")
    )
    assert read_operating_point(folder.operating_point) == expected
    rule = MaskRule.of_run(folder, config.evaluation)
    assert rule.myocardium_threshold == config.evaluation.threshold == 0.5
    assert rule.scar_threshold == expected.threshold
    assert rule.smallest_scar_ml == expected.smallest_scar_ml


def test_report_on_the_localiser(folder, native):
    found = json.loads((folder.evaluation("test") / "localiser.json").read_text())
    tasks = summary_of(folder)["tasks"]
    around_reference = predicted(folder, "reference")
    for task, means in found["dice_by_crop_centre"].items():
        dices = []
        for study, masks in around_reference:
            reference = region_mask(study.label_map, TASKS[task])
            both, in_reference, in_prediction = counts(reference, masks[task])
            if in_reference:
                dices.append(2 * both / (in_reference + in_prediction))
        assert means["reference"] == pytest.approx(np.mean(dices), rel=1e-9)
        assert means["localiser"] == tasks[task]["dice"]["mean"]
    localiser = folder.load_localiser()
    errors_mm = []
    for study, _ in native:
        rows, columns = np.nonzero(
            region_mask(study.label_map, TASKS["myocardium"]).any(axis=0)
        )
        middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
        off = 2.0 * np.subtract(localiser.study_centre(study), middle)  # mm a pixel
        errors_mm.append(np.linalg.norm(off))
    # Three slices a study, one error a study.
    assert found["crops"]["study"]["error_mm"]["median"] == pytest.approx(
        np.median(errors_mm), rel=1e-6
    )


def counts(reference, prediction):
    both = np.count_nonzero(reference & prediction)
    return both, np.count_nonzero(reference), np.count_nonzero(prediction)


@pytest.mark.parametrize("task", TASKS)
def test_summary_is_what_the_masks_give(folder, native, task):
    """Every number again, from masks and label maps alone."""
    dices, volumes, false_ml, pooled = [], [], [], np.zeros(3)
    for study, masks in native:
        reference = region_mask(study.label_map, TASKS[task])
        both, in_reference, in_prediction = counts(reference, masks[task])
        pooled += (both, in_reference, in_prediction)
        ml = 2.0 * 2.0 * 10.0 / 1000  # of a voxel of the cohort
        if in_reference:
            dices.append(2 * both / (in_reference + in_prediction))
            volumes.append((in_prediction - in_reference) * ml)
        else:
            false_ml.append(in_prediction * ml)
    summary = summary_of(folder)
    found = summary["tasks"][task]
    assert (summary["split"], summary["patients"], summary["slices"]) == ("test", 3, 9)
    # The csv and json hold float64; sums in another order differ by 1e-15 or so.
    exact = {"rel": 1e-9, "abs": 1e-12}
    assert found["dice"]["patients"] == len(dices)
    assert found["dice"]["mean"] == pytest.approx(np.mean(dices), **exact)
    assert found["volume_difference_ml"]["mean"] == pytest.approx(
        np.mean(volumes), **exact
    )
    assert found["dice_pooled"] == pytest.approx(
        2 * pooled[0] / (pooled[1] + pooled[2]), **exact
    )
    if false_ml:
        assert found["false_positive_ml"]["mean"] == pytest.approx(
            np.mean(false_ml), **exact
        )


def test_tables_are_what_the_masks_give(folder, native):
    expected, found = {}, {}
    for study, masks in native:
        for task, mask in masks.items():
            reference = region_mask(study.label_map, TASKS[task])
            for index in range(len(mask)):
                both, ours, theirs = counts(reference[index], mask[index])
                key = (study.study_key, str(index), task)
                expected[key] = (both, theirs - both, ours - both)
    for row in rows_of(folder.evaluation("test") / "per_slice.csv"):
        key = (row["study_key"], row["slice_index"], row["task"])
        found[key] = tuple(int(row[name]) for name in ("tp", "fp", "fn"))
    assert found == expected
    assert len(rows_of(folder.evaluation("test") / "per_patient.csv")) == 3 * 2


def test_evaluate_gives_the_same_numbers_again(copy, capsys):
    before = summary_of(copy)
    shutil.rmtree(copy.path / "evaluation")
    assert evaluate([str(copy.path)]) == DONE
    assert summary_of(copy) == before
    assert "test: 3 patients, 9 slices" in capsys.readouterr().out


def test_evaluate_by_the_protocol_of_emidec(copy, capsys):
    assert evaluate([str(copy.path), "--protocol", "emidec"]) == DONE
    assert "EMIDEC protocol: 3 cases" in capsys.readouterr().out
    found = json.loads((copy.evaluation("test") / "emidec.json").read_text())
    assert found["cases"] == 3
    rows = rows_of(copy.evaluation("test") / "emidec.csv")
    assert len(rows) == 3
    # One study a patient: the myocardium's Dice is ours.
    ours = {
        row["patient_key"]: float(row["dice"])
        for row in rows_of(copy.evaluation("test") / "per_patient.csv")
        if row["task"] == "myocardium"
    }
    theirs = {row["patient_key"]: float(row["myocardium_dice"]) for row in rows}
    assert theirs == pytest.approx(ours, rel=1e-9)


def test_unknown_protocol_is_refused(copy, capsys):
    assert evaluate([str(copy.path), "--protocol", "acdc"]) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ERROR protocol: CONFIG: ")


def test_evaluate_measures_another_split(copy):
    assert evaluate([str(copy.path), "--split", "validation"]) == DONE
    assert summary_of(copy, "validation")["split"] == "validation"


def test_same_command_again_measures_and_does_not_train(trained_run, folder, run):
    kept = (folder.model, folder.history, *folder.checkpoints.rglob("*.*"))
    before = {path: path.stat().st_mtime_ns for path in kept}
    summary = summary_of(folder)
    again = run(*trained_run.command)
    assert again.code == DONE, again.err
    assert "epoch 1/2" not in again.err
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert summary_of(folder) == summary


def test_other_seed_in_the_same_folder_is_refused(trained_run, folder, run):
    config = folder.config.read_bytes()
    refused = run(*trained_run.command, "--seed", "1")
    assert refused.code == REFUSED
    (line,) = [li for li in refused.err.splitlines() if li.startswith("ERROR")]
    assert line == (
        "ERROR seed: OTHER_RUN: this run has 0, now 1; use another --run_dir"
    )
    assert "Traceback" not in refused.err
    assert folder.config.read_bytes() == config


def arguments_of(trained_run, **changes):
    """The arguments of the command, for a call within this process."""
    given = [str(argument) for argument in trained_run.command[2:]]
    pairs = dict(zip(given[::2], given[1::2], strict=True))
    pairs |= {f"--{name}": str(value) for name, value in changes.items()}
    return [part for pair in pairs.items() for part in pair]


def test_folder_in_which_another_process_works_is_left_alone(trained_run, capsys):
    with files.locked(trained_run.folder):
        assert train(arguments_of(trained_run)) == ENVIRONMENT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ERROR {trained_run.folder}: ENVIRONMENT: ")
    assert "another process" in line


def _flip(path):
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)


def _swap(one, other):
    contents = one.read_bytes(), other.read_bytes()
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])


DAMAGES = {
    "TRUNCATED": lambda one, _: one.write_bytes(one.read_bytes()[:-9]),
    "EMPTY_SHARD": lambda one, _: one.write_bytes(b""),
    "MISSING_SHARD": lambda one, _: one.unlink(),
    "SWAPPED_SHARD": _swap,
    "CORRUPT": lambda one, _: _flip(one),
}


@pytest.mark.parametrize("code", DAMAGES)
def test_damaged_record_set_is_refused_before_the_first_step(
    trained_run, cohort_records, tmp_path, capsys, code
):
    records = shutil.copytree(cohort_records, tmp_path / "records")
    DAMAGES[code](*sorted(records.glob("train-*")))
    new = tmp_path / "new"
    assert train(arguments_of(trained_run, records=records, run_dir=new)) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(rf"ERROR {records}/train-\S+: {code}: ", line)
    assert not new.exists()


def test_evaluate_refuses_a_damaged_record_set(copy, cohort_records, tmp_path, capsys):
    records = shutil.copytree(cohort_records, tmp_path / "records")
    _flip(next(records.glob("test-*")))
    assert evaluate([str(copy.path), "--records", str(records)]) == REFUSED
    assert ": CORRUPT: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model", "localiser"])
@pytest.mark.parametrize("suffix", [".keras", ".keras.sha256"])
def test_evaluate_refuses_a_damaged_network(copy, capsys, name, suffix):
    _flip_middle(copy.path / f"{name}{suffix}")
    shutil.rmtree(copy.path / "evaluation")
    assert evaluate([str(copy.path)]) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ERROR {copy.path / name}.keras: CORRUPT: ")
    assert not (copy.path / "evaluation").exists()


def _flip_middle(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def test_split_that_does_not_exist_is_refused(copy, capsys):
    assert evaluate([str(copy.path), "--split", "dev"]) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ERROR split: CONFIG: ")


def contents(path):
    """The bytes of a file, and of what is packed in it."""
    yield path.read_bytes()
    if path.suffix == ".gz":
        yield gzip.decompress(path.read_bytes())
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield archive.read(name)


def spellings(names):
    """What all names share, in several encodings."""
    stem = os.path.commonprefix([re.sub(r"\D", "", name) for name in names])
    assert len(stem) >= 6
    yield from (stem.encode(), stem.encode("utf-16-le"), stem.encode().hex().encode())
    # Three bytes are four characters of base64.
    yield from {base64.b64encode(name[:9].encode()) for name in names}


def test_no_case_name_is_anywhere(trained_run, cohort, cohort_records):
    planted = [*spellings(cohort.names)]
    said = (trained_run.out + trained_run.err).encode()
    assert not any(spelling in said for spelling in planted)
    for place in (trained_run.folder, cohort_records):
        for path in place.rglob("*"):
            found = [path.name.encode(), *(contents(path) if path.is_file() else ())]
            assert not [s for s in planted if any(s in part for part in found)], path


def _zipped(path, text):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", text)


def _gzipped(path, text):
    path.write_bytes(gzip.compress(text.encode()))


@pytest.mark.parametrize(
    ("name", "pack"), [("model.keras", _zipped), ("mask.nii.gz", _gzipped)]
)
def test_search_finds_a_name_in_what_is_packed(tmp_path, cohort, name, pack):
    path = tmp_path / name
    pack(path, cohort.names[3] * 9)
    planted = [*spellings(cohort.names)]
    packed, *unpacked = contents(path)
    assert not any(spelling in packed for spelling in planted)
    assert any(spelling in part for spelling in planted for part in unpacked)
