"""Config and presets: what they refuse and with which words, and the way through JSON."""

import json
import math
import os
from dataclasses import FrozenInstanceError, fields

import pytest
from helpers.malformed import BAD, BAD_JSON, BAD_PAIRS, BAD_TEXT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastdqn.cli.main import main
from fastdqn.config.config import Config
from fastdqn.config.fields import fields_of
from fastdqn.config.groups import GROUPS
from fastdqn.config.json_format import FORMAT_VERSION
from fastdqn.config.presets import advise_presets, describe_presets, preset, presets
from fastdqn.errors import ConfigError, FastDQNError


def _is_one_sentence(text: str) -> bool:
    return "\n" not in text and len(text) < 300 and text.endswith(".")


@pytest.mark.parametrize(("name", "value"), [*BAD, *BAD_JSON])
def test_a_bad_value_in_json_is_refused_by_name(name, value):
    with pytest.raises(ConfigError) as caught:
        Config.from_json(json.dumps({name: value}))
    assert str(caught.value).startswith(name)
    assert _is_one_sentence(str(caught.value))


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_on_the_command_line_is_refused_by_name(name, value, capsys):
    words = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    assert main(["train", "--" + name.replace("_", "-"), *words, "--dry-run"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"fastdqn: error: {name} ")
    assert _is_one_sentence(printed.err.rstrip("\n"))


@pytest.mark.parametrize(("changes", "name"), BAD_PAIRS)
def test_contradicting_fields_are_refused_by_name(changes, name):
    with pytest.raises(ConfigError) as caught:
        Config().replace(**changes)
    assert str(caught.value).startswith(name)
    assert _is_one_sentence(str(caught.value))


@pytest.mark.parametrize(
    "text",
    BAD_TEXT,
    ids=lambda text: text[:30],
)
def test_malformed_json_is_refused(text):
    with pytest.raises(ConfigError):
        Config.from_json(text)


def test_an_unknown_field_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"'num_env' .* \(did you mean 'num_envs'\?\)\."):
        Config.from_json('{"num_env": 3}')
    with pytest.raises(ConfigError, match="did you mean 'gamma'"):
        Config().replace(gama=0.9)


def test_a_long_value_does_not_fill_the_screen():
    with pytest.raises(ConfigError) as caught:
        Config(mode="x" * 100_000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [{1: 2}, {"render": object()}, {"x": math.nan}, {"x": {1, 2}}])
def test_env_kwargs_that_json_cannot_hold_are_refused(value):
    with pytest.raises(ConfigError, match=r"^env_kwargs"):
        Config(env_kwargs=value)


def test_env_kwargs_are_a_copy():
    mine = {"sizes": [1, 2]}
    config = Config(env_kwargs=mine)
    mine["sizes"].append(3)
    assert config.env_kwargs == {"sizes": [1, 2]}


@pytest.mark.parametrize("damage", ["absent", "directory", "bytes"])
def test_a_file_that_cannot_be_read_is_refused_by_path(tmp_path, damage):
    path = tmp_path / "config.json"
    if damage == "directory":
        path.mkdir()
    elif damage == "bytes":
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"config\.json cannot be read"):
        Config.load(path)


def test_a_path_with_nul_is_refused():
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.load("a\0b")


def test_config_is_frozen_and_keyword_only():
    with pytest.raises(FrozenInstanceError):
        Config().seed = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        Config("CartPole-v1")  # type: ignore[misc]


def test_config_error_is_a_value_error():
    assert issubclass(ConfigError, FastDQNError)
    assert issubclass(FastDQNError, ValueError)


def test_every_number_has_a_range_that_holds_its_default():
    for field in fields_of(Config).values():
        if type(field.default) in (int, float):
            assert field.range is not None and field.default in field.range, field.name


@pytest.mark.parametrize("field", [f for f in fields_of(Config).values() if f.range is not None])
def test_the_ends_of_a_range_are_within_it(field):
    low = math.nextafter(field.range.low, math.inf) if field.range.open_low else field.range.low
    for value in (low, field.range.high):
        if math.isfinite(value):
            try:
                Config(**{field.name: value})
            except ConfigError as error:  # another field may object, but not the range
                assert "out of range" not in str(error)


