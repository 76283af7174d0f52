"""What stands below each field of a dataclass, for pages and help texts."""

from __future__ import annotations

import ast
import functools
import inspect
import sys


@functools.cache
def meanings(kind: type) -> dict[str, str]:
    """The docstring below each field, in one line; those of base classes come first.

    Args:
        kind: A dataclass whose source is at hand.
    """
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__[:-1]):
        found |= _by_class(part.__module__).get(part.__qualname__, {})
    return found


@functools.cache
def _by_class(module: str) -> dict[str, dict[str, str]]:
    """By the names of a module's classes; it is parsed once."""
    body = ast.parse(inspect.getsource(sys.modules[module])).body
    return {node.name: _below(node) for node in body if isinstance(node, ast.ClassDef)}


def _below(node: ast.ClassDef) -> dict[str, str]:
    found = {}
    for above, below in zip(node.body, node.body[1:], strict=False):
        if not (isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[above.target.id] = " ".join(str(below.value.value).split())
    return found
