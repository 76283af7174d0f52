"""Graph mode on a CPU: what a CUDA graph would do, played from a tape, is what eager does."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers.capture_parts import (
    CASES,
    capture_on_tape,
    make_parts,
    tensors_of,
    with_rate_on_device,
)
from helpers.tape import Tape, TapedStep, state_of

import fastdqn.learning.learner
from fastdqn.learning.optimizers import clip
from fastdqn.replay.writer import write_rows

pytestmark = pytest.mark.usefixtures("in_torch")

B = 8


def numbers(parts):
    replay, learner, actor, *_ = parts
    return list(tensors_of([part.state_dict() for part in (replay, learner, actor)]))


def run(parts, launch, rounds=4):
    """Updates, rows, actions, schedules; everything that was seen."""
    replay, learner, actor, _, make_step = parts
    seen = []
    for i in range(rounds):
        for times in (launch, 1, 2 * launch + 1):
            learner.set_learning_rate(1e-3 / (i + 1))
            result = learner.update_from(replay, times, batch_size=B, beta=0.4 + 0.1 * i)
            seen += [tensor.clone() for tensor in result]
        actor.epsilon.fill_(1 / (i + 1))
        actions = actor.act_from(replay).clone()
        replay.add(make_step(two=i == 3), actions)
        replay.add(make_step(), actor.act_from(replay))
        seen += [actions, replay.latest()]
    return seen


def parts_of(case, mode, launch, **more):
    options = {"target_period_updates": 18, "learning_rate": 1e-3, **CASES[case], **more}
    parts = make_parts(mode=mode, updates_per_launch=launch, **options)
    with_rate_on_device(parts[1])
    return parts


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


EVERY = [(case, 4) for case in CASES] + [(c, k) for c in ("rainbow", "uniform") for k in (1, 16)]


@pytest.mark.parametrize(("case", "launch"), EVERY)
def test_a_graph_gives_the_numbers_of_eager(case, launch, monkeypatch):
    eager = parts_of(case, "eager", launch)
    capture_on_tape(monkeypatch)
    before = TapedStep.made
    graph = parts_of(case, "graph", launch)
    assert_same(numbers(graph), numbers(eager))
    seen, expected = run(graph, launch), run(eager, launch)
    assert_same(seen, expected)
    assert_same(numbers(graph), numbers(eager))
    assert graph[1].updates == eager[1].updates
    # One launch of each size, adding one and two rows, acting.
    assert TapedStep.made - before == (2 if launch > 1 else 1) + 3


@pytest.mark.parametrize("case", ["n-step", "rmsprop", "uniform"])
def test_what_is_compiled_within_a_graph_gives_them_too(case, monkeypatch):
    eager = parts_of(case, "eager", 2)
    capture_on_tape(monkeypatch, compiled=True)
    graph = parts_of(case, "graph", 2)
    seen, expected = run(graph, 2, rounds=2), run(eager, 2, rounds=2)
    for one, other in zip(seen, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for one, other in zip(numbers(graph), numbers(eager), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# --- what a graph would freeze -------------------------------------------------------------------


def calls(parts, state):
    """Every operator of a step, as a graph would keep it."""
    replay, learner, actor, _, make_step = parts
    add = replay._writer._staging
    kept = []
    for work in (
        lambda: learner._steps(replay, B, 2),
        lambda: actor._choose(replay.latest()),
        lambda: write_rows(replay, *row_of(add, make_step())),
        lambda: write_rows(replay, *row_of(add, make_step(two=True))),
    ):
        with torch.no_grad() if kept else torch.enable_grad(), Tape() as tape:
            work()
        kept += tape.frozen(state)
    return kept


def row_of(staging, step):
    """As :meth:`ReplayBuffer.add` hands it on: a row, and that of a reset."""
    observation, *scalars = step[:5]
    second = [] if step.reset is None else [step.reset_observation, step.reset]
    arrays = staging([observation, torch.ones(4, dtype=torch.int64), *scalars, *second])
    return tuple(arrays[:6]), arrays[6:]


def later(parts, changes=lambda *_: None):
    """Whatever happens between two launches of one graph."""
    replay, learner, actor, _, make_step = parts
    for i in range(120):  # the ring wraps
        replay.add(make_step(two=i % 7 == 0), torch.from_numpy(np.full(4, i % 3)))
    learner.set_learning_rate(3e-5)
    actor.epsilon.fill_(0.3)
    learner.update_from(replay, 9, batch_size=B, beta=0.77)
    learner.sync_target()
    learner.read_statistics()
    for part in (replay, learner, actor):
        part.load_state_dict(part.state_dict())
    changes(*parts)


def frozen(case, monkeypatch, changes=lambda *_: None):
    capture_on_tape(monkeypatch)
    parts = parts_of(case, "eager", 2)
    for two in (False, True):  # what is made when it is first asked for
        row_of(parts[0]._writer._staging, parts[4](two=two))
    parts[0]._way.strata(B)
    state = state_of(*parts[:3])
    first = calls(parts, state)
    later(parts, changes)
    second = calls(parts, state)
    assert len(first) > 100
    return [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]]


@pytest.mark.parametrize("case", CASES)
def test_nothing_that_varies_is_frozen(case, monkeypatch):
    assert frozen(case, monkeypatch) == []


def moved_rate(replay, learner, actor, *_):
    learner._optimizer.learning_rate = torch.tensor(1e-4)


def moved_epsilon(replay, learner, actor, *_):
    actor._epsilon = torch.tensor(0.1)


def moved_cursor(replay, *_):
    replay._newest = replay._newest.clone()


def moved_weights(replay, learner, *_):
    learner._optimizer.parameter = learner.flat.data.clone()


def another_limit(replay, learner, *_):
    learner._clip = partial(clip, max_norm=2.0, max_value=None)


@pytest.mark.parametrize(
    "fault", [moved_rate, moved_epsilon, moved_cursor, moved_weights, another_limit]
)
def test_what_would_be_frozen_is_found(fault, monkeypatch):
    assert frozen("norm", monkeypatch, fault)


# --- planted in graph mode -----------------------------------------------------------------------


def beta_of_the_host(monkeypatch, learner):
    honest = learner._steps

    def steps(replay, batch_size, launch):
        learner._beta = torch.tensor(float(learner._beta))  # read once, when captured
        return honest(replay, batch_size, launch)

    learner._steps = steps


def warming_up_trains(monkeypatch, learner):
    honest = learner._changed_by_a_step
    learner._changed_by_a_step = lambda replay: honest(replay)[1:]


def target_late(monkeypatch, learner):
    monkeypatch.setattr(learner, "_next_launch", lambda times: min(times, 4))


def one_launch_for_all(monkeypatch, learner):
    honest = learner._capture
    learner._capture = lambda replay, batch, launch: honest(replay, batch, 4)


@pytest.mark.parametrize(
    "fault", [beta_of_the_host, warming_up_trains, target_late, one_launch_for_all]
)
def test_a_fault_in_graph_mode_is_found(fault, monkeypatch):
    eager = parts_of("vectors", "eager", 4)
    capture_on_tape(monkeypatch)
    graph = parts_of("vectors", "graph", 4)
    fault(monkeypatch, graph[1])
    run(graph, 4), run(eager, 4)
    assert not all(map(torch.equal, numbers(graph), numbers(eager)))


def test_an_operator_frozen_on_the_tape_is_not_run_anew():
    """The tape is no second eager run: a number of the host stays what it was."""
    x, factor = torch.ones(3), 2.0
    step = TapedStep(lambda: (x * factor,), [], [], torch.device("cpu"))
    factor = 5.0
    (y,) = step()
    assert torch.equal(y, torch.full((3,), 2.0))
    x.fill_(4.0)
    assert step()[0] is y and torch.equal(y, torch.full((3,), 8.0))


def test_a_learner_captures_once_for_each_size(monkeypatch):
    capture_on_tape(monkeypatch)
    replay, learner, *_ = parts_of("vectors", "graph", 4)
    for _ in range(3):
        learner.update_from(replay, 4, batch_size=B)
    assert len(learner._captured[replay]) == 1
    assert fastdqn.learning.learner.CapturedStep is TapedStep
