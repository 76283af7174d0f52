"""A replay's memory goes with its last user: what was compiled or captured for it keeps none."""

import gc
import weakref

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from helpers.capture_parts import capture_on_tape, make_parts
from helpers.scripted_env import Script, ScriptedVectorEnv
from helpers.short_runs import small
from helpers.tape import TapedStep, state_of

import fastdqn.acting.actor
import fastdqn.learning.learner
import fastdqn.training.parts
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.training.train import train

pytestmark = pytest.mark.usefixtures("in_torch")

MODES = ["eager", "compile", "captured", "compiled and captured"]


@pytest.fixture(params=MODES)
def parts(request, monkeypatch):
    """A learner, an actor, and a function that uses them on a new replay."""
    mode = request.param if request.param in MODES[:2] else "graph"
    if mode == "graph":
        capture_on_tape(monkeypatch, compiled=request.param.startswith("compiled"))
    _, learner, actor, _, step = make_parts(None, mode=mode)

    def new_replay():
        space = Box(0, 1, (3,), np.float32)
        fast = {"mode": mode, "compile_backend": "aot_eager"}
        replay = ReplayBuffer(400, 4, space, prioritized=True, reward_clip=0.8, **fast)
        replay.add(step(first=True), None)
        for i in range(6):
            replay.add(step(two=i % 2 == 0), torch.zeros(4, dtype=torch.int64))
        learner.update_from(replay, 3, batch_size=8)
        replay.add(step(), actor.act_from(replay))
        return replay

    return learner, actor, new_replay


@pytest.fixture
def no_garbage_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_replay_goes_at_once_although_learner_and_actor_live_on(parts, no_garbage_collector):
    *_, new_replay = parts
    replay = new_replay()
    memory = [weakref.ref(tensor.untyped_storage()) for tensor in state_of(replay.ring)]
    memory.append(weakref.ref(replay))
    assert all(ref() is not None for ref in memory)
    gc.collect()  # what compiling has left
    del replay
    assert [ref() for ref in memory] == [None] * len(memory)


def test_nothing_grows_over_many_replays(parts):
    learner, actor, new_replay = parts
    alive, kept = [], []
    for _ in range(10):
        replay = new_replay()
        alive.append(weakref.ref(replay))
        del replay
        kept.append(len(state_of(learner, actor)))
    gc.collect()
    assert not any(ref() for ref in alive)
    assert len(learner._captured) == len(actor._captured) == 0
    assert len(set(kept)) == 1


def test_a_replay_at_the_same_address_is_captured_anew(monkeypatch):
    capture_on_tape(monkeypatch)
    replay, learner, actor, *_ = make_parts(None, mode="graph")

    def captures():
        before = TapedStep.made
        learner.update_from(replay, 1, batch_size=8)
        actor.act_from(replay)
        return TapedStep.made - before

    assert (captures(), captures()) == (2, 0)
    for module in (fastdqn.acting.actor, fastdqn.learning.learner):  # as if all of them lay there
        monkeypatch.setattr(module, "id", lambda _: 1, raising=False)
    replay = make_parts(None, mode="graph")[0]
    assert (captures(), captures()) == (2, 0)
    other, replay = replay, make_parts(None, mode="graph")[0]
    assert (captures(), captures()) == (2, 0)
    replay = other
    assert captures() == 0, "two of them side by side"


def test_a_captured_step_of_one_replay_leaves_another_alone(monkeypatch):
    capture_on_tape(monkeypatch)
    first, learner, *_ = make_parts(None, mode="graph")
    second = make_parts(None, mode="graph")[0]
    learner.update_from(first, 1, batch_size=8)
    learner.update_from(second, 1, batch_size=8)
    before = first.tree.leaves.clone()
    del second
    learner.update_from(first, 1, batch_size=8)
    assert not torch.equal(first.tree.leaves, before)


@pytest.mark.parametrize("ending", ["done", "failed"])
def test_a_run_that_is_over_keeps_no_replay(tmp_path, monkeypatch, no_garbage_collector, ending):
    made = []

    class Noted(ReplayBuffer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(weakref.ref(self))

    monkeypatch.setattr(fastdqn.training.parts, "ReplayBuffer", Noted)

    def fail(row):
        if ending == "failed":
            raise KeyError("by design")

    config = small(tmp_path, total_env_steps=400, log_period_env_steps=200)
    try:
        result = train(config, envs=ScriptedVectorEnv(Script(4)), on_log=fail)
        assert result.policy is not None
    except KeyError:
        pass
    assert [ref() for ref in made] == [None]
