"""Pictures of one env beside its rows: the game that is seen is the game that is played."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import VectorEnv

from fastdqn.config.config import Config
from fastdqn.envs import AtariProtocol, make_envs
from fastdqn.envs.rendered import RenderedStream, check_renders
from fastdqn.errors import EnvError
from fastdqn.training.filming import make_rendered


@pytest.fixture
def _clean_metadata():
    """A raw AtariVectorEnv writes into the metadata of all VectorEnvs."""
    before = dict(VectorEnv.metadata)
    yield
    VectorEnv.metadata.clear()
    VectorEnv.metadata.update(before)


def atari(game, **changes):
    rules = {"atari_protocol": "classic", "frame_stack": 4, "seed": 3, **changes}
    return Config(env_id=f"ALE/{game}-v5", **rules)


def colour_envs(name, rules):
    """What ALE's own vector env shows in colours, each frame the maximum of two, at full size."""
    from ale_py.vector_env import AtariVectorEnv

    return AtariVectorEnv(
        name,
        1,
        grayscale=False,
        img_height=210,
        img_width=160,
        stack_num=1,
        frameskip=rules.frame_skip,
        maxpool=rules.frame_skip > 1,
        noop_max=rules.noop_max,
        use_fire_reset=rules.fire_reset,
        life_loss_info=rules.life_loss,
        repeat_action_probability=rules.repeat_action_probability,
        max_num_frames_per_episode=rules.max_episode_frames,
        full_action_space=rules.full_action_space,
        reward_clipping=False,
    )


def luminance(picture):
    return picture @ np.array([0.299, 0.587, 0.114])


@pytest.mark.usefixtures("_clean_metadata")
@pytest.mark.parametrize(
    ("game", "changes", "steps"),
    [
        ("Breakout", {}, 150),  # classic: no stickiness, FIRE, lives
        ("Breakout", {"atari_protocol": "machado", "atari_max_episode_frames": 120}, 150),
        ("Pong", {"atari_frame_skip": 3, "atari_noop_max": 5, "seed": 11}, 60),
        ("SpaceInvaders", {"atari_protocol": "machado", "atari_full_action_space": True}, 60),
    ],
)
def test_pictures_are_of_the_very_game_that_the_policy_sees(game, changes, steps):
    cv2 = pytest.importorskip("cv2")
    config = atari(game, **changes)
    rules = getattr(AtariProtocol, config.atari_protocol)(
        noop_max=config.atari_noop_max,
        frame_skip=config.atari_frame_skip,
        max_episode_frames=config.atari_max_episode_frames,
        full_action_space=config.atari_full_action_space,
    )
    seed = config.seed
    rendered = make_rendered(config)
    plain = make_envs(config.env_id, 1, atari=rules)
    name = gymnasium.spec(config.env_id).kwargs["game"]
    colours = colour_envs(name, rules)
    row, other = rendered.reset(seed=seed), plain.reset(seed=seed)
    shown, _ = colours.reset(seed=seed)
    actions = np.random.default_rng(0).integers(0, plain.num_actions, (steps, 1))
    resets = 0
    for action in [*actions, None]:
        for one, same in zip(row[:5], other[:5], strict=True):
            assert np.array_equal(one, same)
        pictures = rendered.render()
        over = bool(row.terminated[0] | row.truncated[0])
        first = bool(row.first[0])
        resets += first
        assert len(pictures) == (1 if first else rules.frame_skip) or over
        assert all(p.shape == (210, 160, 3) and p.dtype == np.uint8 for p in pictures)
        if not over:  # the final frame of an episode is stale in ALE's vector env
            seen = np.maximum(*pictures[-2:]) if len(pictures) > 1 else pictures[0]
            assert np.array_equal(np.squeeze(shown), seen)
            grey = np.max([luminance(p) for p in pictures[-2:]], axis=0)
            small = cv2.resize(grey, (84, 84), interpolation=cv2.INTER_AREA)
            assert np.abs(small - row.observation[0]).max() < 2
        if action is not None:
            row, other = rendered.step(action), plain.step(action)
            shown, *_ = colours.step(action)
    assert resets >= (3 if config.atari_max_episode_frames == 120 else 1)
    for envs in (rendered, plain, colours):
        envs.close()


def test_two_emulators_that_part_are_noticed():
    pytest.importorskip("ale_py")
    rendered = make_rendered(atari("Breakout"))
    rendered._actions = rendered._actions[::-1]  # left for no-op, right for FIRE
    rendered.reset(seed=0)
    generator = np.random.default_rng(0)
    with pytest.raises(EnvError, match="Two emulators played two games of ALE/Breakout-v5"):
        for _ in range(2_000):
            rendered.step(generator.integers(0, 4, 1))
    rendered.close()


