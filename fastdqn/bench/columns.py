"""The columns of the tables: what each shows, how wide it is, and what it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fastdqn.bench.figures import duration, rate, span
from fastdqn.bench.load import is_busy

Record = Mapping[str, Any]


class Column(NamedTuple):
    """One column of a table."""

    width: int
    show: Callable[[Record], str | None]
    meaning: str


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


def _detail(name: str, form: str = "") -> Callable[[Record], str | None]:
    def show(record: Record) -> str | None:
        value = record["details"].get(name)
        return None if value is None else format(value, form)

    return show


def _share(name: str) -> Callable[[Record], str | None]:
    def show(record: Record) -> str | None:
        wall = record.get("wall_s")
        return f"{100 * record[name] / wall:.0f} %" if wall else None

    return show


def _time(record: Record) -> str:
    return duration(record["us"]["median"]) + ("!" if busy(record) else "")


def _range(record: Record) -> str:
    us = record["us"]
    return span(us["median"], us["p10"], us["p90"])


def _memory(record: Record) -> str | None:
    size = record.get("peak_bytes")
    return None if size is None else f"{size / 1e9:.2f} GB"


def _beside(record: Record) -> str | None:
    said = [
        f"{what} {_with_spread(ratio)} x {name}"
        for what, name, ratio in (
            *(("speed", _peer(n), r) for n, r in record.get("times_as_fast_as", {}).items()),
            *(("time", _last(n), r) for n, r in record.get("times_as_long_as", {}).items()),
        )
    ]
    return "; ".join(said) or None


def _peer(name: str) -> str:
    return name.split("/")[1]


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _with_spread(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} .. {ratio['high']:.2f})"


def busy(record: Record) -> bool:
    """Whether other processes made a round of it doubtful."""
    return any(is_busy(others) for others in record.get("other_cpus", ()))


COLUMNS: dict[str, Column] = {
    "median": Column(8, _time, "time of one unit, median over windows of many"),
    "p10 .. p90": Column(
        14, _range, "in the unit of the median: one window in ten was faster, one in ten slower"
    ),
    "per": Column(11, _field("unit", ""), "what the time is of"),
    "env steps/s": Column(11, _rate_of("env_steps"), "steps of single envs, summed over all"),
    "frames/s": Column(8, _rate_of("frames"), "of the emulator: 4 in an env step of Atari"),
    "updates/s": Column(9, _rate_of("updates"), "gradient steps"),
    "samples/s": Column(9, _rate_of("samples"), "transitions"),
    "FLOP/s": Column(6, _rate_of("flop"), "a multiplication and an addition are two"),
    "bytes/s": Column(7, _rate_of("bytes"), "read and written"),
    "replay ratio": Column(
        12, _field("replay_ratio", "g"), "transitions trained per env step: compare at equal ones"
    ),
    "envs": Column(5, _share("env_s"), "share of the time spent waiting for envs"),
    "learner": Column(7, _share("learn_s"), "share of the time spent in updates"),
    "precision": Column(9, _detail("precision"), "of the network's arithmetic"),
    "compile": Column(7, _detail("compile_s", ".1f"), "seconds of the first call"),
    "memory": Column(
        8, _memory, "most in use meanwhile: of a GPU allocated, of a CPU the whole process"
    ),
    "% of floor": Column(
        10,
        _field("floor_percent", ".1f"),
        "least time that a unit's arithmetic and memory traffic take at the FLOP/s and bytes/s of "
        "ceil/, in percent of the median; above 100: it stays in a cache",
    ),
    "beside": Column(
        0, _beside, "as a multiple of another case, timed in turns with it (least .. most)"
    ),
}
_TIME = ("median", "p10 .. p90")
_OF_GROUP: dict[str, tuple[str, ...]] = {
    "ceil": ("per", "FLOP/s", "bytes/s"),
    "env": ("per", "env steps/s", "frames/s", "beside"),
    "act": ("env steps/s", "precision", "% of floor"),
    "per": ("per", "samples/s"),
    "gather": ("samples/s", "bytes/s", "% of floor"),
    "net": ("samples/s", "% of floor"),
    "adam": ("updates/s", "% of floor"),
    "update": (
        "updates/s", "samples/s", "precision", "compile", "memory", "% of floor", "beside",
    ),
    "e2e": (
        "env steps/s", "updates/s", "replay ratio", "envs", "learner", "precision", "memory",
    ),
    "peer": ("per", "env steps/s", "updates/s", "samples/s", "precision"),
}  # fmt: skip
# What a narrow terminal does without, the first first.
_EXPENDABLE = ("memory", "compile", "precision", "samples/s", "frames/s", "% of floor", "per")
_BESIDE_WIDTH = 40  # the last column, as long as what it says


def columns_of(group: str, *, ceilings: bool, width: int | None = None) -> list[str]:
    """Of the group's table, in their order.

    Args:
        group: Of the catalogue.
        ceilings: They are measured: otherwise there is no floor.
        width: Of the terminal, less the names of cases. None: there is room for all.
    """
    names = [name for name in (*_TIME, *_OF_GROUP[group]) if ceilings or name != "% of floor"]
    expendable = [name for name in _EXPENDABLE if name in names]
    while width is not None and len(names) > 1 and _width(names) > width:
        names.remove(expendable.pop(0) if expendable else names[-1])
    return names


def _width(names: Sequence[str]) -> int:
    return sum(2 + (COLUMNS[name].width or _BESIDE_WIDTH) for name in names)


def legend(names: Sequence[str], *, marked: bool) -> list[str]:
    """A line per column.

    Args:
        names: Of the columns that were shown.
        marked: Some times have a mark.
    """
    rows = [(name, COLUMNS[name].meaning) for name in COLUMNS if name in names]
    if marked:
        rows.append(("!", "other processes took more than a tenth of the CPUs: doubtful"))
    width = max((len(name) for name, _ in rows), default=0)
    return [f"{name:<{width}}  {meaning}" for name, meaning in rows]
