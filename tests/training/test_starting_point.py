"""Which preset an env starts from."""

import re

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from helpers.shown_env import Shown

import fastdqn
from fastdqn import ConfigError, EnvError, config_for
from fastdqn.cli.main import main
from fastdqn.cli.train_arguments import train_config
from fastdqn.config.presets import preset
from fastdqn.training.starting_point import choose


@pytest.fixture
def register():
    ids = []

    def add(space):
        ids.append(f"StartingPoint{len(ids)}-v0")
        gymnasium.register(ids[-1], entry_point=lambda: Shown(space))
        return ids[-1]

    yield add
    for name in ids:
        del gymnasium.registry[name]


@pytest.mark.parametrize(
    ("space", "name", "why"),
    [
        (spaces.Box(-1, 1, (4,)), "classic", "numbers"),
        (spaces.Discrete(16), "classic", r"one-hot \(16\)"),
        (spaces.Box(0, 1, (10, 10, 4), bool), "small-images", "10 x 10"),
        (spaces.Box(0, 255, (35, 80, 3), np.uint8), "small-images", "35 x 80"),
        (spaces.Box(0, 255, (36, 80, 3), np.uint8), "images", "36 x 80"),
        (
            spaces.Dict(see=spaces.Box(0, 255, (7, 7, 3), np.uint8), to=spaces.Discrete(4)),
            "small-images",
            "7 x 7",
        ),
    ],
    ids=str,
)
def test_the_kind_of_observation_decides(register, space, name, why):
    env_id = register(space)
    config, chosen = choose(env_id, {"seed": 7})
    assert chosen.preset == name
    assert config == preset(name).replace(env_id=env_id, seed=7)
    assert re.search(why, str(chosen))


def test_options_about_the_observation_count(register):
    env_id = register(
        spaces.Dict(see=spaces.Box(0, 255, (40, 40, 3), np.uint8), at=spaces.Box(0, 1, (2,)))
    )
    assert choose(env_id, {})[1].preset == "images"
    assert choose(env_id, {"observation_keys": ("at",)})[1].preset == "classic"
    with pytest.raises(EnvError, match="choose from see, at"):
        choose(env_id, {"observation_keys": ("saw",)})


@pytest.mark.parametrize(
    ("env_id", "name"),
    [
        ("CartPole-v1", "cartpole"),
        ("fastdqn/Catch-v0", "catch"),
        ("fastdqn/CartPole-v1", "cartpole"),
    ],
)
def test_known_ids_are_not_made(monkeypatch, env_id, name):
    monkeypatch.setattr("fastdqn.training.build.make_stream", None)
    assert config_for(env_id, seed=3) == preset(name).replace(env_id=env_id, seed=3)


def test_the_pixels_of_a_known_id_are_looked_at():
    config, chosen = choose("fastdqn/CartPole-v1", {"env_kwargs": {"pixels": True}})
    assert chosen.preset == "images" and config.env_kwargs == {"pixels": True}


def test_atari_starts_from_its_own():
    pytest.importorskip("ale_py")
    config = config_for("ALE/Breakout-v5", total_env_steps=1_000_000)
    wanted = preset("dqn-atari").replace(env_id="ALE/Breakout-v5", total_env_steps=1_000_000)
    assert config == wanted
    with pytest.warns(UserWarning, match="played as ALE/Breakout-v5"):
        old = config_for("BreakoutNoFrameskip-v4", total_env_steps=1_000_000)
    assert old == wanted.replace(atari_sticky_actions=0.0)


def test_what_cannot_be_started_is_refused():
    with pytest.raises(EnvError, match="did you mean 'CartPole-v1'"):
        config_for("CartPol-v1")
    with pytest.raises(EnvError, match="discretise"):
        config_for("Pendulum-v1")
    with pytest.raises(ConfigError, match=r"seeds.*did you mean 'seed'"):
        config_for("CartPole-v1", seeds=3)


def test_the_command_line_chooses_and_says_so(capsys):
    found = train_config(["--env-id", "FrozenLake-v1", "--seed", "3", "--no-double"])
    assert found.config == preset("classic").replace(env_id="FrozenLake-v1", seed=3, double=False)
    assert found.chosen == "classic, for categories one-hot (16)"
    said = "FrozenLake-v1: loading torch, to look at its observations ...\n"
    assert capsys.readouterr().out == said
    assert train_config(["classic", "--env-id", "FrozenLake-v1"]).chosen is None
    assert main(["train", "--env-id", "FrozenLake-v1", "--dry-run"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"preset      {found.chosen}; name one to start from another"


def test_the_command_that_looks_at_an_env(capsys):
    assert main(["envs", "FrozenLake-v1"]) == 0
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    rows = {name: text.strip() for name, text in rows.items()}
    assert rows["observation"] == "Discrete(16)" and rows["frames"] == "(1,) uint8"
    assert rows["preset"] == "classic, for categories one-hot (16)"
    assert rows["actions"] == "4" and rows["autoreset"] == "NEXT_STEP"
    assert rows["network"].startswith("MLP, ") and rows["time limit"] == "100 steps"
    assert main(["envs", "CartPole-v1", "--observation-keys", "x"]) == 2
    assert "observation_keys = ['x'] has no effect" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cartpole", "CartPole-v1", "catch", "FrozenLake-v1"])
def test_train_takes_the_name_of_a_preset_or_of_an_env(monkeypatch, name):
    asked = []
    monkeypatch.setattr(
        "fastdqn.training.train.train_until_stopped", lambda c, *_, **__: asked.append(c)
    )
    fastdqn.train(name)
    assert asked == [preset(name) if "-v" not in name else config_for(name)]


def test_a_name_trains(monkeypatch, tmp_path):
    """To the end: from a name to a policy, with the fields of a preset that is short."""
    short = preset("cartpole").replace(
        total_env_steps=400, learning_starts_env_steps=200, eval_episodes=0, replay_capacity=400,
        run_dir=str(tmp_path / "run"),
    )  # fmt: skip
    monkeypatch.setattr("fastdqn.training.starting_point.presets", lambda: {"short": short})
    result = fastdqn.train("short")
    assert result.summary["env_steps"] == 400
    assert result.policy.act(np.zeros(4, np.float32)) in (0, 1)


def test_a_name_that_is_nearly_one_says_which():
    with pytest.raises(ConfigError, match=r"'cartpol' .*did you mean 'cartpole'"):
        fastdqn.train("cartpol")
    with pytest.raises(EnvError, match="did you mean 'CartPole-v1'"):
        fastdqn.train("CartPol-v1")
    with pytest.raises(EnvError, match="discretise"):
        fastdqn.train("Pendulum-v1")
