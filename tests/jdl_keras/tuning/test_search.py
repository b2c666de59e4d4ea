"""What a search tries, and what it refuses before anything is trained."""

import pytest

from jdl_keras.config import Config, GridConfig, LossConfig, ModelConfig
from jdl_keras.config_file import flat
from jdl_keras.tune import _parse
from jdl_keras.tuning.search import (
    Range,
    Search,
    check_search,
    rounded,
    space_of,
    trial_config,
)
from tfrecords_tools.errors import RefusedError

PAPER = {
    "optimizer.learning_rate": 4.73e-4,
    "model.dropout": 0.39,
    "loss.myocardium_weight": 1.02,
    "loss.l2_myocardium": 5.58e-6,
    "loss.l2_scar": 5.58e-6,
}


def test_default_space_is_around_what_the_paper_found():
    space = space_of(Search(), Config())
    assert space.keys() == PAPER.keys()
    for key, value in PAPER.items():
        assert space[key].low < value < space[key].high
    logarithmic = {key for key, scope in space.items() if scope.log}
    assert logarithmic == {key for key in PAPER if "l2" in key or "rate" in key}


def test_what_a_method_does_not_have_is_left_out():
    direct = space_of(Search(), Config(method="direct"))
    assert PAPER.keys() - direct.keys() == {
        "loss.myocardium_weight",
        "loss.l2_myocardium",
    }
    shared = space_of(Search(), Config(model=ModelConfig(share_weights=True)))
    assert PAPER.keys() - shared.keys() == {"loss.l2_scar"}


def test_a_trial_has_its_values_and_never_sees_the_test_split():
    base = Config(loss=LossConfig(dice_weight=0.5))
    config = trial_config(Search(out="o"), base, 7, {"model.dropout": 0.123456})
    assert (config.run_dir, config.evaluation.split) == ("o/trials/0007", "validation")
    assert config.localiser.run == "o/localiser"
    assert (config.model.dropout, config.loss.dice_weight) == (0.1235, 0.5)
    changed = {"model.dropout", "run_dir", "evaluation.split", "localiser.run"}
    before, after = flat(base), flat(config)
    assert {key for key in before if before[key] != after[key]} == changed
    no_localiser = Config(grid=GridConfig(centre="image"))
    assert trial_config(Search(), no_localiser, 0, {}).localiser.run is None


def test_numbers_survive_the_way_through_float32():
    # KerasTuner's messages between chief and workers have 24 bits: 7 digits.
    import numpy as np

    for value in (4.7312345e-4, 0.3, 1.02, 5.5812345e-6, 123456.0):
        tried = rounded({"x": value})["x"]
        assert rounded({"x": float(np.float32(tried))})["x"] == tried
        assert tried == pytest.approx(value, rel=5e-4)  # half of the fourth digit
    assert rounded({"n": 123456, "name": "product", "flag": True}) == {
        **{"n": 123456, "name": "product", "flag": True}
    }


@pytest.mark.parametrize(
    ("space", "key", "words"),
    [
        ({"no.such": {"low": 0, "high": 1}}, "space.no.such", "no such setting"),
        ({"seed": {"low": 0, "high": 1}}, "space.seed", "the same for all trials"),
        ({"model.dropout": {"low": 0}}, "space.model.dropout", "low < high"),
        ({"model.dropout": {"low": 0.5, "high": 0.1}}, "space.model.dropout", "0.5"),
        ({"model.dropout": {"low": "a", "high": 1}}, "space.model.dropout", "numbers"),
        ({"model.dropout": {"low": 0, "high": 1.5}}, "model.dropout", "rate < 1"),
        ({"model.dropout": {"from": 0}}, "space.model.dropout.from", "low"),
        (
            {"loss.l2_scar": {"low": 0, "high": 1e-3, "log": True}},
            "space.loss.l2_scar",
            "low > 0",
        ),
        ({"message.form": {"low": 0, "high": 1}}, "space.message.form", "choices"),
        ({"message.form": {"choices": ["no"]}}, "message.form", "product"),
        ({"message.form": {"choices": []}}, "space.message.form", "choices"),
        ({}, "space", "jdl"),
    ],
)
def test_impossible_space_is_refused_with_its_key(space, key, words):
    with pytest.raises(RefusedError) as refused:
        check_search(Search(space=space), Config())
    assert refused.value.subject == key
    assert words in refused.value.reason


@pytest.mark.parametrize("key", ["trials", "keep", "workers", "random_trials"])
def test_none_at_all_is_refused(key):
    with pytest.raises(RefusedError) as refused:
        check_search(Search(**{key: 0}), Config())
    assert refused.value.subject == key


def test_command_line_takes_search_and_run_beside_each_other():
    options = ["--trials", "7", "--method", "direct", "--model.dropout", "0.1"]
    space = "{model.dropout: {low: 0, high: 0.5}}"
    search, base, backend = _parse([*options, "--space", space])
    assert (search.trials, base.method, base.model.dropout) == (7, "direct", 0.1)
    check_search(search, base)
    assert space_of(search, base) == {"model.dropout": Range(0, 0.5)}
    assert backend is None


def test_run_folder_is_no_setting_of_a_search():
    with pytest.raises(RefusedError):
        _parse(["--run_dir", "x"])
