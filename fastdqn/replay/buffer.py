"""The replay: where each env writes, which rows may be drawn, and how likely each is.

Validity is data. With c the newest row of an env, T rows per env, S frames per stack and n steps,
exactly the rows t with ``c - T + S + 1 <= t <= c - n`` and not ``first[t + 1]`` may start a
transition. A drawable row is a positive leaf of a sum tree, any other is 0; uniform replay has
leaves of 1. A row written switches at most one leaf off (c - T + S) and one on (c - n), so adding
costs two small scatters, and sampling needs no rejection and no look at the host.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from fastdqn.config.arguments import SEEDS, check_argument
from fastdqn.config.ranges import ABOVE_ZERO, Range
from fastdqn.errors import CheckpointError, ConfigError, FastDQNError
from fastdqn.replay.buffer_torch import BufferInTorch
from fastdqn.replay.frame_ring import FrameRing
from fastdqn.replay.incoming import check_beta, check_index, check_values
from fastdqn.replay.memory_plan import MemoryPlan
from fastdqn.replay.priorities import LARGEST_PRIORITY, check_exponent_and_epsilon
from fastdqn.replay.refilled import copies, refilled
from fastdqn.replay.replay_plan import plan_replay, rows_per_env, warn_of_lost_rows
from fastdqn.replay.sum_tree import SumTree
from fastdqn.replay.writer import Writer
from fastdqn.system.compilation import check_backend, resolve_mode
from fastdqn.system.devices import resolve_device, restore_generator
from fastdqn.types import Array, Batch, StackPadding, TimeStep

if TYPE_CHECKING:
    from tensordict import TensorDict

    from fastdqn.replay.buffer_numba import BufferInNumba


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
        num_actions: A; actions that are added must lie in [0, A). None: they are not looked at.
        device: Where everything lives.
        seed: Of the generator that draws.
        compiled: Whether Numba's loops do the work on a CPU; None: where it is installed.
        mode: How torch does it: ``eager``; ``compile``, its pure parts compiled; ``graph``, and
            :meth:`add` captured in a CUDA graph where its arrays come from the host; ``auto``:
            graph on CUDA, else eager.
        compile_backend: Of torch.compile.

    Raises:
        FastDQNError: Where a column has fewer than S + n + 1 rows.
        ConfigError: Where an argument is of another type or out of its range, the device does not
            exist here, or the mode is not possible on it.
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
        num_actions: int | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        compiled: bool | None = None,
        mode: str = "auto",
        compile_backend: str = "inductor",
    ) -> None:
        _check_space(observation_space)
        capacity = check_argument("capacity", capacity, int, Range(1, 2**40))
        num_envs = check_argument("num_envs", num_envs, int, Range(1, 2**31))
        frame_stack = check_argument("frame_stack", frame_stack, int | None, Range(1, 1000))
        check_argument("stack_padding", stack_padding, Literal[get_args(StackPadding)])
        n_step = check_argument("n_step", n_step, int, Range(1, 1000))
        gamma = check_argument("gamma", gamma, float, Range(0.0, 1.0))
        reward_clip = check_argument("reward_clip", reward_clip, float | None, ABOVE_ZERO)
        num_actions = check_argument("num_actions", num_actions, int | None, Range(1, 2**31))
        seed = check_argument("seed", seed, int, SEEDS)
        check_backend(compile_backend)
        check_argument("prioritized", prioritized, bool)
        check_exponent_and_epsilon(alpha, priority_epsilon)
        self.rows = rows_per_env(capacity, num_envs, frame_stack, n_step)
        warn_of_lost_rows(self.rows, frame_stack, n_step)
        self.num_envs, self.capacity = num_envs, self.rows * num_envs
        self.n_step, self.gamma, self.reward_clip = n_step, gamma, reward_clip
        self.prioritized, self.alpha = prioritized, alpha
        self.priority_epsilon = priority_epsilon
        self.device = resolve_device(device)
        self.observation_space, self.num_actions = observation_space, num_actions
        self.frame_stack, self.stack_padding = frame_stack, stack_padding
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
        self.invalid = torch.zeros((), dtype=torch.bool, device=self.device)
        """Whether a GPU was given an action or an index that is none; see :meth:`check_valid`."""
        self.generator = torch.Generator(self.device).manual_seed(seed)
        powers = torch.tensor([gamma**k for k in range(n_step + 1)], dtype=torch.float64)
        self.gamma_powers = powers.to(torch.float32).to(self.device)  # gamma^0 .. gamma^n
        self._columns = torch.arange(num_envs, device=self.device)
        self._newest = self._index(self.cursor)  # flat index of each env's newest row
        self._writer = Writer(
            num_envs, observation_space.shape, self.ring.frames.dtype, num_actions, self.device
        )
        self._rows_added = 0  # on the host; a lower bound of every column's count
        self.mode = resolve_mode(mode, self.device, backend=compile_backend)
        self._loops: BufferInNumba | None = None
        self._way: BufferInTorch | BufferInNumba
        self._choose_way(compile_backend)

    def _choose_way(self, compile_backend: str) -> None:
        tree, gather = self.tree.in_numba, self.ring.in_numba
        if tree is not None and gather is not None:
            from fastdqn.replay.buffer_numba import BufferInNumba  # where it is first needed

            self.mode = "eager"
            self._way = self._loops = BufferInNumba(self, tree, gather)
        else:
            self._way = BufferInTorch(self, self.mode, compile_backend)

    @property
    def compiled(self) -> bool:
        """Whether Numba's loops do the work."""
        return self._loops is not None

    def use_torch(self) -> None:
        """Let torch do the work from now on, eager, on the same memory."""
        self.tree.use_torch()
        self.ring.use_torch()
        self.mode, self._loops = "eager", None
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

        Args:
            capacity: As of the class, as are the rest.
            num_envs: N.
            observation_space: Of one frame.
            batch_size: B, of the largest batch that is drawn.
            frame_stack: S.
            n_step: n.
            device: Where it would lie.

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

    def __repr__(self) -> str:
        """In a line, without a look at the device."""
        frames = "x".join(map(str, self.observation_space.shape)) or "scalar"
        stack = "" if self.frame_stack is None else f", frame_stack={self.frame_stack}"
        return (
            f"ReplayBuffer({self.capacity:,} rows of {self.num_envs} envs, {frames} "
            f"{str(self.ring.frames.dtype).removeprefix('torch.')}{stack}, n_step={self.n_step}, "
            f"{'prioritized' if self.prioritized else 'uniform'}, device='{self.device}')"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> ReplayBuffer:
        """A replay of the same rows and priorities, with memory of its own."""
        other = memo[id(self)] = object.__new__(type(self))
        state = dict(vars(self))
        if self._loops is not None:  # they look their arrays up once, so they are made anew
            state.update(_loops=None, _way=None)
        vars(other).update(copy.deepcopy(state, memo))
        if self._loops is not None:
            other._choose_way("")
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        """For a pickle, which would part what shares memory: made anew, then filled."""
        names = (
            "frame_stack", "stack_padding", "n_step", "gamma", "reward_clip", "prioritized",
            "alpha", "priority_epsilon", "num_actions", "device", "mode",
        )  # fmt: skip
        options = {name: getattr(self, name) for name in names}
        options["compiled"] = None if self.compiled else False
        arguments = (self.capacity, self.num_envs, self.observation_space)
        return refilled, (type(self), arguments, options, copies(self.state_dict()))

    @torch.no_grad()
    def add(self, step: TimeStep, actions: Array | None) -> None:
        """Write the newest row of every env, and the row of a reset within the same step.

        Args:
            step: Rows [N]; numpy or torch, on the host or the replay's device.
            actions: int [N], from 0: what led to ``step``. None after a reset of all envs.

        Raises:
            FastDQNError: Where shapes or dtypes do not fit, the first row is none of a reset, or an
                action is out of range; nothing is written then.
        """
        self._writer.add(self, step, actions)
        self._rows_added += 1

    @torch.no_grad()
    def add_transition(
        self,
        observation: Array,
        action: Array,
        reward: Array,
        next_observation: Array,
        terminated: Array,
        truncated: Array,
        *,
        mask: Array | None = None,
    ) -> None:
        """Write one transition of every env, for a loop that thinks in (s, a, r, s').

        What the next transition has in common with this one is not stored again: its
        ``observation`` becomes a row of its own, that of a reset, where this one ended an episode
        or where it is another frame than ``next_observation`` here. n-step returns and stacks are
        made of the rows, as ever; a transition may be drawn once n - 1 more rows follow it.

        Args:
            observation: s, [N, *O]: one frame of each env, not its stack.
            action: int [N], from 0.
            reward: [N].
            next_observation: s', [N, *O]: where an episode ended its last observation, not the
                first of the next one.
            terminated: bool [N].
            truncated: bool [N].
            mask: bool [N]: the envs whose transition this is; None: all. Gymnasium's envs with
                autoreset NEXT_STEP make a step that is none after each episode.

        Raises:
            FastDQNError: Where shapes or dtypes do not fit, or an action is out of range; nothing
                is written then.
        """
        arrays = [observation, action, reward, next_observation, terminated, truncated]
        self._writer.add_transition(self, arrays, mask)
        if mask is None:
            self._rows_added += 1 + (self._rows_added == 0)
        elif self._rows_added < self.n_step + 2:
            self._rows_added = int(self.cursor.min()) + 1

    @torch.no_grad()
    def extend(
        self,
        observation: Array,
        action: Array,
        reward: Array,
        next_observation: Array,
        terminated: Array,
        truncated: Array,
    ) -> Tensor:
        """Write many transitions, such as those of a data set: :meth:`add_transition` in bulk.

        L transitions of E episodes stay drawable in ``L + E + S`` rows of one env.

        Args:
            observation: [L, N, *O], in order of time; with one env [L, *O] will do. Arrays on the
                host may be larger than memory, mapped from a file.
            action: int [L, N]; ``reward``, ``terminated`` and ``truncated`` likewise.
            reward: [L, N].
            next_observation: [L, N, *O].
            terminated: bool [L, N].
            truncated: bool [L, N].

        Returns:
            The row that each transition starts at, int64 [L, N] (or [L]): for
            :meth:`update_priorities` and :meth:`gather`, until it is overwritten.

        Raises:
            FastDQNError: Where shapes or dtypes do not fit, or an action is out of range; nothing
                is written then.
        """
        arrays = [observation, action, reward, next_observation, terminated, truncated]
        index = self._writer.extend(self, arrays)
        if len(index):
            self._rows_added = int(self.cursor.min()) + 1
        return index

    def _clipped(self, reward: Tensor) -> Tensor:
        limit = self.reward_clip
        if reward.dtype != torch.float32:
            reward = reward.to(torch.float32)
        return reward if limit is None else reward.clamp(-limit, limit)

    def _index(self, row: Tensor) -> Tensor:
        """Flat index of a row count per env, [..., N]."""
        return row % self.rows * self.num_envs + self._columns

    def _goes_on(self, index: Tensor, reset: Tensor) -> Tensor:
        """Whether the row after each one belongs to the same episode: no flag, its ``first``."""
        return ~reset

    def _leaf(self, priority: Tensor) -> Tensor:
        return (priority + self.priority_epsilon) ** self.alpha

    def _new_leaf(self) -> Tensor | float:
        """Of a row that may be drawn from now on."""
        return self._leaf(self.max_priority) if self.prioritized else 1.0

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
            FastDQNError: Before the first n + 2 rows are added, when nothing can be drawn; on a CPU
                also where none of the rows may be drawn.
            ConfigError: Where an argument is of another type or out of its range.
        """
        if type(batch_size) is not int or batch_size < 1:
            batch_size = check_argument("batch_size", batch_size, int, Range(1, 2**31))
        if type(beta) is not float or not beta >= 0:
            beta = check_beta(beta, self.device)
        if not self.may_sample:
            raise FastDQNError(
                f"The replay holds {self._rows_added} rows per env and can be sampled from "
                f"{self.n_step + 2} on; add more steps first."
            )
        return self._way.sample(self, self.uniform(batch_size), beta)

    def uniform(self, batch_size: int) -> Tensor:
        """The random numbers of a draw, float32 [levels, B] in [0, 1).

        Args:
            batch_size: B.
        """
        shape = (self.tree.levels, batch_size)
        return torch.rand(shape, generator=self.generator, device=self.device)

    def update_priorities(self, index: Tensor, priority: Tensor) -> None:
        """Set priorities (Schaul 2016); of duplicates the largest wins.

        A row that is not drawable stays so, whatever is written to it. A non-finite priority
        becomes the largest seen and raises ``nonfinite_priority``. A finite one counts as at most
        2^86; :mod:`fastdqn.replay.priorities` says why.

        Args:
            index: int64 [B], from a batch.
            priority: float32 [B], >= 0, raw: before epsilon and alpha; usually |TD error|. What it
                was computed from gets no gradient.

        Raises:
            FastDQNError: Where shapes, dtypes or devices differ, and on a CPU where an index is no
                row's: nothing is written then. A GPU leaves such an index out and says so in
                :meth:`check_valid`.
        """
        check_index(index, self.capacity, self.device, later=self._loops is not None)
        check_values("priority", priority, index, self.device)
        if not len(index):
            return
        if self.device.type != "cpu":
            inside = (index >= 0) & (index < self.capacity)
            self.invalid.logical_or_(~inside.all())
            index = torch.where(inside, index, self._newest[0])  # a row that is off and stays so
        if priority.requires_grad or priority.dtype != torch.float32:
            priority = priority.detach().to(torch.float32)
        self.write_priorities(index, priority)

    def write_priorities(self, index: Tensor, priority: Tensor) -> None:
        """As :meth:`update_priorities`, unchecked: for a batch just drawn, in a CUDA graph too.

        Args:
            index: int64 [B], as drawn.
            priority: float32 [B], 0 or more.
        """
        self._way.update_priorities(self, index, priority)

    @torch.no_grad()
    def gather(self, index: Tensor) -> Batch:
        """The transitions that start at these rows; their weights are 1.

        Args:
            index: int64 [B], of rows that may be drawn: what a batch, or :meth:`extend`, named, or
                a sampler of your own over ``tree.leaves``.

        Raises:
            FastDQNError: Where it is no such tensor; on a CPU also where a row may not be drawn.
        """
        check_index(index, self.capacity, self.device)
        if self.device.type == "cpu":
            off = self.tree.read(index) == 0
            if bool(off.any()):
                raise FastDQNError(
                    f"index holds row {int(index[off][0])}, which starts no transition: none was "
                    f"written there, its successors are still to come, or an episode ended there; "
                    f"use those where replay.tree.leaves > 0."
                )
        parts = self.ring.transition(index, self.n_step, self.gamma_powers)
        weight = torch.ones(len(index), device=self.device)
        return Batch(*parts, weight, index)

    @property
    def drawable(self) -> Tensor:
        """Number of transitions that may be drawn, 0-d int64, on the device."""
        return (self.tree.leaves > 0).sum()

    def __len__(self) -> int:
        """Number of transitions that may be drawn; waits for the device."""
        self.check_valid()
        return int(self.drawable)

    def __bool__(self) -> bool:
        """True: a replay is there, be it empty."""
        return True

    @property
    def may_sample(self) -> bool:
        """Whether :meth:`sample` has the n + 2 rows per env that it asks for; no look at a GPU."""
        return self._rows_added >= self.n_step + 2

    @property
    def storage(self) -> TensorDict:
        """All rows, [T, N], as views into their memory; not to be written to."""
        return self.ring.storage

    def check_valid(self) -> None:
        """Report what a GPU was given and had to leave out; waits for the device.

        Raises:
            FastDQNError: Where an action was outside of [0, num_actions), or an index no row's.
        """
        if bool(self.invalid):
            raise FastDQNError(
                f"The replay was given an action outside of 0 to "
                f"{'A' if self.num_actions is None else self.num_actions} - 1, or an index outside "
                f"of 0 to {self.capacity - 1}; it stored 0 for the action and left the index out."
            )

    def clear(self) -> None:
        """Forget every row and priority; the generator goes on."""
        self.cursor.fill_(-1)
        self._newest.copy_(self._index(self.cursor))
        for level in self.tree.tensors():
            level.zero_()
        self.max_priority.fill_(1.0)
        for flag in (self.nonfinite_priority, self.invalid):
            flag.zero_()
        self._rows_added = 0

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
        """Restore :meth:`state_dict` in place; CheckpointError where a shape is another.

        Priorities of a prioritized replay have no say in a uniform one.
        """
        if state["cursor"].shape != self.cursor.shape:
            raise CheckpointError(
                f"The saved replay has {state['cursor'].numel()} envs, this run has "
                f"{self.num_envs}; use the same num_envs."
            )
        self.ring.load_state_dict(state["ring"])
        self.tree.load_state_dict(state["tree"])
        if not self.prioritized:  # the other may have been
            self._forget_priorities()
        for name in ("cursor", "max_priority", "nonfinite_priority"):
            getattr(self, name).copy_(state[name])
        self.max_priority.clamp_(max=LARGEST_PRIORITY)
        self._newest.copy_(self._index(self.cursor))
        restore_generator(self.generator, state["generator"])
        self._rows_added = state["rows_added"]

    def _forget_priorities(self) -> None:
        """Make every row that may be drawn as likely as another."""
        leaves = self.tree.leaves[: self.capacity]
        if bool(((leaves == 0) | (leaves == 1)).all()):
            return
        index = torch.arange(self.capacity, device=self.device)
        self.tree.set(index, (leaves > 0).to(leaves.dtype))


def _check_space(space: Any) -> None:
    """Refuse, by a ConfigError, what is no Box of numbers."""
    if isinstance(space, Box):
        return
    what = type(space).__name__
    fix = "use the gymnasium.spaces.Box of one frame of one env, envs.observation_space"
    if isinstance(space, Space):
        fix = "a replay keeps arrays: let fastdqn.make_envs make frames of such observations"
    raise ConfigError(f"observation_space is {what}; {fix}.")
