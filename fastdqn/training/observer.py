"""Who looks on while a run goes: its display, its caller's ``on_log``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

OnLog = Callable[[Mapping[str, float]], bool | None]


class Observer:
    """Is told what a run is and how far it has come; does nothing with it here."""

    def started(self, title: str, header: str) -> None:
        """Before the first step: what runs, in a few words and in some lines."""

    def stepped(self, env_steps: int, updates: int) -> None:
        """After every vector step; must cost next to nothing."""

    def evaluating(self, episodes: int) -> None:
        """Before the final evaluation."""

    def evaluated(self, row: Mapping[str, float]) -> None:
        """A row of evaluations.csv."""

    def logged(self, row: Mapping[str, float]) -> bool | None:
        """A row of metrics.csv; True stops the run."""


class _LogObserver(Observer):
    def __init__(self, on_log: OnLog) -> None:
        self.logged = on_log  # type: ignore[assignment]


def as_observer(on_log: OnLog | Observer | None) -> Observer:
    """An observer; of a function, one that hands it the rows of metrics.csv."""
    if isinstance(on_log, Observer):
        return on_log
    return Observer() if on_log is None else _LogObserver(on_log)
