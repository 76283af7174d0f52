"""Collected TensorDicts in, transitions with stacks and n-step returns out."""

import pickle

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from helpers.saved_by_torch import saved_by_torch
from tensordict import TensorDict
from torch.nn import functional
from torchrl.collectors import Collector
from torchrl.data import Bounded, Categorical, OneHot, Unbounded
from torchrl.envs import GymEnv, SerialEnv
from torchrl.objectives import DQNLoss, SoftUpdate

from fastdqn.errors import CheckpointError, FastDQNError
from fastdqn.integrations.torchrl import FrameReplayBuffer, q_value_actor
from fastdqn.networks.make import make_network

pytestmark = pytest.mark.usefixtures("both_ways")

SPACE = Box(-np.inf, np.inf, (2,), np.float32)
GAMMA = 0.9


def episodes(steps, envs=2, seed=0, chance=0.15, one_hot=True, key="observation"):
    """[N, T] as a collector has it: an env's observations count on, an episode's end jumps by 1."""
    random = np.random.default_rng(seed)
    ended = random.random((envs, steps)) < chance
    terminated = ended & (random.random((envs, steps)) < 0.6)
    before = np.arange(steps) + np.cumsum(ended, 1) - ended + 1000 * np.arange(envs)[:, None]
    pairs = np.stack((before, before + 1))[..., None] * np.float32([1, -1])
    s, s2 = torch.from_numpy(pairs.astype(np.float32))
    action = torch.from_numpy(random.integers(0, 3, (envs, steps)))
    done = {
        "done": torch.from_numpy(ended)[..., None],
        "terminated": torch.from_numpy(terminated)[..., None],
        "truncated": torch.from_numpy(ended & ~terminated)[..., None],
    }
    reward = torch.from_numpy(random.random((envs, steps, 1), dtype=np.float32))
    return TensorDict(
        {
            key: s,
            "action": functional.one_hot(action, 3) if one_hot else action,
            "next": {key: s2, "reward": reward, **done},
        },
        [envs, steps],
    )


def buffer(capacity=400, envs=2, **kwargs):
    kwargs = {"gamma": GAMMA, "batch_size": 32, **kwargs}
    return FrameReplayBuffer(capacity, envs, SPACE, **kwargs)


def expected(data, env, start, n_step, stack, repeat):
    """A transition as a loop over steps makes it: s, s2, reward, gamma^m or 0, m."""
    steps = data[env]
    end, total = start, 0.0
    for k in range(n_step):
        end = start + k
        total += GAMMA**k * float(steps["next", "reward"][end])
        if steps["next", "done"][end]:
            break
    first = start
    while first > 0 and not steps["next", "done"][first - 1]:
        first -= 1

    def stacked(frames):
        if stack is None:
            return frames[-1]
        padding = [frames[0] if repeat else torch.zeros(2)] * stack
        return torch.stack((padding + frames)[-stack:])

    frames = [steps["observation"][i] for i in range(first, start + 1)]
    following = [*frames, *(steps["next", "observation"][i] for i in range(start, end + 1))]
    m = end - start + 1
    over = bool(steps["next", "terminated"][end])
    return stacked(frames), stacked(following), total, 0.0 if over else GAMMA**m, m


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize(("stack", "padding"), [(None, "repeat"), (3, "repeat"), (3, "zero")])
@pytest.mark.parametrize("pieces", ["chunks", "flat chunks", "steps"])
def test_every_transition_is_that_of_a_plain_loop(n_step, stack, padding, pieces):
    data = episodes(60)
    made = buffer(n_step=n_step, frame_stack=stack, stack_padding=padding)
    where = {}
    for begin in range(0, 60, 1 if pieces == "steps" else 12):
        piece = data[:, begin] if pieces == "steps" else data[:, begin : begin + 12]
        index = made.extend(piece.reshape(-1) if pieces == "flat chunks" else piece)
        assert index.shape == (piece.reshape(-1) if pieces == "flat chunks" else piece).batch_size
        for env, rows in enumerate(index.reshape(2, -1)):
            where |= {int(row): (env, begin + i) for i, row in enumerate(rows)}
    assert len(made) >= 2 * 60 - 2 * n_step
    seen = set()
    for _ in range(12):
        for row in made.sample():
            env, start = where[int(row["index"])]
            seen.add((env, start))
            s, s2, reward, gamma, m = expected(
                data, env, start, n_step, stack, repeat=padding == "repeat"
            )
            torch.testing.assert_close(row["observation"], s)
            torch.testing.assert_close(row["next", "observation"], s2)
            assert row["action"].tolist() == data["action"][env, start].tolist()
            assert float(row["next", "reward"]) == pytest.approx(reward, rel=1e-5)
            assert float(row["gamma"]) == pytest.approx(gamma)
            assert bool(row["next", "terminated"]) == bool(row["next", "done"]) == (gamma == 0)
            if n_step > 1:
                assert gamma == 0 or int(row["steps_to_next_obs"]) == m
    assert len(seen) > 60


