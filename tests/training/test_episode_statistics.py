"""Episode statistics against plain Python."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdqn.errors import CheckpointError
from fastdqn.training.episode_statistics import EpisodeStatistics
from fastdqn.types import TimeStep


class PlainStatistics:
    """The same by a loop over envs."""

    def __init__(self, num_envs, window):
        self.window = window
        self.running = [[0.0, 0] for _ in range(num_envs)]
        self.finished = []
        self.resets = 0

    def add(self, step):
        n = len(self.running)
        for env in range(n):
            if step.first[env]:
                self.resets += 1
                self.finish(env)
        for env in range(n):
            if not step.first[env]:
                self.running[env][0] += float(step.reward[env])
                self.running[env][1] += 1
        for env in range(n):
            if step.reset is not None and step.reset[env]:
                self.finish(env)

    def finish(self, env):
        total, length = self.running[env]
        if length:
            self.finished.append((total, length))
        self.running[env] = [0.0, 0]

    def read(self):
        last = self.finished[-self.window :]
        if not last:
            return 0, self.resets, None, None
        means = [math.fsum(column) / len(last) for column in zip(*last, strict=True)]
        return len(self.finished), self.resets, *means


def random_steps(kind, num_envs, steps, seed=0):
    """Rows of envs with lost lives; rewards are multiples of 1/4, so that sums are exact.

    Rows of a reset pay, too, against the contract: they must not count.
    """
    rng = np.random.default_rng(seed)
    over = np.zeros(num_envs, bool)
    for _ in range(steps):
        reward = np.float32(rng.integers(-8, 9, num_envs) / 4)
        ended = rng.random(num_envs) < 0.3
        lost = rng.random(num_envs) < 0.3  # a life: terminated, yet no end
        first = np.zeros(num_envs, bool)
        reset = None
        if kind == "NEXT_STEP":
            first, over = over, ended & ~over
        elif kind == "SAME_STEP":
            reset = ended
        elif kind == "both":  # same-step resets, and now and then a reset of no warning
            first = rng.random(num_envs) < 0.1
            reset = ended & ~first
        observation = np.zeros((num_envs, 1), np.float32)
        terminated = (ended | lost) & ~first
        truncated = rng.random(num_envs) < 0.1
        second = () if reset is None else (observation, reset)
        yield TimeStep(observation, reward, terminated, truncated, first, *second)


def tensors(step):
    return TimeStep(*(None if x is None else torch.tensor(x) for x in step))


@pytest.mark.parametrize("kind", ["NEXT_STEP", "SAME_STEP", "both"])
@pytest.mark.parametrize(("num_envs", "window"), [(1, 1), (1, 5), (4, 100), (16, 3), (7, 7)])
def test_against_a_loop(kind, num_envs, window):
    own, plain = EpisodeStatistics(num_envs, window), PlainStatistics(num_envs, window)
    ever = False
    for step in random_steps(kind, num_envs, 200, seed=num_envs + window):
        own.add(tensors(step))
        plain.add(step)
        got, wanted = own.read(), plain.read()
        assert got[:2] == wanted[:2]
        if wanted[2] is None:
            assert math.isnan(got[2]) and math.isnan(got[3])
        else:
            ever = True
            assert got[2:] == pytest.approx(wanted[2:], rel=1e-12)
    assert ever and plain.read()[0] > 2 * window / num_envs


@pytest.mark.parametrize("kind", ["NEXT_STEP", "SAME_STEP", "both"])
@pytest.mark.parametrize("as_steps", [tensors, lambda step: step])
@settings(max_examples=20, deadline=None)
@given(
    num_envs=st.integers(1, 9),
    window=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    spoiled=st.sampled_from([0.0, 0.02]),
)
def test_the_host_counts_as_a_device_does(kind, as_steps, num_envs, window, seed, spoiled):
    host, device = EpisodeStatistics(num_envs, window), EpisodeStatistics(num_envs, window)
    rng = np.random.default_rng(seed)
    for step in random_steps(kind, num_envs, 60, seed):
        reward = step.reward + rng.random(num_envs, np.float32)  # sums that round
        bad = rng.random(num_envs) < spoiled
        reward[bad] = rng.choice([np.nan, np.inf, -np.inf], bad.sum())
        step = step._replace(reward=reward)
        host.add(as_steps(step))
        device._add(*(tensors(step)[i] for i in (4, 1)), tensors(step).reset)
        assert host.rewards_are_finite() == device.rewards_are_finite()
        own, other = host.state_dict(), device.state_dict()
        for name in ("current", "counts"):
            assert np.array_equal(own[name], other[name], equal_nan=True), name
        # The last place is where a device puts what is not an end.
        recent = own["recent"][:, :-1], other["recent"][:, :-1]
        assert np.array_equal(*recent, equal_nan=True)


def row(reward, first=(False,), reset=None, **flags):
    n = len(reward)
    no = torch.zeros(n, dtype=torch.bool)
    second = () if reset is None else (torch.zeros(n, 1), torch.tensor(reset))
    return TimeStep(
        torch.zeros(n, 1),
        torch.tensor(reward),
        flags.get("terminated", no),
        flags.get("truncated", no),
        torch.tensor(list(first)),
        *second,
    )


def test_by_hand():
    statistics = EpisodeStatistics(1, window=2)
    for r in (1.0, 2.0):
        statistics.add(row([r]))
    assert statistics.read()[0] == 0 and math.isnan(statistics.read()[2])
    statistics.add(row([0.0], [True]))
    assert statistics.read() == (1, 1, 3.0, 2.0)
    statistics.add(row([5.0]))
    statistics.add(row([0.0], [True]))
    assert statistics.read() == (2, 2, 4.0, 1.5)
    statistics.add(row([7.0]))
    statistics.add(row([0.0], [True]))
    assert statistics.read() == (3, 3, 6.0, 1.0)  # the first has left the window


def test_a_lost_life_is_no_end():
    statistics = EpisodeStatistics(1, window=5)
    lost = torch.ones(1, dtype=torch.bool)
    statistics.add(row([1.0], terminated=lost))
    statistics.add(row([1.0], truncated=lost))
    assert statistics.read()[0] == 0
    statistics.add(row([0.0], [True]))
    assert statistics.read() == (1, 1, 2.0, 2.0)


def test_a_reset_after_a_reset_ends_nothing():
    statistics = EpisodeStatistics(1, window=5)
    statistics.add(row([0.0], [True]))
    statistics.add(row([0.0], [True]))
    assert statistics.read()[:2] == (0, 2)


def test_a_reset_within_the_step_counts_its_reward():
    statistics = EpisodeStatistics(2, window=5)
    statistics.add(row([1.0, 2.0], [False, False], reset=[True, False]))
    assert statistics.read() == (1, 0, 1.0, 1.0)
    statistics.add(row([4.0, 4.0], [False, False], reset=[False, True]))
    assert statistics.read() == (2, 0, 3.5, 1.5)


def test_episodes_that_end_in_one_step_are_kept_apart():
    # Two with one place would be a matter of luck on a GPU.
    statistics = EpisodeStatistics(8, window=2)
    statistics.add(row([float(k) for k in range(8)], [False] * 8, reset=[True] * 8))
    assert statistics.read() == (8, 0, 6.5, 1.0)  # of the last two
    assert set(statistics.state_dict()["recent"][0].tolist()) >= set(range(8))


def test_numpy_steps_are_taken_as_well():
    own, plain = EpisodeStatistics(3, 10), PlainStatistics(3, 10)
    for step in random_steps("SAME_STEP", 3, 50):
        own.add(step)
        plain.add(step)
    assert own.read() == pytest.approx(plain.read())


def test_state_goes_on_where_it_was_saved():
    steps = [tensors(step) for step in random_steps("NEXT_STEP", 4, 120)]
    whole, half, rest = (EpisodeStatistics(4, 6) for _ in range(3))
    for step in steps:
        whole.add(step)
    for step in steps[:57]:
        half.add(step)
    rest.load_state_dict({name: tensor.clone() for name, tensor in half.state_dict().items()})
    for step in steps[57:]:
        rest.add(step)
    assert rest.read() == whole.read()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, rest.state_dict()[name])


@pytest.mark.parametrize(("num_envs", "window"), [(3, 6), (4, 7)])
def test_state_of_another_shape_is_refused(num_envs, window):
    with pytest.raises(CheckpointError, match="another num_envs or stop_window"):
        EpisodeStatistics(num_envs, window).load_state_dict(EpisodeStatistics(4, 6).state_dict())


def test_forget_running_drops_only_what_runs():
    statistics = EpisodeStatistics(1, window=5)
    for step in (row([1.0]), row([0.0], [True]), row([100.0])):
        statistics.add(step)
    statistics.forget_running()
    statistics.add(row([0.0], [True]))
    assert statistics.read() == (1, 2, 1.0, 1.0)
