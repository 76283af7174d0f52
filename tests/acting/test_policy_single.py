"""One observation in, one action out, for every policy; and what a policy is called."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from torch import nn

import fastdqn
from fastdqn import ConfigError, Learner, Policy, make_network


class Shown(gymnasium.Env):
    """An env of a given observation space."""

    def __init__(self, space):
        self.observation_space, self.action_space = space, spaces.Discrete(3, start=5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def stream_of(space, n=2, **options):
    return fastdqn.make_envs(SyncVectorEnv([lambda: Shown(space) for _ in range(n)]), **options)


def network_for(stream):
    """As a run makes it."""
    from fastdqn.config.config import Config
    from fastdqn.spaces import Spaces
    from fastdqn.training.network_spec import network_spec

    config = Config(network="mlp", hidden_sizes=(8,))
    return network_spec(config, Spaces.of(stream)).build()


# A network, the shape of a frame, and the stack: of these a policy has been told nothing else.
MADE = {
    "vector": (lambda: make_network((4,), 3), (4,), None),
    "one number": (lambda: make_network((1,), 3), (1,), None),
    "a linear layer": (lambda: nn.Linear(4, 3), (4,), None),
    "image": (lambda: make_network((36, 40), 3, frame_stack=2), (36, 40), 2),
    "image of channels": (lambda: make_network((3, 12, 12), 3), (3, 12, 12), None),
    "vector, stacked": (lambda: make_network((4,), 3, frame_stack=3), (4,), 3),
    "flattened": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), (8, 8), None),
}


@pytest.mark.parametrize(("make", "shape", "stack"), MADE.values(), ids=MADE)
@pytest.mark.parametrize("of_learner", [False, True])
@pytest.mark.parametrize("as_torch", [False, True])
def test_one_observation_is_one_of_n(make, shape, stack, of_learner, as_torch):
    torch.manual_seed(0)
    network = make().eval()
    made = (
        Learner(network, precision="fp32").policy
        if of_learner
        else lambda **k: Policy(network, **k)
    )
    one, many = made(frame_stack=stack), made(frame_stack=stack)
    frames = torch.rand(5, 3, *shape)
    for step in frames:  # of three envs: each step as three single ones, and as a batch
        batch = step if as_torch else step.numpy()
        several = many.act(batch)
        assert several.shape == (3,)
        action = one.act(batch[0])
        assert action.shape == () and type(action) is type(several[0])
        assert int(action) == int(several[0])


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(7),
        spaces.Discrete(7, start=3),
        spaces.MultiDiscrete([3, 4]),
        spaces.Dict(at=spaces.Box(-1, 1, (2,)), kind=spaces.Discrete(4)),
        spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.Discrete(4))),
        spaces.Box(0, 255, (6, 6, 3), np.uint8),
        spaces.MultiBinary(5),
        spaces.Box(-1, 1, (), np.float32),
    ],
    ids=str,
)
def test_a_learners_policy_reads_what_the_envs_return(space):
    space.seed(1)
    stream = stream_of(space)
    policy = Learner(network_for(stream), precision="fp32").policy(envs=stream)
    for _ in range(5):
        one = space.sample()
        action = policy.act(one)
        assert np.shape(action) == () and int(action) in (5, 6, 7)
        env = gymnasium.vector.utils.batch_space(space, 2)
        several = policy.act(gymnasium.vector.utils.concatenate(space, [one, one],
                             gymnasium.vector.utils.create_empty_array(space, 2)))  # fmt: skip
        assert several.tolist() == [int(action)] * 2, env


def test_policies_are_called_what_they_are():
    assert repr(Policy(nn.Linear(4, 2))) == "Policy(Linear of 10 parameters, cpu)"
    stream = stream_of(spaces.Box(0, 255, (36, 36), np.uint8), frame_stack=4)
    network = make_network((36, 36), 3, frame_stack=4, hidden_sizes=(8,))
    count = sum(p.numel() for p in network.parameters())
    assert repr(Policy(network, envs=stream)) == (
        f"Policy(QNetwork of {count:,} parameters, frames (36, 36) uint8, stacks of 4 padded by "
        f"repeat, 3 actions from 5, cpu)"
    )
    assert "\n" not in repr(Learner(network).policy(frame_stack=4))
    assert repr(Policy(nn.Linear(4, 2), autocast=True, action_start=2)).endswith(
        "actions from 2, bf16, cpu)"
    )


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (3, "observation is int, .* envs = "),
        ({"at": np.zeros(4)}, "observation is dict"),
        ([0.0] * 4, "observation is list"),
        ("state", "observation is str"),
        (None, "observation is NoneType"),
        (np.zeros((2, 5), np.float32), "does not take"),
        (np.zeros(5, np.float32), "does not take"),
        (np.zeros((0, 4), np.float32), r"\(0, 4\)"),
        (np.array(["a", "b"]), "use uint8 or float32"),
        (torch.zeros(2, 4, dtype=torch.complex64), "complex64"),
        (torch.zeros(2, 4, device="meta"), "on meta"),
    ],
)
def test_what_is_no_observation_is_refused(given, word):
    policy = Policy(nn.Linear(4, 2))
    with pytest.raises(ConfigError, match=word):
        policy.act(given)


def test_stacks_start_anew_with_frames_of_another_kind():
    policy = Policy(make_network((3,), 2, frame_stack=2), frame_stack=2)
    policy.act(np.ones((1, 3), np.float32))
    assert policy.act(np.ones((1, 3), np.uint8)).shape == (1,)
    assert policy._stack.dtype == torch.uint8 and not policy._stack[0, 0].any()


@pytest.mark.parametrize("kind", ["mlp", "nature", "der", "small_cnn", "impala", "batchnorm_cnn"])
def test_a_network_needs_no_sizes(kind):
    network = make_network((3, 40, 60), 2, kind=kind)
    assert network(torch.zeros(2, 3, 40, 60)).shape == (2, 2)


@pytest.mark.parametrize("wrong", [np.int64, np.float32])
def test_frames_of_the_right_shape_and_another_dtype_are_refused_by_their_dtype(wrong):
    stream = stream_of(spaces.Box(0, 255, (3, 12, 12), np.uint8))
    policy = Policy(network_for(stream), envs=stream)
    said = rf"^observation is {np.dtype(wrong)}, where the frames .* are uint8; use uint8\.$"
    for frames in (np.zeros((2, 3, 12, 12), wrong), np.zeros((3, 12, 12), wrong)):
        with pytest.raises(ConfigError, match=said):
            policy.act(frames)
        policy.act(frames.astype(np.uint8))
