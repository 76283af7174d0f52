"""The moments of an episode, and the pictures drawn of them."""

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from torch import nn

from fastdqn.acting.policy import Policy
from fastdqn.envs import make_envs
from fastdqn.learning.input_gradients import input_gradient
from fastdqn.learning.perturbation import perturbation_saliency
from fastdqn.networks.make import make_network
from fastdqn.plotting import saliency_episode, style
from fastdqn.plotting.labels import action_names, variable_names
from fastdqn.plotting.saliency_episode import (
    Episode,
    Moments,
    explain,
    is_picture,
    play_episode,
    spread,
)
from fastdqn.plotting.saliency_picture import (
    draw_frames,
    draw_vectors,
    newest_frame,
    overlay,
    scaled,
)


class Balance(nn.Module):
    """Pushes the cart under the pole: hundreds of steps, with no training."""

    def forward(self, x):
        tilt = x.float() @ torch.tensor([0.0, 0.5, 3.0, 3.0])
        return torch.stack((-tilt, tilt), dim=1)


# --- playing --------------------------------------------------------------------------------------


def by_hand(seed):
    import gymnasium

    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=seed)
    seen, over = [], False
    while not over:
        seen.append(observation)
        tilt = observation @ np.array([0.0, 0.5, 3.0, 3.0], np.float32)
        observation, _, terminated, truncated, _ = env.step(int(tilt > 0))
        over = terminated or truncated
    env.close()
    return np.stack(seen)


@pytest.mark.parametrize("most", [2, 10, 64, 10_000])
def test_the_kept_observations_are_those_of_the_episode_evenly_spread(monkeypatch, most):
    monkeypatch.setattr(saliency_episode, "_MOST", most)
    policy = Policy(Balance())
    envs = make_envs("CartPole-v1", 1, seed=0)
    episode = play_episode(policy, envs, seed=3, max_env_steps=10_000)
    envs.close()
    seen = by_hand(3)
    assert episode.length == len(seen) == episode.episode_return and not episode.unfinished
    every = episode.step[1] - episode.step[0]
    assert episode.step == list(range(0, len(seen), every))
    assert min(most, len(seen)) <= len(episode.step) < 2 * most
    assert np.allclose(episode.observation.numpy(), seen[episode.step], atol=1e-5)
    assert not policy.network._forward_pre_hooks


def test_an_episode_is_cut_where_it_is_told_to(monkeypatch):
    envs = make_envs("CartPole-v1", 1, seed=0)
    episode = play_episode(Policy(Balance()), envs, seed=3, max_env_steps=7)
    envs.close()
    assert (episode.length, episode.unfinished, episode.step) == (7, True, list(range(7)))


@pytest.mark.parametrize(
    ("count", "of", "expected"),
    [(1, 9, [4]), (2, 8, [2, 6]), (3, 3, [0, 1, 2]), (8, 3, [0, 1, 2]), (4, 100, [12, 37, 62, 87])],
)
def test_the_chosen_ones_are_spread_evenly(count, of, expected):
    assert spread(count, of) == expected


def episode_of(observation):
    return Episode(list(range(0, 3 * len(observation), 3)), observation, 99, 9.0, False)


def test_the_explanation_is_that_of_the_functions():
    torch.manual_seed(0)
    network = make_network((40, 36), 3, frame_stack=2, hidden_sizes=(16,))
    policy = Policy(network, frame_stack=2)
    frames = torch.randint(0, 256, (5, 2, 40, 36), dtype=torch.uint8)
    moments = explain(policy, episode_of(frames), [1, 4], stride=10)
    assert moments.step == [3, 12]
    with torch.no_grad():
        q = network(frames[[1, 4]])
    assert np.allclose(moments.q, q.numpy(), atol=1e-5)
    assert moments.action.tolist() == q.argmax(1).tolist()
    for action in range(3):
        expected = input_gradient(policy, frames[[1, 4]], torch.tensor([action] * 2))
        assert np.array_equal(moments.gradient[action], expected.numpy())
    expected = perturbation_saliency(policy, frames[[1, 4]], stride=10)
    assert np.array_equal(moments.perturbation, expected.numpy())


