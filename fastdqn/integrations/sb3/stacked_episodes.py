"""Whether stacked observations can be built again from single frames, looked at as they come."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdqn.errors import EnvError
from fastdqn.integrations.sb3.stack_layout import StackLayout
from fastdqn.types import StackPadding


class StackedEpisodes:
    """Follows the observations of N envs and refuses those that a replay of frames would falsify.

    Args:
        layout: Of the stacks.
        padding: What they have before an episode's first frame.
        num_envs: N.
    """

    def __init__(self, layout: StackLayout, padding: StackPadding, num_envs: int) -> None:
        self.layout, self.padding, self.num_envs = layout, padding, num_envs
        self.clear()

    def clear(self) -> None:
        """Every env starts anew."""
        self._last: np.ndarray | None = None
        self._ended = np.ones(self.num_envs, dtype=bool)

    def follow(self, before: np.ndarray, following: np.ndarray, done: np.ndarray) -> np.ndarray:
        """Take in a transition of every env.

        Args:
            before: s, [N, ...].
            following: s', [N, ...].
            done: bool [N].

        Returns:
            bool [N]: envs that start an episode although none of theirs had ended.

        Raises:
            EnvError: Where s has other frames before an episode's first one than the padding says,
                or s' is not s moved on by a frame.
        """
        goes_on = ~self._ended
        restarted = np.zeros_like(goes_on)
        if self._last is not None and not _equal(before, self._last, goes_on):
            same = (before == self._last).reshape(self.num_envs, -1).all(axis=1)
            restarted = goes_on & ~same
            goes_on &= same
        layout = self.layout
        if not goes_on.all():
            self._check_padding(before[~goes_on])
        # What VecNormalize makes of a last observation, and takes back, may be off by a rounding.
        frames = zip(layout.frames(following)[:-1], layout.frames(before)[1:], strict=True)
        if not all(_equal(older, younger, ~done) for older, younger in frames):
            raise EnvError(
                f"next_obs is not obs moved on by one of {layout.frame_stack} frames; set "
                f"frame_stack to what the envs stack, or to 1."
            )
        self._last, self._ended = np.array(following), done
        return restarted

    def _check_padding(self, first: np.ndarray) -> None:
        repeats = self.padding == "repeat"
        expected = self.layout.repeated(first) if repeats else 0
        if (self.layout.older(first) != expected).any():
            raise EnvError(
                f"obs starts an episode with other frames before its first one than stack_padding "
                f"= {self.padding!r}; use {'zero' if repeats else 'repeat'!r}, or "
                f"frame_stack = 1."
            )

    def state_dict(self) -> dict[str, Any]:
        """Arrays."""
        return {"last": self._last, "ended": self._ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`, of arrays or tensors."""
        last = state["last"]
        self._last = None if last is None else np.asarray(last).copy()
        self._ended = np.asarray(state["ended"]).astype(bool)


def _equal(some: np.ndarray, others: np.ndarray, envs: np.ndarray) -> bool:
    """Whether observations [N, ...] are equal in those envs, bool [N]."""
    # Taken out by a mask they would be copied.
    return np.array_equal(some, others) if envs.all() else np.array_equal(some[envs], others[envs])
