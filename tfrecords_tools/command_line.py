"""Command lines: jsonargparse, with its complaints as our one-line refusals."""

import dataclasses
import re
from argparse import ArgumentError
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import yaml
from jsonargparse import (
    ActionSubCommands,
    ArgumentParser,
    Namespace,
    get_loader,
    set_loader,
)

from tfrecords_tools.errors import RefusedError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")

_STRICT_YAML = "strict_yaml"


def make_parser(program: str, description: str, config: bool = False) -> ArgumentParser:
    """An empty strict parser.

    Args:
        program: module of the command, such as `tfrecords_tools.build`.
        description: the first line of the help.
        config: whether the command has settings: `--config FILE`, `--print_config`.
    """
    parser = ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
        parser_mode=_STRICT_YAML,
    )
    if config:
        parser.add_argument("--config", action="config", help="settings as YAML")
    return parser


def parse(parser: ArgumentParser, argv: Sequence[str] | None) -> Namespace:
    """The arguments, with dataclasses built.

    Raises:
        RefusedError: `CONFIG`, with the key or option at fault.
        SystemExit: after `--help` or `--print_config`.
    """
    try:
        arguments = parser.parse_args(argv)
        # Parsing alone lets a null of YAML pass for any type.
        parser.validate(arguments, skip_unset=False)
    except (ArgumentError, TypeError) as error:
        raise _refusal(str(error)) from None
    except UnicodeDecodeError:
        raise RefusedError("config", "CONFIG", "not a text file in UTF-8") from None
    _check_groups(parser, arguments)
    return parser.instantiate(arguments)


def settings_of(kind: type[Settings], arguments: Namespace) -> Settings:
    """The dataclass among the arguments; what is not among them keeps its default."""
    names = [one.name for one in dataclasses.fields(kind) if one.name in arguments]
    return kind(**{name: arguments[name] for name in names})


def _check_groups(parser: ArgumentParser, arguments: Namespace) -> None:
    """Refuses `training: 3` where the settings of a group belong."""
    for name in parser.groups:
        if name in arguments and not isinstance(arguments[name], Namespace):
            reason = f"expected settings by name, got {arguments[name]}"
            raise RefusedError(name, "CONFIG", reason)
    for action in parser._actions:  # argparse has no public list of them
        if isinstance(action, ActionSubCommands):
            command = arguments[action.dest]
            _check_groups(action.choices[command], arguments[command])


def _load_yaml(text: str) -> object:
    """What jsonargparse reads, but no key twice: YAML itself keeps the last one."""
    _check_keys(yaml.compose(text, yaml.SafeLoader))
    return get_loader("yaml")(text)


def _check_keys(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item)
    elif isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise RefusedError(key, "CONFIG", "stands twice in one place")
        for _, value in node.value:
            _check_keys(value)


set_loader(_STRICT_YAML, _load_yaml, exceptions=(yaml.YAMLError,))


def _one_of(names: re.Match[str]) -> str:
    return "Expected one of " + names[1].replace(",", ", ")


def _refusal(message: str) -> RefusedError:
    """One line from jsonargparse's message; the key it names becomes the subject."""
    line = re.sub(r"<class '(\w+)'>", r"\1", " ".join(message.split())).rstrip(".")
    line = re.sub(r"Expected a typing\.Literal\[(.+?)\]", r"Expected one of \1", line)
    line = re.sub(r"Expected a member of <enum '\w+'>: {(.+?)}", _one_of, line)
    unknown = re.match(r"(\w+) '([\w.]+)' does not accept option '([\w.]+)'", line)
    if unknown:
        group = f"{unknown[2]}." if unknown[1] == "Group" else ""
        return RefusedError(group + unknown[3], "CONFIG", "no such setting; see --help")
    named = re.match(r'Parser key "([\w.]+)": (.+)', line)
    if named:
        return RefusedError(named[1], "CONFIG", named[2])
    return RefusedError("command line", "CONFIG", f"{line}; see --help")
