"""What a search leaves: table, best configuration, disk, figures, TensorBoard."""

import csv
import dataclasses
import re
from pathlib import Path

import pytest
from pretended_trials import SPACE, score, search_in, searched, train

from jdl_keras.config import Config, EvaluationConfig
from jdl_keras.config_file import flat, read_config
from jdl_keras.tuning.search import trial_config, trial_folder

pytestmark = pytest.mark.slow
TRIALS = 7


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    out = tmp_path_factory.mktemp("searched")
    found = search_in(out, trials=TRIALS, random_trials=TRIALS, keep=2)
    searched(found)
    return found


@pytest.fixture(scope="module")
def trials(search):
    from jdl_keras.tuning.results import keep_up

    return keep_up(search, Config())


def test_table_has_a_row_a_trial(search, trials):
    with open(f"{search.out}/tuning.csv") as file:
        rows = [*csv.DictReader(file)]
    assert [row["trial"] for row in rows] == [str(n) for n in range(TRIALS)]
    for row in rows:
        values = {key: float(row[key]) for key in SPACE}
        config = trial_config(search, Config(), int(row["trial"]), values)
        assert float(row["scar_dice"]) == score(config)
        assert (row["state"], row["epochs"], row["seconds"]) == ("finished", "2", "1.0")


def test_only_the_best_keep_their_weights(search, trials):
    from jdl_keras.tuning.results import ranked

    order = [trial.number for trial in ranked(trials)]
    for place, number in enumerate(order):
        folder = trial_folder(search.out, number)
        kept = {path.name for path in folder.iterdir()}
        assert ({"model.keras", "checkpoints"} <= kept) == (place < 2)
        assert {"history.csv", "config.yaml", "outcome.json"} <= kept
    # Nothing was trained again for that.
    searched(search)
    for number in order:
        runs = trial_folder(search.out, number) / "runs"
        assert len(runs.read_text().split()) == 1


def test_best_configuration_is_a_run_of_its_own(search, trials):
    best = max(trials, key=lambda trial: trial.outcome.scar_dice)
    config = read_config(f"{search.out}/best.yaml")
    trial = read_config(trial_folder(search.out, best.number) / "config.yaml")
    same = dataclasses.replace(
        trial, run_dir=f"{search.out}/best", evaluation=EvaluationConfig()
    )
    assert flat(config) == flat(same)
    assert config.evaluation.split == "test"  # all is chosen now
    with open(f"{search.out}/best.yaml") as file:
        assert f"train --config {search.out}/best.yaml" in file.readline()


def test_of_equals_the_first_is_the_best(trials):
    from jdl_keras.tuning.results import ranked

    equal = [dataclasses.replace(trial, outcome=trials[0].outcome) for trial in trials]
    assert [trial.number for trial in ranked(equal[::-1])] == [*range(TRIALS)]


def test_surface_finds_what_matters(tmp_path):
    from jdl_keras.tuning.results import finished_trials
    from jdl_keras.tuning.search import space_of
    from jdl_keras.tuning.surrogate import effects, value_at

    space = SPACE | {"loss.smoothing": {"low": 1e-7, "high": 1e-3, "log": True}}
    drawn = search_in(tmp_path, space=space, trials=20, random_trials=20)
    searched(drawn)
    scopes = space_of(drawn, Config())
    found = effects(scopes, finished_trials(drawn, Config()))
    # Over their ranges the formula falls by 0.2 with the rate and by 0.16 with dropout,
    # and does not know the smoothing.
    assert found["loss.smoothing"].importance < 0.02
    assert min(found[key].importance for key in SPACE) > 0.2
    top = found["optimizer.learning_rate"]
    best = value_at(scopes["optimizer.learning_rate"], top.places[top.mean.argmax()])
    assert best == pytest.approx(1e-3, rel=0.5)  # a grid of 41 over two decades, noise


def test_report_is_one_inert_file(search, trials):
    from jdl_keras.tuning.report import write_report
    from jdl_keras.tuning.search import space_of

    space = space_of(search, Config())
    conditions = {"oracle": "<script>alert(1)</script>"}
    write_report(Path(search.out), space, trials, conditions)
    html = (Path(search.out) / "report.html").read_text()
    assert "<script" not in html
    assert not re.search(r"(src|href)=.?https?:", html)
    assert html.count("data:image/png") == 3
    assert html.count("<tr>") == 1 + TRIALS
    write_report(Path(search.out), space, trials[:1], {})  # one trial is enough


def test_tensorboard_reads_values_and_scores(search, trials):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    from jdl_keras.tuning.hparams import write_hparams
    from jdl_keras.tuning.search import space_of

    write_hparams(Path(search.out), space_of(search, Config()), trials)
    for trial in trials:
        folder = trial_folder(search.out, trial.number) / "tensorboard"
        assert [path.name for path in folder.iterdir()] == [
            "events.out.tfevents.0.hparams"
        ]
        events = EventAccumulator(str(folder)).Reload()
        (event,) = events.Scalars("scar_dice")
        # float32
        assert event.value == pytest.approx(trial.outcome.scar_dice, rel=1e-6)
        content = events.PluginTagToContent("hparams")
        start = plugin_data_pb2.HParamsPluginData.FromString(
            content["_hparams_/session_start_info"]
        ).session_start_info
        values = {key: value.number_value for key, value in start.hparams.items()}
        assert values == trial.values
        assert start.group_name == f"trial {trial.number}"


def test_diverged_trial_counts_as_one_that_finds_nothing(tmp_path):
    from jdl_keras.tuning.outcome import Outcome, write_outcome
    from jdl_keras.tuning.results import keep_up

    def work(config, search):
        if config.run_dir.endswith("1"):
            write_outcome(trial_folder(tmp_path, 1), Outcome("diverged", 0.0))
        else:
            train(config, search)

    found = search_in(tmp_path, trials=3)
    oracle = searched(found, work=work)
    assert oracle.trials["1"].score == 0
    assert [t.outcome.state for t in keep_up(found, Config())][1] == "diverged"