def test_every_field_has_exactly_one_group_and_a_docstring():
    # The --help text and docs/config.md are made of them; a field without would show up bare.
    import inspect

    grouped = [field.name for group in GROUPS.values() for field in fields(group)]
    assert grouped == [field.name for field in fields(Config)]
    for group in GROUPS.values():
        body = inspect.getsource(group)
        for field in fields(group):
            below = body[body.index(f"    {field.name}: ") :].splitlines()[1:5]
            assert any(line.startswith('    """') for line in below), field.name


def test_derived_values():
    config = Config(batch_size=32, update_period_env_steps=4.0, total_env_steps=1_234)
    assert config.replay_ratio == 8.0
    assert config.log_every_env_steps == 12
    assert config.replace(log_period_env_steps=7).log_every_env_steps == 7
    assert config.replace(total_env_steps=5).log_every_env_steps == 1


# --- the way through JSON ------------------------------------------------------------------------

_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
_finite = st.floats(allow_nan=False, allow_infinity=False)


def _valid_changes() -> st.SearchStrategy[dict]:
    """Fields with values that every combination allows."""
    unit = st.floats(0.0, 1.0)
    period = st.none() | st.integers(1, 10**9)
    return st.fixed_dictionaries(
        {},
        optional={
            "env_id": st.sampled_from(["CartPole-v1", "ALE/Pong-v5", "Spiel-ü-v0", "a:b-v1"]),
            "env_kwargs": st.dictionaries(
                st.text(max_size=5), st.integers() | _finite | st.lists(st.text(max_size=3))
            ),
            "num_envs": st.integers(1, 64),
            "env_threads": st.none() | st.integers(1, 64),
            "frame_stack": st.none() | st.integers(1, 8),
            "reward_clip": st.none() | st.floats(1e-300, 1e300),
            "atari_protocol": st.sampled_from(["machado", "classic"]),
            "seed": st.integers(0, 2**31 - 1),
            "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:0", "cuda:12"]),
            "run_dir": st.none() | st.sampled_from(["runs/x", "../ü", "a b"]),
            "resume": st.sampled_from(["never", "auto", "require"]),
            "hidden_sizes": st.lists(st.integers(1, 65_536), min_size=1, max_size=4).map(tuple),
            "dueling": st.booleans(),
            "gamma": unit | st.integers(0, 1),
            "learning_rate": st.floats(1e-300, 10.0),
            "target_period_updates": st.integers(1, 2**53),
            "target_tau": st.floats(5e-324, 1.0),
            "epsilon_end": unit,
            "priority_alpha": unit,
            "stop_return": st.none() | _finite,
            "log_period_env_steps": period,
            "eval_max_env_steps": period,
        },
    )


@given(_valid_changes())
@settings(max_examples=150, deadline=None)
def test_json_round_trip(changes):
    # As a record, in which what has no effect is left over.
    config = Config.from_json(json.dumps({"format_version": FORMAT_VERSION, **changes}))
    text = config.to_json()
    assert Config.from_json(text) == config
    body = json.loads(text, parse_constant=pytest.fail)  # strict JSON: no NaN, no Infinity
    assert list(body) == ["format_version", *(field.name for field in fields(Config))]
    assert body["format_version"] == FORMAT_VERSION


@given(
    st.dictionaries(
        st.sampled_from([field.name for field in fields(Config)]) | st.text(max_size=5),
        _json_values,
        max_size=4,
    )
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_object_is_a_config_or_a_config_error(body):
    try:
        config = Config.from_json(json.dumps(body))
    except ConfigError as error:
        assert str(error)
    else:
        assert Config.from_json(config.to_json()) == config


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda b: b.decode("latin-1")))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_config_or_a_config_error(text):
    try:
        Config.from_json(text)
    except ConfigError as error:
        assert str(error)


# --- presets -------------------------------------------------------------------------------------


