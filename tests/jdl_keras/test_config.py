"""Configurations: what is refused, what overrides what, what comes back from a file."""

import dataclasses
import subprocess
import sys

import pytest

from jdl_keras import train
from jdl_keras.config import RULES, Config, GridConfig, TrainingConfig, check
from jdl_keras.config_file import parse_config, plain, read_config, write_config
from tfrecords_tools.errors import REFUSED, RefusedError

BATCH_SIZE = TrainingConfig().batch_size

IMPOSSIBLE = {
    # key: a value of the right type, and words of the way out
    "seed": ("-1", "0 to 2147483646"),
    "grid.size": ("[100, 96]", "such as [96, 96]"),
    "grid.spacing_mm": ("[0, 1.5]", "positive"),
    "grid.percentiles": ("[99, 1]", "0 <= low < high <= 100"),
    "model.dropout": ("1", "0 <= rate < 1"),
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
    "training.patience": ("-1", "0 or more"),
    "evaluation.threshold": ("1", "0 < t < 1"),
}

WRONG_TYPE = {
    "seed": ("1.5", "int"),
    "method": ("three_step", "jdl"),
    "grid.size": ("96", "tuple"),
    "grid.spacing_mm": ("[1, 1, 1]", "2 elements"),
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
        for key, value in flat(plain(Config()))
        if isinstance(value, int | float | list) and not isinstance(value, bool)
    }
    assert numbers == set(IMPOSSIBLE) == {*RULES, "grid.size"}


def flat(settings, prefix=""):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


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
