"""How fast a run goes; and the columns that only its clock determines."""

from __future__ import annotations

SPEED_COLUMNS = ("env_steps_per_s", "frames_per_s", "updates_per_s")
TIME_COLUMNS = (*SPEED_COLUMNS, "wall_s")
"""Of metrics.csv: those that differ between two runs of the same seed."""

_SHORTEST_S = 1e-9


def speeds(transitions: float, updates: float, train_s: float, frame_skip: int) -> dict[str, float]:
    """The numbers of :data:`SPEED_COLUMNS`, by name.

    Args:
        transitions: Env steps made, without the rows that some envs spend on resets.
        updates: Updates made.
        train_s: Seconds in which both were.
        frame_skip: Frames of an env step.
    """
    seconds = max(train_s, _SHORTEST_S)
    env_steps_per_s = transitions / seconds
    per_s = (env_steps_per_s, env_steps_per_s * frame_skip, updates / seconds)
    return dict(zip(SPEED_COLUMNS, per_s, strict=True))
