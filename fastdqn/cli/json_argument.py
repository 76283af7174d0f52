"""One argument that holds a JSON object; tyro's own rule for a dict would take pairs of words."""

from __future__ import annotations

import json
import typing
from typing import Any

import tyro


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


JSON_ARGUMENT: tyro.constructors.PrimitiveConstructorSpec[dict[str, Any]] = (
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=lambda words: _json_object(words[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )
)

DICTS_ARE_JSON = tyro.constructors.ConstructorRegistry()
"""For the fields of Config, which know no command line."""


@DICTS_ARE_JSON.primitive_rule
def _rule(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[dict[str, Any]] | None:
    return JSON_ARGUMENT if typing.get_origin(info.type) is dict else None
