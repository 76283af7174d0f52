"""What a configuration makes of Atari ids that are not ALE's own."""

import warnings

import pytest

from fastdqn.config.config import Config
from fastdqn.config.presets import preset
from fastdqn.errors import ConfigError

pytest.importorskip("ale_py")


def test_an_old_id_is_read_once_and_said_once() -> None:
    with pytest.warns(UserWarning) as said:
        config = Config(env_id="PongNoFrameskip-v4")
    assert [str(w.message) for w in said] == [
        "env_id = 'PongNoFrameskip-v4' is played as ALE/Pong-v5 with frame skip 4 and no sticky "
        "actions, as under Gymnasium's AtariPreprocessing; the Atari protocol 'classic' adds "
        "terminal lost lives and FIRE after a reset."
    ]
    assert (config.env_id, config.atari_sticky_actions) == ("ALE/Pong-v5", 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Config.from_json(config.to_json()) == config
        assert config.replace(seed=2).atari_sticky_actions == 0.0


@pytest.mark.parametrize(
    ("changes", "sticky", "message"),
    [
        ({}, 0.25, "frame skip 4 and sticky actions 0.25, as"),
        ({"atari_sticky_actions": 0.1}, 0.1, "sticky actions 0.1"),
        ({"atari_frame_skip": 2}, 0.25, "frame skip 2 and sticky actions 0.25;"),
        ({"atari_protocol": "classic"}, None, "no sticky actions.*; lost lives are terminal"),
    ],
)
def test_what_was_set_wins(changes: dict, sticky: float | None, message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        config = preset("dqn-atari").replace(env_id="ALE/MsPacmanNoFrameskip-v0", **changes)
    assert (config.env_id, config.atari_sticky_actions) == ("ALE/MsPacman-v5", sticky)


def test_ram_goes_into_the_kwargs() -> None:
    with pytest.warns(UserWarning, match="ALE/Pong-v5 on its RAM with frame skip 4"):
        config = Config(env_id="Pong-ramNoFrameskip-v4", env_kwargs={"mode": 1})
    assert config.env_kwargs == {"obs_type": "ram", "mode": 1}


def test_a_short_id_means_the_newest() -> None:
    with pytest.warns(UserWarning, match=r"^env_id = 'ALE/Pong' is played as ALE/Pong-v5\.$"):
        assert Config(env_id="ALE/Pong").env_id == "ALE/Pong-v5"


def test_sticky_actions_are_for_atari() -> None:
    with pytest.raises(ConfigError, match=r"atari_sticky_actions = 0\.1 has no effect"):
        Config(atari_sticky_actions=0.1)
