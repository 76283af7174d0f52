"""``step`` of a stream is ``send`` and then ``recv``."""

import numpy as np
import pytest
from helpers.scripted_env import Script, ScriptedStream

import fastdqn
from fastdqn.envs.arrays import to_numpy
from fastdqn.envs.stream import EnvStream, is_stream
from fastdqn.envs.watched import watched
from fastdqn.errors import EnvError
from fastdqn.system.watchdog import Watchdog

SCRIPT = Script(3, seed=2)
MAKERS = {
    "gymnasium": lambda: fastdqn.make_envs("CartPole-v1", 3, vectorization="sync"),
    "native": lambda: fastdqn.make_envs("fastdqn/CartPole-v1", 3),
    "scripted": lambda: ScriptedStream(SCRIPT),
    "scripted, two rows": lambda: ScriptedStream(SCRIPT, two_rows=True),
}


def rows(stream, play, steps=60):
    """What a stream gives, by one way to step it."""
    found = [stream.reset(seed=7)]
    actions = np.random.default_rng(0).integers(0, 2, (steps, 3))
    for action in actions:
        found.append([None if x is None else to_numpy(x).copy() for x in play(stream, action)])
    stream.close()
    return found


def in_two_calls(stream, action):
    stream.send(action)
    return stream.recv()


def in_one_call(stream, action):
    return stream.step(action)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_step_is_send_and_recv(make):
    expected, found = rows(make(), in_two_calls), rows(make(), in_one_call)
    assert any(row[2].any() for row in expected[1:])  # an episode ends in it
    for one, other in zip(expected, found, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_watched_stream_steps_under_the_watchdog():
    seen = []

    class Stream(ScriptedStream):
        def recv(self):
            seen.append((dog.what, dog.since is not None))
            return super().recv()

    with Watchdog(60.0, lambda: None) as dog:
        stream = watched(Stream(SCRIPT), dog, "Scripted-v0")
        stream.reset()
        stream.step(np.zeros(3, np.int64))
    assert seen == [("A step of Scripted-v0", True)]


def test_step_keeps_the_order_of_the_calls_within_it():
    stream = fastdqn.make_envs("fastdqn/CartPole-v1", 2)
    with pytest.raises(EnvError, match="call reset"):
        stream.step(np.zeros(2, np.int64))
    stream.reset()
    stream.send(np.zeros(2, np.int64))
    with pytest.raises(EnvError, match="call recv"):
        stream.step(np.zeros(2, np.int64))


def test_a_stream_without_step_is_a_stream():
    class Old:
        num_envs, num_actions, action_start = 1, 2, 0
        observation_space, frame_stack, stack_padding = None, None, "zero"

        def reset(self, *, seed=None): ...

        send = recv = close = reset

    assert is_stream(Old()) and not isinstance(Old(), EnvStream)