def test_vectors_have_no_map():
    moments = explain(Policy(Balance()), episode_of(torch.randn(4, 4)), [0, 3])
    assert moments.perturbation is None
    assert np.allclose(moments.gradient[1], [[0.0, 0.5, 3.0, 3.0]] * 2)
    assert np.array_equal(moments.gradient[0], -moments.gradient[1])
    assert is_picture((4, 84, 84)) and is_picture((40, 90))
    assert not is_picture((4,)) and not is_picture((4, 8)) and not is_picture((84, 84, 3))


# --- names ----------------------------------------------------------------------------------------


def test_names_of_variables():
    cartpole = ["cart position", "cart velocity", "pole angle", "pole angular velocity"]
    assert variable_names("CartPole-v1", 4) == cartpole
    assert variable_names("my/CartPole-v1", 4) == cartpole
    assert variable_names("CartPole-v1", 5) == ["x0", "x1", "x2", "x3", "x4"]
    assert variable_names("Else-v0", 2) == ["x0", "x1"]
    stacked = variable_names("MountainCar-v0", 4, frame_stack=2)
    assert stacked == ["position, 1 before", "velocity, 1 before", "position", "velocity"]


def test_names_of_actions():
    assert action_names("CartPole-v1", 2) == ["left", "right"]
    assert action_names("fastdqn/Catch-v0", 3) == ["left", "none", "right"]
    assert action_names("Else-v0", 2) == ["action 0", "action 1"]
    assert action_names("CartPole-v1", 3) == ["action 0", "action 1", "action 2"]


def test_names_of_atari_actions():
    pytest.importorskip("ale_py")
    names = ["noop", "fire", "right", "left", "rightfire", "leftfire"]
    assert action_names("ALE/Pong-v5", 6) == names
    assert len(set(action_names("ALE/Pong-v5", 18, full_action_space=True))) == 18


# --- drawing --------------------------------------------------------------------------------------


def test_the_newest_frame():
    stack = np.zeros((2, 4, 5, 6), np.uint8)
    stack[:, 3] = 255
    assert newest_frame(stack, 4).shape == (2, 5, 6)
    assert newest_frame(stack, 4).min() == 1
    assert np.allclose(newest_frame(stack, None), 0.25)  # channels are averaged
    colours = np.stack([np.full((5, 6), v) for v in (-1.0, 0.0, 4.0)])[None]
    ramp = np.concatenate([colours, colours + 1])
    assert newest_frame(ramp, None)[:, 0, 0].tolist() == [0, 1]  # floats fill the range
    assert newest_frame(np.ones((1, 5, 6)), None).max() == 0


def test_the_overlay_has_full_colour_at_the_top_and_none_at_zero():
    saliency = np.zeros((20, 20))
    saliency[3, 4], saliency[5, 6] = 1.0, 0.5
    color = np.array([0.0, 0.4, 0.7])
    rgb = overlay(np.ones((20, 20)), saliency, color)
    assert np.allclose(rgb[3, 4], color)
    assert np.allclose(rgb[0, 0], 0.95)
    dense = overlay(np.ones((20, 20)), np.linspace(0, 1, 400).reshape(20, 20), color)
    full = np.percentile(np.linspace(0, 1, 400), 99.5)
    share = 1 / 399 * 200 / full
    assert np.allclose(dense.reshape(-1, 3)[200], 0.95 * (1 - share) + color * share)
    assert np.allclose(overlay(np.ones((4, 4)), np.zeros((4, 4)), color), 0.95)


def pixels_of(path):
    pixels = matplotlib.image.imread(path)[..., :3]
    assert pixels.std() > 0.02
    return pixels


def has(pixels, color, count):
    return (np.abs(pixels - to_rgb(color)).max(axis=-1) < 0.02).sum() >= count


