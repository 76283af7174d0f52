"""The options of a command, read from the dataclass that its arguments are parsed into."""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import MISSING
from typing import Any, Literal, NamedTuple

import tyro

from fastdqn.config.checks import alternatives
from fastdqn.config.meanings import meanings

# How tyro.conf.Positional[...] and FlagCreatePairsOff[...] mark a field.
_POSITIONAL = set(typing.get_args(tyro.conf.Positional[str])[1:])
_ONE_WAY = set(typing.get_args(tyro.conf.FlagCreatePairsOff[bool])[1:])

# What a text is, where its type does not say it; completion goes by these words.
_TEXTS = {
    "env_id": "ENV_ID",
    "device": "DEVICE",
    "run_dir": "DIR",
    "initial": "RUN",
    "checkpoint": "CHECKPOINT",
}
_WORDS = {int: "INT", float: "FLOAT", str: "TEXT", dict: "JSON"}


class Option(NamedTuple):
    """One argument of a command."""

    name: str
    """Of its field."""
    group: str
    """Of the fields of Config; empty for others."""
    metavar: str
    """What stands for its value; empty for a switch."""
    choices: tuple[str, ...]
    """The values it may have; empty where they cannot be counted."""
    default: str | None
    """As it is typed; None: it has to be given, or is a switch that turns on only."""
    meaning: str
    takes_none: bool
    """Whether it may be None, typed so, as numbers may."""
    positional: bool
    """Whether it stands without its name."""
    has_no: bool
    """Whether ``no-`` in front of its name turns it off."""

    @property
    def word(self) -> str:
        """Its name on the command line, without the dashes."""
        return self.name.replace("_", "-")

    @property
    def words(self) -> list[str]:
        """As it may be typed, without the dashes."""
        return [self.word, *([f"no-{self.word}"] if self.has_no else [])]


def options_of(kind: type, default: Any = None, group: str = "") -> list[Option]:
    """The options that a dataclass of flags comes to, in order.

    Args:
        kind: The dataclass; a dataclass in one of its fields is a group, whose name stands in no
            option.
        default: An instance with the defaults to show; None: those of the class.
        group: Of all of them.
    """
    plain = typing.get_type_hints(kind)
    marked = typing.get_type_hints(kind, include_extras=True)
    said = meanings(kind)
    found: list[Option] = []
    for field in dataclasses.fields(kind):
        hint, marks = plain[field.name], getattr(marked[field.name], "__metadata__", ())
        each = (*alternatives(hint), *typing.get_args(hint)[:1])  # of a tuple, what it is of
        value = _default(field) if default is None else getattr(default, field.name)
        if dataclasses.is_dataclass(hint):
            found += options_of(typing.cast(type, hint), value, field.name)
            continue
        has_no = hint is bool and not any(mark in _ONE_WAY for mark in marks)
        if _said(marks, "help_behavior_hint"):
            shown = _hinted(marks)
        else:
            shown = None if hint is bool and not has_no else _typed(value, hint)
        found.append(
            Option(
                name=field.name,
                group=group,
                metavar=_said(marks, "metavar") or _metavar(field.name, hint),
                choices=next((typing.get_args(h) for h in each if _is_choice(h)), ()),
                default=shown,
                meaning=said.get(field.name, ""),
                takes_none=type(None) in each and (int in each or float in each),
                positional=any(mark in _POSITIONAL for mark in marks),
                has_no=has_no,
            )
        )
    return found


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _said(marks: tuple[Any, ...], what: str) -> str | None:
    """What tyro.conf.arg(...) says of a field."""
    return next((said for mark in marks if (said := getattr(mark, what, None))), None)


def _hinted(marks: tuple[Any, ...]) -> str | None:
    """The default by what tyro shows in its place: ``(default: cartpole)``, ``(required)``."""
    hint = (_said(marks, "help_behavior_hint") or "").strip("()").removeprefix("default: ")
    return None if hint == "required" else hint


def _is_choice(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


def _metavar(name: str, hint: Any) -> str:
    kind = next(kind for kind in alternatives(hint) if kind is not type(None))
    if kind is bool:
        return ""
    if _is_choice(kind):
        return f"{{{','.join(typing.get_args(kind))}}}"
    if typing.get_origin(kind) is tuple:
        return f"{_metavar(name, typing.get_args(kind)[0])} ..."
    if kind is str:
        return _TEXTS.get(name, "TEXT")
    return _WORDS[typing.get_origin(kind) or kind]


def _typed(value: Any, hint: Any) -> str | None:
    """A default as it would be typed."""
    if value is MISSING:
        return None
    if hint is bool:
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or None
    return json.dumps(value) if isinstance(value, dict) else str(value)
