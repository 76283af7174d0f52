"""Rows of text, aligned before all of them are known: each is shown when its case ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastdqn.bench.case import Case
from fastdqn.bench.catalogue import families
from fastdqn.bench.columns import COLUMNS, columns_of

Record = Mapping[str, Any]
_NAMES = 4  # of the cases that share one reason
TITLES = {
    "ceil": "what the hardware gives",
    "env": "environments alone",
    "act": "acting, per vector step",
    "per": "prioritized replay",
    "gather": "rebuilding transitions, per batch",
    "net": "networks alone, per pass",
    "adam": "the optimizer alone, per step",
    "update": "whole updates, per update",
    "e2e": "the training loop, per vector step",
    "peer": "baselines",
}


class Tables:
    """Which table a case stands in, and how wide that is.

    A peer stands among the cases that it was timed in turns with.

    Args:
        selected: All cases of the run.
        width: Columns that do not fit are left out. None: there is room for all.
    """

    def __init__(self, selected: Sequence[Case], width: int | None = None) -> None:
        self._group: dict[str, str] = {}
        names: dict[str, int] = {}
        for family in families(selected):
            group = family[0].group
            for case in family:
                self._group[case.name] = group
                names[group] = max(names.get(group, 0), len(case.name))
        self._names = names
        ceilings = any(case.group == "ceil" for case in selected)
        self._columns = {
            group: columns_of(
                group, ceilings=ceilings, width=None if width is None else width - length
            )
            for group, length in names.items()
        }
        self.left_out = [
            name
            for group in names
            for name in columns_of(group, ceilings=ceilings)
            if name not in self._columns[group]
        ]

    def group_of(self, record: Record) -> str:
        """Whose table it stands in."""
        return self._group[record["name"]]

    def shown(self, records: Sequence[Record]) -> list[str]:
        """The columns that say something of these records."""
        return [
            name
            for record in records
            for name in self._columns[self.group_of(record)]
            if COLUMNS[name].show(record)
        ]

    def head(self, group: str) -> list[str]:
        """Title and header."""
        cells = [f"{name:>{COLUMNS[name].width}}" for name in self._columns[group]]
        header = "  ".join([f"{'case':<{self._names[group]}}", *cells])
        return [f"{group}: {TITLES[group]}", header.rstrip()]

    def row(self, record: Record) -> str:
        """One line."""
        group = self.group_of(record)
        name = f"{record['name']:<{self._names[group]}}"
        if record["status"] != "ok":
            return f"{name}  {_WORDS[record['status']]}: {record['reason']}"
        cells = [
            f"{COLUMNS[column].show(record) or '':>{COLUMNS[column].width}}"
            for column in self._columns[group]
        ]
        return "  ".join([name, *cells]).rstrip()


_WORDS = {"skipped": "skipped", "failed": "FAILED"}


def unmeasured(records: Sequence[Record], status: str) -> list[str]:
    """A line per case that was skipped or failed, cases of one reason together."""
    reasons: dict[str, list[str]] = {}
    for record in records:
        if record["status"] == status:
            reasons.setdefault(record["reason"], []).append(record["name"])
    return [f"{_WORDS[status]}: {_some(names)}: {reason}" for reason, names in reasons.items()]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def checked(records: Sequence[Record]) -> list[str]:
    """How many cases of each group ran and were right: what a smoke run is for."""
    groups = dict.fromkeys(record["group"] for record in records)
    lines = []
    for group in groups:
        own = [record for record in records if record["group"] == group]
        ok = sum(record["status"] == "ok" for record in own)
        lines.append(f"{group:<8}{ok} of {len(own)} checked and run")
    return lines
