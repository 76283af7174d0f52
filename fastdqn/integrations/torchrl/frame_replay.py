"""Our replay behind the calls of TorchRL's: each frame stored once, stacks and returns by us."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from gymnasium.spaces import Box
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import TensorSpec

from fastdqn.checkpoints.store import latest_checkpoint, load_checkpoint, save_checkpoint
from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.errors import CheckpointError, FastDQNError
from fastdqn.integrations.torchrl.collected import collected
from fastdqn.integrations.torchrl.numbers import check_as_many, real_numbers, whole_numbers
from fastdqn.integrations.torchrl.sample_form import SampleForm
from fastdqn.integrations.torchrl.sampler_files import directory_of
from fastdqn.integrations.torchrl.saved_states import check_saved
from fastdqn.integrations.torchrl.specs import space_of
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.types import StackPadding


class FrameReplayBuffer:
    """Transitions of N envs, from TorchRL's collectors to TorchRL's losses.

    It has the calls of a ``TensorDictReplayBuffer`` that loops use. What goes in are steps, one
    frame each; what comes out are transitions with stacks of ``frame_stack`` frames and n-step
    returns, which end where an episode does. A step may be drawn n steps later. It takes no
    transforms and none of TorchRL's storages, samplers and writers.

    A sample has the keys ``observation``, ``action`` (as numbers or one-hot, as it came),
    ``gamma`` [B, 1] (gamma^m, 0 where the episode terminated), ``priority_weight`` [B], ``index``
    [B], and ``next`` with ``observation``, ``reward``, ``done`` and ``terminated``, [B, 1]; with
    ``n_step`` > 1 also ``steps_to_next_obs``, by which TorchRL's estimators raise their gamma.

    Args:
        capacity: Rows over all envs, rounded down to a multiple of ``num_envs``.
        num_envs: N.
        observation_spec: Of one frame of one env, a Box or a TorchRL spec; or an env's
            ``observation_spec``.
        action_spec: Of one env; None: the first data show it.
        frame_stack: S; None leaves the stack axis out of observations.
        stack_padding: ``repeat`` or ``zero``: what precedes an episode's first frame.
        n_step: n of the n-step return.
        gamma: Discount per step, above 0 and at most 1; the loss needs the same.
        reward_clip: Store rewards clipped to [-reward_clip, reward_clip].
        prioritized: Proportional prioritized replay (Schaul 2016); otherwise uniform.
        alpha: Exponent of the priorities, 0 to 1.
        beta: Exponent of the importance weights; an attribute, to be set later.
        eps: Added to every priority, 1e-12 to 1.
        batch_size: B of :meth:`sample` and of iteration.
        observation_key: Of the observation, in the data and in samples.
        priority_key: Of the priorities.
        device: Where everything lives.
        seed: Of the generator that draws.

    Raises:
        FastDQNError: Where an argument is of another type or out of its range.

    Attributes:
        replay: The replay behind it.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_spec: Box | TensorSpec,
        *,
        action_spec: TensorSpec | None = None,
        frame_stack: int | None = None,
        stack_padding: StackPadding = "repeat",
        n_step: int = 1,
        gamma: float = 0.99,
        reward_clip: float | None = None,
        prioritized: bool = True,
        alpha: float = 0.6,
        beta: float = 0.4,
        eps: float = 1e-6,
        batch_size: int | None = None,
        observation_key: Any = None,
        priority_key: Any = "td_error",
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        check_argument("batch_size", batch_size, int | None, Range(1, 2**31))
        check_argument("gamma", gamma, float, Range(0.0, 1.0, open_low=True))
        check_argument("eps", eps, float, Range(1e-12, 1.0))
        check_argument("seed", seed, int, Range(0, 2**63 - 1))
        space, self.observation_key = space_of(observation_spec, observation_key)
        self.priority_key = priority_key
        self.beta = beta
        self._batch_size = batch_size
        self._form = SampleForm(self.observation_key, action_spec, n_step, gamma)
        self.replay = ReplayBuffer(
            capacity,
            num_envs,
            space,
            frame_stack=frame_stack,
            stack_padding=stack_padding,
            n_step=n_step,
            gamma=gamma,
            reward_clip=reward_clip,
            prioritized=prioritized,
            alpha=alpha,
            priority_epsilon=eps,
            device=device,
            seed=seed,
            num_actions=self._form.num_actions,
        )
        self.write_count = 0

    @property
    def beta(self) -> float:
        """Exponent of the importance weights."""
        return self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        self._beta = float(check_argument("beta", value, float, Range(0.0)))

    @property
    def batch_size(self) -> int | None:
        """B of :meth:`sample`, where it names none."""
        return self._batch_size

    @property
    def capacity(self) -> int:
        """Rows over all envs."""
        return self.replay.capacity

    @property
    def storage(self) -> TensorDict:
        """Rows [T, N], one frame each: a view, not to be written to."""
        return self.replay.storage

    def __len__(self) -> int:
        """Transitions that may be drawn; reads the device."""
        return len(self.replay)

    def __bool__(self) -> bool:
        return True  # also where it is empty

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.replay!r}, beta={self.beta})"

    def add(self, data: TensorDictBase) -> Tensor:
        """One step of every env: :meth:`extend` of a TensorDict [N], or [] of one env."""
        return self.extend(data)

    def extend(self, data: TensorDictBase) -> Tensor:
        """Write steps, in order of time.

        Where a step's observation is not the one that the step before led to, an episode begins.
        Priorities in the data are written for the rows that may be drawn already.

        Args:
            data: [N, T] as a collector delivers it, or flattened to [N * T], env by env. The
                observation is one frame, or a stack, of which the newest frame is taken.

        Returns:
            The row of each step, int64, shaped like the data.

        Raises:
            FastDQNError: Where the data do not fit; nothing is written then.
        """
        space, frame_stack = self.replay.observation_space, self.replay.frame_stack
        rows, num_actions, dtype = collected(
            data, self.replay.num_envs, space.shape, frame_stack, self.observation_key
        )
        priority = data.get(self.priority_key, None)
        if priority is not None:
            priority = real_numbers(self.priority_key, priority, self.replay.device)
            check_as_many(priority, data.numel())
        self._form.see(num_actions, dtype)
        index = self.replay.extend(*rows)
        self.write_count += index.numel()
        index = index.transpose(0, 1).reshape(data.batch_size)
        if priority is not None:
            places, values = index.reshape(-1), priority.reshape(-1)
            if 2 * len(places) > self.capacity:  # a row may be overwritten within the data
                kept = _last_of_each(places, self.capacity)
                places, values = places[kept], values[kept]
            self.update_priority(places, values)
        return index

    def empty(self) -> None:
        """Forget every row and priority."""
        self.replay.clear()
        self.write_count = 0

    # --- drawing -------------------------------------------------------------------------------

    def sample(self, batch_size: int | None = None, return_info: bool = False) -> Any:
        """Draw transitions, with replacement.

        Args:
            batch_size: B; None: that of the buffer.
            return_info: Return a pair, with a dictionary of ``index`` and ``priority_weight``.

        Returns:
            A TensorDict [B]; the class says what is in it.

        Raises:
            FastDQNError: Where nothing can be drawn yet.
        """
        size = self._batch_size if batch_size is None else batch_size
        if size is None:
            raise FastDQNError("batch_size = None; name it here or in the constructor.")
        batch = self.replay.sample(size, beta=self._beta)
        found = self._form.tensordict(batch)
        if return_info:
            return found, {"index": batch.index, "priority_weight": batch.weight}
        return found

    def __iter__(self) -> Iterator[TensorDict]:
        """Samples without end, of the buffer's batch size."""
        while True:
            yield self.sample()

    # --- priorities ----------------------------------------------------------------------------

    def update_tensordict_priority(self, data: TensorDictBase) -> None:
        """Set the priorities of a sample to what a loss wrote; nothing where draws are uniform.

        Args:
            data: A sample with priorities under ``priority_key``, [B] or [B, 1], raw: before eps
                and alpha, 0 or more.

        Raises:
            FastDQNError: Where the sample has none, or another number of them.
        """
        if not self.replay.prioritized:
            return
        if not isinstance(data, TensorDictBase):
            raise FastDQNError(f"data is {type(data).__name__}; pass a sample of this buffer.")
        priority, index = data.get(self.priority_key, None), data.get("index", None)
        if priority is None or index is None:
            missing = "index" if index is None else self.priority_key
            raise FastDQNError(
                f"The sample has no {missing!r}; pass one of this buffer through a loss first."
            )
        rows = whole_numbers("index", index, self.replay.device)
        self._set_priorities(rows, real_numbers(self.priority_key, priority, rows.device))

    def update_priority(self, index: Any, priority: Any) -> None:
        """Set priorities; nothing where draws are uniform.

        Args:
            index: Of rows, int64 of any shape, or a number.
            priority: As many, or one for all; raw.

        Raises:
            FastDQNError: Where the numbers of both differ, or an index is no row's.
        """
        if not self.replay.prioritized:
            return
        rows = whole_numbers("index", index, self.replay.device).reshape(-1)
        values = real_numbers("priority", priority, self.replay.device)
        if values.numel() == 1:
            values = values.reshape(1).expand(rows.numel())
        self._set_priorities(rows, values, check=True)

    def _set_priorities(self, index: Tensor, priority: Tensor, *, check: bool = False) -> None:
        index, priority = index.reshape(-1), priority.detach().reshape(-1)
        check_as_many(priority, index.numel())
        write = self.replay.update_priorities if check else self.replay.write_priorities
        write(index, priority)

    def state_dict(self) -> dict[str, Any]:
        """Rows, priorities, the generator and what is known of actions."""
        return {
            "replay": self.replay.state_dict(),
            "actions": self._form.state_dict(),
            "beta": self._beta,
            "write_count": self.write_count,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore :meth:`state_dict` in place; CheckpointError where it does not fit."""
        check_saved(self.state_dict(), state_dict)
        self.replay.load_state_dict(state_dict["replay"])
        self._form.load_state_dict(state_dict["actions"])
        self.beta, self.write_count = state_dict["beta"], state_dict["write_count"]

    def dumps(self, path: str | Path) -> None:
        """Write all of it into a directory, which is made; nothing of it is pickled."""
        save_checkpoint(directory_of(path), 0, self.state_dict(), 1)

    def loads(self, path: str | Path) -> None:
        """Read what :meth:`dumps` wrote; CheckpointError where it is not there or does not fit."""
        found = latest_checkpoint(directory_of(path))
        if found is None:
            raise CheckpointError(f"{path} holds no saved buffer; name a directory of dumps.")
        self.load_state_dict(load_checkpoint(found))

    save, load = dumps, loads


def _last_of_each(rows: Tensor, capacity: int) -> Tensor:
    """Where in ``rows``, int64 [B], each is named for the last time, bool [B]."""
    order = torch.arange(len(rows), device=rows.device)
    last = torch.zeros(capacity, dtype=torch.int64, device=rows.device)
    return last.scatter_reduce_(0, rows, order, "amax")[rows] == order
