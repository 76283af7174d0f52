"""Arguments of public functions, checked as the fields of a ``Config`` are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fastdqn.config.checks import check_type, shown
from fastdqn.config.fields import fields_of
from fastdqn.config.ranges import Range
from fastdqn.errors import CheckpointError, ConfigError

SIZES = Range(1, 2**40)
SEEDS = Range(-(2**63), 2**64 - 1)
"""What torch's generators take."""


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


def check_sizes(**sizes: Any) -> None:
    """Refuse, by a ConfigError, what is no whole number from 1."""
    for name, size in sizes.items():
        check_argument(name, size, int, SIZES)


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Refuse, by a ConfigError, what is none of some words."""
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} = {shown(value)} must be one of {', '.join(choices)}.")


def check_state(of: str, state: Any, names: Collection[str]) -> None:
    """Refuse, by a CheckpointError, what is no ``state_dict`` with these names."""
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"The state of the {of} is {type(state).__name__}; pass what state_dict() returned."
        )
    for name in names:
        if name not in state:
            raise CheckpointError(
                f"The state of the {of} has no {name!r}; pass what state_dict() returned."
            )


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
