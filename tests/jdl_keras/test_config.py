"""Configurations: what is refused, what overrides what, what comes back from a file."""

import dataclasses
import subprocess
import sys

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from jdl_keras import train
from jdl_keras.config import (
    Config,
    GridConfig,
    MessageConfig,
    OptimizerConfig,
    TrainingConfig,
)
from jdl_keras.config_file import (
    flat,
    from_flat,
    parse_config,
    plain,
    read_config,
    write_config,
)
from jdl_keras.config_rules import RULES, check
from tfrecords_tools.errors import REFUSED, RefusedError

BATCH_SIZE = TrainingConfig().batch_size

IMPOSSIBLE = {
    # key: a value of the right type, and words of the way out
    "seed": ("-1", "0 to 2147483646"),
    "grid.size": ("[100, 96]", "such as [96, 96]"),
    "grid.spacing_mm": ("[0, 1.5]", "positive"),
    "grid.percentiles": ("[99, 1]", "0 <= low < high <= 100"),
    "localiser.size": ("[0, 96]", "such as [32, 96]"),
    "localiser.spacing_mm": ("[5, -5]", "positive"),
    "localiser.width": ("12", "multiple of 8"),
    "localiser.steps": ("0", "1 to"),
    "localiser.batch_size": ("1000001", "1 to 1000000"),
    "localiser.learning_rate": ("0", "a positive number"),
    "split.folds": ("1", "0, or 2 and more"),
    "split.fold": ("-1", "0 or more"),
    "split.seed": ("-1", "0 or more"),
    "split.train_patients": ("-1", "0 or more"),
    "split.scar_patients": ("-1", "0 or more"),
    "message.widen_mm": (".nan", "0 or more"),
    "message.warmup_epochs": ("-1", "0 or more"),
    "model.dropout": ("1", "0 <= rate < 1"),
    "loss.wall_weight": ("-0.5", "0 or more"),
    "loss.myocardium_weight": (".nan", "0 or more"),
    "loss.dice_weight": (".inf", "0 or more"),
    "loss.smoothing": ("0", "a positive number"),
    "loss.l2_myocardium": ("-1", "0 or more"),
    "loss.l2_scar": ("-1", "0 or more"),
    "augmentation.scale": ("[1.2, 0.8]", "smallest <= largest"),
    "augmentation.rotation_degrees": (".nan", "0 or more"),
    "augmentation.translation_mm": (".inf", "0 or more"),
    "augmentation.shear_degrees": ("90", "shear < 90"),
    "augmentation.gamma": ("[0, 1]", "0 < smallest"),
    "augmentation.noise_sd": ("-0.1", "0 or more"),
    "optimizer.learning_rate": ("0", "a positive number"),
    "optimizer.clip_norm": ("-1", "0 or more"),
    "training.epochs": ("0", "1 to"),
    "training.batch_size": ("-4", "1 to"),
    "training.micro_batches": (
        str(BATCH_SIZE + 1),
        f"a divisor of training.batch_size ({BATCH_SIZE})",
    ),
    "training.streams": (
        str(BATCH_SIZE + 1),
        f"a divisor of the samples of a micro-batch ({BATCH_SIZE})",
    ),
    "training.patience": ("-1", "0 or more"),
    "evaluation.threshold": ("1", "0 < t < 1"),
    "evaluation.smallest_scar_ml": ("-1", "0 or more"),
    "evaluation.rotations": ("0", "1 to 360"),
}

WRONG_TYPE = {
    "seed": ("1.5", "int"),
    "method": ("three_step", "jdl"),
    "grid.size": ("96", "tuple"),
    "grid.spacing_mm": ("[1, 1, 1]", "2 elements"),
    "grid.centre": ("heart", "'localiser', 'image', 'reference'"),
    "message.form": ("sum", "'channels'"),
    "model.preset": ("huge", "'small'"),
    "model.dropout": ("often", "float"),
    "loss.dice_over": ("epoch", "'batch', 'sample'"),
    "optimizer.schedule": ("step", "'cosine'"),
    "training.epochs": ("many", "int"),
    "training.cache": ("perhaps", "bool"),
    "training.strategy": ("tpu", "'mirrored'"),
    "training.mixed_precision": ("float64", "'mixed_bfloat16'"),
    "evaluation.split": ("train", "'validation'"),
}

