"""What a CUDA graph forbids, checked without a GPU.

Every operator of a whole step (add, latest, act; sample, update, write-back) passes through a
dispatch mode on the CPU. It fails on a read of device data by the host, on shapes that depend on
data, on tensors made from host data, and on state that moves to another address.
"""

import copy
import gc

import pytest
import torch
from helpers.capture_laws import CaptureLaws
from helpers.capture_parts import CASES, make_parts, tensors_of

from fastdqn.system.compilation import no_collection, unchanged

pytestmark = pytest.mark.usefixtures("in_torch")


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
    generators = [replay.generator, learner.generator]
    with unchanged(learner._changed_by_a_step(replay), generators):
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
