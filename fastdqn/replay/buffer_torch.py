"""A replay's steps in torch: eager, compiled, or captured within a CUDA graph.

They are functions of a replay and hold none: a cycle would keep its memory until garbage is
collected, and a GPU that has none left does not ask for that. What only reads is pure and can be
compiled; what it makes is written by the few operations left.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastdqn.replay.incoming import check_drawable
from fastdqn.replay.priorities import LARGEST_PRIORITY
from fastdqn.system.compilation import compile_pure
from fastdqn.types import Batch

if TYPE_CHECKING:
    from fastdqn.replay.buffer import ReplayBuffer


class BufferInTorch:
    """Adds rows, draws, and writes priorities back.

    Args:
        replay: Whose tree is compiled, too.
        mode: ``eager``, ``compile`` or ``graph``.
        backend: Of torch.compile.
    """

    def __init__(self, replay: ReplayBuffer, mode: str, backend: str) -> None:
        fast = partial(
            compile_pure,
            mode=mode,
            backend=backend,
            # Frames of 84 x 84 would else come 7,168 bytes apart, and no longer be contiguous.
            options={"comprehensive_padding": False},
        )
        self._eager = mode == "eager"
        self._draw, self._newest_stacks = fast(_sampled), fast(newest_stacks)
        self._row, self._priorities = fast(_next_row), fast(_new_priorities)
        self.strata = Strata(replay.tree.levels, replay.device)
        self._beta = torch.ones((), device=replay.device)
        # From an env's newest row to the row that is added, the one whose leaf goes off, the one
        # whose leaf goes on, and that one's successor.
        n_step, stack = replay.n_step, replay._stack
        offsets = torch.tensor([1, 1 + stack, 1 - n_step, 2 - n_step], device=replay.device)
        self._offsets = offsets.unsqueeze(1) * replay.num_envs
        self._off = torch.zeros(replay.num_envs, device=replay.device)
        if not self._eager:
            replay.tree.compile_parts(fast)

    def latest(self, replay: ReplayBuffer) -> Tensor:
        """The newest observation of every env."""
        stacks: Tensor = self._newest_stacks(replay)
        return stacks

    def add_row(self, replay: ReplayBuffer, row: tuple[Tensor, ...]) -> None:
        """The usual case: one row per env, and at least n before it."""
        observation, *scalars = row
        added, switched, leaves, *kept = self._row(replay, self._offsets, self._off, *scalars)
        replay.ring.store(added, observation, kept)
        replay.tree.write(switched, leaves)
        replay.cursor.add_(1)
        replay._newest.copy_(added)

    def sample(self, replay: ReplayBuffer, uniform: Tensor, beta: float | Tensor) -> Batch:
        """All of a draw behind its random numbers, [levels, B]."""
        strata = self.strata(uniform.shape[1]) if replay.prioritized else None
        if not self._eager and not isinstance(beta, Tensor):  # a constant would be compiled in
            beta = self._beta.fill_(beta)
        with torch.no_grad():  # whatever the caller has, so that it is compiled once
            try:
                drawn: Batch = self._draw(replay, uniform, beta, strata)
            except (IndexError, RuntimeError):  # on a CPU the search ends behind the last leaf
                check_drawable(bool(replay.tree.total > 0))
                raise
        return drawn

    @torch.no_grad()
    def update_priorities(self, replay: ReplayBuffer, index: Tensor, priority: Tensor) -> None:
        """Set priorities."""
        leaves, highest, nonfinite = self._priorities(replay, index, priority)
        replay.max_priority.copy_(highest)
        replay.nonfinite_priority.copy_(nonfinite)
        replay.tree.write(index, leaves)


class Strata:
    """What spreads a draw's top level over B strata (Schaul 2016, B.2.1), made once for each B.

    Args:
        levels: Of the tree.
        device: Of the tree.
    """

    def __init__(self, levels: int, device: torch.device) -> None:
        self._levels, self._device = levels, device
        self._made: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """What to add to uniform numbers [levels, B], and to divide by: 0 and 1 below the top."""
        if batch_size not in self._made:
            offset = torch.zeros((self._levels, batch_size), device=self._device)
            offset[0].copy_(torch.arange(batch_size, device=self._device))
            scale = torch.ones((self._levels, 1), device=self._device)
            scale[0].fill_(batch_size)
            self._made[batch_size] = offset, scale
        return self._made[batch_size]


def newest_stacks(replay: ReplayBuffer) -> Tensor:
    """:meth:`ReplayBuffer.latest` as it is written, for a function that is compiled around it."""
    return replay.ring.stack(replay._newest)


@torch.no_grad()
def _sampled(
    replay: ReplayBuffer,
    uniform: Tensor,
    beta: float | Tensor,
    strata: tuple[Tensor, Tensor] | None,
) -> Batch:
    """A batch; writes to nothing."""
    index, leaf = replay.tree.draw(stratified(uniform, strata))
    observation, action, reward, discount, following = replay.ring.transition(
        index, replay.n_step, replay.gamma_powers
    )
    weight = importance_weights(leaf, beta) if replay.prioritized else torch.ones_like(leaf)
    return Batch(observation, action, reward, discount, following, weight, index)


def stratified(uniform: Tensor, strata: tuple[Tensor, Tensor] | None) -> Tensor:
    """Uniform numbers [levels, B], those of the top level spread over the strata."""
    return uniform if strata is None else (uniform + strata[0]) / strata[1]


def importance_weights(leaf: Tensor, beta: float | Tensor) -> Tensor:
    """``(N P)^-beta`` over the batch's largest, [B]; N and the total cancel."""
    return (leaf.min() / leaf) ** beta


def _next_row(
    replay: ReplayBuffer,
    offsets: Tensor,
    off: Tensor,
    action: Tensor,
    reward: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    first: Tensor,
) -> tuple[Tensor, ...]:
    """The next row of every env: its place, the leaves it switches, what it holds; pure.

    Returns:
        Flat indices of the rows, [N]; of the leaves that go off and on, [2 N]; their values,
        [2 N]; and what the rows hold beside their frames.
    """
    places = (replay._newest + offsets) % replay.capacity
    added, _, ready, after_ready = places
    # With one step the row behind the one that is ready is the one to come.
    reset = first if replay.n_step == 1 else replay.ring.is_first(after_ready)
    goes_on = replay._goes_on(ready, reset)
    leaves = torch.cat((off, torch.where(goes_on, replay._new_leaf(), 0.0)))
    kept = replay.ring.kept(action, replay._clipped(reward), terminated, truncated, first)
    return added, places[1:3].view(-1), leaves, *kept


def _new_priorities(
    replay: ReplayBuffer, index: Tensor, priority: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Leaves, [B], the largest priority ever, and whether one was not finite; pure."""
    finite = torch.isfinite(priority)
    priority = torch.where(finite, priority, replay.max_priority)
    priority = priority.clamp(0.0, LARGEST_PRIORITY)
    drawable = replay.tree.read(index) > 0
    return (
        torch.where(drawable, replay._leaf(priority), 0.0),
        torch.maximum(replay.max_priority, priority.max()),
        replay.nonfinite_priority | ~finite.all(),
    )
