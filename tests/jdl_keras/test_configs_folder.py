"""The configurations that come with the package."""

import dataclasses
from pathlib import Path

import pytest

from jdl_keras.config_file import read_config
from jdl_keras.experiment import METHODS

FOLDER = Path(__file__).parents[2] / "configs"
OF_COMPARE = {*FOLDER.glob("compare*.yaml")}
OF_TUNE = {*FOLDER.glob("tune*.yaml")}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.name)
def test_first_lines_give_the_command(path):
    commands = {"compare": OF_COMPARE, "tune": OF_TUNE}
    (command,) = [c for c, paths in commands.items() if path in paths] or ["train"]
    head = "".join(path.read_text().splitlines(keepends=True)[:2])
    assert f"python -m jdl_keras.{command} --config configs/{path.name}" in head


@pytest.mark.parametrize(
    "path",
    sorted({*FOLDER.glob("*.yaml")} - OF_COMPARE - OF_TUNE),
    ids=lambda p: p.name,
)
def test_train_takes_it(path):
    assert read_config(path).run_dir == f"runs/{path.stem}"


@pytest.mark.parametrize("path", sorted(OF_COMPARE), ids=lambda p: p.name)
def test_compare_takes_it(path):
    from jdl_keras.compare import _parse

    experiment, _, _ = _parse(["--config", str(path)])
    assert experiment.out == f"runs/{path.stem}"


@pytest.mark.parametrize("path", sorted(OF_TUNE), ids=lambda p: p.name)
def test_tune_takes_it(path):
    from jdl_keras.tune import _parse
    from jdl_keras.tuning.search import check_search

    search, base, _ = _parse(["--config", str(path)])
    check_search(search, base)
    assert search.out == f"runs/{path.stem}"


def test_paper_has_one_setting_for_all_methods_and_it_is_the_published_one():
    configs = {m: read_config(FOLDER / f"paper_{m}.yaml") for m in METHODS}
    jdl = configs["jdl"]
    for method, config in configs.items():
        same = dataclasses.replace(config, method="jdl", run_dir=jdl.run_dir)
        assert (config.method, same) == (method, jdl)
    assert jdl.grid.size == (224, 224)
    assert (jdl.training.batch_size, jdl.training.epochs) == (40, 500)
    assert jdl.optimizer.learning_rate == 4.73e-4
    assert (jdl.model.preset, jdl.model.dropout) == ("r50_vit_b16", 0.39)
    assert jdl.loss.myocardium_weight == 1.02
    assert jdl.loss.l2_myocardium == jdl.loss.l2_scar == 5.58e-6