COMBINATIONS = [
    # subject of the refusal, words of the way out, the settings that do not fit
    *(
        (
            "message and model.share_weights",
            f"unless method is jdl, got {method}",
            {"method": method} | change,
        )
        for method in ("direct", "two_step", "multi_task")
        for change in (
            {"message.hard": "true"},
            {"message.warmup_epochs": 2},
            {"model.share_weights": "true"},
        )
    ),
    *(
        (
            "model.share_weights",
            f"unless message.form is product, since both networks take the same input, "
            f"got {form}",
            {"model.share_weights": "true", "message.form": form},
        )
        for form in ("channels", "standardised", "features")
    ),
    (
        "loss.wall_weight",
        "0 for direct, which predicts no myocardium, got 1.0",
        {"method": "direct", "loss.wall_weight": 1},
    ),
    ("split.fold", "below split.folds (3), got 3", {"split.folds": 3, "split.fold": 3}),
    ("split.fold", "below split.folds (0), got 1", {"split.fold": 1}),
    (
        "message.warmup_epochs",
        "fewer than training.epochs (3), got 3",
        {"training.epochs": 3, "message.warmup_epochs": 3},
    ),
    (
        "training.patience",
        "0, or more than message.warmup_epochs (2), got 2",
        {"training.patience": 2, "message.warmup_epochs": 2},
    ),
]

POSSIBLE = [
    {"method": "two_step", "loss.wall_weight": 1},
    {"model.share_weights": "true", "message.widen_mm": 3, "message.hard": "true"},
    {"split.folds": 3, "split.fold": 2},
    {"training.epochs": 3, "message.warmup_epochs": 2, "training.patience": 3},
]

BAD_FILES = {
    # content of the file: the subject of the refusal, and words of its reason
    "training:\n  epoks: 3": ("training.epoks", "no such setting"),
    "epochs: 3": ("command line", "'epochs'"),
    "training: 3": ("training", "settings by name"),
    "grid: null": ("grid", "settings by name"),
    "seed: null": ("seed", "int"),
    "training: [1, 2": ("command line", "parsing config"),
    "seed: !!python/object/apply:os.getpid []": ("command line", "parsing config"),
    "just words": ("command line", "Unexpected config"),
}


@pytest.fixture
def refusal(monkeypatch, capsys):
    """Runs `train` and returns its one line; it must not reach the heavy imports."""
    monkeypatch.setitem(sys.modules, "jdl_keras.training.loop", None)
    monkeypatch.setitem(sys.modules, "jdl_keras.inference.evaluate_run", None)

    def run(*argv):
        assert train.main(argv) == REFUSED
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        return line

    return run


@pytest.mark.parametrize(
    ("key", "value", "way_out"),
    [(k, *v) for table in (IMPOSSIBLE, WRONG_TYPE) for k, v in table.items()],
)
def test_bad_value_names_the_key_and_the_way_out(refusal, key, value, way_out):
    line = refusal(f"--{key}", value)
    assert line.startswith(f"ERROR {key}: CONFIG: ")
    assert way_out in line


def options(changes):
    return [f"--{key}={value}" for key, value in changes.items()]


@pytest.mark.parametrize(("subject", "way_out", "changes"), COMBINATIONS)
def test_settings_that_do_not_fit_are_refused(refusal, subject, way_out, changes):
    line = refusal(*options(changes))
    assert line.startswith(f"ERROR {subject}: CONFIG: expected ")
    assert line.endswith(way_out)


@pytest.mark.parametrize("changes", POSSIBLE)
def test_settings_at_the_edge_fit(changes):
    parse_config("test", "a test", options(changes))


@pytest.mark.parametrize(("content", "expected"), BAD_FILES.items())
def test_bad_file_is_refused(refusal, tmp_path, content, expected):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    subject, words = expected
    line = refusal("--config", str(path))
    assert line.startswith(f"ERROR {subject}: CONFIG: ")
    assert words in line


