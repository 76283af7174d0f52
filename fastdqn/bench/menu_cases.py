"""What each option of the algorithm costs: whole updates on batches of 32. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastdqn.bench.case import BOTH, Case

_UNIT = "update/menu/double"
_RAINBOW = {"head": "c51", "dueling": True, "noisy": True}
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "double": ("Nature CNN, double Q", {}),
    "c51": ("Nature CNN, 51 atoms", {"options": {"head": "c51"}}),
    "qr": ("Nature CNN, 200 quantiles", {"options": {"head": "qr"}}),
    "iqn": ("Nature CNN, implicit quantiles, 64, 64 and 32", {"options": {"head": "iqn"}}),
    "munchausen": ("Nature CNN, Munchausen's soft policy", {"munchausen": True}),
    "munchausen_iqn": (
        "Nature CNN, Munchausen's soft policy of implicit quantiles",
        {"options": {"head": "iqn"}, "munchausen": True},
    ),
    "noisy": ("Nature CNN, learned noise", {"options": {"noisy": True}}),
    "dueling": ("Nature CNN, dueling", {"options": {"dueling": True}}),
    "rainbow": (
        "Nature CNN, all of Rainbow: atoms, dueling, noise, 3 steps, prioritized",
        {"options": _RAINBOW, "prioritized": True, "n_step": 3},
    ),
    "der": (
        "CNN of data-efficient Rainbow: atoms, dueling, noise",
        {"net": "der", "options": _RAINBOW},
    ),
    "same": ("Nature CNN, padded with zeros", {"options": {"padding": "same"}}),
}


def menu_cases() -> Iterator[Case]:
    """In turns with plain double Q-learning, which is the unit of their times."""
    common = {"net": "nature", "batch_size": 32, "mode": "auto", "launch": 1}
    for option, (line, params) in _OPTIONS.items():
        name = f"update/menu/{option}"
        yield Case(
            name=name,
            line=f"{line}: one update of 32, graph on CUDA, else eager",
            params={**common, **params},
            default_on=BOTH,
            family="update/menu",
            against=_UNIT if name != _UNIT else "",
        )
