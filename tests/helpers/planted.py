"""Faults planted into modules of the package: one place of a source says something else."""

import sys
from pathlib import Path
from types import ModuleType


def plant(monkeypatch, module, right, wrong):
    """Let ``module`` and all that took names from it say ``wrong`` where it says ``right``."""
    source = Path(module.__file__).read_text()
    assert source.count(right) == 1, f"{source.count(right)} times {right!r}"
    made = ModuleType(module.__name__)
    made.__file__ = module.__file__
    exec(compile(source.replace(right, wrong), module.__file__, "exec"), made.__dict__)
    users = [user for name, user in sys.modules.items() if name.startswith("fastdqn.")]
    for name, real in list(vars(module).items()):
        if getattr(real, "__module__", None) == module.__name__:
            for user in users:
                if vars(user).get(name) is real:
                    monkeypatch.setattr(user, name, getattr(made, name))
