"""Which rows of a replay may be drawn and what is in them, from scripted envs and lists."""

from collections import deque

import numpy as np
import torch
from helpers.scripted_env import ScriptedStream, ScriptedVectorEnv

from fastdqn.envs import make_envs
from fastdqn.replay.buffer import ReplayBuffer

GAMMA = 0.9


MODES = ("NEXT_STEP", "SAME_STEP", "DISABLED")


class NaiveRows:
    """Which rows may be drawn, from lists: the rule in words, not its implementation."""

    def __init__(self, num_envs, rows, stack, n_step):
        self.columns = [[] for _ in range(num_envs)]  # (episode, t, first) of every row ever
        self.rows, self.stack, self.n_step = rows, stack, n_step

    def add(self, script, step):
        frames = script.decode(step.observation)
        for env, column in enumerate(self.columns):
            column.append((*frames[env, 1:], bool(step.first[env])))
            if step.reset is not None and step.reset[env]:
                column.append((*script.decode(step.reset_observation)[env, 1:], True))

    def drawable(self):
        """{flat index: (env, episode, t)} of the rows that may start a transition."""
        found = {}
        for env, column in enumerate(self.columns):
            newest = len(column) - 1
            for row in range(max(0, newest - self.rows + self.stack + 1), newest - self.n_step + 1):
                if not column[row + 1][2]:
                    found[row % self.rows * len(self.columns) + env] = (env, *column[row][:2])
        return found


def make_stream(script, mode, backend, stack, padding="repeat"):
    if mode in MODES:
        return make_envs(ScriptedVectorEnv(script, mode, backend=backend), frame_stack=stack)
    return ScriptedStream(
        script,
        two_rows=mode == "TWO_ROWS",
        backend=backend,
        frame_stack=stack,
        stack_padding=padding,
    )


def count_bad(
    script,
    mode,
    backend="numpy",
    *,
    n_step=1,
    stack=None,
    padding="repeat",
    prioritized=False,
    rows=24,
    steps=200,
    batch=128,
    every=10,
    make=ReplayBuffer,
):
    """Drive a replay through ``steps`` vector steps; (transitions sampled, bad ones)."""
    stream = make_stream(script, mode, backend, stack, padding)
    replay = make(
        rows * script.num_envs,
        script.num_envs,
        stream.observation_space,
        frame_stack=stack,
        stack_padding=stream.stack_padding,
        n_step=n_step,
        gamma=GAMMA,
        prioritized=prioritized,
        seed=7,
    )
    naive = NaiveRows(script.num_envs, rows, stack or 1, n_step)
    step, actions = stream.reset(seed=0), None
    stale = deque(maxlen=3)  # indices drawn long ago, whose rows are gone
    sampled = bad = 0
    for i in range(steps):
        replay.add(step, actions)
        naive.add(script, step)
        seen = step.observation
        if step.reset is not None:
            seen = np.where(
                np.asarray(step.reset).reshape(-1, *[1] * (seen.ndim - 1)),
                np.asarray(step.reset_observation),
                np.asarray(seen),
            )
        newest = script.decode(seen)  # env, episode, t
        latest = replay.latest()
        expected = script.expected_stack(*newest.T, stack or 1, stream.stack_padding)
        got = script.decode(latest if stack else latest.unsqueeze(1))
        bad += int((got != expected).any(axis=(1, 2)).sum())
        if i % every == 0 and i >= n_step + 2:
            if prioritized and len(stale) == stale.maxlen:
                replay.update_priorities(stale[0], torch.rand(batch))
            drawable = naive.drawable()
            on = set(replay.tree.leaves.nonzero().flatten().tolist())
            bad += len(on ^ set(drawable))
            drawn = replay.sample(batch)
            sampled += batch
            bad += count_bad_transitions(script, stream, drawn, drawable, n_step, stack)
            stale.append(drawn.index)
            if prioritized:
                replay.update_priorities(drawn.index, torch.rand(batch))
        actions = script.act(seen)
        if backend == "torch":
            actions = torch.as_tensor(actions)
        stream.send(actions)
        step = stream.recv()
    replay.tree.check_valid()
    stream.close()
    return sampled, bad


def count_bad_transitions(script, stream, drawn, drawable, n_step, stack):
    starts = [drawable.get(index) for index in drawn.index.tolist()]
    known = np.array([start is not None for start in starts])
    env, episode, t = np.array([start or (0, 0, 0) for start in starts]).T
    expected = script.expected_batch(env, episode, t, n_step, GAMMA)
    padding = stream.stack_padding
    before = script.expected_stack(env, episode, t, stack or 1, padding)
    after = script.expected_stack(env, episode, expected["next_t"], stack or 1, padding)
    observation, following = drawn.observation, drawn.next_observation
    if not stack:
        observation, following = observation.unsqueeze(1), following.unsqueeze(1)
    right = (
        known
        & (script.decode(observation) == before).all(axis=(1, 2))
        & (script.decode(following) == after).all(axis=(1, 2))
        & (drawn.action.numpy() == expected["action"])
        & np.isclose(drawn.reward.numpy(), expected["reward"], rtol=1e-5, atol=1e-5)
        & np.isclose(drawn.discount.numpy(), expected["discount"], rtol=1e-6)
    )
    return int((~right).sum())
