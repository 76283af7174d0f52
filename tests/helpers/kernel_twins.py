"""The ladder's Triton kernels against torch, on any device; on a CPU in Triton's interpreter.

``python tests/kernel_twins.py NAME`` runs one check on a CPU, with TRITON_INTERPRET=1 set before
(the interpreter is chosen when Triton is imported). ``test_gpu.py`` runs them on CUDA.
"""

import sys

import numpy as np
import torch
from gymnasium.spaces import Box

from benchmarks.gpu.ladder.block_sums import BlockSums, two_level_fanout
from benchmarks.gpu.ladder.flat_adam import FlatAdam
from benchmarks.gpu.ladder.fused_gather import gather_inputs
from fastdqn.bench import random_replay
from fastdqn.bench.random_replay import fill_random
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.replay.sum_tree import SumTree


def _tree(capacity, device, seed=0):
    g = torch.Generator().manual_seed(seed)
    leaves = torch.rand(capacity, generator=g) * (torch.rand(capacity, generator=g) < 0.7)
    leaves[0] = 1.0
    trees = []
    for _ in range(2):
        tree = SumTree(capacity, fanout=two_level_fanout(capacity), device=device, compiled=False)
        tree.set(torch.arange(capacity, device=device), leaves.to(device))
        trees.append(tree)
    return BlockSums(trees[0], kernels=True), trees[1], g


def draws(device):
    """The same leaf for the same numbers, but where rounding decides between neighbours."""
    for capacity in (40, 1000):
        kernels, twin, g = _tree(capacity, device)
        uniform = torch.rand((2, 100), generator=g)
        uniform[:, 0], uniform[:, 1] = 0.0, 1.0
        index, value = kernels.sample(uniform.to(device))
        wanted, _ = twin.sample(uniform.to(device))
        assert index.dtype == torch.int64
        assert (index != wanted).sum() <= 5, (capacity, index[index != wanted])
        assert torch.equal(value, twin.get(index)) and (value > 0).all()


def draws_with_zeros(device):
    """A leaf or a block of 0 is never drawn, and a single positive one always."""
    tree = SumTree(1000, fanout=32, device=device, compiled=False)
    tree.set(torch.tensor([777], device=device), torch.tensor([0.25], device=device))
    uniform = torch.rand((2, 64), generator=torch.Generator().manual_seed(0)).to(device)
    uniform[:, 0] = 0.0
    index, _ = BlockSums(tree, kernels=True).sample(uniform)
    assert (index == 777).all()


def leaves_written(device):
    """Leaves and sums are the tree's, duplicates included."""
    for capacity, batch in ((40, 7), (1000, 150)):
        kernels, twin, g = _tree(capacity, device)
        for _ in range(3):
            index = torch.randint(0, capacity, (batch,), generator=g).to(device)
            value = (torch.randint(0, 5, (batch,), generator=g) / 4).to(device)  # with ties
            kernels.set(index, value)
            twin.set(index, value)
        assert torch.equal(kernels.leaves, twin.leaves)
        assert len(index.unique()) < batch
        kernels.check_valid()


