"""What StackedEpisodes finds in a stream of stacks, beside a naive reading of each env alone."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from fastdqn.errors import EnvError

pytest.importorskip("stable_baselines3")

from fastdqn.integrations.sb3.stack_layout import StackLayout
from fastdqn.integrations.sb3.stacked_episodes import StackedEpisodes

N, S = 3, 3


class Naive:
    """One env: a list of S numbers is a stack."""

    def __init__(self) -> None:
        self.last: list[int] | None = None
        self.ended = True

    def follow(self, before: list[int], following: list[int], done: bool) -> bool:
        """Whether it restarted; ValueError where the stacks cannot be built from frames."""
        restarted = not self.ended and before != self.last
        if (self.ended or restarted) and any(before[:-1]):
            raise ValueError
        if not done and following[:-1] != before[1:]:
            raise ValueError
        self.last, self.ended = following, done
        return restarted


def arrays(stacks: list[list[int]], layout: str) -> np.ndarray:
    """[N, S, 2, 2] or [N, 2, 2, S], each frame of one number; ``transposed`` in memory alone."""
    last = np.array(stacks, np.uint8)[:, None, None, :].repeat(2, 1).repeat(2, 2)
    if layout == "last":
        return last
    first = last.transpose(0, 3, 1, 2)
    return first if layout == "transposed" else np.ascontiguousarray(first)


@pytest.mark.parametrize("layout", ["first", "last", "transposed"])
@given(data=st.data())
def test_each_env_is_read_as_if_it_were_alone(layout, data):
    shape = (2, 2, S) if layout == "last" else (S, 2, 2)
    space = spaces.Box(0, 255, shape, np.uint8)
    episodes = StackedEpisodes(StackLayout(space, S, layout != "last"), "zero", N)
    naive = [Naive() for _ in range(N)]
    stacks = [[0] * (S - 1) + [1 + i] for i in range(N)]
    for t in range(data.draw(st.integers(1, 8))):
        done = [data.draw(st.booleans()) for _ in range(N)]
        following = [[*stack[1:], 10 + t] for stack in stacks]
        for i in range(N):  # a restart from outside, a wrong frame in s or in s'
            if data.draw(st.integers(0, 9)) == 0:
                stacks[i] = [0] * (S - 1) + [50 + t]
                following[i] = [*stacks[i][1:], 10 + t]
            if data.draw(st.integers(0, 19)) == 0:
                wrong = data.draw(st.sampled_from([stacks, following]))
                wrong[i] = list(wrong[i])
                wrong[i][data.draw(st.integers(0, S - 1))] = 99
        try:
            expected = [
                env.follow(*step)
                for env, step in zip(naive, zip(stacks, following, done, strict=True), strict=True)
            ]
        except ValueError:
            with pytest.raises(EnvError):
                episodes.follow(arrays(stacks, layout), arrays(following, layout), np.array(done))
            return
        found = episodes.follow(arrays(stacks, layout), arrays(following, layout), np.array(done))
        assert found.tolist() == expected
        stacks = [
            [0] * (S - 1) + [30 + t] if over else stack
            for stack, over in zip(following, done, strict=True)
        ]
