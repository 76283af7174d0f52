"""The cases by name, and those that a pattern means. Needs no torch."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from fastdqn.bench.case import Case
from fastdqn.bench.case_list import all_cases
from fastdqn.errors import ConfigError, nearest

GROUPS = ("ceil", "env", "act", "per", "gather", "net", "adam", "update", "e2e", "peer")
_SIZES = re.compile(r"/[NBT][0-9.e]+(?=/|$)|(?<=/impala)[0-9]+")


def cases() -> dict[str, Case]:
    """All of them by name, in the order in which they run."""
    return {case.name: case for case in all_cases()}


def select(patterns: Sequence[str], device_type: str) -> list[Case]:
    """The cases that match any of the patterns; without patterns those of the default set.

    Args:
        patterns: Names, globs (``update/*``), or first parts of either (``update``,
            ``update/*/B32``); each may hold several, separated by commas.
        device_type: ``cpu`` or ``cuda``.

    Raises:
        ConfigError: Where a pattern matches nothing.
    """
    known = cases()
    wanted = [part.strip() for text in patterns for part in text.split(",") if part.strip()]
    if not wanted:
        return [case for case in known.values() if device_type in case.default_on]
    found: set[str] = set()
    for pattern in wanted:
        hits = {
            name
            for name in known
            if fnmatch.fnmatchcase(name, pattern)
            or fnmatch.fnmatchcase(name, pattern.rstrip("/") + "/*")
        }
        if not hits:
            hint = nearest(pattern, [*known, *GROUPS])
            raise ConfigError(
                f"cases = {pattern!r} matches none of the {len(known)} cases{hint}; 'fastdqn bench "
                f"--list' names them."
            )
        found |= hits
    return [case for name, case in known.items() if name in found]


def one_of_each(selected: Sequence[Case]) -> list[Case]:
    """Without those that differ from an earlier one in a size only: tiny, they are the same."""
    kinds: dict[str, Case] = {}
    for case in selected:
        kinds.setdefault(_SIZES.sub("", case.name), case)
    return list(kinds.values())


def families(selected: Sequence[Case]) -> list[list[Case]]:
    """The cases grouped by family, each in the place of its first."""
    grouped: dict[str, list[Case]] = {}
    for case in selected:
        grouped.setdefault(case.family or case.name, []).append(case)
    return list(grouped.values())
