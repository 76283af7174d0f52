"""Games one by one: the rows of ALE's vector env, and RAM, modes and difficulties beyond it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ale_py")
pytest.importorskip("cv2")

from ale_py.env import AtariEnv
from gymnasium.vector import AsyncVectorEnv

from fastdqn.envs import AtariProtocol, make_envs
from fastdqn.envs.atari_games import AtariGame
from fastdqn.errors import EnvError

MACHADO, CLASSIC = AtariProtocol.machado, AtariProtocol.classic


def rows(stream: Any, steps: int) -> list[Any]:
    generator = np.random.default_rng(0)
    found = [stream.reset(seed=3)]
    for _ in range(steps):
        stream.send(generator.integers(0, stream.num_actions, stream.num_envs))
        found.append(stream.recv())
    stream.close()
    return found


@pytest.mark.parametrize(
    ("game", "rules", "steps"),
    [
        ("Breakout", CLASSIC(noop_max=0, repeat_action_probability=0.25), 250),
        ("Breakout", CLASSIC(noop_max=1, max_episode_frames=151, frame_skip=3), 150),
        ("Pong", MACHADO(noop_max=0, max_episode_frames=402), 110),
        ("Freeway", MACHADO(noop_max=0, frame_skip=1, full_action_space=True), 20),
        ("Pong", MACHADO(noop_max=0, frame_size=42, max_episode_frames=402), 110),
    ],
)
def test_the_rows_are_those_of_ales_vector_env(game: str, rules: Any, steps: int) -> None:
    """FIRE, lost lives, limits cut within a step, stale final frames, sticky actions."""
    num_envs = 2 if game == "Breakout" else 1
    both = [
        make_envs(f"ALE/{game}-v5", num_envs, atari=rules, **kwargs)
        for kwargs in ({"mode": 0, "difficulty": 0}, {"num_threads": 1})
    ]
    slow, fast = both
    assert slow.observation_space == fast.observation_space
    assert (slow.frame_stack, slow.stack_padding) == (fast.frame_stack, fast.stack_padding)
    ends = lost = 0
    for t, (ours, theirs) in enumerate(zip(*(rows(s, steps) for s in both), strict=True)):
        for name in ("observation", "reward", "terminated", "truncated", "first"):
            ours_, theirs_ = getattr(ours, name), getattr(theirs, name)
            assert ours_.dtype == theirs_.dtype
            np.testing.assert_array_equal(ours_, theirs_, f"{name} of row {t}")
        assert ours.reset is None
        ends += int(ours.first.sum())
        lost += int(ours.terminated.sum())
    assert ends > 1 or game == "Freeway"
    assert (lost > 2) == rules.life_loss


@pytest.mark.slow
@pytest.mark.parametrize("game", ["SpaceInvaders", "MsPacman", "Seaquest", "Boxing"])
@pytest.mark.parametrize("rules", [MACHADO(noop_max=0), CLASSIC(noop_max=0)])
def test_the_rows_of_more_games(game: str, rules: Any) -> None:
    streams = [
        make_envs(f"ALE/{game}-v5", 2, atari=rules, **kwargs)
        for kwargs in ({"mode": None}, {"num_threads": 1})
    ]
    for ours, theirs in zip(*(rows(s, 1500) for s in streams), strict=True):
        for x, y in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(x, y)


def test_ram_is_what_ales_own_env_gives() -> None:
    rules = MACHADO(repeat_action_probability=0.0, noop_max=0)
    stream = make_envs("ALE/Breakout-v5", 1, atari=rules, obs_type="ram")
    assert stream.observation_space.shape == (128,)
    assert stream.observation_space.dtype == np.uint8 and stream.frame_stack is None
    env = AtariEnv("breakout", obs_type="ram", frameskip=4, repeat_action_probability=0.0)
    expected, _ = env.reset()
    step, generator = stream.reset(), np.random.default_rng(0)
    for _ in range(80):
        np.testing.assert_array_equal(step.observation[0], expected)
        action = generator.integers(0, 4, 1)
        expected, reward, over, *_ = env.step(action[0])
        stream.send(action)
        step = stream.recv()
        assert (step.reward[0], step.terminated[0]) == (reward, over)
        if over:
            break


def test_an_old_id_of_ram() -> None:
    with pytest.warns(UserWarning, match="ALE/Pong-v5 on its RAM with frame skip 4 and no sticky"):
        stream = make_envs("Pong-ramNoFrameskip-v4", 2)
    assert stream.reset().observation.shape == (2, 128)


def test_mode_and_difficulty_reach_the_game() -> None:
    def frames(**kwargs: int) -> np.ndarray:
        stream = make_envs("ALE/Breakout-v5", 1, atari=CLASSIC(noop_max=0), **kwargs)
        return np.stack([step.observation for step in rows(stream, 60)])

    default = frames(mode=0)
    for other in ({"mode": 8}, {"difficulty": 1}):
        assert not np.array_equal(default, frames(**other))


def test_no_ops_are_fewer_than_noop_max() -> None:
    game = AtariGame("breakout", CLASSIC(noop_max=5, repeat_action_probability=0.0))
    game.reset(seed=0)
    counts = set()
    for _ in range(60):
        game.reset()
        counts.add(game._ale.getEpisodeFrameNumber())
    assert counts == {1, 2, 3, 4}  # FIRE, and one no-op less


@pytest.mark.skipif(sys.platform != "linux", reason="compares with workers, which start slowly")
@pytest.mark.slow
def test_in_processes_of_their_own() -> None:
    one, other = (
        make_envs("ALE/Pong-v5", 2, obs_type="ram", vectorization=vectorization)
        for vectorization in ("async", "sync")
    )
    assert isinstance(one.vector_env, AsyncVectorEnv)  # type: ignore[attr-defined]
    for x, y in zip(rows(one, 50), rows(other, 50), strict=True):
        np.testing.assert_array_equal(x.observation, y.observation)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mode": 3}, "mode = 3 is none of breakout; use one of 0, 4, 8"),
        ({"difficulty": 2}, "difficulty = 2 is none of breakout; use one of 0, 1"),
        ({"mode": "hard"}, "mode = 'hard' is none"),
        ({"obs_type": "rgb"}, "use 'ram', or leave it out"),
        ({"mode": 4, "render_mode": "human"}, "render_mode does not apply.*mode, difficulty"),
        ({"mode": 4, "num_threads": 2}, "num_threads is for ALE's own vector env"),
        ({"mode": 4, "vectorization": "vector_entry_point"}, "vectorization is for ALE's own"),
    ],
)
def test_what_cannot_be_had_is_refused(kwargs: dict, message: str) -> None:
    with pytest.raises(EnvError, match=message):
        make_envs("ALE/Breakout-v5", 1, **kwargs)


def test_without_opencv_the_fix_is_named(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(EnvError, match="pip install opencv-python-headless, or use obs_type"):
        make_envs("ALE/Breakout-v5", mode=4)
    assert make_envs("ALE/Breakout-v5", obs_type="ram").reset().observation.shape == (1, 128)