@pytest.mark.parametrize("count", [1, 5])
def test_frames_are_drawn_with_both_maps(tmp_path, drawn, count):
    generator = np.random.default_rng(0)
    gradient = np.zeros((3, count, 2, 40, 36))
    gradient[1, :, 0, 10:20, 5:15] = -2.0
    perturbation = np.zeros((count, 40, 36))
    perturbation[:, 25:35, 20:30] = 1.0
    moments = Moments(
        [10 * k for k in range(count)],
        generator.integers(0, 256, (count, 2, 40, 36), np.uint8),
        np.array([[0.5, 1.25, 0.75]] * count),
        gradient,
        perturbation,
    )
    path = tmp_path / "s.png"
    draw_frames(moments, path, title="t", actions=["a", "up", "c"], frame_stack=2)
    axes = np.array(drawn[0].axes).reshape(4, count)
    assert axes[0, -1].get_title() == f"step {10 * (count - 1)}: up\nQ = 1.25"
    assert np.allclose(axes[0, 0].get_images()[0].get_array(), moments.observation[0, -1] / 255)
    blue = axes[1, 0].get_images()[0].get_array()
    red = axes[2, 0].get_images()[0].get_array()
    assert np.allclose(blue[10:20, 5:15], to_rgb(style.BLUE), atol=0.01)
    assert np.allclose(red[25:35, 20:30], to_rgb(style.VERMILION), atol=0.01)
    for shown, inside in ((blue, np.s_[10:20, 5:15]), (red, np.s_[25:35, 20:30])):
        outside = np.ones((40, 36), bool)
        outside[inside] = False
        assert np.ptp(shown[outside], axis=-1).max() < 1e-12  # gray
    bars = [bar.get_width() for bar in axes[3, 0].patches]
    assert bars == [0.0, 0.75, 0.25]
    pixels = pixels_of(path)
    for color in (style.BLUE, style.VERMILION, style.ORANGE):
        assert has(pixels, color, 100)


def test_vectors_are_drawn_per_standard_deviation(tmp_path, drawn):
    observation = np.array([[0.0, 10.0], [2.0, 30.0], [4.0, 50.0]])
    gradient = np.array([[[1.0, 0.1]] * 3, [[-2.0, 0.2]] * 3])
    every = Moments([0, 1, 2], observation, np.array([[1.0, 2], [3, 1], [1, 2]]), gradient, None)
    spread = np.array([np.sqrt(8 / 3), 10 * np.sqrt(8 / 3)])
    assert np.allclose(scaled(every, observation.std(axis=0))[1, 0], [-2, 2] * spread / [1, 10])
    few = Moments([1], observation[1:2], every.q[1:2], gradient[:, 1:2], None)
    path = tmp_path / "v.png"
    draw_vectors(few, every, path, title="t", actions=["l", "r"], variables=["x", "speed"])
    main, moment = drawn[0].axes
    assert [label.get_text() for label in main.get_yticklabels()] == ["x", "speed"]
    root = np.sqrt(8 / 3)
    assert np.allclose([bar.get_width() for bar in main.patches], [root, root, 2 * root, 2 * root])
    assert np.allclose(
        [bar.get_width() for bar in moment.patches], [root, root, -2 * root, 2 * root]
    )
    assert [label.get_text() for label in moment.get_yticklabels()] == ["2", "30"]
    assert moment.get_title(loc="left") == "step 1: l\nQ = 3, 1"
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert legend == ["Q of l", "Q of r"]
    pixels = pixels_of(path)
    assert has(pixels, style.BLUE, 500) and has(pixels, style.VERMILION, 500)


def test_of_many_variables_those_that_matter_are_drawn(tmp_path, drawn):
    generator = np.random.default_rng(0)
    observation = generator.normal(size=(2, 40))
    gradient = np.zeros((7, 2, 40))
    gradient[:, :, 5:17] = 1.0
    every = Moments([0, 1], observation, generator.normal(size=(2, 7)), gradient, None)
    draw_vectors(
        every, every, tmp_path / "v.png", title="t",
        actions=[f"action {k}" for k in range(7)], variables=[f"x{k}" for k in range(40)],
    )  # fmt: skip
    names = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert names == [f"x{k}" for k in range(5, 17)]
