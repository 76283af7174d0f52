"""Returns and lengths of the episodes that training plays, kept where its steps arrive."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.errors import CheckpointError
from fastdqn.system.staging import as_tensor
from fastdqn.types import Array, TimeStep

_HOST = torch.device("cpu")


class EpisodeStatistics:
    """Raw returns and lengths of finished episodes, without a look at the host per step.

    An episode is over when a reset shows up, so losing a life is not an end. The sums live where
    the steps arrive: those of envs on the host cost the device nothing.

    Args:
        num_envs: N.
        window: Episodes in the means.
    """

    COLUMNS = ("episodes", "return_mean", "length_mean")

    def __init__(self, num_envs: int, window: int) -> None:
        self.window = window
        self._size = max(window, num_envs)  # so that one step's episodes have distinct places
        self._current = torch.zeros((2, num_envs))  # return, length
        # The last place takes what is not an end, so that nothing depends on data.
        self._recent = torch.zeros((2, self._size + 1))
        self._counts = torch.zeros(2, dtype=torch.int64)  # episodes, reset rows

    @torch.no_grad()
    def add(self, step: TimeStep) -> None:
        """Take in one step, as the envs return it."""
        device = step.first.device if isinstance(step.first, Tensor) else _HOST
        if device != self._current.device:
            for name in ("_current", "_recent", "_counts"):
                setattr(self, name, getattr(self, name).to(device))
        if device.type == "cpu":
            reset = None if step.reset is None else _as_numpy(step.reset)
            with np.errstate(all="ignore"):  # NaN and inf are looked for later
                self._add_on_host(_as_numpy(step.first), _as_numpy(step.reward), reset)
        else:
            self._add(as_tensor(step.first), as_tensor(step.reward), step.reset)

    def _add_on_host(self, first: np.ndarray, reward: np.ndarray, reset: np.ndarray | None) -> None:
        """The same as :meth:`_add`; free to look, and an operation of numpy costs half as much."""
        returns, lengths = current = self._current.numpy()
        if first.any():
            self._finish_on_host(current, first & (lengths > 0))
            self._counts.numpy()[1] += np.count_nonzero(first)
            returns += np.where(first, np.float32(0), reward)
            lengths += ~first
        else:
            returns += reward
            lengths += 1
        if reset is not None:
            self._finish_on_host(current, reset)

    def _finish_on_host(self, current: np.ndarray, over: np.ndarray) -> None:
        (ended,) = over.nonzero()
        if not len(ended):
            return
        finished, counts = current[:, ended], self._counts.numpy()
        places = (np.arange(len(ended)) + counts[0]) % self._size
        self._recent.numpy()[:, places] = finished
        counts[0] += len(ended)
        current[:, ended] = finished * 0

    def _add(self, first: Tensor, reward: Tensor, reset: Array | None) -> None:
        # A reset right after a reset ends no episode.
        self._finish(first & (self._current[1] > 0))
        self._counts[1].add_(first.sum())
        self._current[0].add_(torch.where(first, 0.0, reward))
        self._current[1].add_(~first)
        if reset is not None:
            self._finish(as_tensor(reset))

    def _finish(self, over: Tensor) -> None:
        place = (self._counts[0] + over.cumsum(0) - 1) % self._size
        self._recent.index_copy_(1, torch.where(over, place, self._size), self._current)
        self._counts[0].add_(over.sum())
        self._current.mul_(~over)

    def rewards_are_finite(self) -> bool:
        """Whether every reward so far was a number; NaN and inf stay in the running sums.

        For the sums are cleared by a product, and 0 * inf is NaN. Waits for the device.
        """
        return bool(torch.isfinite(self._current[0]).all())

    def read(self) -> tuple[int, int, float, float]:
        """Episodes, reset rows, and mean return and length of the last ``window`` episodes.

        The means are NaN before the first end. Waits for the device.
        """
        episodes, reset_rows = self._counts.tolist()
        count = min(episodes, self.window)
        if count == 0:
            return episodes, reset_rows, float("nan"), float("nan")
        places = torch.arange(episodes - count, episodes, device=self._recent.device) % self._size
        returns, lengths = self._recent[:, places].double().mean(dim=1).tolist()
        return episodes, reset_rows, returns, lengths

    def state_dict(self) -> dict[str, Any]:
        """Running and finished episodes."""
        return {"current": self._current, "recent": self._recent, "counts": self._counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; CheckpointError where a shape is another."""
        for name, tensor in self.state_dict().items():
            if state[name].shape != tensor.shape:
                raise CheckpointError(
                    "The saved episode statistics belong to another num_envs or stop_window; "
                    "use the configuration they were saved with."
                )
            tensor.copy_(state[name])

    def forget_running(self) -> None:
        """Drop running episodes: after a resume whose envs start anew."""
        self._current.zero_()


def _as_numpy(array: Array) -> np.ndarray:
    return array.numpy() if isinstance(array, Tensor) else array
