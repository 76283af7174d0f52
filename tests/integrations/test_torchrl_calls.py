"""Every call of fastdqn.integrations.torchrl answers a wrong argument with one sentence."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from helpers.head_details import of_head
from tensordict import TensorDict
from torch import nn
from torchrl.data import (
    Bounded,
    Categorical,
    Composite,
    LazyTensorStorage,
    OneHot,
    TensorDictReplayBuffer,
    Unbounded,
)
from torchrl.envs import GymEnv

from fastdqn.errors import FastDQNError
from fastdqn.integrations.torchrl import (
    DQNLossModule,
    FrameReplayBuffer,
    SumTreeSampler,
    TorchRLStream,
    q_value_actor,
)
from fastdqn.learning.munchausen import Munchausen
from fastdqn.learning.quantile_q_learning import QuantileQLearning
from fastdqn.networks.make import make_network

SPACE = Box(-1, 1, (4,), np.float32)
ONES, INDEX = torch.ones(3), torch.arange(3)


def net(head="scalar"):
    return make_network((4,), 3, head=head, hidden_sizes=(4,), **of_head(head, {"atoms": 11}))


def steps(batch=(2, 6), drop=(), **changes):
    flag = torch.zeros(*batch, 1, dtype=torch.bool)
    entries = {
        "observation": torch.zeros(*batch, 4),
        "action": torch.zeros(*batch, dtype=torch.int64),
        ("next", "observation"): torch.zeros(*batch, 4),
        ("next", "reward"): torch.zeros(*batch, 1),
        ("next", "done"): flag,
        ("next", "terminated"): flag.clone(),
    }
    found = TensorDict({**entries, **changes}, batch)
    return found.exclude(*drop) if drop else found


def buffer(**options):
    return FrameReplayBuffer(100, 2, SPACE, **options)


def extend(data, **options):
    made = buffer(**options)
    try:
        made.extend(data)
    finally:
        assert made.write_count == 0 and len(made) == 0, "nothing is written"


def filled():
    made = buffer()
    made.extend(steps())
    return made


def sampler():
    made = SumTreeSampler(4)
    made.mark_update(INDEX)
    return made


def over(storage, index=None):
    made = TensorDictReplayBuffer(storage=storage, sampler=SumTreeSampler(4), batch_size=2)
    if index is not None:
        made.update_priority(index, torch.ones(2))
    else:
        made.sample()


def set_on(made, name, value):
    setattr(made, name, value)


def loss(data, **options):
    DQNLossModule(net(), delay_value=False, **options)(data)


def step(actions, resets=1, sends=0):
    stream = TorchRLStream(GymEnv("CartPole-v1"))
    for _ in range(resets):
        stream.reset()
    for _ in range(sends):
        stream.send(np.zeros(1, np.int64))
    stream.send(actions)


class Env(GymEnv):
    """CartPole with another spec."""

    def __init__(self, **specs):
        super().__init__("CartPole-v1")
        for name, spec in specs.items():
            setattr(self, name, spec)


def env(**specs):
    return TorchRLStream(Env(**specs))


TWO = Composite(pixels=Unbounded((4,)), state=Unbounded((4,)))

CALLS = [
    # The sampler.
    (SumTreeSampler, (0,), "max_capacity = 0"),
    (SumTreeSampler, (2.5,), "max_capacity = 2.5"),
    (SumTreeSampler, (4, -0.1), "alpha = -0.1"),
    (SumTreeSampler, (4, 1.5), "alpha = 1.5"),
    (SumTreeSampler, (4, torch.ones(2)), "alpha"),
    (SumTreeSampler, (4, 0.6, -1.0), "beta = -1"),
    (SumTreeSampler, (4, 0.6, "0.4"), "beta = '0.4'"),
    (SumTreeSampler, (4,), {"eps": 0.0}, "eps = 0"),
    (SumTreeSampler, (4,), {"reduction": "first"}, "reduction = 'first'"),
    (SumTreeSampler, (4,), {"weights": "all"}, "weights = 'all'"),
    (SumTreeSampler, (4,), {"max_priority_within_buffer": 1}, "max_priority_within_buffer = 1"),
    (SumTreeSampler, (4,), {"device": "gpu"}, "device = 'gpu'"),
    (set_on, (sampler(), "beta", float("nan")), "beta = nan"),
    (sampler().update_priority, (torch.tensor([4]), 1.0), "index = 4 is out of range"),
    (sampler().update_priority, (INDEX, torch.ones(2)), "2 numbers for 3 rows"),
    (sampler().update_priority, (torch.zeros(3, 2, dtype=torch.int64), ONES), r"\[3, 2\]"),
    (sampler().load_state_dict, ({"_sum_tree": None},), "only its extension reads"),
    (sampler().load_state_dict, (SumTreeSampler(5).state_dict(),), "5 rows, this one 4"),
    (over, (LazyTensorStorage(4),), "empty storage"),
    # The replay.
    (FrameReplayBuffer, (0, 2, SPACE), "capacity"),
    (FrameReplayBuffer, (100, 0, SPACE), "num_envs"),
    (FrameReplayBuffer, (100, 2, Discrete(3)), "observation_spec is Discrete"),
    (FrameReplayBuffer, (100, 2, (4,)), "observation_spec is tuple"),
    (FrameReplayBuffer, (100, 2, TWO), "2 entries"),
    (FrameReplayBuffer, (100, 2, TWO), {"observation_key": "obs"}, "observation_key = 'obs'"),
    (FrameReplayBuffer, (100, 2, Unbounded((4,), dtype=torch.int64)), "int64"),
    (buffer, (), {"action_spec": Bounded(-1, 1, (2,))}, "actions of Bounded"),
    (buffer, (), {"gamma": 0.0}, "gamma = 0"),
    (buffer, (), {"gamma": 1.5}, "gamma = 1.5"),
    (buffer, (), {"n_step": 0}, "n_step = 0"),
    (buffer, (), {"alpha": 2.0}, "alpha = 2"),
    (buffer, (), {"eps": 0.0}, "eps = 0"),
    (buffer, (), {"beta": -1.0}, "beta = -1"),
    (buffer, (), {"batch_size": 0}, "batch_size = 0"),
    (buffer, (), {"frame_stack": 0}, "frame_stack = 0"),
    (buffer, (), {"stack_padding": "ones"}, "stack_padding = 'ones'"),
    (extend, ({"observation": ONES},), "data is dict"),
    (extend, (steps((3, 6)),), r"batch_size \[3, 6\]"),
    (extend, (steps((7,)),), r"batch_size \[7\]"),
    (extend, (steps(drop=["next"]),), "no 'next'"),
    (extend, (steps(drop=["observation"]),), "no 'observation'"),
    (extend, (steps(drop=["action"]),), "no 'action'"),
    (extend, (steps(drop=[("next", "reward")]),), "'reward'"),
    (extend, (steps(drop=[("next", "done"), ("next", "terminated")]),), "'done'"),
    (extend, (steps(observation=torch.zeros(2, 6, 5)),), r"'observation' has shape \[5\]"),
    (extend, (steps(action=torch.zeros(2, 6)),), "action has shape .* torch.float32"),
    (extend, (steps(action=torch.zeros(2, 6, 2, 3)),), r"action has shape \[6, 2, 2, 3\]"),
    (extend, (steps(),), {"action_spec": OneHot(3)}, "a number, where one-hot of 3"),
    (extend, (steps(**{"collector": {"mask": torch.ones(2, 6)}}),), "split_trajs = False"),
    (filled().sample, (), "batch_size = None"),
    (filled().sample, (0,), "batch_size = 0"),
    (filled().update_tensordict_priority, (filled().sample(4),), "no 'td_error'"),
    (filled().update_tensordict_priority, (steps(td_error=torch.ones(2, 6)),), "no 'index'"),
    (filled().update_priority, (INDEX, ONES[:2]), "2 priorities for 3 rows"),
    (filled().update_priority, (torch.tensor([100]), 1.0), "100"),
    (filled().load_state_dict, ({},), "of another kind"),
    # Actors and losses.
    (q_value_actor, (nn.Linear, OneHot(3)), "an instance"),
    (q_value_actor, (net(),), "give one of them"),
    (q_value_actor, (net(), OneHot(3)), {"action_space": "one-hot"}, "give one of them"),
    (q_value_actor, (net(), OneHot(3)), {"distributional": True}, "a head of atoms"),
    (DQNLossModule, (nn.Linear,), "an instance"),
    (DQNLossModule, (nn.ReLU(),), "no parameters"),
    (DQNLossModule, (net(),), {"gamma": 1.5}, "gamma = 1.5"),
    (DQNLossModule, (net(),), {"reduction": "max"}, "reduction = 'max'"),
    (DQNLossModule, (net(),), {"loss": "l2"}, "loss = 'l2'"),
    (DQNLossModule, (net(),), {"seed": 0.5}, "seed = 0.5"),
    (DQNLossModule, (net(),), {"delay_value": "yes"}, "delay_value = 'yes'"),
    (DQNLossModule, (net("c51"),), {"munchausen": Munchausen()}, "munchausen"),
    (DQNLossModule, (net(), QuantileQLearning()), "leave the objective out"),
    (DQNLossModule, (net(), "dqn"), "forwards"),
    (set_on, (DQNLossModule(net(), delay_value=False), "in_keys", []), "set_keys"),
    (loss, (steps(),), r"batch_size \[2, 6\]"),
    (loss, (steps((6,), drop=["observation"]),), "no 'observation'"),
    (loss, (steps((6,), drop=["next"]),), "no 'next'"),
    (loss, (steps((6,), drop=[("next", "reward")]),), r"no \('next', 'reward'\)"),
    (loss, (steps((6,), drop=[("next", "done"), ("next", "terminated")]),), "terminated"),
    (loss, (steps((6,), action=torch.zeros(6)),), "action has shape"),
    # The stream.
    (TorchRLStream, ("CartPole-v1",), "env is str"),
    (TorchRLStream, (GymEnv("CartPole-v1"),), {"observation_key": "pixels"}, "is no entry"),
    (TorchRLStream, (GymEnv("CartPole-v1"),), {"frame_stack": 0}, "frame_stack = 0"),
    (TorchRLStream, (GymEnv("CartPole-v1"),), {"stack_padding": "ones"}, "stack_padding = 'ones'"),
    (env, (), {"action_spec": Bounded(-1, 1, (1,))}, "actions of Bounded"),
    (env, (), {"observation_spec": TWO}, "2 entries"),
    (env, (), {"observation_spec": Composite(o=Categorical(5))}, r"shape \[\] and dtype"),
    (step, (np.zeros(1, np.int64),), {"resets": 0}, "call reset"),
    (step, (np.zeros(1, np.int64),), {"sends": 1}, "twice"),
    (step, (np.zeros(2, np.int64),), r"shape \(2,\)"),
    (step, (np.array([2]),), "The action of env 0 is 2"),
    (step, (torch.zeros(1),), "float32"),
    (TorchRLStream(GymEnv("CartPole-v1")).recv, (), "without send"),
    (TorchRLStream(GymEnv("CartPole-v1")).reset, (), {"seed": -1}, "seed = -1"),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: str(call[-1])[:40])
def test_a_wrong_argument_is_answered_with_one_sentence(call):
    function, arguments, *options, what = call
    with pytest.raises(FastDQNError, match=what) as caught:
        function(*arguments, **(options[0] if options else {}))
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message and len(message) < 500, message


def test_without_torchrl_one_sentence_says_so(run_python):
    script = """
import sys
sys.modules["torchrl"] = None
from fastdqn.errors import FastDQNError
try:
    import fastdqn.integrations.torchrl
except FastDQNError as error:
    print(error)
"""
    said = "fastdqn.integrations.torchrl needs TorchRL: pip install torchrl.\n"
    assert run_python(script) == said
