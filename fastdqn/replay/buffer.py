"""The replay: where each env writes, which rows may be drawn, and how likely each is.

Validity is data. With c the newest row of an env, T rows per env, S frames per stack and n steps,
exactly the rows t with ``c - T + S + 1 <= t <= c - n`` and not ``first[t + 1]`` may start a
transition. A drawable row is a positive leaf of a sum tree, any other is 0; uniform replay has
leaves of 1. A row written switches at most one leaf off (c - T + S) and one on (c - n), so adding
costs two small scatters, and sampling needs no rejection and no look at the host.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.spaces import Box
from torch import Tensor

from fastdqn.errors import CheckpointError, FastDQNError
from fastdqn.replay.add_rows import add_rows
from fastdqn.replay.buffer_numba import BufferInNumba
from fastdqn.replay.buffer_torch import BufferInTorch
from fastdqn.replay.captured_add import CapturedAdds
from fastdqn.replay.frame_ring import FrameRing
from fastdqn.replay.memory_plan import MemoryPlan
from fastdqn.replay.priorities import LARGEST_PRIORITY, check_exponent_and_epsilon
from fastdqn.replay.replay_plan import plan_replay, rows_per_env, warn_of_lost_rows
from fastdqn.replay.sum_tree import SumTree
from fastdqn.system.compilation import resolve_mode, weakly
from fastdqn.system.devices import resolve_device, restore_generator
from fastdqn.system.staging import HostStaging
from fastdqn.types import Array, Batch, StackPadding, TimeStep


class ReplayBuffer:
    """Transitions of N envs on one device, drawn uniformly or in proportion to priority.

    Args:
        capacity: Rows over all envs, rounded down to a multiple of ``num_envs``.
        num_envs: N.
        observation_space: Of one frame of one env.
        frame_stack: S; None leaves the stack axis out of observations.
        stack_padding: ``zero`` or ``repeat``: what precedes an episode's first frame.
        n_step: n of the n-step return.
        gamma: Discount per step.
        reward_clip: Store rewards clipped to [-reward_clip, reward_clip].
        prioritized: Proportional prioritized replay (Schaul 2016); otherwise uniform.
        alpha: Exponent of the priorities, 0 to 1: leaf = (priority + priority_epsilon)^alpha.
        priority_epsilon: Added to every priority, so that none becomes undrawable; 1e-12 to 1.
        device: Where everything lives.
        seed: Of the generator that draws.
        compiled: Whether Numba's loops do the work on a CPU; None: where it is installed.
        mode: How torch does it: ``eager``; ``compile``, its pure parts compiled; ``graph``, and
            :meth:`add` captured in a CUDA graph where its arrays come from the host; ``auto``:
            graph on CUDA, else eager.
        compile_backend: Of torch.compile.

    Raises:
        FastDQNError: Where a column has fewer than S + n + 1 rows.
        ConfigError: Where alpha or priority_epsilon is out of its range, the device does not exist
            here, or the mode is not possible on it.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_space: Box,
        *,
        frame_stack: int | None = None,
        stack_padding: StackPadding = "zero",
        n_step: int = 1,
        gamma: float = 0.99,
        reward_clip: float | None = None,
        prioritized: bool = False,
        alpha: float = 0.6,
        priority_epsilon: float = 1e-6,
        device: torch.device | str = "cpu",
        seed: int = 0,
        compiled: bool | None = None,
        mode: str = "auto",
        compile_backend: str = "inductor",
    ) -> None:
        check_exponent_and_epsilon(alpha, priority_epsilon)
        self.rows = rows_per_env(capacity, num_envs, frame_stack, n_step)
        warn_of_lost_rows(self.rows, frame_stack, n_step)
        self.num_envs, self.capacity = num_envs, self.rows * num_envs
        self.n_step, self.gamma, self.reward_clip = n_step, gamma, reward_clip
        self.prioritized, self.alpha = prioritized, alpha
        self.priority_epsilon = priority_epsilon
        self.device = resolve_device(device)
        self._stack = frame_stack or 1
        self.ring = FrameRing(
            self.rows,
            num_envs,
            observation_space,
            frame_stack=frame_stack,
            stack_padding=stack_padding,
            device=self.device,
            compiled=compiled,
        )
        self.tree = SumTree(self.capacity, device=self.device, compiled=compiled)
        # Newest row of each env, counted from its first row ever: -1 before that.
        self.cursor = torch.full((num_envs,), -1, dtype=torch.int64, device=self.device)
        self.max_priority = torch.ones((), device=self.device)  # before alpha; only grows
        self.nonfinite_priority = torch.zeros((), dtype=torch.bool, device=self.device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        powers = torch.tensor([gamma**k for k in range(n_step + 1)], dtype=torch.float64)
        self.gamma_powers = powers.to(torch.float32).to(self.device)  # gamma^0 .. gamma^n
        self._columns = torch.arange(num_envs, device=self.device)
        self._newest = self._index(self.cursor)  # flat index of each env's newest row
        self._no_action = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._staging = HostStaging(self.device)
        self._rows_added = 0  # on the host; a lower bound of every column's count
        self.mode = resolve_mode(mode, self.device, backend=compile_backend)
        self._captured = CapturedAdds(self.device)
        self._way: BufferInTorch | BufferInNumba
        tree, gather = self.tree.in_numba, self.ring.in_numba
        if tree is not None and gather is not None:
            self.mode = "eager"
            self._way = BufferInNumba(self, tree, gather)
        else:
            self._way = BufferInTorch(self, self.mode, compile_backend)

    @property
    def compiled(self) -> bool:
        """Whether Numba's loops do the work."""
        return isinstance(self._way, BufferInNumba)

    def use_torch(self) -> None:
        """Let torch do the work from now on, eager, on the same memory."""
        self.tree.use_torch()
        self.ring.use_torch()
        self.mode = "eager"
        self._way = BufferInTorch(self, self.mode, "inductor")

    @classmethod
    def plan(
        cls,
        capacity: int,
        num_envs: int,
        observation_space: Box,
        *,
        batch_size: int,
        frame_stack: int | None = None,
        n_step: int = 1,
        device: torch.device | str = "cpu",
        **_: Any,
    ) -> MemoryPlan:
        """Bytes per part of a replay made with the same arguments; allocates nothing.

        A batch of ``batch_size`` transitions is a part of the plan.

        Raises:
            MemoryPlanError: Where it does not fit; the message names the capacity that does.
            FastDQNError: Where a column has fewer than S + n + 1 rows.
        """
        return plan_replay(
            capacity,
            num_envs,
            observation_space,
            batch_size=batch_size,
            frame_stack=frame_stack,
            n_step=n_step,
            device=device,
        )

    @torch.no_grad()
    def add(self, step: TimeStep, actions: Array | None) -> None:
        """Write the newest row of every env, and the row of a reset within the same step.

        Args:
            step: Rows [N]; numpy or torch, any device.
            actions: int [N], from 0: what led to ``step``. None after a reset of all envs.
        """
        (observation, reward, terminated, truncated, first, action, *second) = self._staging(
            [
                step.observation,
                step.reward,
                step.terminated,
                step.truncated,
                step.first,
                self._no_action if actions is None else actions,
                *(() if step.reset is None else (step.reset_observation, step.reset)),
            ]
        )
        row = (observation, action, reward, terminated, truncated, first)
        if self._rows_added < self.n_step:
            add_rows(self, row, second)
        elif self.mode == "graph" and self._staging.fixed:
            self._add_captured(row, second)
        else:
            self._add(row, second)
        self._rows_added += 1

    def _clipped(self, reward: Tensor) -> Tensor:
        limit = self.reward_clip
        return reward if limit is None else reward.clamp(-limit, limit)

    def _add(self, row: tuple[Tensor, ...], second: list[Tensor]) -> None:
        if second:
            add_rows(self, row, second)
        else:
            self._way.add_row(self, row)

    def _add_captured(self, row: tuple[Tensor, ...], second: list[Tensor]) -> None:
        """The same as one graph, of arrays that lie where the last ones lay."""
        arrays = (*row, *second)
        graph = self._captured.of(arrays)
        if graph is None:

            def add(replay: ReplayBuffer) -> tuple[Tensor, ...]:
                replay._add(row, second)
                return ()

            # Rows need not be put back: the graph writes them again.
            state = [self.cursor, self._newest, *self.tree.tensors()]
            graph = self._captured.capture(arrays, weakly(add, self), state)
        graph()

    def _index(self, row: Tensor) -> Tensor:
        """Flat index of a row count per env, [..., N]."""
        return row % self.rows * self.num_envs + self._columns

    def _goes_on(self, index: Tensor, reset: Tensor) -> Tensor:
        """Whether the row after each one belongs to the same episode: no flag, its ``first``."""
        return ~reset

    def _leaf(self, priority: Tensor) -> Tensor:
        return (priority + self.priority_epsilon) ** self.alpha

    @torch.no_grad()
    def latest(self) -> Tensor:
        """The newest observation of every env, [N, S, *O] (or [N, *O]): what to act on."""
        return self._way.latest(self)

    def sample(self, batch_size: int, *, beta: float | Tensor = 1.0) -> Batch:
        """Draw transitions, with replacement.

        Prioritized draws are stratified (Schaul 2016, B.2.1) and carry the importance weights
        ``(N P)^-beta`` divided by the batch's largest, so N cancels; uniform ones weigh 1.

        Args:
            batch_size: B.
            beta: Exponent of the weights; a 0-d tensor on the device where it must vary in a
                captured graph.

        Raises:
            FastDQNError: Before the first n + 2 rows are added, when nothing can be drawn.
        """
        if self._rows_added < self.n_step + 2:
            raise FastDQNError(
                f"The replay holds {self._rows_added} rows per env and can be sampled from "
                f"{self.n_step + 2} on; add more steps first."
            )
        return self._way.sample(self, self.uniform(batch_size), beta)

    def uniform(self, batch_size: int) -> Tensor:
        """The random numbers of a draw, float32 [levels, B] in [0, 1)."""
        shape = (self.tree.levels, batch_size)
        return torch.rand(shape, generator=self.generator, device=self.device)

    def update_priorities(self, index: Tensor, priority: Tensor) -> None:
        """Set priorities (Schaul 2016); of duplicates the largest wins.

        A row that is not drawable stays so, whatever is written to it. A non-finite priority
        becomes the largest seen and raises ``nonfinite_priority``. A finite one counts as at most
        2^86; :mod:`fastdqn.replay.priorities` says why.

        Args:
            index: int64 [B], from a batch.
            priority: float32 [B], >= 0, raw: before epsilon and alpha; usually |TD error|.
        """
        self._way.update_priorities(self, index, priority)

    @property
    def drawable(self) -> Tensor:
        """Number of rows that may be drawn, 0-d int64."""
        return (self.tree.leaves > 0).sum()

    def nbytes(self) -> int:
        """Bytes of the ring and the tree."""
        return self.ring.nbytes() + self.tree.nbytes()

    def state_dict(self) -> dict[str, Any]:
        """Rows, leaves, cursors, priorities and the generator."""
        return {
            "ring": self.ring.state_dict(),
            "tree": self.tree.state_dict(),
            "cursor": self.cursor,
            "max_priority": self.max_priority,
            "nonfinite_priority": self.nonfinite_priority,
            "generator": self.generator.get_state(),
            "rows_added": self._rows_added,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict` in place; CheckpointError where a shape is another."""
        if state["cursor"].shape != self.cursor.shape:
            raise CheckpointError(
                f"The saved replay has {state['cursor'].numel()} envs, this run has "
                f"{self.num_envs}; use the same num_envs."
            )
        self.ring.load_state_dict(state["ring"])
        self.tree.load_state_dict(state["tree"])
        for name in ("cursor", "max_priority", "nonfinite_priority"):
            getattr(self, name).copy_(state[name])
        self.max_priority.clamp_(max=LARGEST_PRIORITY)
        self._newest.copy_(self._index(self.cursor))
        restore_generator(self.generator, state["generator"])
        self._rows_added = state["rows_added"]