def test_games_with_a_mode_show_every_frame():
    pytest.importorskip("ale_py"), pytest.importorskip("cv2")
    config = atari("Breakout", env_kwargs={"mode": 4}, env_vectorization="async")
    rendered = make_rendered(config)
    row = rendered.reset(seed=1)
    assert (rendered.fps, rendered.flickers, rendered.shows_observation) == (60.0, True, True)
    for _ in range(5):
        pictures = rendered.render()
        assert len(pictures) == (1 if row.first[0] else 4)
        grey = np.max([luminance(p) for p in pictures[-2:]], axis=0)
        assert abs(grey.mean() - row.observation[0].mean()) < 1
        row = rendered.step(np.array([1]))
    rendered.close()


@pytest.mark.parametrize("name", ["Catch-v0", "Breakout-v0"])
def test_native_pictures_are_the_observation_in_grey(name):
    rendered = make_rendered(Config(env_id=f"fastdqn/{name}", device="cpu"))
    row = rendered.reset(seed=0)
    for _ in range(20):
        (picture,) = rendered.render()
        grey = row.observation[0, 0].numpy()
        assert picture.dtype == np.uint8
        assert np.array_equal(picture, np.repeat(grey[..., None], 3, 2))
        row = rendered.step(torch.tensor([2]))


@pytest.mark.parametrize("kwargs", [{}, {"pixels": True, "gray": True}])
def test_native_cartpole_shows_its_cart_whatever_is_observed(kwargs):
    env_id = "fastdqn/CartPole-v1"
    rendered = make_rendered(Config(env_id=env_id, env_kwargs=kwargs, device="cpu"))
    coloured = make_envs(env_id, 1, pixels=True)
    rendered.reset(seed=5)
    row = coloured.reset(seed=5)
    for action in (0, 1, 1, 0):
        (picture,) = rendered.render()
        assert np.array_equal(picture, row.observation[0].permute(1, 2, 0).numpy())
        rendered.step(torch.tensor([action]))
        row = coloured.step(torch.tensor([action]))
    assert rendered.fps == 50.0


def test_gymnasium_envs_draw_the_row_that_was_stepped_to(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    config = Config(env_id="CartPole-v1", env_vectorization="async", num_envs=4)
    rendered = make_rendered(config)
    single = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    row = rendered.reset(seed=2)
    observation, _ = single.reset(seed=2)
    for action in (0, 0, 1):
        assert np.array_equal(row.observation[0], observation)
        (picture,) = rendered.render()
        assert np.array_equal(picture, single.render()) and picture.shape == (400, 600, 3)
        row = rendered.step(np.array([action]))
        observation, *_ = single.step(action)
    assert (rendered.fps, rendered.flickers, rendered.shows_observation) == (50.0, False, False)
    rendered.close(), single.close()


class Blind(gymnasium.Env):
    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012


def test_an_env_that_draws_nothing_is_refused(monkeypatch):
    monkeypatch.setitem(
        gymnasium.registry, "Blind-v0", gymnasium.envs.registration.EnvSpec("Blind-v0", Blind)
    )
    with pytest.raises(EnvError, match=r"Blind-v0 draws no pictures \(its render_modes: ansi\)"):
        check_renders("Blind-v0", "human")
    check_renders("CartPole-v1", "rgb_array"), check_renders("NoSuchEnv-v0", "human")


class Painter:
    """Stands for a stream whose env draws what it is told."""

    metadata = {"render_fps": None}  # noqa: RUF012

    def __init__(self, drawn):
        self.vector_env, self.drawn = self, drawn

    def render(self):
        if isinstance(self.drawn, Exception):
            raise self.drawn
        return self.drawn


@pytest.mark.parametrize(
    "drawn",
    [np.full((4, 5, *channels), 7, np.uint8) for channels in ((), (1,), (4,))],
)
def test_grey_and_transparent_pictures_become_rgb(drawn):
    (picture,) = RenderedStream(Painter((drawn,)), "X").render()
    assert picture.shape == (4, 5, 3) and (picture == 7).all()


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ((None,), r"X draws NoneType; let its render\(\) return uint8"),
        ((np.zeros((4, 5, 3)),), r"X draws float64 \(4, 5, 3\)"),
        (RuntimeError("no\nGL"), r"X cannot be drawn \(RuntimeError: no GL\)"),
    ],
)
def test_what_is_no_picture_is_said(drawn, message):
    with pytest.raises(EnvError, match=message):
        RenderedStream(Painter(drawn), "X").render()
