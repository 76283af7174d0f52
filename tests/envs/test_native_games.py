"""Catch and Breakout beside plain re-implementations of their rules, one env at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastdqn.envs.native.breakout import Breakout
from fastdqn.envs.native.catch import Catch


def below(uniform: float, count: int) -> int:
    return min(int(np.float32(uniform) * np.float32(count)), count - 1)


class PlainCatch:
    """One env; ``u`` are the random numbers of a step."""

    def __init__(self, u, size=84, balls=10, cap=None):
        self.size, self.last, self.cap = size, balls, cap or 12 * balls
        self.begin(u)

    def begin(self, u):
        self.ball, self.paddle = [0, below(u[0], 12)], below(u[1], 12)
        self.landed = self.steps = 0
        self.over = False
        return 0.0, False, False

    def step(self, action, u):
        if self.over:
            return self.begin(u)
        self.steps += 1
        self.paddle = max(0, min(11, self.paddle + (-1, 0, 1)[action]))
        if self.ball[0] == 11:
            self.ball = [0, below(u[0], 12)]
        else:
            self.ball[0] += 1
        reward = 0.0
        if self.ball[0] == 11:
            reward = 1.0 if self.ball[1] == self.paddle else -1.0
            self.landed += 1
        terminated, truncated = self.landed == self.last, self.steps >= self.cap
        self.over = terminated or truncated
        return reward, terminated, truncated

    def frame(self):
        c = self.size // 12
        frame = np.zeros((self.size, self.size), np.uint8)
        for row, column in (self.ball, (11, self.paddle)):
            frame[row * c : (row + 1) * c, column * c : (column + 1) * c] = 255
        return frame


class PlainBreakout:
    def __init__(self, u, size=84, lives=5, cap=10_000):
        self.size, self.all_lives, self.cap = size, lives, cap
        self.begin(u)

    def launch(self, u):
        self.x, self.y = below(u[0], 21), 11
        self.dx, self.dy = (-1 if u[1] < 0.5 else 1), 1

    def begin(self, u):
        self.wall = {(row, column) for row in range(6) for column in range(7)}
        self.paddle, self.lives, self.steps, self.over = below(u[2], 19), self.all_lives, 0, False
        self.launch(u)
        return 0.0, False, False

    def step(self, action, u):
        if self.over:
            return self.begin(u)
        self.steps += 1
        self.paddle = max(0, min(18, self.paddle + (-1, 0, 1)[action]))
        reward = self.fly(u)
        terminated, truncated = self.lives == 0, self.steps >= self.cap
        self.over = terminated or truncated
        return reward, terminated, truncated

    def fly(self, u):
        if self.y == 20:
            self.launch(u)
            return 0.0
        x, y, reward = self.x + self.dx, self.y + self.dy, 0.0
        if x < 0 or x > 20:
            x, self.dx = self.x, -self.dx
        brick = (y - 4, x // 3)
        if y < 1:
            y, self.dy = self.y, 1
        elif brick in self.wall:
            self.wall.remove(brick)
            y, self.dy, reward = self.y, -self.dy, 1.0
        elif y == 20:
            if self.paddle <= x <= self.paddle + 2:
                y, self.dy = self.y, -1
                if x == self.paddle:
                    self.dx = -1
                elif x == self.paddle + 2:
                    self.dx = 1
            else:
                self.lives -= 1
        self.x, self.y = x, y
        if not self.wall and y >= 10:
            self.wall = {(row, column) for row in range(6) for column in range(7)}
        return reward

    def frame(self):
        cells = np.zeros((21, 21), np.uint8)
        cells[0, : self.lives] = 255
        for row, column in self.wall:
            cells[4 + row, 3 * column : 3 * column + 3] = 160 - 14 * row - 10 * (column % 2)
        cells[20, self.paddle : self.paddle + 3] = 200
        cells[self.y, self.x] = 255
        return np.kron(cells, np.ones((self.size // 21,) * 2, np.uint8))


def recorded(envs):
    """``envs`` and the list of all random numbers that it draws, [R, N] each."""
    draws, draw = [], envs._draw

    def watched():
        draws.append(draw())
        return draws[-1]

    envs._draw = watched
    return envs, draws


def choose(rule, plain, rng):
    """Random actions for some envs, ones that follow the ball for the others."""
    actions = rng.integers(0, 3, len(plain))
    for i, env in enumerate(plain):
        if i % 2:
            actions[i] = rule(env, rng)
    return actions


def follow_catch(env, rng):
    return 1 + np.sign(env.ball[1] - env.paddle)


def follow_breakout(env, rng):
    """Keep a random cell of the paddle below the ball, and err at times."""
    if rng.random() < 0.03:
        return rng.integers(0, 3)
    return 1 + np.sign(env.x + env.dx - env.paddle - rng.integers(0, 3))


GAMES = {
    "catch": (Catch, PlainCatch, follow_catch, {}, 600),
    "catch, small, cut": (
        Catch, PlainCatch, follow_catch,
        {"size": 24, "balls": 3, "max_episode_steps": 31}, 300,
    ),
    "breakout": (Breakout, PlainBreakout, follow_breakout, {}, 2500),
    "breakout, small, cut": (
        Breakout, PlainBreakout, follow_breakout,
        {"size": 42, "lives": 2, "max_episode_steps": 150}, 600,
    ),
}  # fmt: skip


@pytest.mark.parametrize("game", GAMES)
def test_beside_the_plain_game(game):
    env_type, plain_type, rule, options, steps = GAMES[game]
    n = 6
    envs, draws = recorded(env_type(n, **options))
    frames, info = envs.reset(seed=4)
    plain_options = dict(options)
    if "max_episode_steps" in plain_options:
        plain_options["cap"] = plain_options.pop("max_episode_steps")
    plain = [plain_type(draws[-1][:, i].tolist(), **plain_options) for i in range(n)]
    rng = np.random.default_rng(0)
    episodes, rewards = 0, []
    for t in range(steps):
        if t % 7 == 0 or t < 30:
            for i in range(n):
                assert np.array_equal(frames[i].numpy(), plain[i].frame()), (t, i)
        actions = choose(rule, plain, rng)
        frames, reward, terminated, truncated, info = envs.step(actions)
        for i in range(n):
            expected = plain[i].step(int(actions[i]), draws[-1][:, i].tolist())
            assert (reward[i].item(), terminated[i].item(), truncated[i].item()) == expected, (t, i)
            if "breakout" in game:
                assert info["lives"][i].item() == plain[i].lives
        rewards.append(reward.sum().item())
        episodes += int((terminated | truncated).sum())
    assert episodes >= 10
    assert max(rewards) > 0


def test_every_pixel_of_catch_is_in_its_cell():
    envs = Catch(144 * 12)
    index = torch.arange(144 * 12)
    state = {
        "row": index // 12 % 12,
        "column": index % 12,
        "paddle": index // 144,
        "balls": index * 0,
    }
    frames = envs.observe(state, torch.empty(0)).numpy()
    for i in range(0, len(frames), 7):
        expected = np.zeros((12, 12))
        expected[int(state["row"][i]), int(state["column"][i])] = 255
        expected[11, int(state["paddle"][i])] = 255
        assert np.array_equal(frames[i], np.kron(expected, np.ones((7, 7))))


def returns(envs, act, episodes: int) -> np.ndarray:
    """Of the first ``episodes`` whole episodes of every env (Catch's are equally long)."""
    envs.reset(seed=0)
    total, done = torch.zeros(envs.num_envs), []
    while len(done) < episodes:
        _, reward, terminated, *_ = envs.step(act(envs._state))
        total += reward
        if terminated.any():
            assert terminated.all()
            done.append(total.clone())
            total.zero_()
    return torch.stack(done).numpy()


def test_perfect_play_of_catch_scores_ten():
    def follow(state):
        return (state["column"] - state["paddle"]).sign() + 1

    assert (returns(Catch(300), follow, 3) == 10).all()


def test_random_play_of_catch_scores_about_minus_eight():
    g = torch.Generator().manual_seed(1)
    scores = returns(Catch(1000), lambda _: torch.randint(0, 3, (1000,), generator=g), 3)
    # 10 (2/12 - 1) = -8.33; the standard error is 0.03.
    assert abs(scores.mean() + 8.333) < 0.15


def test_breakout_gives_a_new_wall():
    """When the last brick is gone and the ball is below the wall, and not before."""
    envs = Breakout(8, size=21, lives=21)
    envs.reset(seed=0)
    state = envs.state_dict()
    state["state"]["bricks"][2:] = False
    envs.load_state_dict(state)
    g = torch.Generator().manual_seed(0)
    walls = torch.zeros(8)
    before = envs._state["bricks"].sum(0)
    for _ in range(800):
        s = envs._state
        aim = s["x"] + s["dx"] - s["paddle"] - torch.randint(0, 3, (8,), generator=g)
        _, reward, *_ = envs.step(aim.sign() + 1)
        now = envs._state["bricks"].sum(0)
        fresh = now > before
        walls += fresh
        assert torch.equal(now[~fresh], (before - reward)[~fresh].long())
        assert (now[fresh] == 42).all()
        assert (envs._state["y"][fresh] >= 10).all()
        assert ((now > 0) | (envs._state["y"] < 10)).all()
        before = now
    assert (walls >= 1).sum() >= 4
