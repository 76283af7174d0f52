"""The replay for SB3's DQN against SB3's own: the same stream into both, the same transitions out.

Statements after Stable-Baselines3's tests of its buffers; docs/backend/sb3.md lists them.
"""

import itertools
from copy import deepcopy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers.stable_envs import ACTIONS, Counted, counted
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import fastdqn
from fastdqn.integrations.sb3 import FrameReplayBuffer
from fastdqn.integrations.sb3.stack_layout import StackLayout

ACTION = spaces.Discrete(ACTIONS)


def both(envs, steps, theirs=ReplayBuffer, buffer_size=None, **options):
    """What SB3's own loop hands to a buffer, in SB3's and in ours."""
    pair = []

    class Both(theirs):
        def __init__(self, size, *args, optimize_memory_usage=False, **more):
            super().__init__(size, *args, **more)
            more.pop("handle_timeout_termination", None)
            shared = {k: v for k, v in more.items() if k in ("device", "n_envs")}
            pair.append(FrameReplayBuffer(buffer_size or size, *args, **shared, **options))

        def add(self, *transition):
            super().add(*transition)
            pair[0].add(*transition)

    model = DQN("MlpPolicy", envs, learning_starts=10**6, buffer_size=4096, seed=1, device="cpu",
                replay_buffer_class=Both, policy_kwargs={"net_arch": [2]})  # fmt: skip
    model.learn(steps)
    return model.replay_buffer, pair[0]


def held(ours, env=None):
    """Every transition that ours may draw."""
    rows = (ours.replay.tree.leaves > 0).nonzero().squeeze(1).numpy()
    return ours._get_samples(rows, env)


def table(theirs, timeouts=True):
    """Theirs by the bytes of the observation, which are no other one's: naive, one by one."""
    found = {}
    for t, e in itertools.product(range(theirs.pos), range(theirs.n_envs)):
        done = theirs.dones[t, e] * (1 - theirs.timeouts[t, e] if timeouts else 1)
        found[theirs.observations[t, e].tobytes()] = (
            theirs.actions[t, e], theirs.next_observations[t, e], [done], [theirs.rewards[t, e]]
        )  # fmt: skip
    return found


def differences(samples, wanted):
    """How many transitions are not the wanted ones, exactly."""
    wrong = 0
    for seen, action, following, done, reward, *_ in zip(*samples[:5], strict=True):
        for got, want in zip((action, following, done, reward), wanted[seen.numpy().tobytes()],
                             strict=True):  # fmt: skip
            if not np.array_equal(got.numpy(), np.asarray(want, got.numpy().dtype)):
                wrong += 1
                break
    return wrong


