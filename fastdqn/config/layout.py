"""How a file lays out a configuration: fields by name, or by groups, on top of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastdqn.config.checks import refuse_unknown, shown
from fastdqn.config.fields import Field, fields_of
from fastdqn.config.groups import GROUPS
from fastdqn.errors import ConfigError, nearest

PRESET = "preset"
"""The key that names the preset whose fields the others replace."""


EVERY_FIELD = {name: field for kind in GROUPS.values() for name, field in fields_of(kind).items()}


def ungrouped(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a file, those in its groups like those beside them.

    Args:
        body: Values by field; under the name of a group there may be more of them, which must be
            fields of that group.

    Raises:
        ConfigError: Where a field stands in another group than its own, or twice.
    """
    found: dict[str, Any] = {}
    for name, value in body.items():
        is_group = name in GROUPS and isinstance(value, dict)
        if isinstance(value, dict) and not is_group and name not in EVERY_FIELD:
            raise ConfigError(
                f"There is no group {shown(name)}{nearest(name, list(GROUPS))}; the groups are "
                f"{', '.join(GROUPS)}."
            )
        if name in GROUPS and name not in EVERY_FIELD and not is_group:
            raise ConfigError(
                f"{name} = {shown(value)} is no group of fields; use a table [{name}] (in JSON an "
                f"object), or put them beside it."
            )
        for field, inside in value.items() if is_group else [(name, value)]:
            if is_group:
                _refuse_misplaced(field, name)
            if field in found:
                raise ConfigError(f"{field} stands there twice, once in a group; drop one.")
            found[field] = inside
    return found


def with_none(body: Mapping[str, Any]) -> dict[str, Any]:
    """The values with None in the place of the text "None" (or "none"), where a field may be None.

    TOML has no null; this is what such a value is called on the command line.
    """
    return {
        name: None if value in ("None", "none") and _may_be_none(EVERY_FIELD.get(name)) else value
        for name, value in body.items()
    }


def _may_be_none(field: Field | None) -> bool:
    return field is not None and type(None) in getattr(field.type, "__args__", ())


def _refuse_misplaced(field: str, group: str) -> None:
    own = next((name for name, kind in GROUPS.items() if field in fields_of(kind)), None)
    refuse_unknown([field], EVERY_FIELD)
    if own != group:
        raise ConfigError(f"{field} stands in {group}; move it to {own}, or out of all groups.")
