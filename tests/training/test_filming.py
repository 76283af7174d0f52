"""Films that a trainer makes meanwhile: nothing of the run changes by them."""

import gymnasium
import pytest
import torch
from helpers.short_runs import tiny

import fastdqn
from fastdqn.config.config import Config
from fastdqn.config.seeds import periodic_eval_seed
from fastdqn.envs import make_envs
from fastdqn.errors import EnvError
from fastdqn.training.filming import film_policy, make_rendered


def catch_policy():
    envs = make_envs("fastdqn/Catch-v0", 1, size=12)
    return fastdqn.Policy(fastdqn.make_network((1, 12, 12), 3, image=True).eval(), envs=envs)


def test_a_film_leaves_no_trace_and_is_of_the_evaluation_seed(tmp_path):
    config = Config(env_id="fastdqn/Catch-v0", env_kwargs={"size": 12}, device="cpu", seed=5)
    policy = catch_policy()
    before = torch.random.get_rng_state()
    summary = film_policy(config, policy, tmp_path / "a.gif", q_bars=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    envs = make_envs("fastdqn/Catch-v0", 1, size=12)
    seed = periodic_eval_seed(config)
    result = fastdqn.evaluate(policy, envs, episodes_per_env=1, seed=seed)
    assert summary.returns == tuple(result.returns)
    other = film_policy(config, policy, tmp_path / "b.gif", seed=seed, max_env_steps=9)
    assert (other.lengths, other.unfinished) == ((9,), True)


def test_a_run_with_films_in_between_is_the_run_without(tmp_path):
    def learned(name, film):
        config = tiny(tmp_path / name, env_id="fastdqn/CartPole-v1", log_period_env_steps=40)

        def on_log(row):
            if film:
                envs = make_envs("fastdqn/CartPole-v1", 1)
                policy = fastdqn.Policy(fastdqn.make_network((4,), 2).eval(), envs=envs)
                film_policy(config, policy, tmp_path / "a.gif", max_env_steps=5, epsilon=0.5)

        return fastdqn.train(config, on_log=on_log).policy.network.state_dict()

    one, other = learned("a", False), learned("b", True)
    assert (tmp_path / "a.gif").exists()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", ["fastdqn/Catch-v0", "CartPole-v1", "ALE/Pong-v5"])
def test_there_is_no_window_without_a_display(name, monkeypatch):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(EnvError, match=r"fastdqn record RUN --out play.mp4"):
        make_rendered(Config(env_id=name), "human")


def test_windows_open_where_a_display_is(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    rendered = make_rendered(Config(env_id="CartPole-v1"), "human")
    rendered.reset(seed=0)
    (env,) = rendered.vector_env.envs
    assert env.render_mode == "human" and env.unwrapped.screen is not None
    rendered.close()
    pytest.importorskip("ale_py")
    for kwargs in ({}, {"obs_type": "ram"}):
        rendered = make_rendered(Config(env_id="ALE/Pong-v5", env_kwargs=kwargs), "human")
        rendered.reset(seed=0)
        rendered.step([1])
        rendered.close()


class VectorOnly(gymnasium.make_vec("CartPole-v1", 1).unwrapped.__class__):
    """There are many of it at once only."""


def test_an_env_with_a_vector_class_only_is_drawn_by_that(monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec("Many-v0", vector_entry_point=VectorOnly)
    monkeypatch.setitem(gymnasium.registry, "Many-v0", spec)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    rendered = make_rendered(Config(env_id="Many-v0"))
    rendered.reset(seed=0)
    (picture,) = rendered.render()
    assert picture.shape == (400, 600, 3)