def priorities_written(device):
    """Everything that the replay's update_priorities changes, NaN and undrawable rows included."""
    replays = []
    for _ in range(2):
        replay = ReplayBuffer(
            800, 4, Box(-1, 1, (3,), np.float32), prioritized=True, device=device, compiled=False
        )
        replay.tree = SumTree(
            800, fanout=two_level_fanout(800), device=torch.device(device), compiled=False
        )
        fill_random(replay, num_actions=3)
        replays.append(replay)
    mine, twin = replays
    tree = BlockSums(mine.tree, kernels=True)
    assert (twin.tree.leaves == 0).any()
    g = torch.Generator().manual_seed(0)
    for turn in range(3):
        index = torch.randint(0, 800, (200,), generator=g).to(device)
        priority = (4 * torch.randn(200, generator=g)).to(device)
        if turn == 1:
            priority[:2] = torch.tensor([float("nan"), float("inf")])
        if turn == 2:
            priority[2] = torch.finfo(torch.float32).max
        tree.set_priorities(
            index, priority, mine.max_priority, mine.nonfinite_priority,
            alpha=mine.alpha, epsilon=mine.priority_epsilon,
        )  # fmt: skip
        twin.update_priorities(index, priority)
        torch.testing.assert_close(mine.tree.leaves, twin.tree.leaves, rtol=1e-5, atol=1e-7)
        assert torch.equal(mine.tree.leaves > 0, twin.tree.leaves > 0)
        assert torch.equal(mine.max_priority, twin.max_priority)
        assert bool(mine.nonfinite_priority) == bool(twin.nonfinite_priority) == (turn > 0)
        mine.tree.check_valid()


def gathered(device):
    """Stacks over resets and the ring's edge, returns over ends of every kind."""
    for n_step in (1, 3):
        replay = ReplayBuffer(
            160, 4, Box(0, 255, (84, 84), np.uint8), frame_stack=4, n_step=n_step,
            prioritized=True, device=device, compiled=False,
        )  # fmt: skip
        random_replay.MEAN_EPISODE_LENGTH = 6
        fill_random(replay, num_actions=5, seed=n_step)
        g = torch.Generator().manual_seed(0)
        for name in ("truncated", "first"):  # a reset without a flag, a flag without a reset
            replay.ring.scalars[name].logical_or_((torch.rand(160, generator=g) < 0.1).to(device))
        index = (replay.tree.leaves > 0).nonzero().view(-1)[::5]
        index = index[~replay.ring.is_first(replay.ring.later(index, 1))]  # drawable still
        for dtype in (torch.bfloat16,) if n_step == 3 else (torch.float32,):
            mine, twin = (
                gather_inputs(replay.ring, index, n_step, replay.gamma_powers, dtype, kernels=by)
                for by in (True, False)
            )
            assert (twin.discount == 0).any() and (mine.both == 0).flatten(1).any()
            assert mine.both.dtype == dtype
            assert mine.both.stride() == twin.both.stride()
            for a, b in zip(mine, twin, strict=True):
                torch.testing.assert_close(a, b)


def adam_steps(device):
    """Parameters, moments and the copy in bfloat16."""
    g = torch.Generator().manual_seed(0)
    start = torch.randn(5000, generator=g).to(device)
    mine, twin = (
        FlatAdam(start.clone(), 1e-2, 1e-4, lowered=start.bfloat16(), kernels=kernels)
        for kernels in (True, False)
    )
    for scale in (1.0, 100.0, 1e-4):
        gradient = (scale * torch.randn(5000, generator=g)).to(device)
        mine.step(gradient)
        twin.step(gradient)
        for name in twin.moments:
            torch.testing.assert_close(mine.moments[name], twin.moments[name])
        torch.testing.assert_close(mine.parameter, twin.parameter, rtol=1e-5, atol=1e-6)
        if device == "cpu":  # the interpreter of Triton 3.6 cuts where a GPU rounds to nearest
            cut = mine.parameter.view(torch.int32) & -65536
            assert torch.equal(mine.lowered.float(), cut.view(torch.float32))
        else:
            assert torch.equal(mine.lowered, mine.parameter.bfloat16())
        assert torch.equal(twin.lowered, twin.parameter.bfloat16())
    assert (mine.parameter - start).abs().mean() > 1e-3
    plain = FlatAdam(start.clone(), 1e-2, 1e-4, kernels=True)
    plain.step(gradient)
    assert not torch.equal(plain.parameter, start)


CHECKS = [gathered, adam_steps, draws, draws_with_zeros, leaves_written, priorities_written]

if __name__ == "__main__":
    {check.__name__: check for check in CHECKS}[sys.argv[1]]("cpu")
    print("done")
