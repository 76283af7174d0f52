"""A film of a policy: the episodes that evaluate() plays, and what the network made of them."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import nn

import fastdqn
from fastdqn.acting.policy import Policy
from fastdqn.envs import make_envs
from fastdqn.envs.rendered import RenderedStream
from fastdqn.errors import ConfigError, EnvError
from fastdqn.recording import film as film_module
from fastdqn.recording.film import film


def catch(**kwargs):
    return make_envs("fastdqn/Catch-v0", 1, size=12, balls=2, **kwargs)


def policy(envs, seed=0):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 3)).eval()
    return Policy(ByteNetwork(network), envs=envs)


class ByteNetwork(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, observation):
        return self.inner(observation.float())


@pytest.fixture
def shown(monkeypatch):
    """(picture, caption, insight, last) of every call of the camera."""
    calls = []

    class Camera:
        frames = 1

        def __init__(self, *args, **kwargs):
            pass

        def show(self, pictures, caption, insight=None, *, last=False):
            calls.append((pictures, caption, insight, last))

    monkeypatch.setattr(film_module, "Camera", Camera)
    return calls


def test_it_plays_the_episodes_of_an_evaluation(tmp_path):
    envs = catch()
    played = policy(envs)
    for seed, epsilon in ((3, 0.0), (4, 0.5)):
        result = fastdqn.evaluate(played, envs, episodes_per_env=3, seed=seed, epsilon=epsilon)
        rendered = RenderedStream(envs, "Catch")
        said = film(played, rendered, tmp_path / "a.gif", seed=seed, episodes=3, epsilon=epsilon)
        assert said.returns == tuple(result.returns) and said.lengths == tuple(result.lengths)
        assert not said.unfinished and said.fps == 10.0
        # A picture per row, the first included, and the last of each for half a second more.
        assert said.frames == sum(said.lengths) + 3 + 3 * 5
        with Image.open(tmp_path / "a.gif") as image:
            total = sum(frame.info["duration"] for frame in ImageSequence.Iterator(image))
        assert total == 100 * said.frames


def test_every_row_is_shown_with_its_own_return_and_q(shown, tmp_path):
    envs = catch()
    played = policy(envs)
    said = film(
        played, RenderedStream(envs, "Catch"), tmp_path / "a.gif", seed=1, episodes=2, q_bars=True
    )
    row, number, step, score = envs.reset(seed=1), 0, 0, 0.0
    for pictures, caption, insight, last in shown:
        assert np.array_equal(pictures[0][..., 0], row.observation[0, 0].numpy())
        assert caption == (f"return {score:g}", f"episode {number + 1}, step {step}")
        over = bool(row.terminated[0])
        assert last == over and (insight is None) == over
        q = played.network(row.observation)[0]
        if not over:
            assert np.allclose(insight.q, q.detach().numpy()) and insight.action == int(q.argmax())
        row = envs.step(q.argmax()[None])
        step, score = (0, 0.0) if over else (step + 1, score + float(row.reward[0]))
        number += over
    assert number == 2 and len(shown) == sum(said.lengths) + 2


def test_an_action_that_exploration_chose_is_the_one_shown(shown, tmp_path):
    envs = catch()
    played = policy(envs)
    film(played, RenderedStream(envs, "C"), tmp_path / "a.gif", seed=1, epsilon=1.0, q_bars=True)
    seen = [insight for *_, insight, _ in shown if insight is not None]
    assert 0 < sum(insight.action == insight.q.argmax() for insight in seen) < len(seen)


def test_saliency_is_of_the_observation_and_as_large(shown, tmp_path):
    envs = catch(frame_stack=2)
    torch.manual_seed(0)
    played = Policy(ByteNetwork(nn.Sequential(nn.Flatten(), nn.Linear(288, 3))).eval(), envs=envs)
    film(played, RenderedStream(envs, "C"), tmp_path / "a.gif", seed=1, saliency=True)
    insight = shown[4][2]
    assert insight.saliency.shape == insight.frame.shape == (12, 12)
    assert insight.saliency.max() > 0
    assert np.array_equal(insight.frame * 255, shown[4][0][0][..., 0])


def test_stop_and_limit_end_it_and_the_film_is_whole(tmp_path):
    envs = catch()
    played, rendered = policy(envs), RenderedStream(envs, "Catch")
    asked = []
    said = film(
        played, rendered, tmp_path / "a.gif", seed=0, stop=lambda: asked.append(0) or len(asked) > 5
    )
    assert (said.lengths, said.unfinished, said.frames) == ((5,), True, 6)
    said = film(played, rendered, tmp_path / "a.gif", seed=0, episodes=9, max_env_steps=30)
    assert (said.lengths, said.unfinished) == ((23, 7), True)
    said = film(played, rendered, tmp_path / "a.gif", seed=0, stop=lambda: True)
    assert (said.returns, said.frames) == ((), 1)
    with Image.open(tmp_path / "a.gif") as image:
        image.load()


def test_hooks_are_gone_after_it_even_if_the_env_breaks(tmp_path):
    envs = catch()
    played, rendered = policy(envs), RenderedStream(envs, "Catch")
    rendered.render = lambda: []
    with pytest.raises(EnvError, match="has drawn no pictures"):
        film(played, rendered, tmp_path / "a.gif", seed=0, q_bars=True)
    assert not played.network._forward_hooks and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "episodes = 0 is out of range"),
        ({"max_env_steps": 0}, "max_env_steps = 0 is out of range"),
        ({"fps": 0.0}, "fps = 0.0 is out of range"),
        ({"fps": "fast"}, "fps = 'fast'"),
    ],
)
def test_what_cannot_be_filmed_is_refused(tmp_path, changes, message):
    envs = catch()
    with pytest.raises(ConfigError, match=message):
        film(policy(envs), RenderedStream(envs, "C"), tmp_path / "a.gif", seed=0, **changes)


def test_saliency_of_vectors_is_refused(tmp_path):
    envs = make_envs("fastdqn/CartPole-v1", 1)
    played = Policy(fastdqn.make_network((4,), 2).eval(), envs=envs)
    with pytest.raises(ConfigError, match=r"pictures, where these have shape \(4,\); leave it out"):
        film(played, RenderedStream(envs, "C"), tmp_path / "a.gif", seed=0, saliency=True)
