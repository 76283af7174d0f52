"""What is known of a field from its declaration: type, range, default."""

from __future__ import annotations

import dataclasses
import functools
import typing
from dataclasses import MISSING, dataclass
from typing import Any

from fastdqn.config.ranges import Range


@dataclass(frozen=True)
class Field:
    """One field of a configuration."""

    name: str
    type: Any
    """The annotation, without what stands beside the type; an optional one allows None."""
    range: Range | None
    """Of a number; None: any finite one."""
    default: Any


@functools.cache
def fields_of(kind: type) -> dict[str, Field]:
    """The fields of ``Config``, or of one of its groups, by name and in order."""
    marked = typing.get_type_hints(kind, include_extras=True)
    plain = typing.get_type_hints(kind)
    return {
        field.name: Field(
            name=field.name,
            type=plain[field.name],
            range=_range(marked[field.name]),
            default=field.default if field.default_factory is MISSING else field.default_factory(),
        )
        for field in dataclasses.fields(kind)
    }


def _range(hint: Any) -> Range | None:
    marks = getattr(hint, "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, Range)), None)
