"""Whatever is wrong in the place of an argument: one sentence, or it is taken.

Each argument of each public call is replaced by some thirty values in turn. Many of them are right
somewhere, so what is asserted is how a refusal looks. test_public_calls.py says which are refused.
"""

import warnings

import numpy as np
import pytest
import torch
from helpers.wrong_values import wrong_for
from torch import nn

import fastdqn
from fastdqn import Actor, Batch, Learner, Policy, TimeStep, learning, networks
from fastdqn.errors import FastDQNError

B, A, N = 4, 3, 2
P, Q = torch.full((B, 2), 0.5), torch.zeros(B, A)
ONES, ACTION = torch.ones(B), torch.zeros(B, dtype=torch.int64)
FRAMES, FLAGS = torch.zeros(B, 6), np.zeros(N, bool)
IMAGE = {"channels": 1, "height": 36, "width": 36, "hidden": 4, "beside": 0}


def net():
    return nn.Linear(6, A)


def update(**fields):
    batch = Batch(FRAMES, ACTION, ONES, ONES, FRAMES, ONES, ACTION)
    Learner(net()).update(batch._replace(**fields))


def count(**fields):
    step = TimeStep(np.zeros((N, 6), np.float32), np.zeros(N, np.float32), *[FLAGS] * 3)
    fastdqn.EpisodeStatistics(N).add(step._replace(**fields))


def stream(env_id="fastdqn/CartPole-v1"):
    made = fastdqn.make_envs(env_id, N)
    made.reset()
    return made


def play(**changes):
    given = {"policy": Policy(nn.Linear(4, 2)), "envs": stream(), **changes}
    fastdqn.evaluate(given.pop("policy"), given.pop("envs"), **{"max_env_steps": 20, **given})


def set_epsilon(epsilon):
    Actor(net(), N).epsilon = epsilon


def of(make, method):
    """A method of something made anew for each call."""
    return lambda **arguments: getattr(make(), method)(**arguments)


def state(make):
    return {"state": make().state_dict()}


def learner():
    return Learner(net())


def actor():
    return Actor(net(), N)


def statistics():
    return fastdqn.EpisodeStatistics(N)


