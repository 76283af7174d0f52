"""Whether a value suits its field, in type and range, and the sentence that says what would."""

from __future__ import annotations

import reprlib
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from fastdqn.config.fields import Field
from fastdqn.config.ranges import Range
from fastdqn.errors import ConfigError, nearest

ELSEWHERE = {
    "env": "env_id",
    "lr": "learning_rate",
    "steps": "total_env_steps",
    "total_timesteps": "total_env_steps",
    "timesteps": "total_env_steps",
    "buffer_size": "replay_capacity",
    "train_freq": "update_period_env_steps",
    "train_frequency": "update_period_env_steps",
    "target_network_frequency": "target_period_updates",
    "target_update_interval": "target_period_updates",
    "exploration_fraction": "epsilon_duration_env_steps",
    "gpu": "device",
    "cuda": "device",
}
"""What other libraries call our fields: only to point at ours."""


def checked(values: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    """The values of all fields, each of its type and in its range.

    Args:
        values: Of every field; a list, as JSON has it, stands for a tuple.
        fields: What they have to suit.

    Raises:
        ConfigError: For the first value that is of another type or out of its range.
    """
    found = dict(values)
    for field in fields.values():
        value = found[field.name]
        if isinstance(value, list) and any(map(_is_tuple, alternatives(field.type))):
            found[field.name] = value = tuple(value)
        check_type(field.name, value, field.type, field.range)
        if field.range is not None and value is not None and value not in field.range:
            raise ConfigError(f"{field.name} = {shown(value)} is out of range; use {field.range}.")
    return found


def refuse_unknown(names: Iterable[str], fields: Mapping[str, Field]) -> None:
    """Raise ConfigError, with the nearest name, for the first that is no field."""
    for name in names:
        if name not in fields:
            ours = ELSEWHERE.get(str(name))
            hint = f" (did you mean {ours!r}?)" if ours in fields else ""
            hint = hint or nearest(str(name), list(fields))
            hint = hint or "; 'fastdqn train --help-all' lists them"
            raise ConfigError(f"{shown(name)} is not a field of Config{hint}.")


def check_type(name: str, value: Any, hint: Any, allowed: Range | None = None) -> None:
    """Raise ConfigError unless ``value`` is of the annotated type (an int passes for a float).

    Args:
        name: Of the field.
        value: To check.
        hint: The type, without marks.
        allowed: The numbers to name where a value is not finite.
    """
    options = alternatives(hint)
    for option in options:
        origin = typing.get_origin(option)
        if origin is Literal:
            choices = typing.get_args(option)
            if isinstance(value, str) and value in choices:
                return
            hint_text = nearest(str(value), list(choices))
            raise ConfigError(
                f"{name} = {shown(value)} must be one of {', '.join(choices)}{hint_text}."
            )
        if option is type(None) and value is None:
            return
        if origin is tuple and isinstance(value, tuple):
            kind = typing.get_args(option)[0]
            if typing.get_origin(kind) is Literal:
                for part in value:
                    check_type(name, part, kind)
                return
            if all(type(v) is kind for v in value):
                return
        if origin is dict and isinstance(value, dict):
            return
        if option in (int, bool, str) and type(value) is option:
            return
        if option is float and type(value) in (int, float):
            if not -sys.float_info.max <= value <= sys.float_info.max:
                raise ConfigError(
                    f"{name} = {shown(value)} is not finite; use {allowed or 'a finite number'}."
                )
            return
    names = " or ".join(_type_name(option) for option in options)
    raise ConfigError(f"{name} = {shown(value)} has the wrong type; use {names}.")


def shown(value: Any) -> str:
    """``repr`` in one line, cut short where it would fill pages."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 100
    return " ".join(short.repr(value).split("\n"))


def alternatives(hint: Any) -> tuple[Any, ...]:
    """What a type allows, one by one."""
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)  # Literal | None: the latter
    return typing.get_args(hint) if union else (hint,)


def _is_tuple(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple


def _type_name(option: Any) -> str:
    if option is type(None):
        return "None"
    if option is int:
        return "a whole number in digits"
    if option is float:
        return "a number"
    if option is bool:
        return "true or false"
    if option is str:
        return "a text"
    if _is_tuple(option) and typing.get_args(option)[0] is str:
        return "names (on the command line with spaces between them: image direction)"
    if _is_tuple(option) and typing.get_origin(kind := typing.get_args(option)[0]) is Literal:
        names = typing.get_args(kind)
        return (
            f"a list of {', '.join(names)} (on the command line with spaces between them: "
            f"{' '.join(names[:2])})"
        )
    if _is_tuple(option):
        return "whole numbers (on the command line with spaces between them: 64 64)"
    if typing.get_origin(option) is dict:
        return "a JSON object"
    return getattr(typing.get_origin(option) or option, "__name__", str(option))
