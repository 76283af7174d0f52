"""Every public function answers a wrong argument with one sentence, not from somewhere inside."""

import functools

import gymnasium
import numpy as np
import pytest
import torch
from helpers.head_details import of_head
from helpers.short_runs import envs, tiny
from torch import nn

import fastdqn
from fastdqn import Actor, Batch, Config, Learner, Policy, ReplayBuffer
from fastdqn.acting.evaluation import evaluate
from fastdqn.config.presets import preset
from fastdqn.learning import losses
from fastdqn.learning.categorical_q_learning import CategoricalQLearning
from fastdqn.learning.choose_objective import objective_for
from fastdqn.learning.distribution_losses import (
    categorical_target,
    cross_entropy_loss,
    quantile_huber_loss,
)
from fastdqn.learning.munchausen import Munchausen, munchausen_bonus, soft_value
from fastdqn.learning.perturbation import perturbation_saliency
from fastdqn.learning.q_learning import QLearning
from fastdqn.learning.quantile_q_learning import QuantileQLearning
from fastdqn.networks.make import make_network
from fastdqn.networks.values import CategoricalValues
from fastdqn.plotting.many_runs import plot_curves
from fastdqn.plotting.one_run import plot_returns
from fastdqn.training.schedules import exponential_schedule, linear_schedule

B, A, N = 4, 3, 2
P = torch.full((B, 2), 0.5)
Q, ONES, ACTION = torch.zeros(B, A), torch.ones(B), torch.zeros(B, dtype=torch.int64)
COLUMN = torch.ones(B, 1)
FRAMES = torch.zeros(B, 6)
META = torch.device("meta")


def net():
    return nn.Linear(6, A)


def batch(**changes):
    fields = {
        "observation": FRAMES, "action": ACTION, "reward": ONES, "discount": ONES,
        "next_observation": FRAMES, "weight": ONES, "index": ACTION,
    }  # fmt: skip
    return Batch(**{**fields, **changes})


def head_of(kind):
    return make_network((6,), A, head=kind, hidden_sizes=(4,), **of_head(kind, {"atoms": 11}))


def update(batch, objective=None, network=None):
    Learner(network or net(), objective=objective).update(batch)


def replay(rows=6):
    space = gymnasium.spaces.Box(-1, 1, (6,), np.float32)
    made = ReplayBuffer(64, N, space)
    flags, zeros = np.zeros(N, bool), np.zeros(N, np.float32)
    for i in range(rows):
        step = fastdqn.TimeStep(np.zeros((N, 6), np.float32), zeros, flags, flags, flags | (i == 0))
        made.add(step, np.zeros(N, np.int64))
    return made


def update_from(replay=replay, *args, **options):
    made = replay() if callable(replay) else replay
    Learner(net()).update_from(made, *args, **{"batch_size": 4, **options})


def actor(network=net, num_envs=N, **options):
    return Actor(network() if network is net else network, num_envs, **options)


def set_epsilon(value):
    actor().epsilon = value


def play(policy=None, given=None, **options):
    policy = Policy(net()) if policy is None else policy
    options = {"episodes_per_env": 1, **options}
    evaluate(policy, envs(actions=A, shape=(6,), n=N) if given is None else given, **options)


def train(config=None, tmp_path=None, **parts):
    given = {"envs": envs(actions=A, shape=(6,), n=N), "network": net(), **parts}
    fastdqn.train(tiny(tmp_path / "run") if config is None else config, **given)


def gradient(observation=FRAMES, network=None, **options):
    fastdqn.input_gradient(net() if network is None else network, observation, **options)


def loss_gradient(**changes):
    fields = {"action": ACTION, "reward": ONES, "discount": ONES, "next_observation": FRAMES}
    gradient(of="loss", **{**fields, **changes})


def saliency(frames, network=None, **options):
    perturbation_saliency(nn.Flatten() if network is None else network, frames, **options)


