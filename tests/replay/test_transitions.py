"""Transitions handed to a replay one by one and in bulk come out as they went in."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from helpers.capture_laws import CaptureLaws
from helpers.capture_parts import capture_on_tape
from helpers.tape import TapedStep
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdqn import Batch, FastDQNError, ReplayBuffer, TimeStep
from fastdqn.replay import transitions
from fastdqn.replay.transitions import add_transition

pytestmark = pytest.mark.usefixtures("both_ways")

SPACE = Box(-np.inf, np.inf, (2,), np.float32)
GAMMA = 0.9
NAMES = ("observation", "action", "reward", "next_observation", "terminated", "truncated")


class Games:
    """Transitions [L, N] of made-up games, every frame unlike any other: (env, number)."""

    def __init__(self, length, n, seed, *, ends=0.2, jumps=0.0):
        g = np.random.default_rng(seed)
        self.n, self.length = n, length
        shape = (length, n)
        self.action = g.integers(0, 5, shape)
        self.reward = g.standard_normal(shape).astype(np.float32)
        self.terminated = g.random(shape) < ends / 2
        self.truncated = (g.random(shape) < ends / 2) & ~self.terminated
        # Somebody restarted an env without telling: the next observation is another frame.
        self.jumps = g.random(shape) < jumps
        self.observation = np.zeros((*shape, 2), np.float32)
        self.next_observation = np.zeros((*shape, 2), np.float32)
        for env in range(n):
            number = 0
            for t in range(length):
                if t == 0 or self.new(t, env):
                    number += 1
                self.observation[t, env] = env, number
                number += 1
                self.next_observation[t, env] = env, number

    def new(self, t, env):
        """Whether transition t does not go on where the one before it led."""
        return t == 0 or bool(
            self.terminated[t - 1, env] or self.truncated[t - 1, env] or self.jumps[t - 1, env]
        )

    def at(self, t):
        return [getattr(self, name)[t] for name in NAMES]

    def all(self, start=0, stop=None):
        return [getattr(self, name)[start:stop] for name in NAMES]

    def expected(self, t, env, n_step, stack, repeats):
        """What a draw of transition t holds, in plain words; None: not all of it is there yet."""
        stop = t
        while not self.terminated[stop, env] and not self.truncated[stop, env]:
            last = stop + 1 == self.length or self.new(stop + 1, env)
            if stop - t + 1 == n_step or last:
                break
            stop += 1
        reward = sum(GAMMA ** (i - t) * float(self.reward[i, env]) for i in range(t, stop + 1))
        discount = 0.0 if self.terminated[stop, env] else GAMMA ** (stop - t + 1)
        frames = [self.observation[t, env]]
        start = t
        while not self.new(start, env):
            start -= 1
            frames.insert(0, self.observation[start, env])
        after = [*frames, *(self.next_observation[i, env] for i in range(t, stop + 1))]

        def stacked(frames):
            missing = [frames[0] if repeats else np.zeros(2)] * max(0, stack - len(frames))
            return np.stack([*missing, *frames][-stack:])

        return stacked(frames), int(self.action[t, env]), reward, discount, stacked(after)


def replay_of(games, *, n_step=1, stack=None, padding="zero", rows=None, **kwargs):
    rows = rows or 2 * games.length + 20
    return ReplayBuffer(
        rows * games.n, games.n, SPACE, frame_stack=stack, stack_padding=padding, n_step=n_step,
        gamma=GAMMA, **kwargs,
    )  # fmt: skip


def drawn(replay):
    """Every transition that may be drawn, by (env, number of its newest frame)."""
    index = replay.tree.leaves.nonzero().flatten()
    batch = replay.gather(index)
    assert len(replay) == int(replay.drawable) == len(index)
    stack = replay.frame_stack
    found = {}
    for i in range(len(index)):
        s, following = (
            part[i] if stack else part[i][None] for part in (batch.observation, batch[4])
        )
        key = tuple(int(x) for x in s[-1])
        assert key not in found
        found[key] = (
            s,
            int(batch.action[i]),
            float(batch.reward[i]),
            float(batch.discount[i]),
            (following),
        )
    return found


def check(replay, games, *, length=None, given_in=None):
    """All that is drawable equals what was given, and all but the newest n are drawable."""
    length = games.length if length is None else length
    n_step, stack = replay.n_step, replay.frame_stack or 1
    repeats = replay.stack_padding == "repeat"
    expected = {}
    for env in range(games.n):
        given = [t for t in range(length) if given_in is None or given_in[t, env]]
        for t in given:
            key = tuple(int(x) for x in games.observation[t, env])
            expected[key] = games.expected(t, env, n_step, stack, repeats)
    found = drawn(replay)
    assert set(found) <= set(expected)
    for key, (s, action, reward, discount, following) in found.items():
        want = expected[key]
        np.testing.assert_array_equal(s, want[0])
        assert action == want[1]
        assert reward == pytest.approx(want[2], rel=1e-5, abs=1e-6)
        assert discount == pytest.approx(want[3], rel=1e-6)
        np.testing.assert_array_equal(following, want[4])
    return len(expected) - len(found)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 4),
    length=st.integers(1, 30),
    stack=st.sampled_from([None, 1, 3]),
    padding=st.sampled_from(["zero", "repeat"]),
    n_step=st.integers(1, 4),
    jumps=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 2**16),
)
def test_one_by_one_they_come_out_as_they_went_in(n, length, stack, padding, n_step, jumps, seed):
    games = Games(length, n, seed, jumps=jumps)
    replay = replay_of(games, n_step=n_step, stack=stack, padding=padding, prioritized=True)
    for t in range(length):
        replay.add_transition(*games.at(t))
    replay.tree.check_valid()
    missing = check(replay, games)
    # Each waits for n rows; a row of s behind an end is one of them.
    assert n * (n_step - 1) >= missing
    if n_step == 1:
        assert missing == 0


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 3),
    length=st.integers(0, 60),
    parts=st.lists(st.integers(0, 60), max_size=3),
    stack=st.sampled_from([None, 3]),
    n_step=st.integers(1, 4),
    rows=st.integers(9, 40),
    jumps=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 2**16),
)
def test_in_bulk_the_replay_is_the_same(n, length, parts, stack, n_step, rows, jumps, seed):
    """Row by row, leaf by leaf, also where the ring goes round several times."""
    games = Games(length, n, seed, jumps=jumps)
    one, bulk = (
        replay_of(games, n_step=n_step, stack=stack, rows=rows, prioritized=True) for _ in range(2)
    )
    starts = []
    for t in range(length):
        one.add_transition(*games.at(t))
        starts.append(one._index(one.cursor - 1))
    cuts = sorted({0, length, *(min(part, length) for part in parts)})
    index = [bulk.extend(*games.all(a, b)) for a, b in pairwise(cuts)]
    if length:
        assert torch.equal(torch.cat(index), torch.stack(starts))
    assert torch.equal(one.cursor, bulk.cursor)
    assert torch.equal(one.tree.leaves > 0, bulk.tree.leaves > 0)
    assert torch.allclose(one.tree.leaves, bulk.tree.leaves)
    bulk.tree.check_valid()
    on = one.tree.leaves.nonzero().flatten()
    for a, b in zip(one.gather(on), bulk.gather(on), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(one.latest(), bulk.latest())
    assert one._rows_added <= int(one.cursor.min()) + 1 == max(bulk._rows_added, 0)


def test_what_two_transitions_share_is_stored_once():
    games = Games(40, 1, 0, ends=0.0)
    replay = replay_of(games)
    for t in range(40):
        replay.add_transition(*games.at(t))
    assert int(replay.cursor) == 40  # 41 rows for 40 transitions
    ending = Games(40, 1, 0, ends=0.5)
    replay = replay_of(ending)
    replay.extend(*ending.all())
    ends = int((ending.terminated | ending.truncated)[:-1].sum())
    assert int(replay.cursor) == 40 + ends


def test_by_hand():
    """Two games of two and one steps; gamma 0.5, n = 2."""
    replay = ReplayBuffer(20, 1, Box(0, 9, (1,), np.float32), n_step=2, gamma=0.5)
    s, following = (np.array(x, np.float32)[:, None] for x in ([0, 1, 5, 6], [1, 2, 6, 7]))
    ends = np.array([False, True, False, False])
    no = np.zeros(4, bool)
    reward = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    index = replay.extend(s, np.arange(4), reward, following, ends, no)
    assert index.tolist() == [0, 1, 3, 4]  # rows 0 1 2, then 5 6 7 as rows 3 4 5
    batch = replay.gather(index[:3])
    assert batch.observation.flatten().tolist() == [0, 1, 5]
    assert batch.action.tolist() == [0, 1, 2]
    assert batch.reward.tolist() == [2.0, 2.0, 5.0]  # 1 + 2/2, 2, 3 + 4/2
    assert batch.discount.tolist() == [0.0, 0.0, 0.25]
    assert batch.next_observation.flatten().tolist() == [2, 2, 7]
    assert batch.weight.tolist() == [1, 1, 1] and batch.index is not None
    with pytest.raises(FastDQNError, match="row 4, which starts no transition"):
        replay.gather(index[3:])


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("rows", [140, 9])
def test_envs_that_are_left_out_stay_as_they_are(rows, n_step):
    """Also where the ring goes round several times."""
    g = np.random.default_rng(3)
    games = Games(60, 3, 3)
    mask = g.random((60, 3)) < 0.6
    # What is masked out never happened: give the next one of that env its place.
    given, at = np.zeros((60, 3), bool), np.zeros(3, int)
    replay = replay_of(games, n_step=n_step, rows=rows, prioritized=True)
    alone = [replay_of(Games(1, 1, 0), n_step=n_step, rows=rows) for _ in range(3)]
    for t in range(60):
        row = [np.stack([part[at[env], env] for env in range(3)]) for part in games.all()]
        replay.add_transition(*row, mask=mask[t])
        for env in np.flatnonzero(mask[t]):
            alone[env].add_transition(*(part[at[env], env][None] for part in games.all()))
            given[at[env], env] = True
            at[env] += 1
        on = replay.tree.leaves.nonzero().flatten()
        if len(on) > 4:  # a written priority stays
            replay.update_priorities(on[:4], torch.full((4,), 0.25))
            assert torch.allclose(replay.tree.get(on[:4]), torch.tensor(0.25 + 1e-6) ** 0.6)
        assert len(replay) == sum(map(len, alone))
        assert replay._rows_added <= int(replay.cursor.min()) + 1
    assert check(replay, games, given_in=given) <= 3 * (n_step - 1) or rows == 9
    assert replay.cursor.tolist() == [int(one.cursor) for one in alone]


def test_rows_and_transitions_may_alternate():
    games = Games(6, 2, 5, ends=0.0)
    replay, n = replay_of(games), 2
    no = np.zeros(n, bool)
    replay.add(TimeStep(games.observation[0], np.zeros(n, np.float32), no, no, ~no), None)
    for t in range(6):
        if t % 2:
            replay.add_transition(*games.at(t))
        else:
            row = TimeStep(games.next_observation[t], games.reward[t], no, no, no)
            replay.add(row, games.action[t])
    assert check(replay, games) == 0 and len(replay) == 12


def test_tensors_other_dtypes_and_files_will_do(tmp_path):
    games = Games(30, 1, 1)
    first, second, third = (replay_of(games) for _ in range(3))
    for t in range(30):
        first.add_transition(*games.at(t))
        second.add_transition(*map(torch.from_numpy, games.at(t)))
    files = []
    for name, array in zip(NAMES, games.all(), strict=True):
        wide = array.astype(np.float64) if name in ("observation", "reward") else array
        np.save(tmp_path / f"{name}.npy", wide[:, 0])
        files.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    third.extend(*files)
    for other in (second, third):
        for name, value in first.ring.state_dict().items():
            assert torch.equal(value, other.ring.state_dict()[name]), name


def test_images_and_scalars_are_frames_too():
    for shape in ((), (1, 6, 6)):
        space = Box(0, 255, shape, np.uint8)
        replay = ReplayBuffer(40, 2, space, frame_stack=2)
        g = np.random.default_rng(0)
        s = g.integers(0, 256, (6, 2, *shape), dtype=np.uint8)
        no, zeros = np.zeros((5, 2), bool), np.zeros((5, 2))
        index = replay.extend(s[:-1], zeros.astype(int), zeros, s[1:], no, no)
        batch = replay.gather(index.flatten())
        assert torch.equal(batch.observation[:, -1], torch.from_numpy(s[:-1]).flatten(0, 1))
        assert torch.equal(batch.next_observation[:, -1], torch.from_numpy(s[1:]).flatten(0, 1))
        assert torch.equal(batch.next_observation[:, 0], batch.observation[:, 1])


def test_empty_again():
    games = Games(20, 2, 0)
    replay = replay_of(games, prioritized=True)
    assert len(replay) == 0 and replay  # empty, but there
    replay.extend(*games.all())
    replay.update_priorities(replay.tree.leaves.nonzero().flatten()[:3], torch.full((3,), 9.0))
    before = drawn(replay)
    replay.clear()
    assert len(replay) == 0 and replay.max_priority == 1 and not replay.tree.leaves.any()
    with pytest.raises(FastDQNError, match="holds 0 rows"):
        replay.sample(2)
    replay.extend(*games.all())
    assert drawn(replay).keys() == before.keys()
    assert isinstance(replay.sample(4), Batch)
    assert replay.storage["action"].shape == (replay.rows, 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int32])
def test_numbers_of_any_kind_will_do(dtype):
    """They are compared, clipped and kept as float32: 0.1 is another number in float64."""
    one, bulk = (ReplayBuffer(60, 2, SPACE, reward_clip=0.8) for _ in range(2))
    frames = (torch.arange(6, dtype=torch.float64) + 0.1).to(dtype)[:, None, None].expand(6, 2, 2)
    if dtype.is_floating_point:
        frames = frames.clone().requires_grad_()
    no, reward = torch.zeros((4, 2), dtype=torch.bool), torch.ones((4, 2)).to(dtype)
    for t in range(4):
        one.add_transition(frames[t], no[t].int(), reward[t], frames[t + 1], no[t], no[t])
    bulk.extend(frames[:4], no.int(), reward, frames[1:5].float(), no, no)
    for replay in (one, bulk):
        replay.add(TimeStep(frames[5], reward[0], no[0], no[0], no[0]), no[0].int())
        assert replay.cursor.tolist() == [5, 5]
        assert torch.equal(replay.storage["observation"][:6], frames.detach().float())
        assert torch.equal(replay.storage["reward"][1:6], torch.full((5, 2), 0.8))


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_an_end_is_one_though_the_next_episode_starts_where_it_was(end):
    one, parts, bulk = (ReplayBuffer(60, 1, SPACE) for _ in range(3))
    s, no = np.zeros((5, 1, 2), np.float32), np.zeros((5, 1), bool)
    flags = {"terminated": no, "truncated": no, end: np.array([[0], [1], [0], [1], [1]], bool)}
    arrays = [s, no.astype(int), no.astype(np.float32), s, *flags.values()]
    for t in range(5):
        one.add_transition(*(array[t] for array in arrays))
    for start, stop in ((0, 2), (2, 5)):
        parts.extend(*(array[start:stop] for array in arrays))
    bulk.extend(*arrays)
    for replay in (one, parts, bulk):
        assert int(replay.cursor) == 7
        assert replay.storage["first"][:8, 0].nonzero().flatten().tolist() == [0, 3, 6]


def test_axes_of_one_may_run_backwards():
    games = Games(1, 1, 0)
    replay = replay_of(games)
    replay.extend(*(part[:, ::-1][::-1] for part in games.all()))
    assert check(replay, games) == 0 and len(replay) == 1


def test_a_copy_goes_its_own_way():
    games = Games(40, 2, 3)
    replay = replay_of(games, n_step=2, prioritized=True)
    for t in range(20):
        replay.add_transition(*games.at(t))
    other = copy.deepcopy(replay)
    other.update_priorities(other.tree.leaves.nonzero().flatten()[:3], torch.full((3,), 9.0))
    assert replay.max_priority == 1 and other.max_priority == 9
    for t in range(20, 40):
        other.add_transition(*games.at(t))
    other.tree.check_valid()
    check(replay, games, length=20)
    check(other, games)
    assert len(other) > len(replay)
    for t in range(20, 40):
        replay.add_transition(*games.at(t))
    assert torch.equal(replay.tree.leaves > 0, other.tree.leaves > 0)


# --- as on a GPU ---------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 10])
@pytest.mark.parametrize("masked", [False, True])
def test_captured_or_not_the_replay_is_the_same(masked, start, both_ways, monkeypatch):
    if both_ways == "loops":
        pytest.skip("nothing is captured")
    games = Games(50, 2, 1, jumps=0.1)
    g = np.random.default_rng(0)
    masks = [{"mask": g.random(2) < 0.7} if masked else {} for _ in range(50)]
    plain = replay_of(games, n_step=2, stack=2, prioritized=True)
    capture_on_tape(monkeypatch)
    made = TapedStep.made
    captured = replay_of(games, n_step=2, stack=2, prioritized=True, mode="graph")
    for t in range(start):  # so that the capture is in mid-episode
        plain.add_transition(*games.at(t), **masks[t])
    captured.load_state_dict(plain.state_dict())
    for t in range(start, 50):
        plain.add_transition(*games.at(t), **masks[t])
        captured.add_transition(*games.at(t), **masks[t])
    assert TapedStep.made - made == 1
    for name, value in plain.state_dict()["ring"].items():
        assert torch.equal(value, captured.ring.state_dict()[name]), name
    assert torch.equal(plain.tree.leaves, captured.tree.leaves)
    assert torch.equal(plain.cursor, captured.cursor) and int(plain.cursor.min()) > 30


@pytest.mark.parametrize("masked", [False, True])
def test_adding_keeps_the_laws_of_capture(masked, both_ways):
    if both_ways == "loops":
        pytest.skip("nothing is captured")
    games = Games(20, 2, 1, ends=0.4)
    replay = replay_of(games, n_step=3, stack=2, prioritized=True)
    parts = [[torch.from_numpy(part) for part in games.at(t)] for t in range(20)]
    for t in range(10):
        replay.add_transition(*parts[t])
    mask = (torch.tensor([True, False]),) if masked else ()
    with CaptureLaws() as laws:
        for t in range(10, 20):
            add_transition(replay, *parts[t], *mask)
    assert laws.broken == [] and laws.operators > 100


# --- planted faults --------------------------------------------------------------------------


def _never_anew(replay, observation):
    return replay.cursor < 0


def _always_anew(replay, observation):
    return torch.ones_like(replay.cursor, dtype=torch.bool)


@pytest.mark.parametrize("fault", [_never_anew, _always_anew])
def test_a_planted_fault_is_found(fault, monkeypatch):
    monkeypatch.setattr(transitions, "_starts_anew", fault)
    games = Games(40, 2, 0, ends=0.3)
    replay = replay_of(games, stack=3)
    replay._loops = None
    try:
        for t in range(40):
            replay.add_transition(*games.at(t))
        check(replay, games)
        found = int(replay.cursor[0]) != 40 + int(
            (games.terminated | games.truncated)[:-1, 0].sum()
        )
    except AssertionError:
        found = True
    assert found


@pytest.mark.parametrize("stack", [None, 3])
def test_as_many_as_fit_into_the_rows_that_the_docstring_names(stack):
    games = Games(50, 1, 4, ends=0.2)
    episodes = 1 + int((games.terminated | games.truncated)[:-1].sum())
    for spare, lost in ((0, 0), (-1, 1)):
        replay = replay_of(games, stack=stack, rows=50 + episodes + (stack or 1) + spare)
        replay.extend(*games.all())
        assert len(replay) == 50 - lost
