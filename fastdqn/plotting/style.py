"""How every picture here looks, and how it gets to the disk: no display, no global state."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from fastdqn.system.file_systems import replace

# Okabe and Ito 2008: told apart with every kind of colour blindness, and in grey.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, GREY = "#E69F00", "#56B4E9", "#7a7a7a"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#000000")


def new_figure(width: float, height: float, dpi: int = 120) -> Any:
    """An empty figure, in inches. pyplot would keep global state and might look for a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Any, *, grid: bool = True) -> Any:
    """Without a box, with a faint grid behind the curves."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(True, color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
    return axes


def count_axis(axis: Any, *, most: int | None = None) -> None:
    """Ticks such as 20k and 1.5M, at most so many steps of them."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_formatter(FuncFormatter(si))
    if most is not None:
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))


def save(figure: Any, path: Path) -> Path:
    """Write a picture whole or not at all; OSError where the disk refuses."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        figure.savefig(unfinished, format=path.suffix.lstrip(".").lower() or "png")
        replace(unfinished, path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    return path


def si(value: float, _: Any = None) -> str:
    """20000 as 20k."""
    for scale, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:g}{letter}"
    return f"{value:g}"