# What is called, with what, and a word of the answer.
CALLS = [
    # Losses and targets: [B] against [B, 1] would be [B, B] in silence.
    (losses.td_error, (Q, ACTION, COLUMN), r"target .* \[4, 1\]"),
    (losses.td_error, (Q, ACTION[:2], ONES), r"action .* \[2\]"),
    (losses.td_error, (Q, ACTION.int(), ONES), "action .* int64"),
    (losses.td_error, (Q.numpy(), ACTION, ONES), "q .* ndarray"),
    (losses.td_error, (Q, [0, 0, 0, 0], ONES), "action .* list"),
    (losses.q_target, (Q, COLUMN, ONES), r"reward .* \[4, 1\]"),
    (losses.q_target, (Q, ONES, 0.99), "discount .* float"),
    (losses.q_target, (ONES, ONES, ONES), r"next_q_target .* \[B, A\]"),
    (losses.double_q_target, (Q, Q[:2], ONES, ONES), r"next_q_target .* \[2, 3\]"),
    (losses.double_q_target, (Q, Q, ONES, COLUMN), r"discount .* \[4, 1\]"),
    (losses.huber_loss, (ONES, 0.0), "delta = 0"),
    (losses.huber_loss, (ONES, "1"), "delta = '1'"),
    (losses.huber_loss, (1.0,), "td_error .* float"),
    (losses.mse_loss, (np.ones(4),), "td_error .* ndarray"),
    (QLearning, {"loss": "mae"}, "loss = 'mae'"),
    (QLearning, {"huber_delta": -1.0}, "huber_delta = -1"),
    # Of distributions and soft policies.
    (categorical_target, (P, COLUMN, ONES, -1.0, 1.0), r"reward .* \[4, 1\]"),
    (categorical_target, (P, ONES, ONES, 1.0, -1.0), "value_min = 1"),
    (cross_entropy_loss, (P, P[:, :1]), r"target .* \[4, 1\]"),
    (quantile_huber_loss, (P, Q, ONES[:3]), r"fractions .* \[3\]"),
    (quantile_huber_loss, (P, Q, [0.5]), "fractions is list"),
    (quantile_huber_loss, (P, Q, ONES[:2], -1.0), "delta = -1"),
    (quantile_huber_loss, (P, Q, ONES[:2], float("inf")), "delta = inf"),
    (munchausen_bonus, (Q, COLUMN.long()), r"action .* \[4, 1\]"),
    (soft_value, (Q, [1.0]), "values is list"),
    (Munchausen, {"temperature": 0.0}, "munchausen_temperature = 0"),
    (Munchausen, {"policy": "both"}, "munchausen_policy = 'both'"),
    (CategoricalQLearning, (CategoricalValues(),), {"double": 1}, "double = 1"),
    (QuantileQLearning, {"huber_delta": 0.0}, "huber_delta = 0"),
    (QuantileQLearning, {"samples": 0}, "iqn_samples = 0"),
    (QuantileQLearning, {"policy_samples": "8"}, "iqn_policy_samples = '8'"),
    (objective_for, (head_of("c51"),), {"munchausen": Munchausen()}, "munchausen is not defined"),
    (objective_for, (head_of("c51"),), {"munchausen": True}, "munchausen = True has the wrong"),
    (QLearning, {"munchausen": True}, r"munchausen = True .*\.Munchausen\("),
    (QuantileQLearning, {"munchausen": {"alpha": 0.9}}, "munchausen = .* wrong type"),
    (objective_for, (head_of("qr"),), {"loss": "mse"}, "loss = 'mse' is for Q itself"),
    (update, (batch(), QuantileQLearning()), r"\[4, 3\].*use a network with head = 'c51'"),
    (update, (batch(), CategoricalQLearning(CategoricalValues()), head_of("c51")), "atoms=11"),
    # The learner.
    (Learner, (nn.Linear,), "an instance"),
    (Learner, (net,), "a function"),
    (Learner, (net(),), {"learning_rate": "1e-3"}, "learning_rate = '1e-3'"),
    (Learner, (net(),), {"learning_rate": -1.0}, "learning_rate = -1"),
    (Learner, (net(),), {"target_tau": 2.0}, "target_tau = 2"),
    (Learner, (net(),), {"random_shift": -1}, "random_shift = -1"),
    (Learner, (net(),), {"random_shift": 0.5}, "random_shift = 0.5"),
    (Learner, (net(),), {"target_period_updates": 0}, "target_period_updates = 0"),
    (Learner, (net(),), {"max_grad_norm": 0.0}, "max_grad_norm = 0"),
    (Learner, (net(),), {"updates_per_launch": 0}, "updates_per_launch = 0"),
    (Learner, (net(),), {"optimizer": "sgd"}, "optimizer = 'sgd'"),
    (Learner, (net(),), {"optimizer": None}, "optimizer = None"),
    (Learner, (net(),), {"device": "gpu"}, "device = 'gpu'"),
    (Learner, (net(),), {"device": 3}, "device = '?3"),
    (Learner, (net(),), {"seed": 0.5}, "seed = 0.5"),
    (Learner, (net(),), {"mode": "fast"}, "mode = 'fast'"),
    (Learner, (net(),), {"precision": "fp16"}, "precision = 'fp16'"),
    (Learner, (net(),), {"objective": "dqn"}, "objective .* forwards"),
    (Learner, (net(),), {"objective": QLearning}, "instance"),
    (Learner(net()).set_learning_rate, ("fast",), "learning_rate = 'fast'"),
    (Learner(net()).sync_target, (2.0,), "tau = 2"),
    (update, ({"reward": 1},), "batch is dict"),
    (update, (batch()[:4],), "batch is tuple"),
    (update, (batch(reward=COLUMN),), r"batch\.reward .* \[4, 1\]"),
    (update, (batch(weight=ONES[:2]),), r"batch\.weight .* \[2\]"),
    (update, (batch(reward=ONES.double()),), "make it torch.float32"),
    (update, (batch(action=ACTION.int()),), "make it torch.int64"),
    (update, (batch(action=COLUMN.long()),), r"batch\.action .* \[4, 1\]"),
    (update, (batch(action=ACTION + A),), r"batch\.action holds 3"),
    (update, (batch(action=ACTION - 1),), r"batch\.action holds -1"),
    (update, (batch(reward=np.ones(4)),), r"batch\.reward .* torch\.as_tensor"),
    (update, (batch(discount=ONES.to(META)),), r"batch\.discount is on meta"),
    (update, (batch(observation=FRAMES[:2]),), r"batch\.observation .* \[2, 6\]"),
    (update, (batch(next_observation=FRAMES[:, :5]),), r"batch\.next_observation .* \[4, 5\]"),
    (update, (batch(observation=FRAMES.double(), next_observation=FRAMES.double()),), "float64"),
    (update, (batch(observation=FRAMES[:, :5], next_observation=FRAMES[:, :5]),), "does not take"),
    (update_from, (lambda: "replay",), "replay is str"),
    (update_from, (lambda: replay(1),), "add more steps"),
    (update_from, (replay, "2"), "times = '2'"),
    (update_from, (), {"batch_size": 0}, "batch_size = 0"),
    (update_from, (), {"batch_size": 2.5}, "batch_size = 2.5"),
    (update_from, (), {"beta": "1"}, "beta = '1'"),
    (update_from, (), {"beta": torch.ones(3)}, r"beta .* \[3\]"),
    # Acting.
    (actor, (nn.Linear,), "an instance"),
    (actor, (net, 0), "num_envs = 0"),
    (actor, (net, "2"), "num_envs = '2'"),
    (actor, (net, N), {"device": "gpu"}, "device = 'gpu'"),
    (actor, (net, N), {"mode": "fast"}, "mode = 'fast'"),
    (actor, (net, N), {"seed": "one"}, "seed = 'one'"),
    (actor().act, (torch.zeros(3, 6),), r"observation .* \[3, 6\]"),
    (actor().act, (np.zeros((N, 6)),), "observation .* ndarray"),
    (actor().act, (torch.zeros(N, 6, device=META),), "observation .* meta"),
    (actor().act, (torch.zeros(N, 5),), r"does not take .* \(1, 5\)"),
    (actor().act_from, ("replay",), "replay is str"),
    (actor(net, 3).act_from, (replay(),), "2 envs"),
    (set_epsilon, (torch.zeros(3),), r"epsilon .* \[3\]"),
    (set_epsilon, (1.5,), "epsilon = 1.5"),
    (set_epsilon, ("all",), "epsilon = 'all'"),
    (play, (net(),), r"Policy\(network\)"),
    (play, ("policy",), "policy is str"),
    (play, (None, "CartPole-v1"), r"fastdqn\.make_envs\('CartPole-v1'"),
    (play, (None, 3), "envs is int"),
    (play, (), {"episodes_per_env": 0}, "episodes_per_env = 0"),
    (play, (), {"episodes_per_env": 1.5}, "episodes_per_env = 1.5"),
    (play, (), {"epsilon": 2.0}, "epsilon = 2"),
    (play, (), {"epsilon": "0"}, "epsilon = '0'"),
    (play, (), {"epsilon": torch.zeros(3)}, r"epsilon .* \[3\]"),
    (play, (), {"max_env_steps": -1}, "max_env_steps = -1"),
    (play, (), {"patience_env_steps": -1}, "patience_env_steps = -1"),
    (play, (), {"seed": "one"}, "seed = 'one'"),
    (play, (), {"stop": True}, "stop = True"),
    (fastdqn.load, (None,), "path = None"),
    (fastdqn.load, (__file__,), "is a file"),
    (fastdqn.load, ("nowhere",), "does not exist"),
    (fastdqn.load, ("nowhere",), {"device": "gpu"}, "device = 'gpu'"),
    (fastdqn.load, ("nowhere",), {"checkpoint": "newest"}, "checkpoint = 'newest'"),
    (fastdqn.load, ("nowhere",), {"network": nn.Linear}, "an instance"),
    # Runs.
    (train, ("cartpol",), r"config = 'cartpol' is neither .*did you mean 'cartpole'"),
    (train, ("no such",), "no env 'no such'"),
    (train, ("CartPol-v1",), "did you mean 'CartPole-v1'"),
    (train, ("",), "no env ''"),
    (train, ({"num_envs": 2},), r"Config\(\*\*config\)"),
    (train, (Config,), r"Config\(\)"),
    (train, (), {"envs": "CartPole-v1"}, "envs = 'CartPole-v1' .* env_id"),
    (train, (), {"envs": 4}, "int is not a .*VectorEnv"),
    (train, (), {"eval_envs": 4}, "int is not a .*VectorEnv"),
    (train, (), {"network": "mlp"}, "no torch.nn.Module but str"),
    (train, (), {"objective": "dqn"}, "forwards"),
    (train, (), {"on_log": "print"}, "on_log = 'print'"),
    (train, (), {"on_log": fastdqn.Callback()}, "in callbacks"),
    (train, (), {"callbacks": "print"}, "callbacks = 'print' is no list"),
    (train, (), {"callbacks": [print]}, "as on_log"),
    (train, (), {"callbacks": fastdqn.Callback}, "is no list"),
    (train, (), {"callbacks": [fastdqn.Callback]}, r"Callback\(\.\.\.\)"),
    (train, (), {"initial": 3}, "initial = 3"),
    (fastdqn.make_envs, (3,), "VectorEnv"),
    (fastdqn.make_envs, ("CartPole-v1", 0), "num_envs = 0"),
    (fastdqn.make_envs, ("CartPol-v1",), "CartPol"),
    (fastdqn.make_envs, ("CartPole-v1",), {"seed": "one"}, "seed"),
    (fastdqn.make_envs, ("CartPole-v1",), {"vectorization": "threads"}, "vectorization"),
    (preset, ("cartpol",), "did you mean 'cartpole'"),
    (Config, {"num_envs": "2"}, "num_envs = '2'"),
    (Config.load, ("nowhere.json",), "nowhere"),
    (Config.from_json, ("[]",), "JSON"),
    (Config().replace, {"env": "x"}, "'env'"),
    # Networks and what they look at.
    (make_network, (6, A), "observation_shape = 6"),
    (make_network, ((6.5,), A), "observation_shape"),
    (make_network, ((6,), 0), "num_actions = 0"),
    (make_network, ((6,), "3"), "num_actions = '3'"),
    (make_network, ((6,), A), {"kind": "cnn"}, "'cnn' must be one of"),
    (make_network, ((6,), A), {"hidden_sizes": 64}, "hidden_sizes = 64"),
    (make_network, ((6,), A), {"hidden_sizes": (0,)}, "hidden_sizes"),
    (make_network, ((6,), A), {"frame_stack": 0}, "frame_stack = 0"),
    (make_network, ((36, 36), A), {"kind": "impala", "impala_width": 0}, "impala_width = 0"),
    (make_network, ((6,), A), {"head": "c52"}, "head = 'c52' must be one of"),
    (make_network, ((6,), A), {"head": "c51", "atoms": 1}, "atoms = 1 is out of range"),
    (make_network, ((6,), A), {"quantile": 8}, "quantile is no argument .*quantiles"),
    (make_network, ((6,), A), {"noisy": 1}, "noisy = 1"),
    (make_network, ((6,), A), {"padding": "same"}, "padding = 'same' is for network = 'nature'"),
    (make_network, ((6,), A), {"init": "zeros"}, "init = 'zeros' must be one of"),
    (gradient, ("frames",), "observation is str"),
    (gradient, (FRAMES[:, :5],), "does not take"),
    (gradient, (FRAMES.long(),), "int64"),
    (gradient, (FRAMES, "net"), "no torch.nn.Module but str"),
    (gradient, (), {"action": ACTION[:2]}, r"action .* \(2,\)"),
    (gradient, (), {"action": ACTION + A}, "action"),
    (gradient, (), {"action": [0] * B}, "action is list"),
    (gradient, (), {"of": "v"}, "of = 'v'"),
    (loss_gradient, {"reward": COLUMN}, "reward"),
    (loss_gradient, {"discount": 0.99}, "discount is float"),
    (loss_gradient, {"next_observation": FRAMES[:2]}, "next_observation"),
    (loss_gradient, {"next_observation": FRAMES[:, :5]}, "next_observation"),
    (saliency, (FRAMES,), "no pictures"),
    (saliency, ("frames",), "frames is str"),
    (saliency, (torch.zeros(1, 8, 8),), {"stride": "5"}, "stride = '5'"),
    (saliency, (torch.zeros(1, 8, 8),), {"blur_sigma": 0}, "blur_sigma = 0"),
    (saliency, (torch.zeros(1, 8, 8), net()), "does not take"),
    # Schedules and pictures.
    (linear_schedule, ("0", 1.0, 0.0, 0, 10), "step = '0'"),
    (linear_schedule, (0, 1.0, None, 0, 10), "end = None"),
    (exponential_schedule, (0, 1.0, 0.0, 0, 0), "duration = 0"),
    (exponential_schedule, (0, 1.0, 0.0, 0, "10"), "duration = '10'"),
    (plot_returns, (None,), "run_dir = None"),
    (plot_curves, ([], "x.png"), "runs is empty"),
    (plot_curves, (["nowhere"], "x.png"), "read_run"),
]  # fmt: skip


def _row(function, *rest):
    *given, said = rest
    args = next((x for x in given if isinstance(x, tuple)), ())
    return function, args, next((x for x in given if isinstance(x, dict)), {}), said


@pytest.mark.parametrize(
    ("function", "args", "options", "said"),
    [_row(*row) for row in CALLS],
    ids=[f"{getattr(row[0], '__name__', row[0])}-{row[-1]}" for row in CALLS],
)
def test_a_wrong_argument_is_answered_in_one_sentence(tmp_path, function, args, options, said):
    if function is train:
        function = functools.partial(train, tmp_path=tmp_path)
    with pytest.raises(fastdqn.FastDQNError, match=said) as refused:
        function(*args, **options)
    text = str(refused.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 600
    assert not list(tmp_path.iterdir())
