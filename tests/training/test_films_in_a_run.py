"""Films during a run: they come when they are due, and leave no trace in it."""

import errno
import signal
import warnings

import av
import pytest
import torch
from helpers.short_runs import scripted, small

from fastdqn import Callback, ConfigError, EnvError, train
from fastdqn.recording.convert import gif_of
from fastdqn.training import filming
from fastdqn.training.describe import describe


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("fastdqn.training.trainer.plot_returns", lambda *_, **__: None)


def catch(path, **changes):
    return small(
        path, env_id="fastdqn/Catch-v0", network="mlp", total_env_steps=400, eval_episodes=0,
        log_period_env_steps=200, **changes,
    )  # fmt: skip


class Films(Callback):
    def __init__(self):
        self.seen = []

    def on_film(self, path, env_steps):
        self.seen.append((path, env_steps))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_films_come_when_they_are_due_and_leave_no_trace(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    films = Films()
    config = catch(tmp_path / "with", record_period_env_steps=200, logger=("tensorboard",))
    result = train(config, callbacks=films)
    folder = result.run_dir / "films"
    assert films.seen == [
        (folder / "step_000000000200.mp4", 200), (folder / "step_000000000400.mp4", 400),
    ]  # fmt: skip
    for path, _ in films.seen:
        with av.open(str(path)) as film:
            frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert len(frames) > 10 and any((frames[0] != frame).any() for frame in frames[1:])
    shown = EventAccumulator(str(result.run_dir / "tensorboard")).Reload().Images("film")
    assert [image.step for image in shown] == [200, 400]
    assert all(image.encoded_image_string[:4] == b"GIF8" for image in shown)

    without = train(catch(tmp_path / "without"))
    for one, other in zip(
        result.policy.network.parameters(), without.policy.network.parameters(), strict=True
    ):
        assert torch.equal(one, other)
    assert result.summary["episodes"] == without.summary["episodes"]


def test_a_run_with_films_goes_on(tmp_path):
    config = catch(tmp_path, record_period_env_steps=200, learning_rate_final=None)
    folder = train(config).run_dir / "films"
    train(config.replace(total_env_steps=600, resume="require"))
    assert sorted(path.name for path in folder.iterdir()) == [
        f"step_{env_steps:012}.mp4" for env_steps in (200, 400, 600)
    ]
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="films is a link"):
        train(config.replace(total_env_steps=800, resume="require"))


def test_a_film_for_tensorboard_is_small_and_a_gif_stays_as_it_is(tmp_path):
    film = tmp_path / "film.gif"
    film.write_bytes(b"GIF89a whatever")
    assert gif_of(film) == b"GIF89a whatever"


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({}, {"envs": True}, "no env to film beside envs from Python; leave it out"),
        ({"env_id": "tests/Blind-v0"}, {}, "render"),
    ],
)
def test_what_cannot_be_filmed_is_refused_before_the_run(tmp_path, changes, given, message):
    import gymnasium

    class Blind(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 1, (3,))
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return self.observation_space.sample() * 0, {}

        def step(self, action):
            return self.observation_space.sample() * 0, 0.0, False, False, {}

    gymnasium.register("tests/Blind-v0", Blind, max_episode_steps=9)
    try:
        config = small(tmp_path, record_period_env_steps=200, eval_episodes=0, **changes)
        envs = {"envs": scripted()} if given else {}
        with pytest.raises((ConfigError, EnvError), match=message):
            train(config, **envs)
        assert not (tmp_path / "run").exists()
        if not given:  # and from its plan
            with pytest.raises((ConfigError, EnvError), match=message):
                describe(config)
    finally:
        del gymnasium.registry["tests/Blind-v0"]


def test_without_pyav_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("fastdqn.training.filming.has_mp4", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'fastdqn\[video\]'"):
        train(catch(tmp_path, record_period_env_steps=200))


def test_a_film_that_fails_ends_no_run(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise EnvError("the emulators part")

    monkeypatch.setattr("fastdqn.training.trainer.film_policy", fail)
    films = Films()
    with pytest.warns(UserWarning, match="no film at .00 env steps: the emulators part"):
        result = train(catch(tmp_path, record_period_env_steps=200), callbacks=films)
    assert result.summary["stopped_by"] == "total_env_steps" and films.seen == []


def test_a_run_with_films_is_resumed(tmp_path):
    config = catch(tmp_path, record_period_env_steps=200, learning_rate_final=None)
    train(config)
    train(config.replace(total_env_steps=600, resume="require"))
    assert [path.name for path in sorted((tmp_path / "run" / "films").iterdir())] == [
        f"step_{n:012d}.mp4" for n in (200, 400, 600)
    ]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("the encoder's")])
def test_a_film_that_the_disk_or_the_encoder_refuses_fails_no_run(tmp_path, monkeypatch, error):
    """Nor where warnings are errors; the disk may have room again for the checkpoint."""
    made, film = [], filming.film_policy

    def fail_once(*args, **how):
        made.append(args)
        if len(made) == 1:
            raise error
        return film(*args, **how)

    monkeypatch.setattr("fastdqn.training.trainer.film_policy", fail_once)
    films = Films()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = train(catch(tmp_path, record_period_env_steps=200), callbacks=films)
    assert result.summary["stopped_by"] == "total_env_steps"
    assert [env_steps for _, env_steps in films.seen] == [400]


def test_a_run_that_is_stopped_where_a_film_was_due_is_filmed_there_once(tmp_path):
    class Stops(Films):
        def on_film(self, path, env_steps):
            super().on_film(path, env_steps)
            return True

    films = Stops()
    result = train(catch(tmp_path, record_period_env_steps=200), callbacks=films)
    assert result.summary["stopped_by"] == "on_film"
    assert [env_steps for _, env_steps in films.seen] == [200]


def test_a_run_that_is_interrupted_in_an_evaluation_is_not_filmed(tmp_path):
    class Interrupts(Films):
        def on_evaluation_start(self, episodes):
            signal.raise_signal(signal.SIGTERM)

    films = Interrupts()
    with pytest.raises(SystemExit):
        train(
            catch(tmp_path, record_period_env_steps=300).replace(
                eval_episodes=2, eval_period_env_steps=0
            ),
            callbacks=films,
        )
    assert [env_steps for _, env_steps in films.seen] == [300]