CASES = {
    "grey stack": (lambda n: counted(n), 4),
    "grey stack, channels last": (lambda n: counted(n, transposed=False), 4),
    "colour stack": (lambda n: counted(n, (16, 16, 3)), 4),
    "colour image": (lambda n: counted(n, (16, 16, 3), stack=1), None),
    "vector": (lambda n: counted(n, (5,), stack=1), None),
    "vector stack": (lambda n: counted(n, (5,), stack=3), 3),
}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_transitions_are_those_of_sb3s_buffer(name, n):
    make, stack = CASES[name]
    envs = make(n)
    if "last" in name:  # SB3's DQN would transpose them: its loop by hand
        theirs, ours = by_hand(envs, 50)
    else:
        options = {"frame_stack": stack} if "vector stack" in name else {}
        theirs, ours = both(envs, 50 * n, **options)
    layout = ours.layout
    assert (None if layout is None else layout.frame_stack) == stack
    samples = held(ours)
    assert len(samples.actions) == ours.size() * n == theirs.size() * n
    assert differences(samples, table(theirs)) == 0
    # Ends of both kinds were among them.
    assert 0 < samples.dones.sum() < theirs.dones.sum()
    for got, want in zip(ours.sample(7), theirs.sample(7), strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            assert got.dtype == want.dtype and got.shape == want.shape and got.device == want.device


def by_hand(envs, steps):
    arguments = {"device": "cpu", "n_envs": envs.num_envs}
    theirs = ReplayBuffer(4096, envs.observation_space, ACTION, **arguments)
    ours = FrameReplayBuffer(4096, envs.observation_space, ACTION, **arguments)
    rng = np.random.default_rng(0)
    seen = np.array(envs.reset())
    for _ in range(steps):
        actions = rng.integers(0, ACTIONS, envs.num_envs)
        following, rewards, dones, infos = envs.step(actions)
        last = np.array(following)
        for env in np.flatnonzero(dones):
            last[env] = infos[env]["terminal_observation"]
        for buffer in (theirs, ours):
            buffer.add(seen, last, actions, rewards, dones, infos)
        seen = np.array(following)
    return theirs, ours


def test_a_difference_is_seen(monkeypatch):
    """Planted faults: ends by time that count as ends, the wrong frame of a stack."""
    theirs, ours = both(counted(2), 60, handle_timeout_termination=False)
    assert differences(held(ours), table(theirs)) > 0
    assert differences(held(ours), table(theirs, timeouts=False)) == 0
    monkeypatch.setattr(StackLayout, "newest", lambda self, x: x[:, -2])
    theirs, ours = both(counted(2), 60)
    with pytest.raises(KeyError):
        differences(held(ours), table(theirs))


def test_the_ring_keeps_the_newest_transitions():
    theirs, ours = both(counted(2), 400, buffer_size=80)
    samples, wanted = held(ours), table(theirs)
    assert differences(samples, wanted) == 0
    kept = [seen.numpy().tobytes() for seen in samples.observations]
    order = list(wanted)
    # Per env the newest ones without a gap; a reset has taken the place of one of 40 each.
    for env in range(2):
        own = order[env::2]
        count = sum(key in kept for key in own)
        assert all(key in kept for key in own[-count:])
        resets = int(theirs.dones[: theirs.pos][-count:, env].sum())
        assert 40 - resets - 1 <= count <= 40 - resets + 1 < 40
    assert ours.full and ours.pos == 200 % 40 and ours.buffer_size == 40


def test_draws_cover_what_is_held_and_nothing_else():
    _, ours = both(counted(2), 40)
    every = {seen.numpy().tobytes() for seen in held(ours).observations}
    drawn = {seen.numpy().tobytes() for seen in ours.sample(2000).observations}
    assert drawn == every and len(every) == 40


def test_n_step_returns_are_those_of_sb3s_n_step_buffer():
    theirs, ours = both(counted(1), 80, NStepReplayBuffer, n_steps=3, gamma=0.9)
    theirs.n_steps, theirs.gamma = 3, 0.9
    wanted = theirs._get_samples(np.arange(theirs.pos - 2))
    samples = held(ours)
    places = {seen.numpy().tobytes(): i for i, seen in enumerate(wanted.observations)}
    at = [places[seen.numpy().tobytes()] for seen in samples.observations]
    assert sorted(at) == list(range(theirs.pos - 2))
    for name in ("actions", "next_observations", "dones"):
        assert torch.equal(getattr(samples, name), getattr(wanted, name)[at]), name
    torch.testing.assert_close(samples.rewards, wanted.rewards[at].float())
    goes_on = 1 - samples.dones
    torch.testing.assert_close(samples.discounts, (wanted.discounts[at] * goes_on).float())
    assert set(samples.discounts.unique().tolist()) >= {0.0}
    assert samples.discounts.shape == (len(at), 1)


@pytest.mark.parametrize(("n", "end", "by_time"), [(3, 1, False), (5, 2, True), (3, 99, False)])
def test_n_step_returns_by_hand(n, end, by_time):
    """Rewards of 1: the return stops at an end, which bootstraps where time ended it."""
    buffer = FrameReplayBuffer(20, spaces.Box(0, 99, (1,), np.float32), ACTION, device="cpu",
                               n_steps=n, gamma=0.5)  # fmt: skip
    for k in range(10):
        seen = np.array([[k]], np.float32)
        over = np.array([k == end])
        buffer.add(seen, seen + 1, np.zeros(1, int), np.ones(1), over,
                   [{"TimeLimit.truncated": bool(over[0] and by_time)}])  # fmt: skip
    samples = held(buffer)
    for seen, following, done, reward, discount in zip(
        samples.observations, samples.next_observations, samples.dones, samples.rewards,
        samples.discounts, strict=True,
    ):  # fmt: skip
        start = int(seen)
        steps = min(n, end - start + 1) if start <= end else n
        stopped = start <= end < start + n and not by_time
        assert int(following) == start + steps and reward == 2 - 2 * 0.5**steps
        assert done == stopped and discount == (0 if stopped else 0.5**steps)
    assert len(samples.rewards) == 10 - n + 1


@pytest.mark.parametrize("shape", [(5,), (8, 8, 1)])
def test_vec_normalize_normalises_what_is_drawn(shape):
    envs = VecNormalize(counted(2, shape, stack=1 if len(shape) == 1 else 4),
                        norm_obs=len(shape) == 1)  # fmt: skip
    theirs, ours = both(envs, 80)
    raw, samples = held(ours), held(ours, envs)
    wanted = {
        key: (action, envs.normalize_obs(following), done,
              envs.normalize_reward(np.array(reward)).astype(np.float32))
        for key, (action, following, done, reward) in table(theirs).items()
    }  # fmt: skip
    assert differences(samples._replace(observations=raw.observations), wanted) == 0
    seen = envs.normalize_obs(raw.observations.numpy())
    assert np.array_equal(samples.observations.numpy(), seen)
    assert samples.observations.dtype == torch.from_numpy(seen).dtype


def test_statistics_of_normalised_draws():
    envs = VecNormalize(DummyVecEnv([lambda: Counted(0, (3,))]))
    _, ours = both(envs, 100)
    samples = ours.sample(200, envs)
    for part in (samples.observations, samples.next_observations, samples.rewards):
        assert (part.mean(0).abs() < 1).all()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64",
                                   "int64", "float16", "float32", "float64"])  # fmt: skip
