"""CartPole as tensors against Gymnasium's own: its physics, its rows, its picture."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

from fastdqn.envs.native.cartpole import RANGES, CartPole, cartpole_step, has_fallen
from fastdqn.envs.native.cartpole_screen import CartPoleScreen

X_LIMIT, THETA_LIMIT = 2.4, 12 * 2 * np.pi / 360


def policy(state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Play at random, balance, push one way, or lean and so run to the wall; [N] of [4, N]."""
    n = state.shape[1]
    random = rng.integers(0, 2, n)
    balance = np.array([0.1, 0.2, 1.0, 0.6]) @ state > 0
    lean = np.array([0.0, 0.0, 1.0, 0.6]) @ state > np.where(np.arange(n) % 8 < 4, 0.03, -0.03)
    return np.choose(np.arange(n) % 4, [random, balance, np.arange(n) // 4 % 2, lean]).astype(int)


def trajectories(steps: int = 500, num_envs: int = 212):
    """(state, action, next state) float64 [4, N], [N], [4, N] of Gymnasium, without resets."""
    envs = gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point")
    envs.reset(seed=0)
    base, rng = envs.unwrapped, np.random.default_rng(0)
    found = []
    for _ in range(steps):
        before, over = base.state.copy(), base.prev_done.copy()
        actions = policy(before, rng)
        envs.step(actions)
        found.append((before[:, ~over], actions[~over], base.state[:, ~over]))
    states, actions, following = zip(*found, strict=True)
    return np.hstack(states), np.hstack(actions), np.hstack(following)


def test_physics_from_gymnasium_s_states():
    state, action, expected = trajectories()
    assert state.shape[1] > 10**5 * 0.95
    result = cartpole_step(torch.tensor(state, dtype=torch.float32), torch.tensor(action))
    assert result.dtype == torch.float32
    error = np.abs(result.numpy() - expected)
    assert error.max() <= 1e-6
    x, theta = np.abs(expected[0]), np.abs(expected[2])
    fallen = (x > X_LIMIT) | (theta > THETA_LIMIT)
    near = (np.abs(x - X_LIMIT) < 1e-5) | (np.abs(theta - THETA_LIMIT) < 1e-5)
    assert fallen.sum() > 1000 and near.sum() < 100
    assert min((expected[0] > X_LIMIT).sum(), (expected[0] < -X_LIMIT).sum()) > 5
    assert (has_fallen(result).numpy() == fallen)[~near].all()


def test_a_step_by_hand():
    """From rest, upright, pushed right: x'' and theta'' of the two equations at theta = 0."""
    temp = 10 / 1.1
    theta_acc = -temp / (0.5 * (4 / 3 - 0.1 / 1.1))
    x_acc = temp - 0.05 * theta_acc / 1.1
    result = cartpole_step(torch.zeros(4, 1), torch.ones(1, dtype=torch.int64))
    expected = [0.0, 0.02 * x_acc, 0.0, 0.02 * theta_acc]
    assert result[:, 0].tolist() == pytest.approx(expected, rel=1e-6)
    assert x_acc == pytest.approx(9.7561, abs=1e-4) and theta_acc == pytest.approx(
        -14.6341, abs=1e-4
    )


def test_rows_beside_gymnasium_s_vector_env():
    """Falls, truncation after 500 steps and the step of the reset, row by row."""
    n = 24
    theirs = gymnasium.make_vec("CartPole-v1", n, vectorization_mode="vector_entry_point")
    ours = gymnasium.make_vec("fastdqn/CartPole-v1", n, vectorization_mode="vector_entry_point")
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.single_action_space == theirs.single_action_space
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    theirs.reset(seed=0)
    seen, _ = ours.reset(seed=0)
    base, rng, counts = theirs.unwrapped, np.random.default_rng(1), np.zeros(3, int)
    over = np.zeros(n, bool)
    for _ in range(1100):
        base.state = seen.numpy().T.astype(np.float64)  # float32 and float64 would drift apart
        actions = policy(base.state, rng)
        expected = theirs.step(actions)
        seen, reward, terminated, truncated, _ = ours.step(torch.as_tensor(actions))
        assert np.abs(seen.numpy() - expected[0])[~over].max(initial=0) <= 1e-6
        assert (np.abs(seen.numpy()[over]) <= 0.05).all()
        for mine, other in zip((reward, terminated, truncated), expected[1:4], strict=True):
            assert np.array_equal(mine.numpy(), other)
        over = (terminated | truncated).numpy()
        counts += [terminated.sum(), truncated.sum(), (reward == 0).sum()]
    assert counts[0] > 300 and counts[1] >= 12 and counts[2] > 300


def test_starts_are_uniform():
    start = CartPole(20_000).reset(seed=0)[0].numpy()
    assert (np.abs(start) <= 0.05).all()
    counts = np.array([np.histogram(column, 10, (-0.05, 0.05))[0] for column in start.T])
    assert (np.abs(counts - 2000) < 5 * np.sqrt(2000)).all()
    assert np.abs(np.corrcoef(start.T) - np.eye(4)).max() < 0.03


# --- options -----------------------------------------------------------------------------------


def test_observation_noise_is_a_fraction_of_the_ranges():
    envs = CartPole(20_000, observation_noise=0.05)
    for see in (lambda: envs.reset(seed=0), lambda: envs.step(np.zeros(20_000, np.int64))):
        seen = see()[0]
        state = envs.state_dict()["state"]["physics"].T
        noise = (seen - state) / torch.tensor(RANGES)
        assert noise.mean(0).abs().max() < 0.002
        assert (noise.std(0) - 0.05).abs().max() < 0.001
        # Gaussian: 68.27 % within one sigma, 4.55 % beyond two.
        assert ((noise.abs() < 0.05).float().mean(0) - 0.6827).abs().max() < 0.02
        assert ((noise.abs() > 0.1).float().mean(0) - 0.0455).abs().max() < 0.01
        assert torch.isfinite(seen).all()
    assert list(RANGES) == pytest.approx([4.8, 4.0, 2 * THETA_LIMIT, 6.0])


def test_observation_noise_is_finite_for_every_uniform():
    envs = CartPole(3, observation_noise=1.0)
    uniform = torch.zeros(8, 3)
    uniform[:, 1], uniform[:, 2] = 0.5, 1 - 2**-24
    state = envs.begin(uniform)
    noise = envs.observe(state, uniform) - state["physics"].T
    assert torch.isfinite(noise).all()
    assert noise[1].abs().max() < 1e-6 and (noise[0] < 0).all() and (noise[2] > 0).all()


def test_the_noise_does_not_touch_the_physics():
    noisy, quiet = CartPole(4, observation_noise=0.1), CartPole(4)
    noisy.reset(seed=0)
    quiet.reset(seed=1)
    start = noisy.state_dict()["state"]
    quiet.load_state_dict({**quiet.state_dict(), "state": start})
    for action in (0, 1, 1, 0, 1):
        noisy.step(np.full(4, action))
        quiet.step(np.full(4, action))
    one, other = noisy.state_dict()["state"], quiet.state_dict()["state"]
    assert torch.equal(one["physics"], other["physics"])


def test_action_noise_replaces_that_many_actions():
    envs = CartPole(40_000, action_noise=0.3)
    envs.reset(seed=0)
    before = envs.state_dict()["state"]["physics"]
    envs.step(np.ones(40_000, np.int64))
    right = cartpole_step(before, torch.ones(40_000, dtype=torch.int64))
    after = envs.state_dict()["state"]["physics"]
    replaced = (after - right).abs().amax(0) > 1e-3
    assert abs(replaced.float().mean() - 0.15) < 0.01  # half of the random actions push right, too


def test_fall_reward():
    for option, at_fall in ((None, 1.0), (-10.0, -10.0), (0, 0.0)):
        envs = CartPole(2, fall_reward=option)
        envs.reset(seed=0)
        rewards = []
        for _ in range(12):
            _, reward, terminated, *_ = envs.step(np.ones(2, np.int64))
            rewards.append(reward[0].item())
            if terminated[0]:
                break
        assert rewards == [1.0] * (len(rewards) - 1) + [at_fall]
        assert 8 <= len(rewards) <= 11


def test_a_fixed_target_and_its_reward():
    envs = CartPole(3, target_position=1.2, fall_reward=-5.0)
    seen, _ = envs.reset(seed=0)
    assert seen.shape == (3, 5)
    for _ in range(14):
        seen, reward, terminated, *_ = envs.step(np.ones(3, np.int64))
        for row, value, fell in zip(seen.tolist(), reward.tolist(), terminated, strict=True):
            assert row[4] == pytest.approx(row[0] - 1.2, abs=1e-6)
            if envs.state_dict()["state"]["steps"].min() > 0:
                expected = -5.0 if fell else 0.2 / (0.2 + abs(row[0] - 1.2))
                assert value == pytest.approx(expected, abs=1e-6)


def test_every_episode_draws_its_target():
    envs = CartPole(500, target_position=(-1.0, 2.0), max_episode_steps=3)
    targets = []
    seen, _ = envs.reset(seed=0)
    for _ in range(12):
        targets.append((seen[:, 0] - seen[:, 4]).clone())
        seen, *_ = envs.step(np.zeros(500, np.int64))
    targets = torch.stack(targets)
    assert targets.min() < -0.9 and targets.max() > 1.9
    assert ((targets >= -1 - 1e-5) & (targets <= 2 + 1e-5)).all()
    # The same for the 4 rows of an episode of 3 steps, another for the next.
    assert (targets[0] - targets[3]).abs().max() < 1e-5
    assert (targets[3] - targets[4]).abs().min() >= 0 and (targets[3] - targets[4]).std() > 0.5


# --- the picture -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gymnasium_screens():
    """x, theta and the crop of Gymnasium's picture as PyTorch's tutorial takes it, large."""
    pytest.importorskip("pygame")
    patch = pytest.MonkeyPatch()
    patch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    rng, found = np.random.default_rng(0), []
    middle = np.stack([rng.uniform(-0.9, 0.9, 60), rng.uniform(-0.25, 0.25, 60)], 1)
    sides = np.stack([rng.uniform(-2.44, 2.44, 60), rng.uniform(-0.25, 0.25, 60)], 1)
    for x, theta in np.vstack([middle, sides]):
        env.state = np.array([x, 0.0, theta, 0.0])
        screen = env.render()
        assert screen.shape == (400, 600, 3)
        cart = int(x * 600 / 4.8 + 300)
        if cart < 180:
            columns = slice(0, 360)
        elif cart > 420:
            columns = slice(240, 600)
        else:
            columns = slice(cart - 180, cart + 180)
        found.append((x, theta, screen[160:320, columns].astype(np.float64)))
    env.close()
    patch.undo()
    return found


def smaller(crop: np.ndarray) -> np.ndarray:
    """[160, 360, 3] to [40, 90, 3]: the mean of each 4 x 4."""
    return crop.reshape(40, 4, 90, 4, 3).mean((1, 3))


def draw(found, **options) -> np.ndarray:
    x, theta = (torch.tensor([row[i] for row in found], dtype=torch.float32) for i in (0, 1))
    return CartPoleScreen(**options)(x, theta).numpy()


def test_the_picture_is_gymnasium_s(gymnasium_screens):
    frames = draw(gymnasium_screens).transpose(0, 2, 3, 1)
    assert frames.shape == (120, 40, 90, 3) and frames.dtype == np.uint8
    difference = [
        np.abs(frame - smaller(crop)).mean()
        for frame, (*_, crop) in zip(frames, gymnasium_screens, strict=True)
    ]
    assert np.mean(difference) < 0.25  # of 255
    assert np.max(difference) < 0.5


def test_the_picture_shows_the_colours(gymnasium_screens):
    frame = draw([(0.0, 0.0, None)])[0].transpose(1, 2, 0)
    assert frame[0, 0].tolist() == [255, 255, 255]
    assert frame[36, 45].tolist() == [0, 0, 0]  # the cart
    assert frame[20, 44].tolist() == frame[20, 45].tolist() == [202, 152, 101]  # the pole
    assert frame[34, 0].tolist() == [191, 191, 191]  # the track: one row of four is black


def test_gray_is_the_luminance(gymnasium_screens):
    colours, gray = draw(gymnasium_screens).astype(float), draw(gymnasium_screens, gray=True)
    assert gray.shape == (120, 40, 90)
    expected = np.einsum("nchw,c->nhw", colours, [0.299, 0.587, 0.114])
    assert np.abs(gray - expected).max() <= 1


def test_the_screen_shows_the_state_and_the_difference_the_step():
    screens = CartPole(6, pixels=True, max_episode_steps=9)
    steps = CartPole(6, pixels=True, difference=True, max_episode_steps=9)
    before, _ = screens.reset(seed=3)
    assert not steps.reset(seed=3)[0].any(), "nothing has moved"
    rng, moved = np.random.default_rng(0), 0
    over = torch.zeros(6, dtype=torch.bool)
    for _ in range(60):
        actions = rng.integers(0, 2, 6)
        seen, *_, terminated, truncated, _ = screens.step(actions)
        difference, *_ = steps.step(actions)
        assert difference.dtype == torch.float32
        expected = (seen.double() - before.double()) / 255
        expected[over] = 0.0
        assert (difference - expected).abs().max() < 1e-6
        moved += int(difference.flatten(1).any(1).sum())
        before, over = seen, terminated | truncated
    assert moved > 100


def test_states_far_out_have_a_picture():
    x = torch.tensor([-2.6, 2.6, 0.0, -9.0, 9.0])
    frames = CartPoleScreen()(x, torch.tensor([1.0, -1.0, 9.0, 0.0, 0.0]))
    assert frames.shape == (5, 3, 40, 90)
