"""The plan of a comparison: which runs, in which order, with which settings."""

import pytest

from jdl_keras.config import Config, GridConfig, LocaliserConfig, SplitConfig
from jdl_keras.config_file import flat
from jdl_keras.experiment import METHODS, Experiment, plan
from tfrecords_tools.errors import RefusedError


def names(planned):
    return [(run.entry, run.seed, run.fold) for run in planned]


def test_all_four_methods_and_three_seeds_without_settings():
    assert METHODS == ("direct", "two_step", "multi_task", "jdl")
    planned = plan(Experiment(), Config())
    assert names(planned) == [(m, seed, 0) for seed in (0, 1, 2) for m in METHODS]


def test_every_entry_comes_before_the_next_fold_and_seed():
    experiment = Experiment(
        methods=["jdl", "direct"],
        seeds=[7, 3],
        variants={"wide": {"message.widen_mm": 3}},
    )
    planned = plan(experiment, Config(split=SplitConfig(folds=2)))
    entries = ("jdl", "direct", "wide")
    assert names(planned) == [
        (entry, seed, fold) for seed in (7, 3) for fold in (0, 1) for entry in entries
    ]


def test_runs_differ_from_the_base_in_what_they_must():
    base = Config(
        records="records/some",
        grid=GridConfig(spacing_mm=(1.25, 1.25)),
        split=SplitConfig(folds=2, seed=5),
    )
    experiment = Experiment("out", ["direct", "jdl"], seeds=[4])
    expected = flat(base) | {"seed": 4}
    for run in plan(experiment, base):
        own = {
            "method": run.entry,
            "split.fold": run.fold,
            "run_dir": f"out/runs/{run.entry}-seed4-fold{run.fold}",
        }
        if run.entry == "jdl":
            own["localiser.run"] = f"out/runs/direct-seed4-fold{run.fold}"
        assert flat(run.config) == expected | own
        assert str(run.folder) == own["run_dir"]


def test_localiser_of_a_seed_and_fold_is_that_of_its_first_entry():
    planned = plan(
        Experiment(methods=["jdl", "direct"], seeds=[0, 1]),
        Config(split=SplitConfig(folds=2)),
    )
    for first, second in zip(planned[::2], planned[1::2], strict=True):
        assert first.config.localiser.run is None
        assert second.config.localiser.run == first.config.run_dir
        assert (first.seed, first.fold) == (second.seed, second.fold)
    assert len({run.config.localiser.run for run in planned[1::2]}) == 4


def test_localiser_that_is_given_serves_all():
    base = Config(localiser=LocaliserConfig(run="runs/earlier"))
    planned = plan(Experiment(), base)
    assert {run.config.localiser.run for run in planned} == {"runs/earlier"}


def test_variant_that_needs_a_localiser_of_its_own_makes_it():
    variants = {
        "like": {"message.widen_mm": 3},
        "fine": {"localiser.spacing_mm": [3, 3]},
        "fine_too": {"localiser.spacing_mm": [3, 3], "message.widen_mm": 3},
        "few": {"split.train_patients": 5},
        "none": {"grid.centre": "image"},
        "given": {"localiser.run": "runs/earlier"},
    }
    planned = plan(Experiment(methods=["jdl"], variants=variants, seeds=[0]), Config())
    localisers = {run.entry: run.config.localiser.run for run in planned}
    first, fine = (f"runs/comparison/runs/{n}-seed0-fold0" for n in ("jdl", "fine"))
    assert localisers == {
        **{"jdl": None, "like": first, "fine": None, "fine_too": fine},
        **{"few": None, "none": None, "given": "runs/earlier"},
    }


def test_localiser_is_not_that_of_a_run_without_one():
    experiment = Experiment(
        methods=["jdl"], variants={"found": {"grid.centre": "localiser"}}, seeds=[0]
    )
    planned = plan(experiment, Config(grid=GridConfig(centre="image")))
    assert [run.config.localiser.run for run in planned] == [None, None]


def test_variants_are_further_entries_with_their_own_settings():
    variants = {
        "jdl_wide": {"message.widen_mm": 4, "message.form": "channels"},
        "small_direct": {"method": "direct", "grid.size": [64, 64]},
    }
    planned = plan(Experiment(variants=variants, seeds=[0]), Config())
    by_name = {run.entry: run.config for run in planned}
    assert [*by_name] == [*METHODS, *variants]
    wide = by_name["jdl_wide"]
    assert (wide.method, wide.message.widen_mm) == ("jdl", 4.0)
    assert wide.message.form == "channels"
    small = by_name["small_direct"]
    assert (small.method, small.grid.size) == ("direct", (64, 64))
    # The methods stay as they are.
    assert by_name["jdl"].message.widen_mm == 0


BAD = {
    # the key of the refusal, words of its reason, the experiment
    "unknown method": ("methods", "got 'three_step'", {"methods": ["three_step"]}),
    "method twice": ("methods", "each once", {"methods": ["jdl", "jdl"]}),
    "no method": ("candidate", "expected one of []", {"methods": []}),
    "seed twice": ("seeds", "got [1, 1]", {"seeds": [1, 1]}),
    "no seed": ("seeds", "one at least, got []", {"seeds": []}),
    "seed below 0": ("seed", "0 to 2147483646, got -1", {"seeds": [-1]}),
    "candidate": ("candidate", "expected one of ['direct', ", {"candidate": "wide"}),
    "name of a method": (
        "variants",
        "no method has, got 'jdl'",
        {"variants": {"jdl": {}}},
    ),
    "name with a path": ("variants", "got '../x'", {"variants": {"../x": {}}}),
    "unknown setting": (
        "command line",
        "--message.widen=4",
        {"variants": {"wide": {"message.widen": 4}}},
    ),
    "wrong type": (
        "message.widen_mm",
        "float",
        {"variants": {"wide": {"message.widen_mm": "far"}}},
    ),
    "no combination": (
        "message and model.share_weights",
        "their defaults unless method is jdl",
        {"variants": {"wide": {"method": "direct", "message.hard": True}}},
    ),
    "setting of the comparison": (
        "variants",
        "wide: seed is set by the comparison",
        {"variants": {"wide": {"seed": 4}}},
    ),
}


@pytest.mark.parametrize(("key", "words", "changes"), BAD.values(), ids=BAD)
def test_plan_that_cannot_be_is_refused_by_its_key(key, words, changes):
    with pytest.raises(RefusedError) as refused:
        plan(Experiment(**changes), Config())
    line = str(refused.value)
    assert line.startswith(f"ERROR {key}: CONFIG: ")
    assert words in line
