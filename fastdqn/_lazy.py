"""Public names that are imported at their first use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(
    package: str, home: Mapping[str, str], modules: tuple[str, ...] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package; type checkers read its imports instead.

    Args:
        package: Its ``__name__``.
        home: The module under ``fastdqn`` that has a name.
        modules: Modules of the package that are imported at their first use, too.
    """

    def get(name: str) -> Any:
        if name in home:
            value = getattr(importlib.import_module(f"fastdqn.{home[name]}"), name)
        elif name in modules:
            return importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home, *modules})

    return get, names
