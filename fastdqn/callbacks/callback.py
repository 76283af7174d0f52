"""The events of a run, and what hears them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from fastdqn.acting.policy import Policy
    from fastdqn.config.config import Config
    from fastdqn.learning.learner import Learner


class Episode(NamedTuple):
    """An episode that training has played to its end."""

    episode_return: float
    """The sum of its raw rewards."""
    length: int
    """In env steps."""
    env_steps: int
    """Of the run, when it ended."""


class LiveRun(Protocol):
    """A run while it goes, as :meth:`Callback.on_start` gets it."""

    config: Config
    """What was asked for."""
    run_dir: Path
    """Where its files are."""
    env_steps: int
    """So far, over all envs."""
    policy: Policy
    """Of the parameters as they are now."""
    learner: Learner
    """What trains them."""
    schedules: Any
    """``epsilon``, ``learning_rate`` and ``beta``: functions of the env steps. Assign another to
    one, or a number, and it is the schedule from then on."""

    @property
    def title(self) -> str:
        """What runs, in a few words."""
        ...

    def header(self) -> str:
        """What runs, in some lines."""
        ...

    def save(self) -> Path | None:
        """Write a checkpoint without the replay, now; where it is, or None if the disk refused.

        Raises:
            ConfigError: Before the first step, as in ``on_start``: there is nothing to save.
        """
        ...


class Callback:
    """Hears the events of a run; each does nothing here. Override those you want.

    Return True, and the run stops after its current step as at its end: it is evaluated, saved and
    summed up, and ``summary["stopped_by"]`` is the event's name. An exception ends the run and
    comes out of ``train``. Events that nobody overrides cost nothing.
    """

    def on_start(self, run: LiveRun) -> bool | None:
        """Before the first step, of a resumed run, too.

        Args:
            run: What may be looked at and changed.
        """

    def on_step(self, env_steps: int, updates: int) -> bool | None:
        """After every vector step: must cost next to nothing.

        Args:
            env_steps: So far, over all envs.
            updates: Made so far.
        """

    def on_episode(self, episode: Episode) -> bool | None:
        """At the end of a training episode. Where envs step on a GPU each step waits for it.

        Args:
            episode: Which ended.
        """

    def on_log(self, row: Mapping[str, float]) -> bool | None:
        """A row of metrics.csv, by the names of its columns; a figure may be missing or NaN.

        Args:
            row: Numbers by column.
        """

    def on_evaluation_start(self, episodes: int) -> bool | None:
        """Before the final evaluation.

        Args:
            episodes: To be played.
        """

    def on_evaluation(self, row: Mapping[str, float]) -> bool | None:
        """A row of evaluations.csv: ``mean``, ``std``, ``episodes``, ``final`` and the others.

        Args:
            row: Numbers by column.
        """

    def on_film(self, path: Path, env_steps: int) -> bool | None:
        """A film was recorded.

        Args:
            path: The film.
            env_steps: Of the run, when it was played.
        """

    def on_checkpoint(self, path: Path) -> bool | None:
        """A checkpoint is whole on the disk.

        Args:
            path: Its directory.
        """

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """All is written, summary.json, too. Not where the run ends by an exception.

        Args:
            summary: As in summary.json.
        """


EVENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))
"""Their names, in the order in which a run comes to them."""