def test_frames_are_stored_once():
    data = episodes(50, envs=1, chance=0.0)
    made = buffer(envs=1)
    for begin in range(0, 50, 10):
        made.extend(data[0, begin : begin + 10])
    assert made.replay.cursor.tolist() == [50], "51 rows for 50 transitions"
    assert made.write_count == 50


def test_stacks_that_come_in_are_cut_to_their_newest_frame():
    """As CatFrames makes them; what comes out is the same stack."""
    data, frames = episodes(30, envs=1, chance=0.1), []
    for t in range(30):
        s, s2, *_ = expected(data, 0, t, 1, 3, True)
        frames.append((s, s2))
    stacked = data.clone()
    stacked["observation"] = torch.stack([s for s, _ in frames]).unsqueeze(0)
    stacked["next", "observation"] = torch.stack([s2 for _, s2 in frames]).unsqueeze(0)
    made = buffer(envs=1, frame_stack=3)
    index = made.extend(stacked)[0].tolist()
    sample = made.sample(64)
    at = torch.tensor([index.index(int(row)) for row in sample["index"]])
    torch.testing.assert_close(sample["observation"], stacked["observation"][0, at])
    torch.testing.assert_close(sample["next", "observation"], stacked["next", "observation"][0, at])


@pytest.mark.parametrize("form", ["one-hot", "bool one-hot", "numbers", "numbers [1]"])
def test_actions_come_out_as_they_came_in(form):
    data = episodes(30, one_hot="one-hot" in form)
    if form == "bool one-hot":
        data["action"] = data["action"].bool()
    if form == "numbers [1]":
        data["action"] = data["action"].unsqueeze(-1)
    made = buffer()
    made.extend(data)
    action = made.sample()["action"]
    assert action.shape == ((32, 3) if "one-hot" in form else (32,))
    assert action.dtype == (torch.bool if form == "bool one-hot" else torch.int64)


def test_a_spec_says_what_actions_are():
    made = buffer(action_spec=OneHot(3))
    with pytest.raises(FastDQNError, match="a number, where one-hot of 3"):
        made.extend(episodes(5, one_hot=False))
    assert made.write_count == 0
    made = buffer(action_spec=Categorical(2))
    with pytest.raises(FastDQNError, match="action holds 2"):
        made.extend(episodes(50, one_hot=False))


@pytest.mark.parametrize("left_out", ["truncated", "terminated", "done", "two"])
def test_flags_that_data_leave_out(left_out):
    data = episodes(60)
    keys = ("terminated", "truncated") if left_out == "two" else (left_out,)
    terminated = data["next", "done" if left_out == "two" else "terminated"].clone()
    ended = data["next", "terminated" if left_out == "done" else "done"].clone()
    if left_out == "done":
        ended |= data["next", "truncated"]
    for key in keys:
        del data["next", key]
    made = buffer()
    index = made.extend(data)
    storage = {k: v.reshape(-1) for k, v in made.storage.items() if k != "observation"}
    after = (index + 2) % made.capacity  # the row of s', two envs further
    assert torch.equal(storage["terminated"][after], terminated.squeeze(-1))
    assert torch.equal(
        storage["terminated"][after] | storage["truncated"][after], ended.squeeze(-1)
    )


