"""Writes docs/config.md from the groups: ``python -m fastdqn.config.document > docs/config.md``."""

from __future__ import annotations

import inspect
import typing
from typing import Literal

from fastdqn.config.checks import alternatives
from fastdqn.config.fields import Field, fields_of
from fastdqn.config.groups import GROUPS
from fastdqn.config.meanings import meanings

_HEAD = """\
# Every field of a configuration

Written by `python -m fastdqn.config.document > docs/config.md`; edit `fastdqn/config/groups.py`.

A field `num_envs` is the argument `Config(num_envs=...)`, the key `num_envs` of a TOML or JSON
file, and the option `--num-envs`. Defaults are those of the preset `cartpole`. `env_steps` counts
agent steps summed over all envs, `updates` optimizer steps. A field that nothing would use is
refused.
"""


def document() -> str:
    """The whole page, in Markdown: a table for each group."""
    return "\n".join([_HEAD, *map(_section, GROUPS)])


def _section(name: str) -> str:
    group = GROUPS[name]
    said = meanings(group)
    rows = [_row(field, said[field.name]) for field in fields_of(group).values()]
    head = ["| field | type | default | range | meaning |", "|---|---|---|---|---|"]
    return "\n".join([f"## {name}", "", f"{inspect.getdoc(group)}", "", *head, *rows, ""])


def _row(field: Field, meaning: str) -> str:
    default = "{}" if field.default == {} else repr(field.default)
    cells = [f"`{field.name}`", _type(field.type), f"`{default}`", _range(field), _plain(meaning)]
    return f"| {' | '.join(cells)} |"


def _type(hint: object) -> str:
    if len(parts := alternatives(hint)) > 1:
        return " or ".join(map(_type, parts))
    if hint is type(None):
        return "None"
    if typing.get_origin(hint) is Literal:
        return "choice"
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        return {str: "texts", int: "ints"}.get(kind, "choices")
    if typing.get_origin(hint) is dict:
        return "JSON object"
    return getattr(hint, "__name__", str(hint))


def _range(field: Field) -> str:
    for hint in (field.type, *typing.get_args(field.type)):
        if typing.get_origin(hint) is Literal:
            return ", ".join(f"`{choice}`" for choice in typing.get_args(hint))
    if field.range is not None:
        return str(field.range).removeprefix("a number ")
    return "any finite" if float in (field.type, *typing.get_args(field.type)) else ""


def _plain(text: str) -> str:
    return text.replace("``", "`").replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(document(), end="")
