"""The curves of one env as the paths of an SVG, whose colours the page decides."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fastdqn.plotting.style import PALETTE, si
from fastdqn.runs.groups import Group, aggregate, returns_of
from fastdqn.runs.reader import Curve
from fastdqn.runs.statistics import FEWEST_RUNS

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 74, 506, 12, 252  # of the plot in it, y downwards
_MOST_POINTS = 250  # of a line: more than one for every other pixel
_TICKS = 5
_EMPTY = 1.0  # what an axis spans where all values are the same


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Path:
    """A line or an area."""

    kind: str  # band, run, training, main or threshold, in the order they are drawn
    color: int  # of the palette
    dashes: int  # 0: none; colours are used again with others
    d: str


@dataclass(frozen=True)
class Dot:
    """An evaluation beside training returns, or a line of one point."""

    color: int
    x: float
    y: float
    evaluation: bool


@dataclass(frozen=True)
class Chart:
    """What a page needs to draw the returns of one env over env steps."""

    env: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    paths: tuple[Path, ...]
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class _Line:
    kind: str
    group: Group
    env_steps: np.ndarray
    values: np.ndarray
    high: np.ndarray | None = None  # of a band, whose low ends are the values


def chart_of(env: str, groups: Sequence[Group], threshold: float | None) -> Chart | None:
    """The chart of the groups of one env; None where they have no returns yet."""
    lines = [line for group in groups for line in _lines(group) if len(line.env_steps)]
    if not lines:
        return None
    x = [float(v) for line in lines for v in (line.env_steps[0], line.env_steps[-1])]
    y = [float(v) for line in lines for v in (line.values.min(), line.values.max())]
    y += [float(line.high.max()) for line in lines if line.high is not None]
    y += [] if threshold is None else [threshold]
    to_x = _Scale(0.0, max(x), LEFT, RIGHT)
    low, high = min(y), max(y)
    room = 0.04 * (high - low)
    to_y = _Scale(low - room, high + room, BOTTOM, TOP)
    order = ["threshold", "band", "run", "training", "main"]
    paths = [_path(line, to_x, to_y) for line in lines if _is_path(line)]
    if threshold is not None:
        paths.append(Path("threshold", 0, 0, f"M{LEFT} {to_y(threshold):.1f}H{RIGHT}"))
    return Chart(
        env,
        tuple(Tick(to_x(v), si(v)) for v in ticks(to_x.low, to_x.high, _TICKS)),
        tuple(Tick(to_y(v), _number(v)) for v in ticks(to_y.low, to_y.high, _TICKS)),
        tuple(sorted(paths, key=lambda path: order.index(path.kind))),
        tuple(
            Dot(color_of(line.group), to_x(float(a)), to_y(float(b)), line.kind == "evaluation")
            for line in lines
            if not _is_path(line)
            for a, b in zip(line.env_steps, line.values, strict=True)
        ),
    )


def color_of(group: Group) -> int:
    """Which colour of the palette a group has."""
    return group.configuration % len(PALETTE)


def dashes_of(group: Group) -> int:
    """Colours that are used again come with other dashes; 0: none."""
    return group.configuration // len(PALETTE) % 3


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers from low to high: 1, 2 or 5 times a power of ten apart."""
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= least)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    """With the minus of a typesetter, and without what is left of 0.1 + 0.2."""
    return si(round(value, 9)).replace("-", "\N{MINUS SIGN}")


class _Scale:
    """From values to places in the picture."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        if not high > low:
            low, high = low - _EMPTY / 2, high + _EMPTY / 2
        self.low, self.high, self._start, self._end = low, high, start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self._start + share * (self._end - self._start), 1)


def _lines(group: Group) -> Iterable[_Line]:
    returns = returns_of(group)
    leading = getattr(returns, returns.leads)
    if len(leading) >= FEWEST_RUNS:
        total = aggregate(leading)
        assert total.interval is not None
        low, high = total.interval
        yield _Line("band", group, total.env_steps, low, high)
        for curve in leading:
            yield _line("run", group, curve)
        yield _Line("main", group, total.env_steps, total.mean)
    else:
        for curve in leading:
            yield _line("main", group, curve)
    if returns.leads == "trained":
        for curve in returns.evaluated:
            yield _line("evaluation", group, curve)
    elif len(returns.trained) >= FEWEST_RUNS:
        total = aggregate(returns.trained)
        yield _Line("training", group, total.env_steps, total.mean)
    else:
        for curve in returns.trained:
            yield _line("training", group, curve)


def _line(kind: str, group: Group, curve: Curve) -> _Line:
    return _Line(kind, group, np.asarray(curve[0]), np.asarray(curve[1]))


def _is_path(line: _Line) -> bool:
    """A single row would be a line of no length."""
    return line.kind != "evaluation" and len(line.env_steps) > 1


def _path(line: _Line, to_x: _Scale, to_y: _Scale) -> Path:
    count = len(line.env_steps)
    kept = np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).round().astype(int))

    def points(values: np.ndarray, order: np.ndarray) -> str:
        pairs = ((to_x(float(line.env_steps[k])), to_y(float(values[k]))) for k in order)
        return "L".join(f"{x:g} {y:g}" for x, y in pairs)

    d = "M" + points(line.values, kept)
    if line.high is not None:
        d += "L" + points(line.high, kept[::-1]) + "Z"
    return Path(line.kind, color_of(line.group), dashes_of(line.group), d)
