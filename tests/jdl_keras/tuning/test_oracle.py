"""What a search remembers: kills at every write, damage, lost and failed trials."""

import itertools
import json
import os

import pytest
from pretended_trials import (
    SPACE,
    score,
    search_in,
    searched,
    train,
    tuner_of,
    values_and_scores,
)

from jdl_keras.config import Config
from jdl_keras.tuning.search import trial_config, trial_folder

pytestmark = pytest.mark.slow


class KilledError(BaseException):
    """As a kill, no guard catches it."""


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    search = search_in(tmp_path_factory.mktemp("untouched"))
    oracle = searched(search)
    assert oracle.over
    return search


def test_trials_are_tried_and_scored(untouched):
    found = values_and_scores(untouched)
    assert len(found) == 2 * 5
    for number in range(5):
        values, outcome = found[2 * number], found[2 * number + 1]
        assert values.keys() == SPACE.keys()
        config = trial_config(untouched, Config(), number, values)
        assert outcome["scar_dice"] == score(config)
        for key, value in values.items():
            assert SPACE[key]["low"] <= value <= SPACE[key]["high"]
    assert len({json.dumps(values) for values in found[::2]}) == 5


def test_killed_at_every_write_it_ends_with_the_same_trials(
    untouched, tmp_path, monkeypatch
):
    replace = os.replace
    search = search_in(tmp_path)
    # A trial writes proposal.json, config.yaml, outcome.json; one that is continued
    # writes the last two.
    kills = 0
    for kill in itertools.count():
        writes = itertools.count(1)

        # At the first write, the second, the third; before it has its name, then after.
        def killed(old, new, at=1 + kill % 3, before=kill % 2 == 0, writes=writes):
            dies = next(writes) == at
            if not (dies and before):
                replace(old, new)
            if dies:
                raise KilledError

        with monkeypatch.context() as patch:
            patch.setattr("tfrecords_tools.files.os.replace", killed)
            try:
                tuner_of(search).search()
            except KilledError:
                kills += 1
                continue
            break
    assert kills >= 10  # 5 trials with two writes at least, one of which each survived
    assert values_and_scores(search) == values_and_scores(untouched)


def test_a_finished_search_trains_nothing_and_takes_more_trials(untouched, tmp_path):
    search = search_in(tmp_path, trials=3)
    searched(search)
    assert searched(search_in(tmp_path, trials=5)).over
    assert values_and_scores(search) == values_and_scores(untouched)
    runs = [
        len((trial_folder(tmp_path, n) / "runs").read_text().split()) for n in (0, 4)
    ]
    assert runs == [1, 1]


@pytest.mark.parametrize("name", ["proposal.json", "outcome.json", "config.yaml"])
def test_a_damaged_file_is_made_again(untouched, tmp_path, name, capsys):
    search = search_in(tmp_path, trials=4)
    searched(search)
    damaged = trial_folder(tmp_path, 1) / name
    damaged.write_text(damaged.read_text()[:7])
    oracle = searched(search)
    assert oracle.over
    assert values_and_scores(search) == values_and_scores(untouched)[:8]
    assert f"WARNING {damaged}: CORRUPT" in capsys.readouterr().err


def test_trial_that_nothing_is_known_of_is_drawn_anew(tmp_path):
    search = search_in(tmp_path, trials=2)
    searched(search)
    for name in ("proposal.json", "config.yaml"):
        (trial_folder(tmp_path, 0) / name).write_text("")
    searched(search)
    values, outcome = values_and_scores(search)[:2]
    assert outcome["scar_dice"] == score(trial_config(search, Config(), 0, values))


def test_worker_that_dies_again_and_again_costs_one_trial(tmp_path):
    def work(config, search):
        if config.run_dir.endswith("1"):
            return  # without an outcome, as a process that was killed
        train(config, search)

    oracle = searched(search_in(tmp_path, trials=4), work=work)
    assert (oracle.failed, oracle.over, oracle.gave_up) == ([1], True, False)
    # The same command tries it again.
    oracle = searched(search_in(tmp_path, trials=4))
    assert (oracle.failed, len(values_and_scores(search_in(tmp_path)))) == ([], 8)


def test_search_ends_where_every_trial_fails(tmp_path):
    tried = []

    def work(config, search):
        tried.append(config.run_dir)

    oracle = searched(search_in(tmp_path, trials=10), work=work)
    assert (oracle.failed, oracle.gave_up, oracle.over) == ([0, 1, 2], True, True)
    assert len(tried) == 9  # three trials, each of them three times


def test_nobody_leaves_while_a_trial_may_come_back(tmp_path):
    from keras_tuner.engine.trial import TrialStatus

    oracle = tuner_of(search_in(tmp_path, trials=1)).oracle
    trial = oracle.create_trial("a")
    assert oracle.create_trial("b").status == TrialStatus.IDLE
    trial.status = TrialStatus.INVALID  # its worker is silent
    oracle.end_trial(trial)
    again = oracle.create_trial("b")
    assert (again.trial_id, again.status) == (trial.trial_id, TrialStatus.RUNNING)
    oracle.update_trial(again.trial_id, {"scar_dice": 0.5})
    again.status = TrialStatus.COMPLETED
    oracle.end_trial(again)
    oracle.end_trial(again)  # the silent worker wakes up
    assert oracle.end_order == [trial.trial_id]
    assert oracle.create_trial("a").status == TrialStatus.STOPPED
    assert oracle.over


def test_process_is_asked_where_it_leads(tmp_path):
    # Beside eight drawn trials, two that are proposed: they lie nearer to the best.
    search = search_in(tmp_path, trials=10, random_trials=8, oracle_seed=3)
    oracle = searched(search)
    scores = [trial.score for trial in oracle.trials.values()]
    drawn, proposed = scores[:8], scores[8:]
    assert sum(proposed) / 2 > sum(drawn) / 8
    assert max(scores) > 0.55  # 0.6 is the best there is


def test_random_search_is_another_one(untouched, tmp_path):
    oracle = searched(search_in(tmp_path, oracle="random"))
    drawn = [trial.hyperparameters.values for trial in oracle.trials.values()]
    proposed = values_and_scores(untouched)[::2]
    assert drawn[:4] == proposed[:4]
    assert drawn[4] != proposed[4]


def test_whole_numbers_and_choices_keep_their_kind(tmp_path):
    space = {
        "training.batch_size": {"low": 2, "high": 9},
        "message.form": {"choices": ["product", "channels"]},
        "message.hard": {"choices": [True, False]},
    }
    oracle = searched(search_in(tmp_path, space=space, random_trials=5))
    for trial in oracle.trials.values():
        size, form, hard = trial.hyperparameters.values.values()
        assert isinstance(size, int)
        assert 2 <= size <= 9
        assert form in ("product", "channels")
        assert isinstance(hard, bool)
