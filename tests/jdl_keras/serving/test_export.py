"""An exported model computes what the run computes, and needs none of our code."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from jdl_keras.export import main
from jdl_keras.inference.calibration import read_calibration
from jdl_keras.inference.predictor import equal_rotations, predict
from jdl_keras.inference.study_predictor import StudyPredictor, member_of_run
from jdl_keras.models.localiser import slice_centres
from jdl_keras.predict import main as predict_command
from jdl_keras.preprocessing import Grid
from jdl_keras.serving.exported_model import member_of_export
from jdl_keras.serving.model_card import newest_version, read_card, verify
from jdl_keras.serving.signatures import IMAGES, SPACING
from tfrecords_tools import schema
from tfrecords_tools.errors import DONE, REFUSED, RefusedError
from tfrecords_tools.shards import read_records

pytestmark = pytest.mark.slow

TEN = [
    # rows, columns, their spacings in mm, and slices; 17 are more than fit in a batch
    *((48, 40, 2.0, 2.0, 3), (40, 48, 2.0, 2.0, 1), (64, 64, 1.5, 1.5, 2)),
    *((33, 57, 2.5, 1.25, 2), (96, 20, 1.0, 4.0, 3), (128, 128, 0.7, 0.7, 2)),
    *((16, 16, 6.0, 6.0, 4), (70, 50, 1.3, 1.4, 17), (5, 90, 9.9, 1.0, 2)),
    (200, 180, 0.9, 0.8, 1),
]


@pytest.fixture(scope="module")
def studies(make_study):
    random = np.random.default_rng(0)
    return [
        make_study(
            number,
            slices=slices,
            pixels=random.gamma(2, 50 * number + 1, (slices, rows, columns)).astype(
                np.float32
            ),
            label_map=np.zeros((slices, rows, columns), np.uint8),
            affine=np.diag([row_mm, column_mm, 8, 1]),
        )
        for number, (rows, columns, row_mm, column_mm, slices) in enumerate(TEN)
    ]


def spacings(study, count=1):
    return tf.constant([study.spacing_mm] * count, tf.float32)


def test_studies_and_passes_are_those_of_the_run(exported, studies):
    predictor = exported.run.predictor("localiser")
    degrees = equal_rotations(4)
    for study in studies:
        pixels, spacing_mm = tf.constant(study.pixels[None]), spacings(study)
        found = exported.call["study"](images=pixels, spacing_mm=spacing_mm)
        for task, values in predictor.probability_maps(study).items():
            # float32 sums in another order: the promise of the served model
            np.testing.assert_allclose(found[task][0], values, atol=1e-5)
        for turn, (maps, reach) in zip(
            degrees, predictor.passes(study, degrees), strict=True
        ):
            found = exported.call["study_pass"](
                images=pixels,
                spacing_mm=spacing_mm,
                rotation_degrees=tf.constant([turn], tf.float32),
            )
            for name, values in {**maps, "reach": reach}.items():
                np.testing.assert_allclose(found[name][0], values, atol=1e-5)


def test_slices_by_themselves_are_those_of_the_run(exported, studies):
    run, localiser = exported.run, exported.run.folder.load_localiser()
    grid = Grid.from_config(run.config.grid)

    @tf.function(input_signature=[IMAGES, SPACING], autograph=False)
    def expected_of(images, spacing_mm):
        place = localiser.network, localiser.grid
        centres = slice_centres(*place, images, spacing_mm)
        return predict(run.network, grid, images, spacing_mm, centres, rotations=2)

    for study in studies:
        inputs = tf.constant(study.pixels), spacings(study, len(study.pixels))
        found = exported.call["serving_default"](images=inputs[0], spacing_mm=inputs[1])
        records = tf.constant([schema.encode(one) for one in study.slices()])
        of_records = exported.call["serialized_examples"](examples=records)
        for task, values in expected_of(*inputs).items():
            np.testing.assert_allclose(found[task], values, atol=1e-5)
            np.testing.assert_array_equal(of_records[task], found[task])


def test_studies_of_one_call_do_not_see_each_other(exported, studies):
    one = studies[0]
    both = tf.constant(np.stack([one.pixels, one.pixels[:, ::-1]]))
    found = exported.call["study"](images=both, spacing_mm=spacings(one, 2))
    for index in (0, 1):
        alone = exported.call["study"](
            images=both[index : index + 1], spacing_mm=spacings(one)
        )
        for task, values in alone.items():
            np.testing.assert_allclose(found[task][index], values[0], atol=1e-5)


WITHOUT_US = """
import sys
ours = ("keras", "keras_hub", "tf_keras", "jdl_keras", "tfrecords_tools")
sys.modules.update(dict.fromkeys(ours))  # None: whoever imports one fails
import numpy as np, tensorflow as tf
folder, inputs, outputs = sys.argv[1:]
inputs = np.load(inputs)
model = tf.saved_model.load(folder)
served = model.signatures["serving_default"]
maps = served(**{name: tf.constant(inputs[name]) for name in inputs})
np.savez(outputs, **{name: values.numpy() for name, values in maps.items()})
"""


def test_it_needs_neither_our_packages_nor_keras(exported, studies, tmp_path):
    study = studies[0]
    inputs = {"images": study.pixels, "spacing_mm": spacings(study, 3).numpy()}
    np.savez(tmp_path / "inputs.npz", **inputs)
    done = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT_US, exported.folder),
            *(tmp_path / "inputs.npz", tmp_path / "outputs.npz"),
        ],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    here = exported.call["serving_default"](
        **{name: tf.constant(values) for name, values in inputs.items()}
    )
    there = np.load(tmp_path / "outputs.npz")
    for task, values in here.items():
        np.testing.assert_allclose(there[task], values, atol=1e-5)


def test_warm_up_asks_what_the_model_answers(exported):
    path = exported.folder / "assets.extra" / "tf_serving_warmup_requests"
    asked = set()
    for record in read_records(path):
        request = PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(one) for name, one in request.inputs.items()}
        signature = request.model_spec.signature_name
        inputs = {name: tf.constant(values) for name, values in inputs.items()}
        maps = exported.call[signature](**inputs)
        # The ring is an image: a constant one would be refused.
        assert maps["scar"].shape == inputs["images"].shape
        asked.add(signature)
    assert asked == {"serving_default", "study", "study_pass"}


def test_card_says_what_it_is(exported):
    card, folder = read_card(exported.folder), exported.run.folder
    verify(exported.folder, card)
    assert (card.version, card.method, card.rotations) == (1, "jdl", 2)
    assert card.weights_sha256 in (folder.path / "model.keras.sha256").read_text()
    assert card.record_set_sha256 == folder.record_set_sha256()
    assert card.calibration == read_calibration(folder.calibration)
    summary = json.loads((folder.evaluation("test") / "summary.json").read_text())
    assert card.metrics == {"test": summary}
    assert "Research use only" in card.intended_use
    for name, both in card.signatures.items():
        assert set(both["outputs"]) == set(exported.call[name].structured_outputs)
        assert set(both["inputs"]) <= set(card.inputs)
        assert set(both["outputs"]) <= set(card.outputs)


def test_card_names_no_place_and_nobody(exported, trained_run):
    text = (exported.folder / "model_card.json").read_text()
    graph = (exported.folder / "saved_model.pb").read_bytes()
    for place in (str(trained_run.folder.parent), str(Path(__file__).parents[3])):
        assert place not in text
        assert place.encode() not in graph


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
        lambda path: path.unlink(),
        lambda path: path.with_name("more").touch(),
    ],
)
def test_damage_is_seen(exported, tmp_path, damage):
    folder = shutil.copytree(exported.folder, tmp_path / "1")
    verify(folder, read_card(folder))
    damage(folder / "variables" / "variables.index")
    with pytest.raises(RefusedError, match="CORRUPT"):
        verify(folder, read_card(folder))


def test_versions_go_up_and_none_is_replaced(exported, tmp_path, monkeypatch, capsys):
    def only_its_folder(_run, _config, target, *_):
        target.mkdir()

    monkeypatch.setattr("jdl_keras.serving.export._export", only_its_folder)
    run, model = str(exported.run.folder.path), tmp_path / "model"
    (model / ".tmp-9").mkdir(parents=True)  # of one that was killed
    for options, name in ((["--version", "3"], "3"), ([], "4"), (["--version=2"], "2")):
        assert main([run, str(model), *options]) == DONE
        assert capsys.readouterr().out.strip() == f"exported {model / name}"
    assert main([run, str(model), "--version", "3"]) == REFUSED
    assert "model/3: EXISTS" in capsys.readouterr().err
    assert sorted(path.name for path in model.iterdir()) == ["2", "3", "4"]


def test_run_that_cannot_be_served(trained_run, tmp_path, capsys):
    shutil.copy(trained_run.folder / "config.yaml", tmp_path)
    config = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(
        config.replace("centre: localiser", "centre: reference")
    )
    command = [str(tmp_path), str(tmp_path / "model")]
    assert main(command) == REFUSED
    assert "grid.centre localiser" in capsys.readouterr().err
    assert main([str(tmp_path / "absent"), str(tmp_path / "model")]) == REFUSED
    assert "NOT_A_RUN" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


# Predicting with it


def predicted(model, records, out, *options):
    assert predict_command([str(model), str(records), str(out), *options]) == DONE
    folders = sorted(path for path in out.iterdir() if path.is_dir())
    return {folder.name: folder for folder in folders}


def test_predict_finds_what_it_finds_with_the_run(exported, cohort_records, tmp_path):
    moved = shutil.copytree(exported.folder.parent, tmp_path / "model")
    served = predicted(moved, cohort_records, tmp_path / "served")
    run = predicted(exported.run.folder.path, cohort_records, tmp_path / "run")
    assert [*served] == [*run]
    for key, folder in served.items():
        for task in ("myocardium", "scar"):
            one, other = (
                np.asarray(nibabel.load(path / f"{task}-probability.nii.gz").dataobj)
                for path in (folder, run[key])
            )
            np.testing.assert_allclose(one, other, atol=1e-5)
        one, other = (
            json.loads((path / "prediction.json").read_text())
            for path in (folder, run[key])
        )
        made_by = one.pop("made_by"), other.pop("made_by")
        assert made_by[0] == {**made_by[1], "exports": [1]}
        # Verdict, interval and every number: masks are the same to the voxel.
        assert one == approximately(other)
        assert "exported version" in (folder / "report.html").read_text()


def approximately(value):
    """Numbers that are read off the images may differ in their last digits."""
    if isinstance(value, dict):
        return {key: approximately(one) for key, one in value.items()}
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-9)
    return value


def test_run_and_export_make_an_ensemble(exported, studies):
    path = exported.run.folder.path
    served = newest_version(exported.folder.parent)
    members = [member_of_run(path), member_of_export(served)]
    alone, both = StudyPredictor(members[:1]), StudyPredictor(members)
    assert both.rule == alone.rule
    assert both.provenance.exports == (1,)
    one, other = (p.predict(studies[0]).maps["scar"] for p in (alone, both))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_predict_takes_no_model_that_was_changed(
    exported, cohort_records, tmp_path, capsys
):
    folder = shutil.copytree(exported.folder, tmp_path / "1")
    with (folder / "saved_model.pb").open("ab") as file:
        file.write(b"\0")
    command = [str(folder), str(cohort_records), str(tmp_path / "out")]
    assert predict_command(command) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert "saved_model.pb: CORRUPT" in line
    (folder / "model_card.json").write_text("{}")
    assert predict_command(command) == REFUSED
    assert "model_card.json: CORRUPT" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