@pytest.mark.parametrize(
    ("spec", "shape", "dtype"),
    [
        (Unbounded((4,)), (4,), np.float32),
        (Unbounded((4,), dtype=torch.float64), (4,), np.float32),
        (Bounded(0, 255, (5, 5), dtype=torch.uint8), (5, 5), np.uint8),
    ],
)
def test_specs_of_observations(spec, shape, dtype):
    space = FrameReplayBuffer(100, 2, spec).replay.observation_space
    assert (space.shape, space.dtype) == (shape, dtype)


def test_the_spec_of_a_batched_env_and_its_key():
    spec = SerialEnv(2, lambda: GymEnv("CartPole-v1")).observation_spec
    made = FrameReplayBuffer(100, 2, spec)
    assert made.replay.observation_space.shape == (4,) and made.observation_key == "observation"
    named = buffer(observation_key=("agent", "pixels"))
    named.extend(episodes(30, key=("agent", "pixels")))
    assert named.sample()["agent", "pixels"].shape == (32, 2)


# --- priorities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(32,), (32, 1)])
def test_a_loss_sets_priorities(shape):
    made = buffer(alpha=1.0, eps=1e-6)
    made.extend(episodes(60))
    sample = made.sample()
    index = sample["index"]
    sample["td_error"] = (index + 1.0).reshape(shape)
    made.update_tensordict_priority(sample)
    torch.testing.assert_close(made.replay.tree.leaves[index], index + 1.0)
    made.update_priority(index, 0.5)
    torch.testing.assert_close(made.replay.tree.leaves[index], torch.full((32,), 0.5))


def test_priorities_in_the_data_and_weights():
    data = episodes(40, chance=0.0)
    data["td_error"] = torch.where(torch.arange(40) == 7, 4e6, 1e-6).expand(2, 40).unsqueeze(-1)
    made = buffer(alpha=1.0, beta=1.0)
    index = made.extend(data)
    sample, info = made.sample(return_info=True)
    assert set(sample["index"].tolist()) == set(index[:, 7].tolist())
    assert sample["priority_weight"].eq(1).all()
    torch.testing.assert_close(info["index"], sample["index"])
    made.beta = 0.0
    uniform = buffer(prioritized=False)
    uniform.extend(data)
    assert len(uniform.sample(80)["index"].unique()) > 40


def test_priorities_of_steps_that_were_overwritten_within_the_data():
    data = episodes(300, chance=0.0)
    data["td_error"] = torch.where(torch.arange(300) < 200, 4e6, 0.5).expand(2, 300)
    made = buffer(capacity=100, alpha=1.0)
    made.extend(data)
    leaves = made.replay.tree.leaves
    torch.testing.assert_close(leaves[leaves > 0], torch.full((len(made),), 0.5))
    assert float(made.replay.max_priority) == 1


# --- the calls of a loop -------------------------------------------------------------------------


def test_iteration_length_and_emptying():
    made = buffer(batch_size=8)
    assert len(made) == 0 and made
    with pytest.raises(FastDQNError, match="add more steps first"):
        made.sample()
    made.extend(episodes(20, chance=0.0))
    assert len(made) == 40
    batches = [batch for batch, _ in zip(made, range(3), strict=False)]
    assert [len(batch) for batch in batches] == [8, 8, 8] and made.batch_size == 8
    made.empty()
    assert len(made) == made.write_count == 0
    made.add(episodes(1)[:, 0])
    made.add(episodes(1)[:, 0])
    assert len(made) >= 2 and made.capacity == 400


def test_one_env_alone():
    made = buffer(envs=1)
    data = episodes(10, envs=1, chance=0.0)[0]
    made.extend(data[:8])
    made.add(data[8])
    made.add(data[9])
    assert len(made) == 10 and made.replay.cursor.tolist() == [10]


