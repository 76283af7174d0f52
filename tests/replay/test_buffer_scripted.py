"""The replay against scripted envs: every transition that can be drawn is right, in every mode.

The truth is a script (see scripted_env.py) that knows every value in advance, and, for which rows
may be drawn at all, a naive list of rows per env. Then ten faults are planted one by one, and each
must be found: a test that cannot fail proves nothing.
"""

import itertools
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from helpers.capture_parts import Staging, capture_on_tape
from helpers.interpreted_loops import interpret
from helpers.replay_oracle import (
    GAMMA,
    MODES,
    NaiveRows,
    count_bad,
    count_bad_transitions,
    make_stream,
)
from helpers.scripted_env import Script
from helpers.tape import TapedStep

import fastdqn.replay.gather_torch
import fastdqn.replay.writer
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.replay.captured_add import CapturedAdds
from fastdqn.replay.gather_torch import GatherInTorch

pytestmark = pytest.mark.usefixtures("both_ways")


def scripts(stack, **kwargs):
    """Images show zero padding; vectors are stored as float32."""
    if stack:
        return Script(4, seed=3, frame_shape=(2, 3), dtype="uint8", **kwargs)
    return Script(4, seed=3, **kwargs)


CASES = list(itertools.product((1, 3, 5), (None, 1, 4)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_every_sample_is_right_in_every_autoreset_mode(mode, backend):
    total = 0
    for number, (n_step, stack) in enumerate(CASES):
        sampled, bad = count_bad(
            scripts(stack),
            mode,
            backend,
            n_step=n_step,
            stack=stack,
            prioritized=number % 2 == 0,
        )
        assert bad == 0, f"{bad} bad of {sampled} with n = {n_step}, stack = {stack}"
        total += sampled
    assert total >= 20_000  # 6 parametrisations: more than 10^5


@pytest.mark.parametrize("mode", ["STREAM", "TWO_ROWS"])
@pytest.mark.parametrize("padding", ["zero", "repeat"])
def test_lost_lives_and_resets_without_a_flag(mode, padding):
    for n_step, stack in CASES:
        script = scripts(stack, life_loss=True, unflagged=True)
        sampled, bad = count_bad(script, mode, n_step=n_step, stack=stack, padding=padding)
        assert bad == 0, f"{bad} bad of {sampled} with n = {n_step}, stack = {stack}"


@pytest.mark.slow
@pytest.mark.parametrize("mode", [*MODES, "STREAM", "TWO_ROWS"])
def test_a_million_samples(mode):
    total = 0
    special = {} if mode in MODES else {"life_loss": True, "unflagged": True}
    for n_step, stack in CASES:
        sampled, bad = count_bad(
            scripts(stack, **special),
            mode,
            n_step=n_step,
            stack=stack,
            steps=500,
            batch=512,
            prioritized=stack == 4,
        )
        assert bad == 0
        total += sampled
    assert total >= 200_000


@pytest.mark.parametrize(("n_step", "stack"), CASES)
def test_the_smallest_ring(n_step, stack):
    rows = (stack or 1) + n_step + 1  # one or no drawable row per env
    for mode in MODES:
        script = scripts(stack)
        assert count_bad(script, mode, n_step=n_step, stack=stack, rows=rows + 1, every=3)[1] == 0


@pytest.mark.parametrize("n_step", [1, 3, 5])
@pytest.mark.parametrize("stack", [None, 4])
def test_all_modes_give_the_same_multiset_of_transitions(n_step, stack):
    episodes, script = 12, scripts(stack)
    expected = Counter(
        whole_numbers(*transition)
        for transition in script.expected_transitions(episodes, n_step, GAMMA, stack or 1, "repeat")
    )
    for mode, backend in itertools.product(MODES, ("numpy", "torch")):
        assert transitions(script, mode, backend, n_step, stack, episodes) == expected


def transitions(script, mode, backend, n_step, stack, episodes):
    """Every drawable transition of the first episodes, read straight from the ring."""
    stream = make_stream(script, mode, backend, stack)
    replay = ReplayBuffer(
        400 * script.num_envs,
        script.num_envs,
        stream.observation_space,
        frame_stack=stack,
        stack_padding="repeat",
        n_step=n_step,
        gamma=GAMMA,
    )
    step, actions = stream.reset(seed=0), None
    for _ in range(300):
        replay.add(step, actions)
        newest = replay.latest()
        actions = script.act(newest[:, -1] if stack else newest)
        stream.send(actions if backend == "torch" else actions.numpy())
        step = stream.recv()
    index = replay.tree.leaves.nonzero().flatten()
    s, action, reward, discount, following = replay.ring.transition(
        index, n_step, replay.gamma_powers
    )
    if not stack:
        s, following = s.unsqueeze(1), following.unsqueeze(1)
    before, after = script.decode(s), script.decode(following)
    return Counter(
        whole_numbers(
            rows(before[i]), int(action[i]), reward[i].item(), discount[i].item(), rows(after[i])
        )
        for i in range(len(index))
        if before[i, -1, 1] < episodes
    )


def rows(stack):
    return tuple(tuple(row) for row in stack.tolist())


def whole_numbers(state, action, reward, discount, following):
    """Rewards are multiples of 1/8 times powers of 0.9: of 1/80000 for n <= 5."""
    return state, action, round(reward * 80_000), round(discount * 100_000), following


# --- as on a GPU: compiled, and add captured -----------------------------------------------------

ON_A_GPU = {"n_step": 3, "stack": 4, "prioritized": True}


@pytest.mark.parametrize("mode", MODES)
def test_what_is_compiled_is_right(mode, both_ways):
    if both_ways == "loops":
        pytest.skip("is compiled by Numba")
    make = partial(ReplayBuffer, mode="compile", compile_backend="aot_eager")
    assert count_bad(scripts(4), mode, make=make, **ON_A_GPU)[1] == 0
    assert count_bad(scripts(None), mode, make=make)[1] == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_captured_add_is_right(mode, both_ways, monkeypatch):
    if both_ways == "loops":
        pytest.skip("nothing is captured")
    capture_on_tape(monkeypatch)
    made = TapedStep.made
    make = partial(ReplayBuffer, mode="graph")
    assert count_bad(scripts(4), mode, make=make, **ON_A_GPU)[1] == 0
    assert count_bad(scripts(None), mode, make=make)[1] == 0
    assert TapedStep.made - made == 2


def test_a_captured_add_notices_that_its_arrays_have_moved(both_ways, monkeypatch):
    if both_ways == "loops":
        pytest.skip("nothing is captured")
    capture_on_tape(monkeypatch)

    class Elsewhere(Staging):
        def __call__(self, arrays):
            return [tensor.clone() for tensor in super().__call__(arrays)]

    monkeypatch.setattr(fastdqn.replay.writer, "HostStaging", Elsewhere)
    make = partial(ReplayBuffer, mode="graph")
    assert count_bad(scripts(None), "NEXT_STEP", make=make, steps=60)[1] == 0
    monkeypatch.setattr(CapturedAdds, "_places", staticmethod(len))  # a planted fault
    assert count_bad(scripts(None), "NEXT_STEP", make=make, steps=60)[1] > 0


# --- ten planted faults ------------------------------------------------------------------------


class DummyRowDrawable(ReplayBuffer):
    def _goes_on(self, index, reset):
        return torch.ones_like(index, dtype=torch.bool)


class LifeLossRowNotDrawable(ReplayBuffer):
    def _goes_on(self, index, reset):
        return super()._goes_on(index, reset) & ~self.ring.scalars["terminated"][index]


class TruncationAsTermination(ReplayBuffer):
    def add(self, step, actions):
        super().add(step._replace(terminated=step.terminated | step.truncated), actions)


class MarginLessOne(ReplayBuffer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._stack -= 1


class ActionShiftedByOne(ReplayBuffer):
    before = None

    def add(self, step, actions):
        super().add(step, None if actions is None else self.before)
        self.before = np.zeros(self.num_envs, np.int64) if actions is None else actions.copy()


class WrongPadding(ReplayBuffer):
    def __init__(self, *args, **kwargs):
        other = {"zero": "repeat", "repeat": "zero"}[kwargs.pop("stack_padding")]
        super().__init__(*args, stack_padding=other, **kwargs)


class ResetObservationAsNext(ReplayBuffer):
    def add(self, step, actions):
        if step.reset is not None:
            reset = step.reset.reshape(-1, *[1] * (step.observation.ndim - 1))
            frames = np.where(reset, step.reset_observation, step.observation)
            step = step._replace(observation=frames)
        super().add(step, actions)


class StalePriorityRevives(ReplayBuffer):
    def update_priorities(self, index, priority):
        self.tree.set(index, self._leaf(priority))


def window_across_first(monkeypatch):
    def window(self, name, window):
        values = self._scalars[name].index_select(0, window.view(-1)).view(window.shape)
        return torch.zeros_like(values) if name == "first" else values

    monkeypatch.setattr(GatherInTorch, "_window", window)
    return ReplayBuffer


def gamma_to_the_n(monkeypatch):
    honest = fastdqn.replay.gather_torch.n_step_return

    def wrong(reward, terminated, end, gamma_powers):
        total, discount, steps = honest(reward, terminated, end, gamma_powers)
        return total, gamma_powers[-1] * (discount > 0), steps

    monkeypatch.setattr(fastdqn.replay.gather_torch, "n_step_return", wrong)
    return ReplayBuffer


FAULTS = {
    "dummy row drawable": (DummyRowDrawable, "NEXT_STEP", {}),
    "life-loss row not drawable": (LifeLossRowNotDrawable, "STREAM", {}),
    "truncation as termination": (TruncationAsTermination, "NEXT_STEP", {}),
    "window across first": (window_across_first, "STREAM", {"n_step": 3}),
    "margin less one": (MarginLessOne, "SAME_STEP", {"stack": 4}),
    "action shifted by one": (ActionShiftedByOne, "NEXT_STEP", {}),
    "wrong padding": (WrongPadding, "NEXT_STEP", {"stack": 4}),
    "s' = reset observation": (ResetObservationAsNext, "SAME_STEP", {}),
    "a stale priority revives a row": (StalePriorityRevives, "NEXT_STEP", {"prioritized": True}),
    "gamma^n where m < n": (gamma_to_the_n, "NEXT_STEP", {"n_step": 3}),
}


# Planted in what the loops do by themselves.
IN_TORCH = (
    "dummy row drawable",
    "life-loss row not drawable",
    "window across first",
    "gamma^n where m < n",
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault, monkeypatch, both_ways):
    make, mode, arguments = FAULTS[fault]
    special = {"life_loss": True, "unflagged": True} if mode == "STREAM" else {}
    script = scripts(arguments.get("stack"), **special)
    assert count_bad(script, mode, **arguments)[1] == 0, "without the fault all is well"
    if not isinstance(make, type):
        make = make(monkeypatch)
    if both_ways == "loops" and fault in IN_TORCH:
        make = partial(make, compiled=False)
    assert count_bad(script, mode, make=make, **arguments)[1] > 0


# What is right in fastdqn.replay.kernels, once, what is wrong instead, and where it shows.
LOOP_FAULTS = {
    "dummy row drawable": (
        "if firsts[_wrapped(ready + num_envs, size)]",
        "if False",
        "NEXT_STEP",
        {},
    ),
    "expired row drawable": ("        tree[expired] = 0\n", "", "NEXT_STEP", {}),
    "margin less one": ("(1 + stack) * num_envs", "stack * num_envs", "NEXT_STEP", {"stack": 4}),
    "window across first": ("if firsts[after]:", "if False:", "STREAM", {"n_step": 3}),
    "gamma^n where m < n": (
        "if terminations[last] else gamma_powers[steps]",
        "if terminations[last] else gamma_powers[n_step]",
        "NEXT_STEP",
        {"n_step": 3},
    ),
    "truncation as termination": (
        "if terminations[last] else",
        "if terminations[last] or truncations[last] else",
        "NEXT_STEP",
        {},
    ),
    "action of the row itself": (
        "actions[_wrapped(index[i] + num_envs, size)]",
        "actions[index[i]]",
        "NEXT_STEP",
        {},
    ),
    "wrong padding": ("and not repeat", "and repeat", "NEXT_STEP", {"stack": 4}),
    "s' as young as s": ("age + steps, firsts", "age, firsts", "NEXT_STEP", {"stack": 4}),
    "both stacks the same": (
        "row = rows[half, i, place]",
        "row = rows[0, i, place]",
        "NEXT_STEP",
        {},
    ),
    "a stale priority revives a row": (
        "if tree[index[i]] > 0 else np.float32(0)",
        "if True else np.float32(0)",
        "NEXT_STEP",
        {"prioritized": True},
    ),
}


@pytest.mark.parametrize("fault", LOOP_FAULTS)
def test_a_fault_planted_in_a_loop_is_found(fault, monkeypatch, both_ways):
    if both_ways == "torch":
        pytest.skip("has no loops")
    right, wrong, mode, arguments = LOOP_FAULTS[fault]
    special = {"life_loss": True, "unflagged": True} if mode == "STREAM" else {}
    script = scripts(arguments.get("stack"), **special)
    interpret(monkeypatch)
    assert count_bad(script, mode, **arguments)[1] == 0, "without the fault all is well"
    interpret(monkeypatch, right, wrong)
    assert count_bad(script, mode, **arguments)[1] > 0


def test_margin_less_one_gives_wrong_frames():
    """Not only another set of rows: frames of a stack that the scratch row has overwritten."""
    script = scripts(4)
    stream = make_stream(script, "SAME_STEP", "numpy", 4)
    replay = MarginLessOne(
        24 * 4, 4, stream.observation_space, frame_stack=4, stack_padding="repeat", gamma=GAMMA
    )
    naive = NaiveRows(4, 24, 3, 1)  # believes in the wrong margin, too
    step, actions, bad = stream.reset(seed=0), None, 0
    for i in range(200):
        replay.add(step, actions)
        naive.add(script, step)
        newest = replay.latest()
        if i > 30:
            drawn = replay.sample(64)
            bad += count_bad_transitions(script, stream, drawn, naive.drawable(), 1, 4)
        actions = script.act(newest[:, -1]).numpy()
        stream.send(actions)
        step = stream.recv()
    assert bad > 0
