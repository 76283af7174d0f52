"""Whether a state is of the kind that an object saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastdqn.errors import CheckpointError


def check_saved(own: Mapping[str, Any], found: Any) -> None:
    """Refuse, by a CheckpointError, what lacks an entry of ``own``, or one of an entry."""
    parts = {name: part for name, part in own.items() if isinstance(part, Mapping)}
    if _has(found, own) and all(_has(found[name], part) for name, part in parts.items()):
        return
    raise CheckpointError(
        "The saved buffer is of another kind; load it with the class that saved it."
    )


def _has(found: Any, own: Mapping[str, Any]) -> bool:
    return isinstance(found, Mapping) and own.keys() <= found.keys()
