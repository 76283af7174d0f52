"""What a benchmark is called and made of. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BOTH, CPU, CUDA, NOWHERE = ("cpu", "cuda"), ("cpu",), ("cuda",), ()
IMPALA_WIDTHS = {"impala1": 1, "impala2": 2, "impala4": 4}  # of the nets of these names


@dataclass(frozen=True, kw_only=True)
class Case:
    """One benchmark; ``fastdqn.bench.cases.<group>.make`` makes it of ``params``."""

    name: str
    line: str
    params: Mapping[str, Any] = field(default_factory=dict)
    default_on: tuple[str, ...] = NOWHERE
    family: str = ""
    """Cases of one family are timed in turns, and share their replay."""
    against: str = ""
    """The case of its family whose time is the unit of this one's."""

    @property
    def group(self) -> str:
        """First part of the name."""
        return self.name.partition("/")[0]
