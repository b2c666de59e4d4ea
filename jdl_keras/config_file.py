"""Configurations on the command line and in YAML."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser, Namespace

from jdl_keras.config import Config
from jdl_keras.config_rules import check
from tfrecords_tools import files
from tfrecords_tools.command_line import make_parser, parse, settings_of


def parse_config(program: str, description: str, argv: Sequence[str] | None) -> Config:
    """The configuration of a command line: defaults, `--config`, dotted overrides.

    Raises:
        RefusedError: `CONFIG`, with the key at fault.
        SystemExit: after `--help` or `--print_config`.
    """
    return config_of(parse(config_parser(program, description), argv))


def config_parser(program: str, description: str) -> ArgumentParser:
    """A parser of configurations, for commands with options of their own."""
    parser = make_parser(program, description, config=True)
    parser.add_class_arguments(Config, None)
    return parser


def config_of(arguments: Namespace) -> Config:
    """The configuration among the arguments of a command.

    Raises:
        RefusedError: `CONFIG`, with the key at fault.
    """
    config = settings_of(Config, arguments)
    check(config)
    return config


def read_config(path: Path) -> Config:
    """The configuration that `write_config` wrote."""
    return parse_config("jdl_keras", "a run", ["--config", str(path)])


def plain(config: Config) -> dict:
    """Nested dictionaries and lists, as YAML and JSON hold them."""

    def listed(value):  # noqa: ANN001, ANN202
        if isinstance(value, dict):
            return {key: listed(item) for key, item in value.items()}
        return [*value] if isinstance(value, tuple) else value

    return listed(dataclasses.asdict(config))


def flat(config: Config) -> dict:
    """Every setting by its dotted key."""
    settings: dict = {}
    for key, value in plain(config).items():
        if isinstance(value, dict):
            settings |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            settings[key] = value
    return settings


def from_flat(settings: Mapping[str, object]) -> Config:
    """The configuration with these settings by dotted key; others have their defaults.

    Raises:
        RefusedError: `CONFIG`, with the key at fault.
    """
    texts = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in settings.items()
    }
    argv = [f"--{key}={text}" for key, text in texts.items()]
    return parse_config("jdl_keras", "a run", argv)


def write_config(config: Config, path: Path) -> None:
    """Writes every setting of a run, resolved."""
    files.write_text(path, yaml.safe_dump(plain(config), sort_keys=False))
