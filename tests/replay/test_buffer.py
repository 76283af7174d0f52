"""The replay's statistics, priorities, weights, bounds and state."""

import warnings

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdqn.errors import CheckpointError, FastDQNError
from fastdqn.replay.add_rows import add_rows
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.types import TimeStep

pytestmark = pytest.mark.usefixtures("both_ways")

SPACE = Box(-np.inf, np.inf, (1,), np.float32)


def step(value, *, first=False, terminated=False, n=1, reward=0.0):
    full = np.full
    return TimeStep(
        full((n, 1), value, np.float32),
        full(n, reward, np.float32),
        full(n, terminated),
        full(n, False),
        full(n, first),
    )


def filled(rows=100, n=2, **kwargs):
    """A replay whose rows hold 0, 1, 2, ...; one long episode."""
    replay = ReplayBuffer(rows * n, n, SPACE, **kwargs)
    replay.add(step(0, first=True, n=n), None)
    for i in range(1, rows - 10):
        replay.add(step(i, n=n, reward=i), np.zeros(n, np.int64))
    return replay


def test_a_transition_by_hand():
    """s=2 -(action 1)-> s'=3 with reward 3, gamma 0.9; three steps: 3 + 0.9*4 + 0.81*5."""
    replay = ReplayBuffer(20, 1, SPACE, n_step=3, gamma=0.9)
    replay.add(step(0, first=True), None)
    for i in range(1, 6):
        replay.add(step(i, reward=i), np.array([i % 2]))
    index = torch.tensor([2])
    s, a, r, d, following = replay.ring.transition(index, 3, replay.gamma_powers)
    assert (s.item(), a.item(), following.item()) == (2, 1, 5)
    assert r.item() == pytest.approx(3 + 0.9 * 4 + 0.81 * 5)
    assert d.item() == pytest.approx(0.9**3)


def test_rows_become_drawable_n_steps_later_and_expire_a_stack_early():
    replay = ReplayBuffer(10, 1, SPACE, n_step=2, frame_stack=3)
    replay.add(step(0, first=True), None)
    seen = []
    for i in range(1, 25):
        replay.add(step(i), np.array([0]))
        oldest, newest = max(0, i - 10 + 3 + 1), i - 2  # c - T + S + 1 and c - n
        drawable = replay.tree.leaves.nonzero().flatten().tolist()
        assert sorted(drawable) == sorted(t % 10 for t in range(oldest, newest + 1))
        seen.append(len(drawable))
    assert seen[:4] == [0, 1, 2, 3]
    assert seen[-1] == 10 - 3 - 2


def test_priority_becomes_a_leaf_by_the_formula():
    replay = filled(prioritized=True, alpha=0.5, priority_epsilon=0.01)
    assert replay.tree.get(torch.tensor([4])).item() == pytest.approx(1.01**0.5)
    replay.update_priorities(torch.tensor([4, 6, 4]), torch.tensor([3.0, 0.0, 2.0]))
    assert replay.tree.get(torch.tensor([4, 6])).tolist() == pytest.approx([3.01**0.5, 0.01**0.5])
    replay.add(step(90, n=2), np.zeros(2, np.int64))
    newest_drawable = (replay.cursor[0] - 1) * 2
    assert replay.tree.get(newest_drawable[None]).item() == pytest.approx(3.01**0.5), (
        "new rows enter with the largest priority seen"
    )


def test_a_row_that_is_off_stays_off_and_bad_priorities_are_noticed():
    replay = filled(prioritized=True)
    newest = (replay.cursor[0] * 2)[None]
    replay.update_priorities(newest, torch.tensor([5.0]))
    assert replay.tree.get(newest).item() == 0
    assert not replay.nonfinite_priority
    replay.update_priorities(torch.tensor([4, 6]), torch.tensor([float("nan"), float("inf")]))
    assert replay.nonfinite_priority
    top = replay._leaf(replay.max_priority)
    # Numba's power and torch's may differ in the last bit.
    assert replay.tree.get(torch.tensor([4, 6])).tolist() == pytest.approx([top.item()] * 2)
    assert replay.max_priority.item() == 5.0
    replay.tree.check_valid()


def test_weights_by_hand():
    """(N P)^-beta over the batch's largest: with leaves 1 and 4, beta 0.5, 1 and 1/2."""
    replay = filled(rows=20, n=1, prioritized=True, alpha=1.0, priority_epsilon=1e-9)
    on = replay.tree.leaves.nonzero().flatten()
    replay.update_priorities(on, torch.where(on % 2 == 0, 1.0, 4.0))
    batch = replay.sample(256, beta=0.5)
    expected = torch.where(batch.index % 2 == 0, 1.0, 0.5)
    torch.testing.assert_close(batch.weight, expected)
    assert replay.sample(64, beta=0.0).weight.eq(1).all()
    assert filled().sample(64, beta=0.7).weight.eq(1).all(), "uniform draws weigh 1"


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize(("stack", "n_step"), [(None, 1), (3, 2)])
def test_loops_and_torch_draw_the_same_batch(prioritized, stack, n_step, both_ways):
    if both_ways == "torch":
        pytest.skip("has no loops")
    kwargs = {"frame_stack": stack, "n_step": n_step, "prioritized": prioritized, "seed": 5}
    batches = []
    for compiled in (True, False):
        replay = filled(compiled=compiled, **kwargs)
        assert replay.compiled == compiled
        index = torch.arange(20, 60)
        replay.update_priorities(index, index / 7)
        batches.append(replay.sample(64, beta=0.4))
    for name, ours, plain in zip(batches[0]._fields, *batches, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-6, atol=0, msg=name)