def test_observations_come_back_in_the_dtype_of_their_space(dtype):
    space = spaces.Box(0, 100, (2,), np.dtype(dtype))
    buffer = FrameReplayBuffer(4, space, spaces.Discrete(10), device="cpu")
    seen = np.array([[3, 100]], dtype)
    buffer.add(seen, seen + 0, np.array([9]), np.array([1.5]), np.array([False]), [{}])
    sample = buffer.sample(3)
    assert sample.observations.numpy().dtype == sample.next_observations.numpy().dtype == dtype
    assert (sample.observations.numpy() == seen).all()
    assert sample.actions.dtype == torch.int64 and sample.actions.tolist() == [[9]] * 3


@pytest.mark.parametrize(
    "space", [spaces.Discrete(6), spaces.MultiDiscrete([4, 5]), spaces.MultiBinary(3)]
)
def test_categories_and_switches(space):
    theirs, ours = (
        kind(40, space, spaces.Discrete(2, start=5), device="cpu", n_envs=2)
        for kind in (ReplayBuffer, FrameReplayBuffer)
    )
    space.seed(0)
    for _ in range(8):
        seen, following = (np.array([space.sample() for _ in range(2)]) for _ in range(2))
        for buffer in (theirs, ours):
            buffer.add(seen, following, np.array([5, 6]), np.ones(2), np.array([True, False]),
                       [{}, {}])  # fmt: skip
    rows = lambda b: sorted(zip(*(x.flatten(1).tolist() for x in b[:5]), strict=True))  # noqa: E731
    every = [theirs.observations, theirs.actions, theirs.next_observations, theirs.dones,
             theirs.rewards]  # fmt: skip
    flat = [torch.as_tensor(x[:8].reshape(16, -1)) for x in every]
    # Each env's last transition but one is followed by another observation: a reset of its own.
    assert rows(held(ours)) == rows(flat)
    assert held(ours).observations.dtype == theirs.sample(1).observations.dtype


def test_a_reset_from_outside_starts_an_episode():
    """As when learn() is called again: nothing has ended, and the stack starts anew."""
    buffer = FrameReplayBuffer(20, spaces.Box(0, 255, (2, 4, 4), np.uint8), ACTION, device="cpu")
    frame = lambda k: np.full((4, 4), k, np.uint8)  # noqa: E731

    def add(before, following):
        stacks = [np.stack([frame(k) for k in pair])[None] for pair in (before, following)]
        buffer.add(*stacks, np.zeros(1, int), np.ones(1), np.zeros(1, bool), [{}])

    add((0, 1), (1, 2))
    add((1, 2), (2, 9))
    add((0, 9), (9, 3))  # the same newest frame as the last one
    seen = {tuple(x[:, 0, 0].tolist()) for x in held(buffer).observations}
    following = {tuple(x[:, 0, 0].tolist()) for x in held(buffer).next_observations}
    assert seen == {(0, 1), (1, 2), (0, 9)} and following == {(1, 2), (2, 9), (9, 3)}
    assert not held(buffer).dones.any()


