"""Evaluation on envs whose every episode is written down."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import nn

from fastdqn.acting.evaluation import EvalResult, evaluate
from fastdqn.acting.policy import Policy
from fastdqn.envs.stream import is_stream
from fastdqn.types import TimeStep


class ListStream:
    """Envs that pay the rewards of lists: ``episodes[env]`` is a list of episodes, repeated.

    Observations are (env, episode + 1, t): never zeros. Modes as in Gymnasium.
    """

    action_start, num_actions, frame_stack, stack_padding = 0, 3, None, "zero"
    observation_space = Box(0, 1000, (3,), np.float32)

    def __init__(self, episodes, mode="NEXT_STEP", *, as_torch=False, lives=False):
        self.episodes, self.mode, self.as_torch, self.lives = episodes, mode, as_torch, lives
        self.num_envs = len(episodes)
        self.actions, self.seeds = [], []

    def script(self, env):
        episodes = self.episodes[env]
        return episodes[self.episode[env] % len(episodes)]

    def observe(self):
        rows = zip(range(self.num_envs), self.episode, self.t, strict=True)
        return np.array([[e, k + 1, t] for e, k, t in rows], np.float32)

    def reset(self, *, seed=None):
        self.seeds.append(seed)
        self.episode, self.t = [0] * self.num_envs, [0] * self.num_envs
        self.over = [False] * self.num_envs
        return self.row([0.0] * self.num_envs, [True] * self.num_envs)

    def send(self, actions):
        assert actions.shape == (self.num_envs,)
        self.actions.append(np.asarray(actions).tolist())

    def recv(self):
        rewards, first = [], []
        for env in range(self.num_envs):
            if self.over[env]:  # NEXT_STEP: this step is the reset
                self.episode[env] += 1
                self.t[env], self.over[env] = 0, False
                rewards.append(123.0)  # a mistake of the env: the row is first
                first.append(True)
                continue
            rewards.append(self.script(env)[self.t[env]])
            first.append(False)
            self.t[env] += 1
            self.over[env] = self.t[env] == len(self.script(env))
        if self.mode == "NEXT_STEP":
            return self.row(rewards, first)
        final, ended = self.observe(), np.array(self.over)
        for env in np.flatnonzero(ended):
            self.episode[env] += 1
            self.t[env], self.over[env] = 0, False
        return self.row(rewards, first, observation=final, reset=(self.observe(), ended))

    def row(self, rewards, first, observation=None, reset=(None, None)):
        observation = self.observe() if observation is None else observation
        terminated = np.array(self.over) | self.lives  # a lost life in every row
        arrays = (
            observation,
            np.array(rewards, np.float32),
            terminated,
            np.zeros(self.num_envs, bool),
            np.array(first),
            *reset,
        )
        if self.as_torch:
            arrays = (None if x is None else torch.tensor(x) for x in arrays)
        return TimeStep(*arrays)

    def close(self):
        pass


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, observation):
        self.seen.append(observation.clone())
        newest = observation if observation.dim() == 2 else observation[:, -1]
        return torch.nn.functional.one_hot(newest[:, 2].long() % 3, 3).float()


def plain_scores(episodes, quota):
    """(return, length) of the first ``quota`` episodes of every env."""
    played = [(env[k % len(env)]) for env in episodes for k in range(quota)]
    return [math.fsum(e) for e in played], [len(e) for e in played]


EPISODES = [
    [[1.0], [2.0, 2.0]],  # short ones ...
    [[0.25, -1.0, 3.0, 0.0, 5.0, 1.5, 1.0]],  # ... and long ones
    [[1.0, 1.0, 1.0], [7.0], [-4.0, 2.0]],
]
MODES = pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])


def test_the_stream_of_these_tests_is_one():
    stream = ListStream(EPISODES)
    assert not hasattr(stream, "step") and is_stream(stream)


@MODES
@pytest.mark.parametrize("as_torch", [False, True])
@pytest.mark.parametrize("lives", [False, True])
@pytest.mark.parametrize("quota", [1, 2, 5])
def test_every_env_plays_its_quota(mode, as_torch, lives, quota):
    envs = ListStream(EPISODES, mode, as_torch=as_torch, lives=lives)
    result = evaluate(Policy(Recorder()), envs, episodes_per_env=quota)
    returns, lengths = plain_scores(EPISODES, quota)
    assert result.returns.tolist() == returns and result.lengths.tolist() == lengths
    assert result.returns.dtype == np.float64 and result.lengths.dtype == np.int64
    assert result.episodes == 3 * quota and result.unfinished == 0
    mean = math.fsum(returns) / len(returns)
    assert result.mean == pytest.approx(mean)
    variance = math.fsum((r - mean) ** 2 for r in returns) / len(returns)
    assert result.std == pytest.approx(math.sqrt(variance))


def test_the_first_episodes_to_finish_would_score_otherwise():
    # The bias that a quota avoids, so that the test above can fail.
    returns, _ = plain_scores(EPISODES, 2)
    assert returns != plain_scores(EPISODES[:1], 6)[0]


@MODES
@pytest.mark.parametrize("as_torch", [False, True])
@pytest.mark.parametrize(("size", "padding"), [(None, "zero"), (2, "zero"), (3, "repeat")])
def test_the_policy_sees_every_row_and_no_stack_reaches_into_the_last_episode(
    mode, as_torch, size, padding
):
    envs = ListStream(EPISODES, mode, as_torch=as_torch)
    network = Recorder()
    policy = Policy(network, frame_stack=size, stack_padding=padding)
    evaluate(policy, envs, episodes_per_env=3)
    acted_on = [set() for _ in EPISODES]
    for observation in network.seen:
        for env, stack in enumerate(observation.tolist()):
            stack = [stack] if size is None else stack
            _, episode, t = stack[-1]
            acted_on[env].add((episode, t))
            for age, frame in enumerate(reversed(stack)):
                before = [0, 0, 0] if padding == "zero" else [env, episode, 0]
                assert frame == ([env, episode, t - age] if t >= age else before)
    for env, episodes in enumerate(EPISODES):
        for k in range(3):
            # Every row but the last is acted on; in NEXT_STEP the last one is, too, to no effect.
            rows = {(k + 1.0, float(t)) for t in range(len(episodes[k % len(episodes)]))}
            assert rows <= acted_on[env]


@MODES
def test_greedy_actions_reach_the_envs_counted_from_zero(mode):
    envs = ListStream(EPISODES, mode)
    network = Recorder()
    evaluate(Policy(network, action_start=10), envs, episodes_per_env=2)
    wanted = [[int(row[2]) % 3 for row in seen.tolist()] for seen in network.seen]
    assert envs.actions == wanted


@MODES
def test_max_env_steps_counts_what_is_unfinished_as_it_stands(mode):
    # Each env has played 3 steps: (1), reset or (2, ...) | 0.25, -1, 3 | 1, 1, 1
    envs = ListStream(EPISODES, mode)
    result = evaluate(Policy(Recorder()), envs, episodes_per_env=2, max_env_steps=9)
    assert len(envs.actions) == 3
    if mode == "NEXT_STEP":
        # The third env's end has no reset row yet: nobody can tell it from a lost life.
        assert result.returns.tolist() == [1.0, 2.0, 2.25, 3.0]
        assert result.lengths.tolist() == [1, 1, 3, 3]
        assert result.unfinished == 3
    else:
        assert result.returns.tolist() == [1.0, 4.0, 2.25, 3.0]
        assert result.lengths.tolist() == [1, 2, 3, 3]
        assert result.unfinished == 1


def test_max_env_steps_that_is_not_reached_changes_nothing():
    envs = ListStream(EPISODES)
    result = evaluate(Policy(Recorder()), envs, episodes_per_env=2, max_env_steps=10**6)
    assert result.returns.tolist() == plain_scores(EPISODES, 2)[0] and result.unfinished == 0


def test_no_steps_are_no_episodes():
    result = evaluate(Policy(Recorder()), ListStream(EPISODES), episodes_per_env=2, max_env_steps=0)
    assert result.episodes == result.unfinished == 0
    assert math.isnan(result.mean) and math.isnan(result.std)


def test_stop_gives_up():
    answers = iter([False, False, True])
    envs = ListStream(EPISODES)
    result = evaluate(Policy(Recorder()), envs, episodes_per_env=2, stop=lambda: next(answers))
    assert len(envs.actions) == 2 and result.unfinished == 2


def test_a_row_marked_first_beside_same_step_resets_starts_its_stack_anew():
    class Restarting(ListStream):
        """SAME_STEP, but the first env is restarted without a word at its third step."""

        def recv(self):
            step = super().recv()
            if len(self.actions) == 3:
                self.episode[0], self.t[0] = 50, 0
                step.observation[0] = step.reset_observation[0] = (0, 51, 0)
                step.first[0], step.reset[0] = True, False
            return step

    network = Recorder()
    envs = Restarting([[[1.0] * 6], [[1.0, 1.0, 1.0]]], "SAME_STEP")
    result = evaluate(Policy(network, frame_stack=2), envs, episodes_per_env=2)
    stacks = [seen[0].tolist() for seen in network.seen]
    assert stacks[2] == [[0, 1, 1], [0, 1, 2]]
    assert stacks[3] == [[0, 0, 0], [0, 51, 0]]
    assert result.returns.tolist() == [2.0, 6.0, 3.0, 3.0]  # the reset row's reward does not count


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_a_seed_repeats_everything(epsilon):
    network = Recorder()
    policy = Policy(network)

    def actions(seed):
        envs = ListStream(EPISODES)
        evaluate(policy, envs, episodes_per_env=3, epsilon=epsilon, seed=seed)
        assert envs.seeds == [seed]
        return envs.actions

    assert actions(5) == actions(5)
    assert (actions(5) != actions(6)) == (epsilon > 0)


def test_without_a_seed_the_generator_goes_on():
    policy = Policy(Recorder(), seed=1)
    first, second = ListStream(EPISODES), ListStream(EPISODES)
    for envs in (first, second):
        evaluate(policy, envs, episodes_per_env=3, epsilon=0.5)
    assert first.actions != second.actions and first.seeds == [None]


def test_an_empty_result_has_no_mean():
    result = EvalResult(np.zeros(0), np.zeros(0, np.int64), 0)
    assert math.isnan(result.mean) and math.isnan(result.std)