def test_the_presets():
    assert list(presets()) == [
        "cartpole", "dqn-atari", "double-dueling-per-atari",
        "c51-atari", "qr-atari", "iqn-atari", "munchausen-atari", "rainbow-atari",
        "data-efficient-atari", "pong", "cartpole-mlp", "cartpole-pixels", "cartpole-batchnorm",
        "catch", "classic", "small-images", "images",
    ]  # fmt: skip
    assert list(describe_presets()) == list(presets())


@pytest.mark.parametrize("name", list(presets()))
def test_a_preset_survives_json_and_suits_its_run(name):
    config = preset(name)
    assert Config.from_json(config.to_json()) == config
    assert config.learning_starts_env_steps < config.total_env_steps
    assert config.run_dir is None
    assert config.resume == "never"
    assert describe_presets()[name]


def test_dqn_atari_has_the_schedule_of_the_paper():
    config = preset("dqn-atari")
    assert (config.batch_size, config.update_period_env_steps) == (32, 4.0)
    assert (config.replay_capacity, config.frame_stack) == (1_000_000, 4)
    assert config.network == "nature"
    assert not config.double


def test_double_dueling_per_atari_is_what_its_name_says():
    config = preset("double-dueling-per-atari")
    assert config.double
    assert config.dueling
    assert config.prioritized
    assert config.loss == "huber"
    assert config.n_step == 1


DOPAMINE = {
    "batch_size": 32, "update_period_env_steps": 4.0, "target_period_updates": 2_000,
    "learning_starts_env_steps": 20_000, "replay_capacity": 1_000_000, "gamma": 0.99,
    "reward_clip": 1.0, "optimizer_epsilon": 0.01 / 32, "epsilon_end": 0.01, "n_step": 1,
    "epsilon_duration_env_steps": 250_000, "padding": "valid", "init": "fan_in",
    "prioritized": False, "double": False, "max_grad_norm": None, "dueling": False, "noisy": False,
}  # fmt: skip
IQN = {"iqn_samples": 64, "iqn_target_samples": 64, "iqn_policy_samples": 32, "iqn_cosines": 64}
RAINBOW = {  # Hessel 2018, table 1
    "head": "c51", "atoms": 51, "value_min": -10.0, "value_max": 10.0, "dueling": True,
    "double": True, "noisy": True, "prioritized": True, "priority_alpha": 0.5,
    "priority_beta_start": 0.4, "priority_beta_end": 1.0, "epsilon_start": 0.0, "epsilon_end": 0.0,
    "optimizer_epsilon": 1.5e-4, "batch_size": 32, "target_period_updates": 2_000, "init": "torch",
}  # fmt: skip
PUBLISHED = {
    "c51-atari": {**DOPAMINE, "head": "c51", "atoms": 51, "value_max": 10.0,
                  "learning_rate": 2.5e-4},
    "qr-atari": {**DOPAMINE, "head": "qr", "quantiles": 200, "learning_rate": 5e-5},
    "iqn-atari": {**DOPAMINE, **IQN, "head": "iqn", "learning_rate": 5e-5, "munchausen": False},
    "munchausen-atari": {
        **DOPAMINE, **IQN, "head": "iqn", "learning_rate": 5e-5, "munchausen": True,
        "munchausen_alpha": 0.9, "munchausen_temperature": 0.03, "munchausen_clip": -1.0,
        "munchausen_policy": "target",
    },
    "rainbow-atari": {
        **RAINBOW, "learning_rate": 6.25e-5, "n_step": 3, "noisy_sigma": 0.5,
        "learning_starts_env_steps": 20_000, "update_period_env_steps": 4.0, "hidden_sizes": (512,),
        "eval_epsilon": 0.0,
    },
    "data-efficient-atari": {
        **RAINBOW, "learning_rate": 1e-4, "init": "xavier", "n_step": 20, "noisy_sigma": 0.1,
        "network": "der", "hidden_sizes": (256,), "learning_starts_env_steps": 1_600,
        "update_period_env_steps": 1.0, "total_env_steps": 100_000, "num_envs": 1,
        "atari_protocol": "classic", "eval_epsilon": 0.001,
    },
}  # fmt: skip


