"""Command lines: settings from files, one-line errors, no TensorFlow for help."""

import dataclasses
import subprocess
import sys
from typing import Literal

import pytest

from tfrecords_tools import command_line
from tfrecords_tools.errors import RefusedError


@dataclasses.dataclass(frozen=True)
class Optimizer:
    learning_rate: float = 1e-3
    name: str = "adam"
    rule: Literal["cosine", "step"] = "cosine"


@pytest.fixture
def parser():
    parser = command_line.make_parser("jdl_keras.example", "Example.", config=True)
    parser.add_argument("--optimizer", type=Optimizer, default=Optimizer())
    return parser


def test_file_then_override(parser, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("optimizer:\n  learning_rate: 0.1\n  name: sgd\n")
    arguments = ["--config", str(path), "--optimizer.learning_rate", "0.2"]
    found = command_line.parse(parser, arguments).optimizer
    assert found == Optimizer(learning_rate=0.2, name="sgd")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("optimizer:\n  rate: 1\n", "optimizer.rate"),
        ("optimizer:\n  learning_rate: fast\n", "learning_rate"),
        ("optimizer: [1\n", "config"),
        ("- 1\n", "config"),
        ("optimizer: 3\n", "optimizer"),
        ("optimizer:\n  name: a\n  name: b\n", "name: CONFIG: stands twice"),
        ("optimizer: {name: a}\noptimizer: {name: b}\n", "optimizer: CONFIG: stands"),
        ("? [optimizer, 1]\n: 2\n", "config"),
    ],
)
def test_wrong_files_get_one_line_that_names_the_key(parser, tmp_path, text, named):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(RefusedError, match="CONFIG") as refused:
        command_line.parse(parser, ["--config", str(path)])
    assert len(str(refused.value).splitlines()) == 1
    assert named in str(refused.value)


def test_choices_are_listed_plainly(parser):
    with pytest.raises(RefusedError) as refused:
        command_line.parse(parser, ["--optimizer.rule", "linear"])
    reason = "Expected one of 'cosine', 'step'. Got value: linear"
    assert str(refused.value) == f"ERROR optimizer.rule: CONFIG: {reason}"


def test_missing_file_is_refused(parser):
    with pytest.raises(RefusedError, match="absent"):
        command_line.parse(parser, ["--config", "absent.yaml"])


def test_print_config_shows_the_resolved_settings(parser, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.parse(parser, ["--optimizer.name", "sgd", "--print_config"])
    assert ended.value.code == 0
    assert "name: sgd" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["build", "dump", "show", "verify"])
def test_help_does_not_import_tensorflow(command):
    program = (
        "import sys\n"
        f"from tfrecords_tools.{command} import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
