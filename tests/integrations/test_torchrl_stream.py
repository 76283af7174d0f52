"""TorchRL's envs as a stream of rows."""

from functools import partial

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded
from torchrl.envs import EnvBase, GymEnv, ParallelEnv, SerialEnv, TransformedEnv
from torchrl.envs.transforms import StepCounter

import fastdqn
from fastdqn.envs.stream import EnvStream, is_stream
from fastdqn.errors import EnvError, EnvFailure
from fastdqn.integrations.torchrl import TorchRLStream

LENGTHS = (3, 5, 4)
FLAGS = ("done", "terminated", "truncated")


class Counting(EnvBase):
    """Env i counts its steps and its episodes; those of odd envs are truncated after LENGTHS[i]."""

    def __init__(self, envs=3, one_hot=False, dtype=torch.float32, keys=FLAGS):
        batch = [] if envs is None else [envs]
        super().__init__(device="cpu", batch_size=batch)
        kind = OneHot(2) if one_hot else Categorical(2)
        self.one_hot, self.dtype_, self.keys = one_hot, dtype, keys
        self.action_spec = kind.expand(*batch, 2) if one_hot else kind.expand(*batch)
        if dtype == torch.uint8:
            observation = Bounded(0, 255, (*batch, 3), dtype=dtype)
        else:
            observation = Unbounded((*batch, 3), dtype=dtype)
        self.observation_spec = Composite(observation=observation, shape=batch)
        self.reward_spec = Unbounded((*batch, 1))
        flag = Categorical(2, dtype=torch.bool, shape=(*batch, 1))
        flags = {name: flag.clone() for name in keys}
        self.done_spec = Composite(**flags, shape=batch)
        count = envs or 1
        self.number = torch.arange(count)
        self.time, self.episode = torch.zeros(2, count, dtype=torch.int64)
        self.seed_ = 0

    def _observation(self):
        found = torch.stack((self.number + self.seed_, self.time, self.episode), 1).to(self.dtype_)
        return found if self.batch_size else found[0]

    def _flags(self, ended):
        odd = self.number % 2 == 1
        made = {"done": ended, "terminated": ended & ~odd, "truncated": ended & odd}
        shape = (*self.batch_size, 1)
        return {name: made[name].reshape(shape).clone() for name in self.keys}

    def _reset(self, tensordict=None):
        which = torch.ones(len(self.number), dtype=torch.bool)
        if tensordict is not None and tensordict.get("_reset", None) is not None:
            which = tensordict["_reset"].reshape(-1)
        self.time[which] = 0
        self.episode[which] += 1
        found = {"observation": self._observation(), **self._flags(torch.zeros_like(which))}
        return TensorDict(found, self.batch_size)

    def _step(self, tensordict):
        action = tensordict["action"]
        assert self.action_spec.is_in(action)
        action = (action.byte().argmax(-1) if self.one_hot else action).reshape(-1)
        self.time += 1
        ended = self.time >= torch.tensor(LENGTHS)[: len(self.number)]
        reward = (10 * action + self.time).float().reshape(*self.batch_size, 1)
        found = {"observation": self._observation(), "reward": reward, **self._flags(ended)}
        return TensorDict(found, self.batch_size)

    def _set_seed(self, seed):
        self.seed_ = seed
        self.episode.zero_()
        return seed


def plain(actions, envs):
    """Rows as a loop over envs makes them: observation, reward, terminated, truncated, reset."""
    time, episode = [0] * envs, [1] * envs
    for step in actions:
        rows = []
        for i in range(envs):
            time[i] += 1
            ended = time[i] >= LENGTHS[i]
            row = [[i, time[i], episode[i]], 10 * step[i] + time[i], ended and i % 2 == 0]
            if ended:
                time[i], episode[i] = 0, episode[i] + 1
            rows.append([*row, ended and i % 2 == 1, ended, [i, time[i], episode[i]]])
        yield list(zip(*rows, strict=True))


def same(step, expected):
    observation, reward, terminated, truncated, reset, following = map(list, expected)
    assert step.observation.tolist() == observation
    assert step.reward.tolist() == reward and step.reward.dtype == torch.float32
    assert step.terminated.tolist() == terminated and step.truncated.tolist() == truncated
    assert not step.first.any() and step.reset.tolist() == reset
    assert step.reset_observation.tolist() == following


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("kind", ["batched", "serial", "alone", "transformed"])
@pytest.mark.parametrize("tensors", [False, True])
def test_rows_are_those_of_a_plain_loop(one_hot, kind, tensors):
    env = {
        "batched": lambda: Counting(3, one_hot),
        "serial": lambda: SerialEnv(1, lambda: Counting(None, one_hot)),
        "alone": lambda: Counting(None, one_hot),
        "transformed": lambda: TransformedEnv(Counting(3, one_hot), StepCounter()),
    }[kind]()
    key = "observation" if kind == "transformed" else None
    stream = TorchRLStream(env, observation_key=key)
    envs = stream.num_envs
    assert envs == (1 if kind in ("serial", "alone") else 3) and stream.num_actions == 2
    assert isinstance(stream, EnvStream) and is_stream(stream)
    first = stream.reset()
    assert first.first.all() and not (first.terminated | first.truncated).any()
    assert first.observation.tolist() == [[i, 0, 1] for i in range(envs)]
    actions = np.random.default_rng(0).integers(0, 2, (14, envs))
    for step, expected in zip(actions, plain(actions.tolist(), envs), strict=True):
        given = torch.from_numpy(step) if tensors else step
        if step[0]:
            same(stream.step(given), expected)
        else:
            stream.send(given)
            same(stream.recv(), expected)
    again = stream.reset(seed=7)
    assert again.first.all() and again.observation[:, 0].tolist() == [7 + i for i in range(envs)]
    stream.close()
    stream.close()
    with pytest.raises(EnvError, match="closed"):
        stream.reset()


