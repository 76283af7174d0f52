"""The parts of a step on a CPU, in every configuration that a graph is captured of."""

import numpy as np
import torch
from gymnasium.spaces import Box
from helpers.head_details import of_head
from helpers.random_network import FourForwards, RandomQ
from helpers.tape import RepeatedStep, TapedStep

import fastdqn.acting.actor
import fastdqn.learning.learner
import fastdqn.replay.buffer
import fastdqn.replay.buffer_torch
import fastdqn.replay.captured_add
import fastdqn.replay.writer
from fastdqn.acting.actor import Actor
from fastdqn.learning.choose_objective import objective_for
from fastdqn.learning.learner import Learner
from fastdqn.learning.munchausen import Munchausen
from fastdqn.networks.make import make_network
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.system.staging import HostStaging, as_tensor
from fastdqn.training.episode_statistics import EpisodeStatistics
from fastdqn.types import TimeStep


def tensors_of(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_of(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from tensors_of(item)


SIZES = {"atoms": 5, "quantiles": 4, "iqn_cosines": 4, "iqn_policy_samples": 3}
SAMPLES = {"samples": 4, "target_samples": 2, "policy_samples": 3}


def make_parts(stack, n_step=1, kind="auto", mode="eager", network=None, **learner):
    """``network`` are arguments of ``make_network``, what is left those of the learner."""
    n, prioritized = 4, learner.pop("prioritized", True)
    munchausen = Munchausen() if learner.pop("munchausen", False) else None
    shape, dtype, high = ((36, 36), np.uint8, 255) if stack else ((3,), np.float32, 1)
    space = Box(0, high, shape, dtype)
    fast = {"mode": mode, "compile_backend": "aot_eager"}
    replay = ReplayBuffer(
        400, n, space, frame_stack=stack, n_step=n_step, prioritized=prioritized,
        reward_clip=0.8, **fast,
    )  # fmt: skip
    torch.manual_seed(0)
    if kind == "random":
        network = RandomQ(shape[0], 3)
        learner["objective"] = FourForwards()
    else:
        options = {"hidden_sizes": (16,), "dueling": True, **SIZES, **(network or {})}
        options = of_head(options.get("head", "scalar"), options)
        network = make_network(shape, 3, frame_stack=stack, image=bool(stack), kind=kind, **options)
        if munchausen or network.values.numbers or network.implicit:
            learner["objective"] = objective_for(network, munchausen=munchausen, **SAMPLES)
    learner = Learner(network, **{"precision": "fp32", "updates_per_launch": 2, **fast, **learner})
    actor = Actor(learner.acting_network, n, **fast)
    episodes = EpisodeStatistics(n, 10)
    g = torch.Generator().manual_seed(0)

    def step(first=False, two=False):
        def frame():
            if stack:
                return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=g)
            return torch.rand((n, *shape), generator=g)

        flags = torch.rand((4, n), generator=g) < 0.2
        none = torch.zeros(n, dtype=torch.bool)
        return TimeStep(
            frame(),
            torch.rand(n, generator=g),
            flags[0],
            flags[1],
            none if two else (~none if first else flags[2]),
            frame() if two else None,
            flags[3] if two else None,
        )

    replay.add(step(first=True), None)
    for i in range(30):
        replay.add(step(two=i % 2 == 0), torch.zeros(n, dtype=torch.int64))
    return replay, learner, actor, episodes, step


class Staging(HostStaging):
    """As for a GPU: whatever comes is copied to where it always lies."""

    def __call__(self, arrays):
        self.fixed = True
        return list(self._move([as_tensor(array) for array in arrays]))


def capture_on_tape(monkeypatch, *, compiled=False):
    """Let ``mode="graph"`` record tapes on a CPU, or compile and repeat its steps."""
    stand_ins = {
        "CapturedStep": RepeatedStep if compiled else TapedStep,
        "resolve_mode": lambda mode, *_, **__: mode,
    }
    if not compiled:
        stand_ins["compile_pure"] = lambda function, *_, **__: function
    for module in (
        fastdqn.acting.actor, fastdqn.learning.learner, fastdqn.replay.buffer,
        fastdqn.replay.buffer_torch, fastdqn.replay.captured_add,
    ):  # fmt: skip
        for name in stand_ins.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, stand_ins[name])
    monkeypatch.setattr(fastdqn.replay.writer, "HostStaging", Staging)


def with_rate_on_device(learner):
    """The step size as a tensor, as on CUDA."""
    rate = learner._optimizer.learning_rate
    learner._optimizer.learning_rate = torch.tensor(float(rate))
    return learner


CASES = {
    "vectors": {"stack": None},
    "images": {"stack": 4},
    "uniform": {"stack": None, "prioritized": False},
    "n-step": {"stack": 4, "n_step": 3},
    "norm": {"stack": None, "max_grad_norm": 1.0},
    "value": {"stack": None, "max_grad_value": 1.0},
    "polyak": {"stack": None, "target_period_updates": 1, "target_tau": 0.01},
    "no target": {"stack": None, "target_period_updates": None, "double": False},
    "mse": {"stack": None, "loss": "mse"},
    "bf16": {"stack": 4, "precision": "bf16"},
    "moved": {"stack": 4, "random_shift": 2, "prioritized": False},
    "layer norm": {"stack": 4, "kind": "small_resnet", "network": {"layer_norm": True}},
    "rmsprop": {"stack": None, "optimizer": "rmsprop", "max_grad_norm": 1.0},
    "batch norm": {"stack": None, "kind": "mlp", "network": {"batch_norm": True}},
    "random numbers": {"stack": None, "kind": "random"},
    "residual": {"stack": 4, "kind": "impala", "prioritized": False},
    "c51": {"stack": None, "network": {"head": "c51", "dueling": False}},
    "qr": {"stack": None, "network": {"head": "qr"}},
    "iqn": {"stack": None, "network": {"head": "iqn", "iqn_cvar": 0.5}},
    "munchausen": {"stack": None, "network": {"head": "iqn"}, "munchausen": True},
    "noisy": {"stack": None, "network": {"noisy": True}},
    "rainbow": {"stack": None, "n_step": 3, "network": {"head": "c51", "noisy": True}},
    "low noise": {
        "stack": 4, "kind": "der", "precision": "bf16", "network": {"head": "iqn", "noisy": True},
    },
}  # fmt: skip
