"""JSON content as dataclasses, strictly."""

import dataclasses
import types
import typing


def strictly(kind: typing.Any, value: object, where: str) -> typing.Any:  # noqa: ANN401
    """`value` as `kind`, with no unknown, missing or wrongly typed part.

    A field of a dataclass that has a default may be missing.

    Args:
        kind: a dataclass, `list[...]`, `dict[str, ...]`, a plain type or a union of
            plain types and a dataclass.
        value: what `json.loads` gave.
        where: name of the value in messages.

    Raises:
        ValueError: if a part differs; the message names it.
    """
    if dataclasses.is_dataclass(kind):
        return _strict_dataclass(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list and isinstance(value, list):
        return [strictly(arguments[0], item, where) for item in value]
    if origin is dict and isinstance(value, dict):
        return {k: strictly(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is types.UnionType and isinstance(value, dict):
        for one in filter(dataclasses.is_dataclass, arguments):
            return strictly(one, value, where)
    # `type(...)`, because isinstance takes true for the integer 1.
    allowed = arguments if origin is types.UnionType else (kind,)
    if type(value) not in allowed:
        expected = getattr(kind, "__name__", str(kind))
        raise ValueError(f"{where} must be {expected}, got {type(value).__name__}")
    return value


def _strict_dataclass(kind: typing.Any, value: object, where: str) -> typing.Any:  # noqa: ANN401
    hints = typing.get_type_hints(kind)
    needed = {field.name for field in dataclasses.fields(kind) if not _optional(field)}
    if not isinstance(value, dict) or not needed <= set(value) <= set(hints):
        raise ValueError(f"{where} must have exactly the keys {sorted(hints)}")
    return kind(**{k: strictly(hints[k], value[k], f"{where}.{k}") for k in value})


def _optional(field: dataclasses.Field) -> bool:
    defaults = (field.default, field.default_factory)
    return any(default is not dataclasses.MISSING for default in defaults)
