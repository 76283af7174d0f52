"""The replay's kernels as plain Python: a wrong index raises, and faults can be planted."""

from pathlib import Path
from types import ModuleType
from typing import Any

from fastdqn.replay import kernels

_SOURCE = Path(kernels.__file__).read_text()
_NAMES = [name for name, value in vars(kernels).items() if hasattr(value, "py_func")]
assert "add_row" in _NAMES


def interpret(monkeypatch: Any, right: str = "", wrong: str = "") -> None:
    """Take Numba away, and say ``wrong`` in the one place where the module says ``right``."""
    source = _SOURCE.replace(right, wrong) if right else _SOURCE
    assert not right or _SOURCE.count(right) == 1, f"{_SOURCE.count(right)} times {right!r}"
    module = ModuleType("interpreted_loops")
    exec(compile(source.replace("@compiled\n", ""), kernels.__file__, "exec"), module.__dict__)
    for name in _NAMES:
        monkeypatch.setattr(kernels, name, getattr(module, name))