def test_repeated_first_frames_need_no_zeros():
    space = spaces.Box(0, 255, (3, 4, 4), np.uint8)
    buffer = FrameReplayBuffer(20, space, ACTION, device="cpu", stack_padding="repeat")
    seen = np.full((1, 3, 4, 4), 7, np.uint8)
    following = seen.copy()
    following[:, -1] = 8
    buffer.add(seen, following, np.zeros(1, int), np.ones(1), np.array([True]), [{}])
    sample = buffer.sample(1)
    assert (sample.observations.numpy() == seen).all()
    assert (sample.next_observations.numpy() == following).all()


@pytest.mark.parametrize("shape", [(8, 8, 1), (5,)])
def test_a_pickle_of_sb3s_holds_the_rows_and_goes_on(tmp_path, shape):
    envs = counted(2, shape, stack=4 if len(shape) == 3 else 1)
    _, ours = both(envs, 60)
    save_to_pkl(tmp_path / "replay", ours)
    size = (tmp_path / "replay.pkl").stat().st_size
    assert size < ours.nbytes() / 10  # 60 of 4096 transitions
    copy = load_from_pkl(tmp_path / "replay")
    assert (copy.pos, copy.full, copy.size()) == (ours.pos, ours.full, ours.size())
    seen = held(ours).next_observations[-2:]
    assert seen.shape[0] == 2
    for _ in range(2):  # the same draws, too
        for got, want in zip(copy.sample(16), ours.sample(16), strict=True):
            assert got is want is None or torch.equal(got, want)
    transition = _one_more(ours)
    for buffer in (ours, copy):
        buffer.add(*transition)
    for got, want in zip(held(copy), held(ours), strict=True):
        assert got is want is None or torch.equal(got, want)


def _one_more(buffer):
    """A transition that starts an episode."""
    shape = (2, *buffer.obs_shape)
    seen = np.zeros(shape, buffer.observation_space.dtype)
    return seen, seen, np.zeros(2, int), np.ones(2), np.zeros(2, bool), [{}, {}]


def test_a_state_without_pickle_restores_in_place(tmp_path):
    from fastdqn.checkpoints.store import load_checkpoint, save_checkpoint

    _, ours = both(counted(2), 60)
    path = save_checkpoint(tmp_path, 0, {"replay": ours.state_dict()}, 1)
    copy = FrameReplayBuffer(4096, ours.observation_space, ACTION, device="cpu", n_envs=2)
    copy.load_state_dict(load_checkpoint(path)["replay"])
    for got, want in zip(held(copy), held(ours), strict=True):
        assert got is want is None or torch.equal(got, want)
    with pytest.raises(fastdqn.CheckpointError, match="num_envs"):
        FrameReplayBuffer(4096, ours.observation_space, ACTION, n_envs=1).load_state_dict(
            load_checkpoint(path)["replay"]
        )


def test_sb3_saves_and_loads_it_with_its_model(tmp_path):
    def model():
        kwargs = {"replay_buffer_class": FrameReplayBuffer, "policy_kwargs": {"net_arch": [4]}}
        envs = counted(2)
        return DQN("MlpPolicy", envs, learning_starts=20, buffer_size=200, device="cpu", **kwargs)

    first = model().learn(60)
    assert first._n_updates > 0
    first.save_replay_buffer(tmp_path / "replay.pkl")
    second = model()
    second.load_replay_buffer(tmp_path / "replay.pkl")
    assert second.replay_buffer.size() == first.replay_buffer.size()
    second.learn(40)
    second.learn(40, reset_num_timesteps=False)
    assert deepcopy(second.replay_buffer).size() == second.replay_buffer.size()
    assert second.replay_buffer.pos == 32 + 20 + 20  # in whole phases of 4 steps


def test_reset_forgets():
    _, ours = both(counted(2), 40)
    ours.reset()
    assert ours.size() == ours.pos == 0 and not ours.full
    with pytest.raises(fastdqn.FastDQNError, match="add more steps"):
        ours.sample(1)
    transition = _one_more(ours)
    ours.add(*transition)
    assert ours.size() == 1


