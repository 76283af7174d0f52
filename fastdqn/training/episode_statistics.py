"""Returns and lengths of the episodes that training plays, kept where its steps arrive."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastdqn.config.arguments import check_argument, check_state
from fastdqn.config.ranges import Range
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.system.staging import as_tensor
from fastdqn.types import Array, TimeStep

_HOST = torch.device("cpu")
_COUNTS = Range(1, 2**31)


class Episodes(NamedTuple):
    """What :meth:`EpisodeStatistics.read` says."""

    episodes: int  # finished so far
    reset_rows: int  # rows so far that came from a reset
    return_mean: float  # of the last `window` episodes; NaN before the first end
    length_mean: float  # likewise, in env steps


class EpisodeStatistics:
    """Raw returns and lengths of finished episodes, without a look at the host per step.

    An episode is over when a reset shows up, so losing a life is not an end. The sums live where
    the steps arrive: those of envs on the host cost the device nothing. In a loop of your own::

        statistics = fastdqn.EpisodeStatistics(stream.num_envs)
        step = stream.reset()
        statistics.add(step)
        while statistics.read().episodes < 100:
            step = stream.step(actions)
            statistics.add(step)

    Args:
        num_envs: N.
        window: Episodes in the means.

    Raises:
        ConfigError: Where an argument is of another type or below 1.
    """

    COLUMNS = ("episodes", "return_mean", "length_mean")

    def __init__(self, num_envs: int, window: int = 100) -> None:
        num_envs = check_argument("num_envs", num_envs, int, _COUNTS)
        window = check_argument("window", window, int, _COUNTS)
        self.num_envs, self.window = num_envs, window
        self._size = max(window, num_envs)  # so that one step's episodes have distinct places
        self._current = torch.zeros((2, num_envs))  # return, length
        # The last place takes what is not an end, so that nothing depends on data.
        self._recent = torch.zeros((2, self._size + 1))
        self._counts = torch.zeros(2, dtype=torch.int64)  # episodes, reset rows
        self._told = 0  # episodes of which read_new has said
        self._met: set[Any] = set()  # shapes and dtypes of steps that were looked at

    @torch.no_grad()
    def add(self, step: TimeStep) -> None:
        """Take in one step, as the envs return it.

        Args:
            step: Of it are read ``first``, bool [N], ``reward`` [N], and ``reset``, bool [N] or
                None; numpy or torch, on any one device.

        Raises:
            ConfigError: Where the first of its shapes and dtypes is none for N envs.
        """
        if _looks_of(step) not in self._met:
            self._meet(step)
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

    def _meet(self, step: Any) -> None:
        """Refuse what is no step of N envs."""
        if not isinstance(step, TimeStep):
            raise ConfigError(
                f"step is {type(step).__name__}; pass a fastdqn.TimeStep, as stream.step makes it."
            )
        flags = {"first": step.first, "reset": step.reset}
        if step.reset is None:
            del flags["reset"]
        for name, array in {**flags, "reward": step.reward}.items():
            if not isinstance(array, Array):
                raise ConfigError(
                    f"step.{name} is {type(array).__name__}; make it an array with np.asarray, or "
                    f"a tensor."
                )
            if tuple(array.shape) != (self.num_envs,):
                raise ConfigError(
                    f"step.{name} has shape {list(array.shape)}, where the statistics are of "
                    f"{self.num_envs} envs; use one number for each, [{self.num_envs}]."
                )
            if name in flags and str(array.dtype).removeprefix("torch.") != "bool":
                raise ConfigError(f"step.{name} is {array.dtype}; make it bool.")
            if _device_of(array) != _device_of(step.first):
                raise ConfigError(
                    f"step.{name} is on {_device_of(array)}, where step.first is on "
                    f"{_device_of(step.first)}; make both on one device."
                )
        kind = str(step.reward.dtype).removeprefix("torch.")
        if not kind.startswith(("float", "bfloat", "int", "uint")):
            raise ConfigError(f"step.reward is {step.reward.dtype}; make it float32.")
        self._met.add(_looks_of(step))

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

    def read(self) -> Episodes:
        """What is known so far; waits for the device."""
        episodes, reset_rows = self._counts.tolist()
        count = min(episodes, self.window)
        if count == 0:
            return Episodes(episodes, reset_rows, float("nan"), float("nan"))
        places = torch.arange(episodes - count, episodes, device=self._recent.device) % self._size
        returns, lengths = self._recent[:, places].double().mean(dim=1).tolist()
        return Episodes(episodes, reset_rows, returns, lengths)

    def read_new(self) -> list[tuple[float, int]]:
        """Return and length of the episodes that have ended since it was last asked.

        To be asked after every step: of more than ``window`` and N only the newest are known.
        Waits for the device.
        """
        episodes = int(self._counts[0])
        count = min(episodes - self._told, self._size)
        self._told = episodes
        if count == 0:
            return []
        places = torch.arange(episodes - count, episodes, device=self._recent.device) % self._size
        returns, lengths = self._recent[:, places].tolist()
        return [(x, int(length)) for x, length in zip(returns, lengths, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Running and finished episodes."""
        return {"current": self._current, "recent": self._recent, "counts": self._counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; CheckpointError where a shape is another."""
        check_state("episode statistics", state, list(self.state_dict()))
        for name, tensor in self.state_dict().items():
            if state[name].shape != tensor.shape:
                raise CheckpointError(
                    "The saved episode statistics belong to another num_envs or stop_window; "
                    "use the configuration they were saved with."
                )
            tensor.copy_(state[name])
        self._told = int(self._counts[0])

    def forget_running(self) -> None:
        """Drop running episodes: after a resume whose envs start anew."""
        self._current.zero_()


def _looks_of(step: Any) -> Any:
    """Shapes and dtypes of what is read of a step; None of what is none."""
    try:
        first, reward, reset = step.first, step.reward, step.reset
        looks = first.shape, first.dtype, reward.shape, reward.dtype
        return looks if reset is None else (*looks, reset.shape, reset.dtype)
    except AttributeError:
        return None


def _device_of(array: Array) -> torch.device:
    return array.device if isinstance(array, Tensor) else _HOST


def _as_numpy(array: Array) -> np.ndarray:
    return array.numpy() if isinstance(array, Tensor) else array
