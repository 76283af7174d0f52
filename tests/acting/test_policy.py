"""A policy's own stacks against lists, and arrays in as arrays out."""

import numpy as np
import pytest
import torch
from torch import nn

from fastdqn.acting.policy import Policy


class Recorder(nn.Module):
    """Keeps what it is shown; Q is highest for the action that the newest frame's env names."""

    def __init__(self, actions=4):
        super().__init__()
        self.actions, self.seen = actions, []

    def forward(self, observation):
        self.seen.append(observation.clone())
        newest = observation.flatten(1)[:, -1].long() % self.actions
        return torch.nn.functional.one_hot(newest, self.actions).float()


class PlainStacks:
    """Frames as numbers, an env at a time."""

    def __init__(self, size, padding):
        self.size, self.padding, self.stacks = size, padding, {}

    def push(self, env, frame, first):
        if first or env not in self.stacks:
            before = 0.0 if self.padding == "zero" else frame
            self.stacks[env] = [before] * (self.size - 1)
        self.stacks[env] = [*self.stacks[env], frame][-self.size :]
        return self.stacks[env]


@pytest.mark.parametrize("torch_in", [False, True])
@pytest.mark.parametrize("padding", ["zero", "repeat"])
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize(("dtype", "shape"), [("float32", (1,)), ("uint8", (2, 3))])
def test_stacks_against_lists(size, padding, dtype, shape, torch_in):
    rng = np.random.default_rng(size)
    network = Recorder()
    policy = Policy(network, frame_stack=size, stack_padding=padding)
    plain = PlainStacks(size, padding)
    n = 3
    for turn in range(40):
        value = rng.integers(1, 200, n)
        frames = np.broadcast_to(value.reshape(n, *(1 for _ in shape)), (n, *shape)).astype(dtype)
        first = np.ones(n, bool) if turn == 0 else rng.random(n) < 0.3
        if torch_in:
            policy.act(torch.tensor(frames), first=torch.tensor(first))
        else:
            policy.act(frames, first=first)
        (seen,) = network.seen
        network.seen.clear()
        assert seen.shape == (n, size, *shape)
        assert seen.dtype == getattr(torch, dtype)
        expected = [plain.push(env, float(value[env]), first[env]) for env in range(n)]
        assert (seen.flatten(2) == seen.flatten(2)[..., :1]).all()
        assert seen.flatten(2)[..., 0].tolist() == expected


def act(policy, *values, first=None):
    frames = np.array(values, np.float32).reshape(-1, 1)
    policy.act(frames, first=None if first is None else np.array(first))
    return policy.network.seen[-1].squeeze(-1).tolist()


def test_without_the_mask_stacks_start_at_the_first_call_and_where_the_number_changes():
    policy = Policy(Recorder(), frame_stack=3)
    assert act(policy, 1, 2) == [[0, 0, 1], [0, 0, 2]]
    assert act(policy, 3, 4) == [[0, 1, 3], [0, 2, 4]]
    assert act(policy, 5, 6, 7) == [[0, 0, 5], [0, 0, 6], [0, 0, 7]]
    assert act(policy, 8, 9, 9) == [[0, 5, 8], [0, 6, 9], [0, 7, 9]]


def test_the_mask_starts_single_envs_anew():
    policy = Policy(Recorder(), frame_stack=3, stack_padding="repeat")
    assert act(policy, 1, 2) == [[1, 1, 1], [2, 2, 2]]
    assert act(policy, 3, 4, first=[False, True]) == [[1, 1, 3], [4, 4, 4]]
    assert act(policy, 5, 6, first=[False, False]) == [[1, 3, 5], [4, 4, 6]]


def test_reset_starts_all_anew():
    policy = Policy(Recorder(), frame_stack=2)
    act(policy, 1, 2)
    policy.reset()
    assert act(policy, 3, 4, first=[False, False]) == [[0, 3], [0, 4]]


def test_the_callers_frames_may_be_reused():
    policy, frames = Policy(Recorder(), frame_stack=2), np.ones((1, 1), np.float32)
    policy.act(frames)
    frames[:] = 7  # the env overwrites its buffer
    policy.act(frames)
    assert policy.network.seen[-1].flatten().tolist() == [1, 7]


def test_without_a_stack_observations_pass_as_they_come():
    policy = Policy(Recorder())
    policy.act(np.ones((2, 5), np.float64))
    (seen,) = policy.network.seen
    assert seen.shape == (2, 5) and seen.dtype == torch.float32


@pytest.mark.parametrize("start", [0, 1, -3])
def test_arrays_come_out_as_they_go_in_and_count_from_action_start(start):
    policy = Policy(Recorder(4), action_start=start)
    frames = np.array([[0.0], [3.0], [2.0]])
    actions = policy.act(frames)
    assert isinstance(actions, np.ndarray) and actions.dtype == np.int64
    assert actions.tolist() == [start, start + 3, start + 2]
    actions = policy.act(torch.tensor(frames))
    assert isinstance(actions, torch.Tensor) and actions.dtype == torch.int64
    assert actions.tolist() == [start, start + 3, start + 2]


@pytest.mark.parametrize("start", [0, 5])
def test_epsilon(start):
    policy = Policy(Recorder(4), action_start=start, seed=1)
    frames = np.zeros((1000, 1), np.float32)
    anything = np.bincount(policy.act(frames, epsilon=1.0) - start, minlength=4)
    assert len(anything) == 4 and min(anything) > 150  # 250 expected, 7 sigma
    some = policy.act(frames, epsilon=torch.tensor([0.0, 1.0]).repeat(500)) - start
    assert not some[::2].any() and some[1::2].any()


def test_the_seed_alone_decides_and_the_global_generator_stays():
    frames = np.zeros((50, 1), np.float32)
    state = torch.get_rng_state()
    one, two, other = (
        Policy(Recorder(), seed=seed).act(frames, epsilon=0.5).tolist() for seed in (1, 1, 2)
    )
    assert one == two != other
    assert torch.equal(torch.get_rng_state(), state)


def test_acting_makes_no_graph():
    policy = Policy(nn.Linear(3, 2))
    assert not policy.act(torch.ones(4, 3)).requires_grad
