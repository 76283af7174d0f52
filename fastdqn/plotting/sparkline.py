"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-~=+*#"


def sparkline(values: Sequence[float], width: int, *, stream: Any = None) -> str:
    """The values from the lowest to the highest mark, at most ``width`` characters.

    Args:
        values: In order; those that are not finite are left out. More than ``width`` of them are
            averaged in groups of (nearly) the same size.
        width: Characters.
        stream: Where it will be printed: one whose encoding has no blocks gets ASCII marks.
    """
    finite = [value for value in values if math.isfinite(value)]
    count = min(len(finite), width)
    if count <= 0:
        return ""
    edges = [len(finite) * i // count for i in range(count + 1)]
    means = [math.fsum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    marks = _BLOCKS if _has_blocks(stream) else _ASCII
    if not high > low:
        return marks[3] * count
    top = len(marks) - 1
    return "".join(marks[round((mean - low) / (high - low) * top)] for mean in means)


def _has_blocks(stream: Any) -> bool:
    try:
        _BLOCKS.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
