"""The result as tables, one per group: rich on a terminal, aligned text anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from fastdqn.bench.catalogue import GROUPS

Record = Mapping[str, Any]
_NAMES = 4  # of the cases that share one reason
TITLES = {
    "ceil": "what the hardware gives",
    "env": "environments alone",
    "act": "acting",
    "per": "prioritized replay",
    "gather": "rebuilding transitions",
    "net": "networks alone",
    "adam": "the optimizer alone",
    "update": "whole updates",
    "e2e": "the training loop",
    "peer": "baselines",
}


def duration(us: float) -> str:
    """``1234.5`` as ``1.23 ms``."""
    for limit, scale, unit in ((1e3, 1.0, "us"), (1e6, 1e3, "ms")):
        if us < limit * 0.9995:
            return f"{significant(us / scale)} {unit}"
    return f"{significant(us / 1e6)} s"


def significant(value: float) -> str:
    """Three digits, with separators for thousands."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def rate(value: float) -> str:
    """``1234567`` as ``1.23 M``."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            scale = 1e3 if unit == "k" else limit
            return f"{significant(value / scale)} {unit}"
    return significant(value)


def _rate_of(name: str) -> Callable[[Record], str | None]:
    def show(record: Record) -> str | None:
        value = record["rates"].get(f"{name}_per_s")
        return None if value is None else rate(value)

    return show


def _field(name: str, form: str) -> Callable[[Record], str | None]:
    def show(record: Record) -> str | None:
        value = record.get(name)
        return None if value is None else format(value, form)

    return show


def _spread(record: Record) -> str:
    return f"{duration(record['us']['p10'])} .. {duration(record['us']['p90'])}"


def _median(record: Record) -> str:
    return duration(record["us"]["median"])


def title(records: Sequence[Record], group: str) -> str:
    """What a group is, and what its times are for where that is one thing."""
    units = {record["unit"] for record in records if record["status"] == "ok"}
    return f"{group}: {TITLES[group]}" + (f", per {units.pop()}" if len(units) == 1 else "")


def _detail(name: str, form: str = "") -> Callable[[Record], str | None]:
    def show(record: Record) -> str | None:
        value = record["details"].get(name)
        return None if value is None else format(value, form)

    return show


def _against_peer(record: Record) -> str | None:
    ratios = record.get("times_as_fast_as")
    if not ratios:
        return None
    if len(ratios) > 1:  # without the spreads, which are in the JSON
        return ", ".join(f"{r['median']:.2f} x {name.split('/')[1]}" for name, r in ratios.items())
    ((name, r),) = ratios.items()
    return f"{_with_spread(r)} x {name.split('/')[1]}"


def _against_case(record: Record) -> str | None:
    ratios = record.get("times_as_long_as")
    if not ratios:
        return None
    ((name, r),) = ratios.items()
    return f"{_with_spread(r)} x {name.rpartition('/')[2]}"


def _with_spread(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} .. {ratio['high']:.2f})"


def _memory(record: Record) -> str | None:
    size = record.get("peak_bytes")
    return None if size is None else f"{size / 1e9:.2f} GB"


COLUMNS: dict[str, Callable[[Record], str | None]] = {
    "median": _median,
    "p10 .. p90": _spread,
    "env steps/s": _rate_of("env_steps"),
    "frames/s": _rate_of("frames"),
    "updates/s": _rate_of("updates"),
    "samples/s": _rate_of("samples"),
    "FLOP/s": _rate_of("flop"),
    "bytes/s": _rate_of("bytes"),
    "replay ratio": _field("replay_ratio", "g"),
    "% of floor": _field("floor_percent", ".1f"),
    "env_s": _field("env_s", ".2f"),
    "learn_s": _field("learn_s", ".2f"),
    "wall_s": _field("wall_s", ".2f"),
    "overlap": _field("overlap", ".2f"),
    "precision": _detail("precision"),
    "compile s": _detail("compile_s", ".1f"),
    "peak memory": _memory,
    "times as fast": _against_peer,
    "times as long": _against_case,
}
_ONLY_IN = {
    "peak memory": ("update", "e2e"),
    "wall_s": ("e2e",),
    "precision": ("act", "update", "e2e", "peer"),
}


def grid(records: Sequence[Record], group: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of one group's table; columns that no case fills are left out."""
    done = [record for record in records if record["status"] == "ok"]
    shown = [
        name
        for name, show in COLUMNS.items()
        if group in _ONLY_IN.get(name, (group,)) and any(show(record) for record in done)
    ]
    rows = [[record["name"], *(COLUMNS[name](record) or "" for name in shown)] for record in done]
    return ["case", *shown], rows


def unmeasured(records: Sequence[Record], status: str) -> list[str]:
    """A line per case that was skipped or failed, cases of one reason together."""
    reasons: dict[str, list[str]] = {}
    for record in records:
        if record["status"] == status:
            reasons.setdefault(record["reason"], []).append(record["name"])
    word = {"skipped": "skipped", "failed": "FAILED"}[status]
    return [f"{word}: {_some(names)}: {reason}" for reason, names in reasons.items()]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def show(
    records: Sequence[Record], lines: Sequence[str], stream: TextIO, *, checks_only: bool = False
) -> None:
    """Print headline, tables (or how many checks held), and what was not measured."""
    terminal = stream.isatty()
    print("\n".join(lines), file=stream)
    for group in GROUPS:
        own = [record for record in records if record["group"] == group]
        header, rows = grid(own, group)
        if rows and checks_only:
            print(f"{group:<8}{len(rows)} of {len(own)} checked and run", file=stream)
        elif rows:
            (_rich if terminal else _plain)(title(own, group), header, rows, stream)
    notes = unmeasured(records, "skipped") + unmeasured(records, "failed")
    if notes:
        print("\n" + "\n".join(notes), file=stream)


def _plain(name: str, header: list[str], rows: list[list[str]], stream: TextIO) -> None:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        first = f"{cells[0]:<{widths[0]}}"
        rest = [f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "  ".join([first, *rest]).rstrip()

    print("\n".join(["", name, line(header), *map(line, rows)]), file=stream)


def _rich(name: str, header: list[str], rows: list[list[str]], stream: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=name, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for index, column in enumerate(header):
        table.add_column(
            column, justify="right" if index else "left", no_wrap=index < 2,
            style="cyan" if index == 0 else None,
        )  # fmt: skip
    for row in rows:
        table.add_row(*row)
    Console(file=stream).print(table)