def test_with_beta_1_the_weighted_mean_is_the_mean_over_drawable_rows():
    replay = filled(rows=300, n=2, prioritized=True, alpha=0.8, seed=5)
    on = replay.tree.leaves.nonzero().flatten()
    g = torch.Generator().manual_seed(1)
    replay.update_priorities(on, torch.rand(len(on), generator=g) * 5)
    f = torch.rand(replay.capacity, generator=g, dtype=torch.float64)
    truth = f[on].mean().item()
    total = replay.tree.leaves.double().sum()
    estimates = []
    for _ in range(400):
        batch = replay.sample(256, beta=1.0)
        # weights are relative to the batch's largest; make them absolute to pool the batches
        scale = (1 / (len(on) * replay.tree.get(batch.index).double() / total)).max()
        w = batch.weight.double() * scale
        estimates.append(((w * f[batch.index]).sum() / w.sum()).item())
    estimates = np.array(estimates)
    sigma = estimates.std(ddof=1) / np.sqrt(len(estimates))
    assert abs(estimates.mean() - truth) < 3 * sigma + 2e-4  # self-normalised: bias of order 1/B
    unweighted = np.mean([f[replay.sample(256).index].mean().item() for _ in range(400)])
    draw = (f[on] * replay.tree.leaves[on].double()).sum() / total
    assert abs(unweighted - draw.item()) < 5e-3


def test_uniform_draws_are_uniform():
    replay = filled(rows=60, n=3, seed=2)
    on = replay.tree.leaves.nonzero().flatten()
    counts = torch.zeros(replay.capacity)
    draws = 0
    for _ in range(200):
        index = replay.sample(512).index
        counts.index_add_(0, index, torch.ones(len(index)))
        draws += len(index)
    assert counts.sum() == counts[on].sum(), "only drawable rows are drawn"
    expected = draws / len(on)
    chi2 = ((counts[on] - expected) ** 2 / expected).sum().item()
    k = len(on) - 1
    limit = k * (1 - 2 / (9 * k) + 4.75 * (2 / (9 * k)) ** 0.5) ** 3  # Wilson-Hilferty, p = 1e-6
    assert chi2 < limit


def test_rewards_are_clipped_in_the_replay_only():
    replay = ReplayBuffer(10, 1, SPACE, reward_clip=1.0)
    replay.add(step(0, first=True), None)
    for i in range(1, 6):
        replay.add(step(i, reward=-7.0), np.array([0]))
    assert replay.sample(16).reward.eq(-1).all()


def test_the_same_seed_draws_the_same():
    first, second, other = filled(seed=3), filled(seed=3), filled(seed=4)
    index = first.sample(64).index
    assert torch.equal(index, second.sample(64).index)
    assert not torch.equal(index, other.sample(64).index)


def test_too_small_too_early_and_capacity_rounding():
    with pytest.raises(FastDQNError, match=r"replay_capacity = 11 leaves 5 rows.*at least 12"):
        ReplayBuffer(11, 2, SPACE, frame_stack=4)
    assert ReplayBuffer(101, 2, SPACE).capacity == 100
    replay = ReplayBuffer(100, 2, SPACE)
    with pytest.raises(FastDQNError, match="holds 0 rows per env"):
        replay.sample(2)


def test_a_ring_of_mostly_margin_is_warned_about():
    with pytest.warns(UserWarning, match=r"8% of the replay's rows.*each env keeps 50"):
        ReplayBuffer(100, 2, SPACE, n_step=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ReplayBuffer(160, 2, SPACE, n_step=3)


def test_state_goes_round_and_refuses_another_shape():
    replay = filled(prioritized=True, seed=1)
    replay.update_priorities(replay.sample(32).index, torch.rand(32))
    state = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in flat(replay).items()}
    twin = ReplayBuffer(200, 2, SPACE, prioritized=True, seed=9)
    twin.load_state_dict(replay.state_dict())
    a, b = replay.sample(64), twin.sample(64)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(state["generator"], flat(replay)["generator"])
    with pytest.raises(CheckpointError, match="envs"):
        ReplayBuffer(200, 4, SPACE).load_state_dict(replay.state_dict())
    with pytest.raises(CheckpointError, match="observation"):
        ReplayBuffer(300, 2, SPACE).load_state_dict(replay.state_dict())