def test_what_is_said_of_the_length_of_pong_is_its_length():
    config = preset("pong")
    frames = config.total_env_steps * config.atari_frame_skip
    assert f"for {frames / 1e6:g} million frames" in advise_presets()["pong"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_of_the_menu_has_the_published_numbers(name):
    config = preset(name)
    assert {field: getattr(config, field) for field in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"head": "c51", "munchausen": True}, "munchausen = True is not defined for head = 'c51'"),
        ({"munchausen": True, "double": True}, "double = True has no next action to choose"),
        ({"head": "c51", "value_min": 10.0}, r"value_min = 10\.0 is not below value_max = 10\.0"),
        ({"head": "qr", "loss": "mse"}, "loss = 'mse' is for head = 'scalar', not 'qr'"),
        ({"head": "c51", "huber_delta": 2.0}, r"huber_delta = 2\.0 has no effect"),
        ({"quantiles": 10}, "quantiles = 10 is for head = 'qr', not 'scalar'"),
        ({"head": "c51", "atoms": 1}, "atoms = 1 is out of range"),
        ({"head": "rainbow"}, "head = 'rainbow' must be one of scalar, c51, qr, iqn"),
        ({"network": "impala", "padding": "same"}, "padding = 'same' is for network = 'nature'"),
        ({"head": "iqn", "iqn_cvar": 0.0}, r"iqn_cvar = 0\.0 is out of range"),
        ({"noisy_sigma": 0.1}, r"noisy_sigma = 0\.1 has no noise to scale"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_the_menu_cannot_combine_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Config().replace(**changes)


def test_an_unknown_preset_suggests_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'dqn-atari'") as caught:
        preset("dqn-atary")
    assert "cartpole" in str(caught.value)


def test_a_pipe_is_no_configuration(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ConfigError, match="it is no file"):
        Config.load(tmp_path / "config.json")


@pytest.mark.parametrize(
    "text",
    ['{"env_kwargs": {"a": [' + ",".join(["[]"] * 60_000) + "]}}", "{" + " " * 2**21 + "}"],
    ids=["values", "bytes"],
)
def test_a_file_that_would_blow_up_in_memory_is_not_parsed(tmp_path, text, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text(text)
    monkeypatch.setattr(Config, "from_json", lambda text: pytest.fail("parsed"))
    with pytest.raises(ConfigError, match=r"cannot be read \(\d+ bytes of JSON"):
        Config.load(path)


# --- updates per launch --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "on_cuda"),
    [
        ({}, 2),  # 8 envs, one update per 4 env steps
        ({"num_envs": 4}, 1),
        ({"num_envs": 3}, 1),  # none in some vector steps
        ({"num_envs": 10}, 2),  # two or three in turn
        ({"num_envs": 64}, 16),
        ({"num_envs": 80}, 10),  # 20 as twice 10, not 16 and 4
        ({"num_envs": 256, "learning_starts_env_steps": 2_000}, 16),
        ({"num_envs": 64, "target_period_updates": 10}, 8),
        ({"num_envs": 64, "target_period_updates": 1}, 16),  # it moves within every update
        ({"num_envs": 64, "target_period_updates": None}, 16),
        ({"num_envs": 64, "replay_capacity": 640, "batch_size": 64}, 8),
        ({"num_envs": 64, "replay_capacity": 640, "batch_size": 64, "prioritized": True}, 16),
        ({"update_period_env_steps": 0.5}, 16),
        ({"num_envs": 64, "updates_per_launch": 3}, 3),
    ],
)
def test_a_launch_is_what_a_vector_step_owes(changes, on_cuda):
    config = Config(**changes)
    assert config.launch_on("cuda") == on_cuda
    assert config.launch_on("cpu") == (config.updates_per_launch or 1)
    period = config.target_period_updates
    assert period in (None, 1) or config.launch_on("cuda") <= period
    assert Config.from_json(config.to_json()) == config


def test_no_launch_passes_a_move_of_the_target():
    with pytest.raises(ConfigError, match="exceeds target_period_updates = 10"):
        Config(updates_per_launch=11, target_period_updates=10)
    Config(updates_per_launch=10, target_period_updates=10)
    Config(updates_per_launch=11, target_period_updates=1, target_tau=0.005)  # Polyak
    Config(updates_per_launch=11, target_period_updates=None)