CALLS = {
    learning.q_target: {"next_q_target": Q, "reward": ONES, "discount": ONES},
    learning.double_q_target: {
        "next_q_online": Q, "next_q_target": Q, "reward": ONES, "discount": ONES
    },
    learning.td_error: {"q": Q, "action": ACTION, "target": ONES},
    learning.huber_loss: {"td_error": ONES, "delta": 1.0},
    learning.mse_loss: {"td_error": ONES},
    learning.categorical_target: {
        "probabilities": P, "reward": ONES, "discount": ONES, "value_min": -1.0, "value_max": 1.0
    },
    learning.cross_entropy_loss: {"logits": P, "target": P},
    learning.quantile_huber_loss: {
        "quantiles": P, "target": Q, "fractions": torch.tensor([0.25, 0.75]), "delta": 1.0
    },
    learning.munchausen_bonus: {
        "q": Q, "action": ACTION, "alpha": 0.9, "temperature": 0.03, "clip": -1.0
    },
    learning.soft_value: {"q": Q, "values": Q, "temperature": 0.03},
    learning.Munchausen: {"alpha": 0.9, "temperature": 0.03, "clip": -1.0, "policy": "target"},
    learning.QLearning: {"double": True, "loss": "huber", "huber_delta": 1.0, "munchausen": None},
    learning.CategoricalQLearning: {"values": networks.CategoricalValues(), "double": True},
    learning.QuantileQLearning: {
        "double": True, "huber_delta": 1.0, "munchausen": None, "implicit": False, "samples": 8,
        "target_samples": 8, "policy_samples": 8,
    },
    learning.objective_for: {
        "network": net(), "loss": "huber", "samples": 8, "policy_samples": None, "munchausen": None
    },
    learning.perturbation_saliency: {
        "network": nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), "frames": torch.zeros(1, 1, 8, 8)
    },
    fastdqn.input_gradient: {
        "network": net(), "observation": FRAMES, "action": ACTION, "of": "loss", "reward": ONES,
        "discount": ONES, "next_observation": FRAMES, "target_network": None, "double": True,
        "loss": "huber", "huber_delta": 1.0, "objective": None,
    },
    fastdqn.make_network: {
        "observation_shape": (6,), "num_actions": 3, "kind": "mlp", "frame_stack": None,
        "image": None, "hidden_sizes": (8,), "dueling": False, "head": "scalar", "noisy": False,
    },
    networks.QNetwork: {
        "torso": networks.MLP(6, (8,)), "head": networks.LinearHead(8, 3), "encoder": None,
        "values": networks.ScalarValues(), "embedding": None,
    },
    networks.MLP: {"inputs": 6, "hidden_sizes": (8,)},
    networks.NatureCNN: {**IMAGE, "padding": "valid"},
    networks.DataEfficientCNN: {**IMAGE, "padding": "valid"},
    networks.SmallCNN: IMAGE,
    networks.ImpalaCNN: {**IMAGE, "multiplier": 1},
    networks.SmallResNet: {**IMAGE, "multiplier": 1},
    networks.BatchNormCNN: {"channels": 3, "height": 40, "width": 60},
    networks.LinearHead: {"features": 8, "num_actions": 3, "numbers": None},
    networks.DuelingHead: {"features": 8, "num_actions": 3, "numbers": None},
    networks.CategoricalValues: {"value_min": -1.0, "value_max": 1.0, "atoms": 5},
    networks.QuantileValues: {"quantiles": 5},
    networks.NoisyLinear: {"in_features": 4, "out_features": 2, "sigma": 0.5},
    networks.CosineEmbedding: {"features": 8, "cosines": 4, "samples": 4, "cvar": 1.0, "first": 1},
    fastdqn.linear_schedule: {"step": 1, "start": 1.0, "end": 0.0, "begin": 0, "duration": 10},
    fastdqn.exponential_schedule: {"step": 1, "start": 1.0, "end": 0.0, "begin": 0, "duration": 9},
    fastdqn.EpisodeStatistics: {"num_envs": 2, "window": 5},
    count: {"reward": np.zeros(N, np.float32), "first": FLAGS, "reset": FLAGS},
    Policy: {
        "network": net(), "frame_stack": None, "stack_padding": "zero", "action_start": 0,
        "device": "cpu", "autocast": False, "seed": 0, "lowered": None, "spaces": None,
        "reader": None, "envs": None,
    },
    of(lambda: Policy(net()), "act"): {
        "observation": np.zeros((N, 6), np.float32), "first": FLAGS, "epsilon": 0.5
    },
    play: {
        "policy": Policy(nn.Linear(4, 2)), "envs": None, "episodes_per_env": 1, "epsilon": 0.0,
        "max_env_steps": 20, "patience_env_steps": None, "seed": 0,
    },
    fastdqn.make_envs: {"env": "fastdqn/CartPole-v1", "num_envs": 2, "seed": 0},
    of(stream, "step"): {"actions": torch.zeros(N, dtype=torch.int64)},
    of(lambda: stream("CartPole-v1"), "step"): {"actions": np.zeros(N, np.int64)},
    of(stream, "reset"): {"seed": 1},
    fastdqn.AtariProtocol: {
        "name": "machado", "repeat_action_probability": 0.25, "life_loss": False, "noop_max": 30,
        "frame_skip": 4, "frame_size": 84, "max_episode_frames": 100, "full_action_space": False,
    },
    Learner: {
        "network": net(), "objective": None, "double": True, "loss": "huber", "huber_delta": 1.0,
        "random_shift": 0, "learning_rate": 1e-3, "max_grad_norm": None, "target_tau": 1.0,
        "target_period_updates": 100, "precision": "fp32", "mode": "eager", "device": "cpu",
        "updates_per_launch": 1, "expected_updates": None, "seed": 0, "reduce_gradients": None,
        "compile_backend": "inductor",
    },
    update: {
        "observation": FRAMES, "action": ACTION, "reward": ONES, "discount": ONES,
        "next_observation": FRAMES, "weight": ONES,
    },
    of(learner, "set_learning_rate"): {"learning_rate": 1e-3},
    of(learner, "sync_target"): {"tau": 1.0},
    of(learner, "load_state_dict"): state(learner),
    of(actor, "load_state_dict"): state(actor),
    of(statistics, "load_state_dict"): state(statistics),
    Actor: {
        "network": net(), "num_envs": 2, "device": "cpu", "autocast": False, "to_host": True,
        "mode": "eager", "seed": 0, "compile_backend": "inductor",
    },
    of(actor, "act"): {"observation": torch.zeros(N, 6)},
    of(actor, "act_from"): {"replay": None},
    set_epsilon: {"epsilon": 0.5},
    fastdqn.load: {"path": "nowhere", "device": "cpu", "checkpoint": "latest", "network": None},
    fastdqn.Config().replace: {"num_envs": 8, "env_id": "CartPole-v1", "hidden_sizes": (8,)},
    fastdqn.Config.from_json: {"text": "{}"},
    fastdqn.Config.load: {"path": "nowhere"},
    fastdqn.config_for: {"env_id": "CartPole-v1"},
    fastdqn.ReplayBuffer.plan: {
        "capacity": 64, "num_envs": 2, "batch_size": 4, "frame_stack": None, "n_step": 1,
        "device": "cpu", "observation_space": None,
    },
}  # fmt: skip


def refusal(call, arguments):
    """The message by which a call is refused; None where it is not."""
    try:
        call(**arguments)
    except FastDQNError as error:
        return str(error)
    return None


@pytest.mark.parametrize("call", CALLS, ids=lambda call: getattr(call, "__qualname__", str(call)))
def test_what_is_wrong_is_refused_by_one_sentence(call):
    right, wrong = CALLS[call], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd and taken may be warned of
        for name, value in right.items():
            for what, given in wrong_for(value).items():
                try:
                    message = refusal(call, {**right, name: given})
                except Exception as error:  # any: it is what must not be
                    wrong.append(f"{name}, {what}: {type(error).__name__}: {error}"[:200])
                    continue
                if message is not None and (not message.endswith(".") or "\n" in message):
                    wrong.append(f"{name}, {what}: no sentence: {message}"[:200])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: getattr(call, "__qualname__", str(call)))
def test_something_is_refused_for_every_argument(call):
    right = CALLS[call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in right:
            messages = [refusal(call, {**right, name: given}) for given in (object(), b"x", {1})]
            assert all(messages), f"{name}: {messages}"