@pytest.mark.parametrize("way", ["state", "disk"])
def test_state(way, tmp_path):
    made, other = (buffer(n_step=2, seed=seed) for seed in (1, 2))
    made.extend(episodes(40))
    made.update_priority(made.sample()["index"], torch.rand(32))
    made.beta = 0.7
    if way == "state":
        other.load_state_dict(made.state_dict())
    else:
        for _ in range(2):
            made.dumps(tmp_path / "b")
        other.loads(tmp_path / "b")
    assert other.beta == 0.7 and other.write_count == 80
    for _ in range(2):
        assert (made.sample() == other.sample()).all()
    with pytest.raises(CheckpointError, match="envs"):
        buffer(envs=4).load_state_dict(made.state_dict())
    with pytest.raises(CheckpointError, match="no saved buffer"):
        other.loads(tmp_path / "nothing")


@pytest.mark.parametrize(
    "copied",
    [lambda made: pickle.loads(pickle.dumps(made)), saved_by_torch],  # noqa: S301
)
def test_a_pickled_replay_goes_on_alone(copied):
    made = buffer(capacity=4000, n_step=2, frame_stack=3)
    made.extend(episodes(60))
    index = made.sample()["index"]
    made.update_priority(index, torch.rand(32))
    other = copied(made)
    for _ in range(2):
        assert (made.sample() == other.sample()).all()
    before = len(made)
    for each in (made, other):
        each.extend(episodes(40, seed=1))
        each.update_priority(index[:1], 1e9)
    other.replay.tree.check_valid()
    assert len(made) == len(other) > before
    assert (made.sample() == other.sample()).all()


@pytest.mark.parametrize("categorical", [False, True])
def test_collector_and_loss(categorical):
    """The terms of DQNLoss with n-step returns are those of the formula."""

    def make():
        return GymEnv("CartPole-v1", categorical_action_encoding=categorical)

    network = make_network((4,), 2)
    with torch.no_grad():  # always to the right, so that episodes end within ten steps
        list(network.parameters())[-1].copy_(torch.tensor([0.0, 3.0]))
    actor = q_value_actor(network, make().action_spec)
    made = FrameReplayBuffer(500, 3, make().observation_spec, n_step=3, gamma=GAMMA, batch_size=256)
    collector = Collector(SerialEnv(3, make), actor, frames_per_batch=48, total_frames=192)
    for data in collector:
        made.extend(data)
    collector.shutdown()
    loss = DQNLoss(actor, delay_value=True)
    loss.make_value_estimator(gamma=GAMMA)
    SoftUpdate(loss, eps=0.99)
    sample = made.sample()
    loss(sample)
    with torch.no_grad():
        q = actor.module[0].network(sample["observation"])
        following = actor.module[0].network(sample["next", "observation"]).amax(1)
    action = sample["action"] if categorical else sample["action"].argmax(-1)
    target = sample["next", "reward"].squeeze(1) + sample["gamma"].squeeze(1) * following
    td = q.gather(1, action.unsqueeze(1)).squeeze(1) - target
    torch.testing.assert_close(sample["td_error"].squeeze(1), td**2, rtol=1e-4, atol=1e-5)
    assert sample["next", "terminated"].any() and (sample["steps_to_next_obs"] == 3).any()


def test_a_collector_fills_it_by_itself():
    actor = q_value_actor(make_network((4,), 2), GymEnv("CartPole-v1").action_spec)
    env = SerialEnv(2, lambda: GymEnv("CartPole-v1"))
    made = FrameReplayBuffer(500, 2, env.observation_spec)
    collector = Collector(env, actor, frames_per_batch=32, total_frames=96, replay_buffer=made)
    assert list(collector) == [None] * 3
    collector.shutdown()
    assert made.write_count == 96 and len(made) == 96


@pytest.mark.gpu
def test_on_a_gpu():
    data, made = episodes(60).to("cuda"), buffer(device="cuda", n_step=3, frame_stack=2)
    made.extend(data)
    sample = made.sample()
    assert sample["observation"].is_cuda and sample["action"].shape == (32, 3)
    sample["td_error"] = torch.rand(32, 1, device="cuda")
    made.update_tensordict_priority(sample)
    assert len(made) > 90
