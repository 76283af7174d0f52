"""What can go wrong that the user can mend.

Every message is one sentence that names the field or object, the value found and the fix.
"""

import re


class FastDQNError(ValueError):
    """Base of every error that fastdqn raises on purpose; its message is one line."""

    def __init__(self, *args: object) -> None:
        # An array that is shown as the wrong value it is has many.
        super().__init__(*(re.sub(r"\s*\n\s*", " ", a) if isinstance(a, str) else a for a in args))


class ConfigError(FastDQNError):
    """A field of the configuration is out of range or contradicts another."""


class EnvError(FastDQNError):
    """An environment cannot be made, is not supported, or broke its contract."""


class MemoryPlanError(FastDQNError):
    """What was asked for does not fit in memory; the message names what does."""

    fits: int = 0
    """The largest replay_capacity that does; 0: none, or unknown."""


class CheckpointError(FastDQNError):
    """A checkpoint is missing, damaged, or belongs to another configuration."""


class TrainingError(FastDQNError):
    """A run failed on its own, for example on a loss that is not finite."""


class EnvFailure(EnvError, TrainingError):
    """An env raised, died or did not answer in a step or a reset; the cause is chained."""


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """A hint to put after a wrong name, such as `` (did you mean 'dqn-atari'?)``, or nothing."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def cut_short(value: object) -> str:
    """In words, cut short: it may be a forger's, and long."""
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
