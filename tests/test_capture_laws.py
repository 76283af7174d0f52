"""What a CUDA graph forbids, checked without a GPU.

Every operator of a whole step (add, latest, act; sample, update, write-back) passes through a
dispatch mode on the CPU. It fails on a read of device data by the host, on shapes that depend on
data, on tensors made from host data, and on state that moves to another address.
"""

import copy
import gc

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch.utils._python_dispatch import TorchDispatchMode

from fastdqn.actor import Actor
from fastdqn.compilation import no_collection, unchanged
from fastdqn.learner import Learner
from fastdqn.metrics import EpisodeStatistics
from fastdqn.networks import make_network
from fastdqn.replay import ReplayBuffer
from fastdqn.types import TimeStep

pytestmark = pytest.mark.usefixtures("in_torch")

aten = torch.ops.aten
FORBIDDEN = {
    aten._local_scalar_dense: "reads a value on the host",
    aten.equal: "compares on the host",
    aten.is_nonzero: "decides on the host",
    aten.nonzero: "has a shape that depends on data",
    aten.nonzero_static: "has a shape that depends on data",
    aten.masked_select: "has a shape that depends on data",
    aten.repeat_interleave: "has a shape that depends on data",
    aten.bincount: "has a shape that depends on data",
    aten.unique_consecutive: "has a shape that depends on data",
    aten._unique2: "has a shape that depends on data",
    aten.unique_dim: "has a shape that depends on data",
    aten.lift_fresh: "is made from host data",
    aten.lift_fresh_copy: "is made from host data",
}


class CaptureLaws(TorchDispatchMode):
    """Collects every broken law."""

    def __init__(self):
        super().__init__()
        self.broken, self.operators = [], 0

    def __enter__(self):
        # These read the memory without passing through any operator.
        self.patches = pytest.MonkeyPatch()
        for name in ("tolist", "numpy"):
            honest = getattr(torch.Tensor, name)

            def watched(tensor, *args, _name=name, _honest=honest, **kwargs):
                self.broken.append(f"Tensor.{_name} reads values on the host")
                return _honest(tensor, *args, **kwargs)

            self.patches.setattr(torch.Tensor, name, watched)
        return super().__enter__()

    def __exit__(self, *error):
        self.patches.undo()
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operators += 1
        packet = function.overloadpacket
        if packet in FORBIDDEN:
            self.broken.append(f"{packet} {FORBIDDEN[packet]}")
        if packet in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_):
            for index in args[1]:
                if index is not None and index.dtype in (torch.bool, torch.uint8):
                    self.broken.append(f"{packet} by a mask has a shape that depends on data")
        return function(*args, **(kwargs or {}))


def tensors_of(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_of(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from tensors_of(item)


def make_parts(stack, n_step=1, **learner):
    n, prioritized = 4, learner.pop("prioritized", True)
    shape, dtype, high = ((36, 36), np.uint8, 255) if stack else ((3,), np.float32, 1)
    space = Box(0, high, shape, dtype)
    replay = ReplayBuffer(
        400, n, space, frame_stack=stack, n_step=n_step, prioritized=prioritized, reward_clip=1.0
    )
    network = make_network(
        shape, 3, frame_stack=stack, image=bool(stack), hidden_sizes=(16,), dueling=True
    )
    learner = Learner(network, **{"precision": "fp32", "updates_per_launch": 2, **learner})
    actor = Actor(learner.acting_network, n)
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
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("two_rows", [False, True])
def test_a_whole_step_can_be_captured(case, two_rows):
    replay, learner, actor, episodes, make_step = make_parts(**CASES[case])
    step, actions = make_step(two=two_rows), torch.zeros(4, dtype=torch.int64)
    state = [learner.state_dict(), replay.state_dict(), actor.state_dict(), episodes.state_dict()]
    fixed = [t for part in state for t in tensors_of(part) if t.dtype != torch.uint8 or t.dim() > 1]
    addresses = [t.data_ptr() for t in fixed]
    with CaptureLaws() as laws:
        for _ in range(2):
            learner.update_from(replay, 3, batch_size=8)
            replay.add(step, actions)
            episodes._add(step.first, step.reward, step.reset)  # as for envs on a GPU
            actor.act_from(replay)
    assert laws.broken == []
    assert laws.operators > 100
    state = [learner.state_dict(), replay.state_dict(), actor.state_dict(), episodes.state_dict()]
    now = [t for part in state for t in tensors_of(part) if t.dtype != torch.uint8 or t.dim() > 1]
    assert [t.data_ptr() for t in now] == addresses


@pytest.mark.parametrize("case", CASES)
def test_warming_up_changes_nothing(case):
    """What a capture puts back is all that a step changes."""
    replay, learner, *_ = make_parts(**CASES[case])
    before = copy.deepcopy([learner.state_dict(), replay.state_dict()])
    with unchanged(learner._changed_by_a_step(replay), [replay.generator]):
        for _ in range(3):
            learner._steps(replay, 8, launch=2)
        changed = [learner.state_dict(), replay.state_dict()]
        assert not all(map(torch.equal, tensors_of(changed), tensors_of(before)))
    after = [learner.state_dict(), replay.state_dict()]
    for now, then in zip(tensors_of(after), tensors_of(before), strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize(
    "offence",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: bool((x > 0).all()),
        lambda x: x + torch.tensor([1.0, 2.0, 3.0]),
        lambda x: x.index_put((x > 0,), torch.zeros(())),
        lambda x: torch.unique(x),
        lambda x: torch.bincount(x.long()),
        lambda x: x.repeat_interleave(x.long()),
        lambda x: torch.unique_consecutive(x),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
    ],
)
def test_the_laws_are_enforced(offence):
    x = torch.arange(3.0)
    with CaptureLaws() as laws:
        offence(x)
    assert laws.broken


def test_nothing_is_collected_while_a_graph_is_captured():
    collected = []
    gc.callbacks.append(lambda phase, info: collected.append(phase))
    try:
        with no_collection():
            before = len(collected)
            assert before and not gc.isenabled()  # once, before
            for _ in range(2_000):  # more than the threshold of the youngest generation
                loop = []
                loop.append(loop)
            assert len(collected) == before
        assert gc.isenabled()
    finally:
        gc.callbacks.pop()