@pytest.mark.parametrize(
    ("dtype", "space", "frames"),
    [
        (torch.uint8, np.uint8, torch.uint8),
        (torch.float64, np.float32, torch.float32),
    ],
)
def test_frames_are_bytes_or_float32(dtype, space, frames):
    stream = TorchRLStream(Counting(dtype=dtype), frame_stack=4, stack_padding="zero")
    assert stream.observation_space.dtype == space and stream.observation_space.shape == (3,)
    assert stream.reset().observation.dtype == frames
    assert (stream.frame_stack, stream.stack_padding) == (4, "zero")


@pytest.mark.parametrize("keys", [FLAGS[:2], FLAGS[:1]])
def test_flags_that_an_env_leaves_out(keys):
    """``done`` is terminated or truncated; alone it is terminated."""
    stream = TorchRLStream(Counting(3, keys=keys))
    stream.reset()
    steps = [stream.step(np.zeros(3, np.int64)) for _ in range(5)]
    ended = torch.stack([step.terminated | step.truncated for step in steps])
    terminated = torch.stack([step.terminated for step in steps])
    odd = torch.tensor([False, True, False])
    assert torch.equal(ended, torch.stack([step.reset for step in steps])) and ended.any(0).all()
    assert torch.equal(terminated, ended if keys == ("done",) else ended & ~odd)


@pytest.mark.parametrize("categorical", [False, True])
def test_gym_envs_start_anew_within_a_step(categorical):
    env = SerialEnv(2, lambda: GymEnv("CartPole-v1", categorical_action_encoding=categorical))
    stream = TorchRLStream(env)

    def rows(seed):
        step, found, ends = stream.reset(seed=seed), [], 0
        found.append(step.observation.clone())
        for _ in range(60):
            step = stream.step(np.ones(2, np.int64))
            for i in np.flatnonzero(step.reset.numpy()):
                ends += 1
                assert step.terminated[i] and step.observation[i].abs().max() > 0.2
                assert step.reset_observation[i].abs().max() <= 0.05
            found.append(step.observation.clone())
        return torch.stack(found), ends

    one, ends = rows(3)
    assert ends > 8
    torch.testing.assert_close(rows(3)[0], one)
    assert not torch.equal(rows(4)[0], one)


def test_train_takes_it(tmp_path):
    def config(name):
        return fastdqn.presets()["cartpole"].replace(
            run_dir=str(tmp_path / name), total_env_steps=400, learning_starts_env_steps=100, seed=1
        )

    made = [
        fastdqn.train(
            config(name),
            envs=TorchRLStream(SerialEnv(2, lambda: GymEnv("CartPole-v1"))),
            eval_envs=TorchRLStream(GymEnv("CartPole-v1")),
        ).summary
        for name in ("a", "b")
    ]
    assert made[0]["env_steps"] == 400 and made[0]["updates"] > 0
    assert made[0]["train_return_mean"] == made[1]["train_return_mean"]
    assert made[0]["eval_return_mean"] == made[1]["eval_return_mean"] is not None


def test_the_rows_of_a_replay_are_the_streams():
    """Final observations reach the replay: none is lost to the reset behind it."""
    stream = TorchRLStream(Counting(3))
    replay = fastdqn.ReplayBuffer(300, 3, stream.observation_space)
    replay.add(stream.reset(), None)
    for _ in range(20):
        actions = np.ones(3, np.int64)
        replay.add(stream.step(actions), actions)
    batch = replay.sample(256)
    number, time, episode = batch.next_observation.unbind(1)
    assert (time == batch.observation[:, 1] + 1).all()
    assert (episode == batch.observation[:, 2]).all()
    ended = time == torch.tensor(LENGTHS)[number.long()]
    assert ((batch.discount == 0) == (ended & (number % 2 == 0))).all() and ended.any()


def test_an_env_that_raises():
    class Broken(Counting):
        def _step(self, tensordict):
            raise OSError("no more")

    stream = TorchRLStream(Broken())
    stream.reset()
    with pytest.raises(EnvFailure, match=r"Broken failed in a step \(OSError: no more\)"):
        stream.step(np.zeros(3, np.int64))


@pytest.mark.slow
def test_envs_in_processes_of_their_own():
    stream = TorchRLStream(ParallelEnv(2, partial(GymEnv, "CartPole-v1")))
    stream.reset(seed=1)
    steps = [stream.step(np.ones(2, np.int64)) for _ in range(30)]
    assert sum(int(step.reset.sum()) for step in steps) >= 4
    stream.close()
