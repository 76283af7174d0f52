"""Numbers for people: three digits and a unit."""

from __future__ import annotations


def significant(value: float) -> str:
    """Three digits, with separators for thousands."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def duration(us: float) -> str:
    """``1234.5`` as ``1.23 ms``."""
    scale, unit = _unit(us)
    return f"{significant(us / scale)} {unit}"


def span(us: float, low: float, high: float) -> str:
    """``1.21 .. 1.30``, in the unit that :func:`duration` gives ``us``."""
    scale, _ = _unit(us)
    return f"{significant(low / scale)} .. {significant(high / scale)}"


def _unit(us: float) -> tuple[float, str]:
    for limit, scale, unit in ((1e3, 1.0, "us"), (1e6, 1e3, "ms")):
        if us < limit * 0.9995:
            return scale, unit
    return 1e6, "s"


def rate(value: float) -> str:
    """``1234567`` as ``1.23 M``."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            scale = 1e3 if unit == "k" else limit
            return f"{significant(value / scale)} {unit}"
    return significant(value)


def wall(seconds: float) -> str:
    """A wait: ``40 s``, ``12 minutes``, ``2.5 hours``."""
    if seconds < 95:
        return f"{max(1, round(seconds)):d} s"
    minutes = seconds / 60
    return f"{round(minutes):d} minutes" if minutes < 95 else f"{minutes / 60:.1f} hours"
