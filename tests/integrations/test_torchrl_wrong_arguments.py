"""Whatever is passed wrongly to the integration of TorchRL is answered by one sentence of ours."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, LazyTensorStorage, OneHot, TensorDictReplayBuffer
from torchrl.envs import GymEnv, SerialEnv

from fastdqn.errors import FastDQNError
from fastdqn.integrations.torchrl import (
    DQNLossModule,
    FrameReplayBuffer,
    SumTreeSampler,
    TorchRLStream,
    q_value_actor,
)
from fastdqn.networks.make import make_network

N, T, ROWS = 2, 5, 10


@pytest.fixture(scope="module")
def env():
    return GymEnv("CartPole-v1")


@pytest.fixture(scope="module")
def network():
    return make_network((4,), 2, hidden_sizes=(8,))


def steps(**changes):
    """[N, T]; ``next__reward`` changes an entry of ``next``."""
    frames, off = torch.randn(N, T + 1, 4), torch.zeros(N, T, 1, dtype=torch.bool)
    action = torch.nn.functional.one_hot(torch.randint(0, 2, (N, T)), 2)
    following = {"observation": frames[:, 1:], "reward": torch.ones(N, T, 1), "done": off,
                 "terminated": off, "truncated": off}  # fmt: skip
    data = TensorDict(
        {"observation": frames[:, :-1], "action": action, "next": TensorDict(following, [N, T])},
        [N, T],
    )
    for name, value in changes.items():
        data.set(tuple(name.split("__")), value)
    return data


def replay(env):
    made = FrameReplayBuffer(100, N, env.observation_spec, batch_size=4)
    made.extend(steps())
    return made


def sampler():
    made = SumTreeSampler(ROWS)
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(ROWS), sampler=made, batch_size=4)
    buffer.extend(TensorDict({"a": torch.arange(ROWS)}, [ROWS]))
    return made, buffer.storage


def refused(call, *arguments, **keywords):
    with pytest.raises(FastDQNError) as caught:
        call(*arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


ROWS_AND_PRIORITIES = [
    ("x", 1.0), (None, 1.0), (1.5, 1.0), (torch.tensor([1.5]), 1.0), ([True], 1.0), ({}, 1.0),
    ([[1], [1, 2]], 1.0), (0, "x"), (0, None), (0, 1j), (10**6, 1.0),
    (torch.arange(3), torch.rand(2)),
]  # fmt: skip


@pytest.mark.parametrize(("index", "priority"), ROWS_AND_PRIORITIES)
def test_rows_and_priorities(env, index, priority):
    made = sampler()[0]
    before = made.leaves.clone()
    refused(made.update_priority, index, priority)
    assert torch.equal(made.leaves, before)
    refused(replay(env).update_priority, index, priority)


def test_rows_of_unequal_parts():
    refused(sampler()[0].update_priority, (torch.arange(2), torch.arange(3)), 1.0)
    refused(sampler()[0].mark_update, 1.5)


@pytest.mark.parametrize("size", [0, -1, "x", 1.5])
def test_batch_size_of_a_sampler(size):
    made, storage = sampler()
    refused(made.sample, storage, size)


@pytest.mark.parametrize("value", ["x", torch.tensor(1j), None, [0.5]])
def test_exponents(value):
    refused(SumTreeSampler, ROWS, value)
    refused(setattr, sampler()[0], "beta", value)


@pytest.mark.parametrize(
    "change",
    [None, {}, {"leaves": 3}, {"leaves": "x"}, {"alpha": "x"}, {"alpha": 5.0}, {"largest": "x"},
     {"leaves": torch.full((ROWS,), -1.0)}, {"leaves": torch.full((ROWS,), torch.nan)}],
)  # fmt: skip
def test_states_of_a_sampler(change):
    made = sampler()[0]
    before = made.state_dict()
    refused(made.load_state_dict, {**before, **change} if change else change)
    assert made.alpha == before["alpha"] and torch.equal(made.leaves, before["leaves"])


def test_paths(env, tmp_path):
    (tmp_path / "file").write_text("")
    for made in (sampler()[0], replay(env)):
        for path in (None, 3):
            refused(made.dumps, path)
            refused(made.loads, path)
        assert "file" in refused(made.dumps, tmp_path / "file")
        made.dumps(tmp_path / type(made).__name__ / "of" / "several")
        made.loads(tmp_path / type(made).__name__ / "of" / "several")


@pytest.mark.parametrize(
    "changes",
    [{"next__reward": torch.zeros(N, T, 3)}, {"next__done": torch.zeros(N, T, 2)},
     {"next": torch.zeros(N, T)}, {"td_error": torch.ones(N, T, 3)},
     {"td_error": torch.ones(N, T, dtype=torch.complex64)}, {"action": torch.rand(N, T, 2)},
     {"action": torch.ones(N, T, 2, dtype=torch.int64)}],
)  # fmt: skip
def test_steps_leave_the_replay_as_it_was(env, changes):
    made = replay(env)
    before = len(made), made.write_count
    refused(made.extend, steps(**changes))
    assert (len(made), made.write_count) == before


@pytest.mark.parametrize(
    "change",
    [{"index": torch.rand(4)}, {"index": TensorDict({}, [4])},
     {"td_error": TensorDict({}, [4])}, {"td_error": torch.ones(4, dtype=torch.complex64)}],
)  # fmt: skip
def test_samples(env, change):
    made = replay(env)
    refused(made.update_tensordict_priority, None)
    batch = made.sample().set("td_error", torch.ones(4, 1)).update(change)
    refused(made.update_tensordict_priority, batch)


@pytest.mark.parametrize("change", [None, {"actions": None}, {"actions": {}}, {"replay": {}}])
def test_states_of_a_replay(env, change):
    made = replay(env)
    refused(made.load_state_dict, {**made.state_dict(), **change} if change else change)


def test_seeds(env, network):
    refused(FrameReplayBuffer, 100, N, env.observation_spec, seed=2**70)
    refused(DQNLossModule, network, seed=-1)


def test_actors(env, network):
    spec = env.action_spec
    for wrong in ("x", Bounded(-1, 1, (2,)), Composite(), 3):
        refused(q_value_actor, network, wrong)
    refused(q_value_actor, network, action_space="x")
    refused(q_value_actor, network, spec, distributional="x")
    actor = q_value_actor(network, spec)
    assert q_value_actor(network, Composite(action=OneHot(2))).spec is not None
    refused(actor, TensorDict({}, [3]))
    for call in (lambda: q_value_actor(actor, spec), lambda: DQNLossModule(actor)):
        assert "QValueActor" in refused(call)


def test_losses(network):
    loss = DQNLossModule(network, delay_value=False)
    assert "gamma" in refused(loss.make_value_estimator, gamma=0.9)
    two = torch.ones(N, T, 2)
    refused(loss, None)
    refused(loss, steps(next=two).reshape(-1))
    for name in ("next__reward", "next__terminated", "priority_weight", "gamma",
                 "steps_to_next_obs"):  # fmt: skip
        refused(loss, steps(**{name: two}).reshape(-1))


def test_actions_of_a_stream():
    stream = TorchRLStream(SerialEnv(2, lambda: GymEnv("CartPole-v1")))
    stream.reset(seed=1)
    refused(stream.step, [[0], [1, 2]])
    stream.close()
