"""Configurations as TOML, by groups, and on top of a preset; JSON takes the same layout."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdqn.config import json_format, toml_format
from fastdqn.config.config import Config
from fastdqn.config.fields import fields_of
from fastdqn.config.groups import GROUPS
from fastdqn.config.presets import preset, presets
from fastdqn.errors import ConfigError


@pytest.fixture
def load(tmp_path):
    def load(text, name="my.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return Config.load(path)

    return load


def toml(value):
    """A value as TOML, written down from its grammar."""
    if value is None:
        return '"None"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(k)} = {toml(v)}' for k, v in value.items())}}}"
    return json.dumps(value) if isinstance(value, str) else repr(value)


@pytest.mark.parametrize("name", presets())
@pytest.mark.parametrize("grouped", [True, False])
def test_every_preset_comes_back(name, grouped, load):
    config = preset(name)
    lines = []
    for group, kind in GROUPS.items():
        lines += [f"[{group}]"] if grouped else []
        for field in fields_of(kind):
            if getattr(config, field) != getattr(Config(), field):
                lines.append(f"{field} = {toml(getattr(config, field))}")
    assert load("\n".join(lines)) == config


def test_a_preset_is_what_the_rest_replaces_fields_of(load):
    expected = preset("dqn-atari").replace(seed=3, reward_clip=None, hidden_sizes=(64,))
    text = 'preset = "dqn-atari"\nseed = 3\n[env]\nreward_clip = "None"\n'
    text += "[network]\nhidden_sizes = [64]"
    assert load(text) == expected
    body = {"preset": "dqn-atari", "seed": 3, "env": {"reward_clip": None}, "hidden_sizes": [64]}
    assert load(json.dumps(body), "my.json") == Config.from_json(json.dumps(body)) == expected
    assert load('preset = "catch"') == preset("catch")
    assert load("", "My.TOML") == Config()


@pytest.mark.parametrize("word", ["None", "none"])
def test_none_is_a_text_where_a_field_may_be_none(word, load):
    assert load(f'target_period_updates = "{word}"\ndouble = false').target_period_updates is None
    assert load(f'run_dir = "{word}"').run_dir is None
    if word == "none":  # a value of its own
        assert load('[env]\nobservation_scale = "none"').observation_scale == "none"
    with pytest.raises(ConfigError, match=rf"num_envs = '{word}' has the wrong type"):
        load(f'num_envs = "{word}"')


def test_a_group_that_is_called_like_a_field(load):
    text = '[network]\nnetwork = "nature"\n[run]\nseed = 5\n[env.env_kwargs]\na = [1, 2.5]'
    assert load(text) == Config(network="nature", seed=5, env_kwargs={"a": [1, 2.5]})
    assert load('network = "nature"') == Config(network="nature")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sed = 1", "'sed' is not a field of Config (did you mean 'seed'?)"),
        ("lr = 1", "did you mean 'learning_rate'?"),
        ("[env]\nnum_env = 1", "'num_env' is not a field of Config (did you mean 'num_envs'?)"),
        ("[env]\nseed = 1", "seed stands in env; move it to run, or out of all groups"),
        ("seed = 1\n[run]\nseed = 2", "seed stands there twice, once in a group; drop one"),
        ("seed = 1\nseed = 2", "is not valid TOML (Cannot overwrite a value"),
        ("[model]\nx = 1", "There is no group 'model'"),
        ("[learn]\nx = 1", "There is no group 'learn' (did you mean 'learning'?)"),
        ("[[run]]\nseed = 1", "run = [{'seed': 1}] is no group of fields; use a table [run]"),
        ("env = 3", "env = 3 is no group of fields; use a table [env]"),
        ('logger = "wandb"', "logger = 'wandb' has the wrong type; use a list of tensorboard,"),
        ("env_id = CartPole-v1", "Invalid value (at line 1, column 10)); put texts in quotes"),
        ("reward_clip = None", "put texts in quotes, and None, too"),
        ("preset = 3", "preset = 3 is no name"),
        ('preset = "cartpol"', "no preset 'cartpol' (did you mean 'cartpole'?)"),
        ('preset = "dqn-atari"\nhead = "qr"\natoms = 7', "atoms = 7 is for head = 'c51', not 'qr'"),
        ("[env]\npreset = 'catch'", "'preset' is not a field of Config"),
        ("seed = 1979-05-27", "seed = datetime.date(1979, 5, 27) has the wrong type"),
        ("[env.env_kwargs]\nx = 1979-05-27", "cannot be written as a JSON object"),
        ("gamma = nan", "gamma = nan is not finite"),
        ("format_version = 1", "'format_version' is not a field"),
        ("seed = " + "9" * 5000, "is not valid TOML (Exceeds the limit"),
        ("x = " + "[" * 50_000, "is not valid TOML (maximum recursion"),
        ("x = " + "[1," * 50_000, "at most 100000 and 1000 are read"),
        ("a." * 50_000 + "a = 1", "at most 100000 and 1000 are read"),  # would take 40 s
        ("x = '" + "x" * 3_000_000 + "'", "cannot be read"),
        ("\x00", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_the_file(text, words, load):
    with pytest.raises(ConfigError) as refused:
        load(text)
    message = str(refused.value)
    assert words in message and "my.toml" in message and len(message) < 600


def test_a_record_has_no_groups_and_no_preset():
    record = json.loads(Config(seed=3).to_json())
    assert Config.from_json(json.dumps(record)).seed == 3
    for more in ({"preset": "catch"}, {"env": {"num_envs": 3}}):
        with pytest.raises(ConfigError, match="is not a field of Config"):
            Config.from_json(json.dumps({**record, **more}))
    assert json_format.FORMAT_VERSION == 1


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_no_text_is_more_than_refused(text):
    try:
        toml_format.read(text)
    except ConfigError as error:
        assert "\n" not in str(error)