def test_extend_is_add_in_order():
    space = spaces.Box(-1, 1, (2,), np.float32)
    one, other = (FrameReplayBuffer(20, space, ACTION, device="cpu", seed=0) for _ in range(2))
    seen = np.random.default_rng(0).random((6, 1, 2)).astype(np.float32)
    columns = [seen[:-1], seen[1:], np.zeros((5, 1), int), np.ones((5, 1)), np.zeros((5, 1), bool),
               [[{}]] * 5]  # fmt: skip
    one.extend(*columns)
    for transition in zip(*columns, strict=True):
        other.add(*transition)
    for got, want in zip(held(one), held(other), strict=True):
        assert got is want is None or torch.equal(got, want)


def test_seeds_are_sb3s():
    def drawn(seed):
        np.random.seed(seed)
        buffer = FrameReplayBuffer(50, spaces.Box(-1, 1, (1,), np.float32), ACTION, device="cpu")
        for k in range(30):
            seen = np.array([[k / 100]], np.float32)
            buffer.add(seen, seen + 1, np.zeros(1, int), np.ones(1), np.array([True]), [{}])
        return buffer.sample(20).observations.flatten().tolist()

    assert drawn(1) == drawn(1) != drawn(2)


def test_atari_takes_an_eighth_of_the_memory():
    space, count = spaces.Box(0, 255, (4, 84, 84), np.uint8), 2_000
    theirs = ReplayBuffer(count, space, ACTION, device="cpu")
    ours = FrameReplayBuffer(count, space, ACTION, device="cpu")
    arrays = [v for v in vars(theirs).values() if isinstance(v, np.ndarray)]
    assert ours.nbytes() < 0.128 * sum(array.nbytes for array in arrays)


def test_gymnasiums_own_stacks_are_refused_where_they_would_be_falsified():
    """Not stacked, stacked otherwise, or padded otherwise: each says what to set."""
    space = spaces.Box(0, 255, (4, 8, 8), np.uint8)
    rng = np.random.default_rng(0)
    other = rng.integers(1, 255, (2, 1, 4, 8, 8), dtype=np.uint8)
    rest = (np.zeros(1, int), np.ones(1), np.zeros(1, bool), [{}])
    with pytest.raises(fastdqn.EnvError, match="use 'repeat'"):
        FrameReplayBuffer(20, space, ACTION, device="cpu").add(*other, *rest)
    started = np.zeros_like(other)
    started[0, 0, -1] = 1
    with pytest.raises(fastdqn.EnvError, match="moved on by one of 4 frames"):
        FrameReplayBuffer(20, space, ACTION, device="cpu").add(started[0], other[1], *rest)
    whole = FrameReplayBuffer(20, space, ACTION, device="cpu", frame_stack=1)
    whole.add(*other, *rest)
    assert (whole.sample(1).observations.numpy() == other[0]).all()


def test_frames_of_a_stack_of_stacks():
    """What split() takes apart join() puts together, in both layouts and for colours."""
    for shape, first in (((6, 4, 5), True), ((4, 5, 6), False), ((2, 4, 5), True), ((6,), False)):
        space = spaces.Box(0, 255, shape, np.uint8)
        layout = StackLayout(space, 2, first)
        seen = np.random.default_rng(0).integers(0, 255, (3, *shape), dtype=np.uint8)
        stacks = layout.split(seen)
        assert stacks.shape == (3, 2, *layout.frame_space.shape)
        assert (stacks[:, 1] == layout.newest(seen)).all()
        assert (layout.join(torch.from_numpy(stacks.copy())).numpy() == seen).all()
        assert (layout.split(torch.from_numpy(seen)).numpy() == stacks).all()


def test_stacks_of_stacks_of_vec_frame_stack():
    envs = VecFrameStack(DummyVecEnv([lambda: Counted(0, (16, 16, 3))]), 2)
    assert StackLayout.of_space(envs.observation_space, None, None).frame_stack == 2
    assert StackLayout.of_space(spaces.Box(0, 255, (84, 84, 3), np.uint8), None, None) is None


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_samples_are_on_the_device(device):
    buffer = FrameReplayBuffer(20, spaces.Box(-1, 1, (1,), np.float32), ACTION, device=device)
    seen = np.zeros((1, 1), np.float32)
    buffer.add(seen, seen, np.zeros(1, int), np.ones(1), np.array([True]), [{}])
    wanted = ReplayBuffer(20, buffer.observation_space, ACTION, device=device).device
    assert {part.device for part in buffer.sample(2) if part is not None} == {wanted}
    assert buffer.replay.device.type == wanted.type
