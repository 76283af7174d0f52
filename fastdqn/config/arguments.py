"""Arguments of public functions, checked as the fields of a ``Config`` are."""

from __future__ import annotations

from typing import Any

from fastdqn.config.checks import check_type, shown
from fastdqn.config.fields import fields_of
from fastdqn.config.ranges import Range
from fastdqn.errors import ConfigError


def check_argument(name: str, value: Any, hint: Any, allowed: Range | None = None) -> Any:
    """The value, a number of NumPy's as Python's own.

    Args:
        name: Of the argument.
        value: To check.
        hint: The type, such as ``int`` or ``float | None``.
        allowed: Of a number.

    Raises:
        ConfigError: Where it is of another type or out of its range.
    """
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        value = value.item()
    check_type(name, value, hint, allowed)
    if allowed is not None and value is not None and value not in allowed:
        raise ConfigError(f"{name} = {shown(value)} is out of range; use {allowed}.")
    return value


def check_like_fields(group: type, **values: Any) -> dict[str, Any]:
    """The values of arguments that are called like fields of a group, and mean the same.

    Args:
        group: Of :mod:`fastdqn.config.groups`.
        values: By name.

    Raises:
        ConfigError: As :func:`check_argument`.
    """
    fields = fields_of(group)
    return {
        name: check_argument(name, value, fields[name].type, fields[name].range)
        for name, value in values.items()
    }