def flat(replay):
    state = replay.state_dict()
    return {**state.pop("ring"), **state.pop("tree"), **state}


@pytest.mark.parametrize("prioritized", [False, True])
def test_no_tensor_holds_a_stack_outside_a_batch(prioritized):
    space = Box(0, 255, (84, 84), np.uint8)
    replay = ReplayBuffer(4_000, 8, space, frame_stack=4, prioritized=prioritized)
    frames = 4_001 * 84 * 84  # and the zero frame
    assert replay.nbytes() - frames < 4_000 * 25
    assert replay.ring.storage["observation"].shape == (500, 8, 84, 84)
    tensors = [v for v in vars(replay.ring).values() if isinstance(v, torch.Tensor)]
    stored = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    assert sum(stored.values()) < frames * 1.01


class Operations:
    """Random adds, draws and priority writes on a replay, for the property test."""

    def __init__(self, n, stack, n_step, rows, seed):
        self.rng = np.random.default_rng(seed)
        self.n, self.rows = n, rows
        self.replay = ReplayBuffer(
            rows * n, n, SPACE, frame_stack=stack, n_step=n_step, prioritized=True, seed=seed
        )
        self.columns = [[] for _ in range(n)]  # first of every row ever written
        self.stack, self.n_step = stack or 1, n_step
        self.add(first=True)

    def add(self, first=False):
        rng, n = self.rng, self.n
        firsts = np.full(n, True) if first else rng.random(n) < 0.2
        two = rng.random() < 0.5 and not first
        reset = rng.random(n) < 0.3 if two else None
        self.replay.add(
            TimeStep(
                rng.random((n, 1)).astype(np.float32),
                np.ones(n, np.float32),
                rng.random(n) < 0.1,
                rng.random(n) < 0.1,
                firsts,
                rng.random((n, 1)).astype(np.float32) if two else None,
                reset,
            ),
            None if first else rng.integers(0, 3, n),
        )
        for env, column in enumerate(self.columns):
            column.append(bool(firsts[env]))
            if two and reset[env]:
                column.append(True)

    def expected(self):
        found = set()
        for env, column in enumerate(self.columns):
            newest = len(column) - 1
            low = max(0, newest - self.rows + self.stack + 1)
            for row in range(low, newest - self.n_step + 1):
                if not column[row + 1]:
                    found.add(row % self.rows * self.n + env)
        return found


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(1, 4),
    stack=st.sampled_from([None, 1, 2, 4]),
    n_step=st.integers(1, 5),
    spare=st.integers(0, 12),
    seed=st.integers(0, 2**16),
    plan=st.lists(st.sampled_from(["add", "add", "add", "priorities"]), max_size=60),
)
def test_the_drawable_rows_are_those_of_the_rule(n, stack, n_step, spare, seed, plan):
    ops = Operations(n, stack, n_step, (stack or 1) + n_step + 1 + spare, seed)
    for name in plan:
        if name == "add":
            ops.add()
        else:  # any index at all, stale ones too
            index = torch.from_numpy(ops.rng.integers(0, ops.replay.capacity, 16))
            ops.replay.update_priorities(index, torch.from_numpy(ops.rng.random(16)).float())
        assert set(ops.replay.tree.leaves.nonzero().flatten().tolist()) == ops.expected()
    ops.replay.tree.check_valid()
    if ops.expected() and ops.replay._rows_added >= n_step + 2:
        assert set(ops.replay.sample(32).index.tolist()) <= ops.expected()


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("prioritized", [False, True])
def test_the_short_way_of_adding_a_row_equals_the_general_one(n_step, prioritized, monkeypatch):
    def run(general):
        replay = ReplayBuffer(
            45, 3, Box(-9, 9, (2,), np.float32), frame_stack=2, n_step=n_step,
            prioritized=prioritized,
        )  # fmt: skip
        if general:
            monkeypatch.setattr(
                replay._way, "add_row", lambda replay, row: add_rows(replay, row, [])
            )
        g = np.random.default_rng(4)
        for i in range(60):  # four times around
            first = g.random(3) < (1.0 if i == 0 else 0.2)
            step = TimeStep(
                g.standard_normal((3, 2), dtype=np.float32),
                np.where(first, 0, g.standard_normal(3)).astype(np.float32),
                (g.random(3) < 0.2) & ~first,
                (g.random(3) < 0.2) & ~first,
                first,
            )
            replay.add(step, None if i == 0 else g.integers(0, 3, 3))
            if prioritized and i > 10:
                batch = replay.sample(4)
                replay.update_priorities(batch.index, torch.rand(4) + i)
            yield (
                replay.latest(),
                *(t.clone() for t in replay.tree.tensors()),
                replay.cursor.clone(),
            )

    torch.manual_seed(0)
    short = list(run(general=False))
    torch.manual_seed(0)
    for own, other in zip(short, run(general=True), strict=True):
        for a, b in zip(own, other, strict=True):  # a power may be rounded apart in a loop
            torch.testing.assert_close(a, b, rtol=1e-6, atol=0.0)