def test_file_that_is_no_text_is_refused(refusal, tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refusal("--config", str(tmp_path / "bad.yaml"))


def test_missing_file_is_refused(refusal, tmp_path):
    path = str(tmp_path / "none.yaml")
    assert path in refusal("--config", path)


# `--training.epoch` would be a prefix of `--training.epochs`.
@pytest.mark.parametrize("key", ["colour", "model.droput", "training.epoch"])
def test_unknown_key_is_refused(refusal, key):
    assert f"--{key}" in refusal(f"--{key}", "3")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_every_element_must_be_finite(value):
    with pytest.raises(RefusedError, match="grid.spacing_mm"):
        check(Config(grid=GridConfig(spacing_mm=(1.0, value))))


def test_every_number_has_a_rule_and_an_impossible_value():
    numbers = {
        key
        for key, value in flat(Config()).items()
        if isinstance(value, int | float | list) and not isinstance(value, bool)
    }
    assert numbers == set(IMPOSSIBLE) == {*RULES, "grid.size", "localiser.size"}


def test_flat_has_every_setting_by_its_dotted_key():
    found = flat(Config())
    groups = {
        field.name: dataclasses.fields(getattr(Config(), field.name))
        for field in dataclasses.fields(Config)
        if dataclasses.is_dataclass(getattr(Config(), field.name))
    }
    nested = {f"{g}.{field.name}" for g, fields in groups.items() for field in fields}
    assert set(found) == nested | {"records", "run_dir", "seed", "method"}
    assert found["grid.size"] == [96, 96]
    assert found["training.batch_size"] == BATCH_SIZE


SMALL = st.floats(1e-12, 1e6)
CONFIGS = st.builds(
    Config,
    records=st.none()
    | st.sampled_from(["a b/c: d", "1e5", "[1]", "-x", "x#y", "{a: 1}"]),
    run_dir=st.sampled_from(["runs/jdl", "123", "true", "null", " lead", "ü='x'"]),
    seed=st.integers(0, 2**31 - 2),
    grid=st.builds(GridConfig, spacing_mm=st.tuples(SMALL, SMALL)),
    message=st.builds(MessageConfig, hard=st.booleans(), widen_mm=SMALL),
    optimizer=st.builds(OptimizerConfig, learning_rate=SMALL),
    training=st.builds(TrainingConfig, cache=st.booleans()),
)


# Each example builds a parser of all settings, 50 ms.
@settings(max_examples=20, deadline=None)
@given(config=CONFIGS)
def test_flat_settings_give_the_same_configuration(config):
    assert from_flat(flat(config)) == config


def test_settings_that_are_not_given_have_their_defaults():
    grid = GridConfig(size=(32, 48), spacing_mm=(1e-5, 2.0))
    given = {"grid.size": (32, 48), "grid.spacing_mm": [1e-5, 2], "records": None}
    assert from_flat(given) == Config(grid=grid)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("training.epochs", 0, "1 to 1000000"),
        ("training.epochs", "many", "int"),
        ("model.dropout", None, "float"),
        ("method", "three_step", "jdl"),
    ],
)
def test_flat_settings_are_checked(key, value, words):
    with pytest.raises(RefusedError, match=f"{key}: CONFIG: .*{words}"):
        from_flat({key: value})


def test_unknown_flat_setting_is_refused():
    with pytest.raises(RefusedError, match="--model.droput"):
        from_flat({"model.droput": 0.1})


def test_defaults_pass():
    check(Config())
    assert parse_config("test", "a test", []) == Config()


def test_defaults_come_back_from_a_file(tmp_path):
    write_config(Config(), tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == Config()


def test_changed_settings_come_back_from_a_file(tmp_path):
    config = Config(
        records="records/a: b",
        seed=7,
        grid=GridConfig(size=(64, 96), spacing_mm=(1.25, 1.3671875)),
        training=TrainingConfig(cache=False, batch_size=3),
    )
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config


def test_plain_has_every_key_and_no_tuple():
    content = plain(Config())
    assert content["grid"]["size"] == [96, 96]
    assert list(content) == [field.name for field in dataclasses.fields(Config)]


def test_dotted_override():
    argv = ["--model.dropout", "0.2", "--grid.size", "[64, 96]", "--seed=5"]
    config = parse_config("test", "a test", argv)
    assert (config.model.dropout, config.seed) == (0.2, 5)
    assert config.grid == GridConfig(size=(64, 96))


def test_override_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("training: {epochs: 3, batch_size: 4}\nseed: 9\n")
    argv = ["--config", str(path), "--training.epochs", "5"]
    config = parse_config("test", "a test", argv)
    assert config.training == TrainingConfig(epochs=5, batch_size=4)
    assert config.seed == 9


@pytest.mark.parametrize(
    ("argv", "outcome", "words"),
    [
        (["--help"], 0, "--training.batch_size"),
        (["--print_config"], 0, f"batch_size: {BATCH_SIZE}"),
        (["--training.epochs", "0"], REFUSED, "training.epochs"),
    ],
)
def test_answers_without_tensorflow(argv, outcome, words):
    script = (
        "import sys\n"
        "from jdl_keras.train import main\n"
        "try:\n"
        f"    code = main({argv})\n"
        "except SystemExit as stop:\n"
        "    code = stop.code or 0\n"
        "heavy = {'tensorflow', 'keras', 'keras_hub'} & set(sys.modules)\n"
        "sys.exit(99 if heavy else code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == outcome, done.stderr
    assert words in done.stdout + done.stderr
