"""Config and presets: what they refuse and with which words, and the way through JSON."""

import json
import math
from dataclasses import FrozenInstanceError, fields

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastdqn.cli import main
from fastdqn.config import _RANGES, FORMAT_VERSION, Config
from fastdqn.errors import ConfigError, FastDQNError
from fastdqn.recipes import describe_presets, preset, presets

# (field that the message must name, its value); each is refused on its own, in JSON and on the
# command line.
BAD = [
    ("env_id", ""),
    ("env_id", "Cart\nPole"),
    ("num_envs", 0),
    ("num_envs", -5),
    ("num_envs", 65_537),
    ("num_envs", 1.5),
    ("num_envs", "eight"),
    ("num_envs", 10**30),
    ("env_vectorization", "parallel"),
    ("env_threads", 0),
    ("frame_stack", 0),
    ("frame_stack", 65),
    ("frame_stack", "four"),
    ("reward_clip", 0.0),
    ("reward_clip", -1.0),
    ("reward_clip", math.inf),
    ("reward_clip", math.nan),
    ("atari_protocol", "modern"),
    ("atari_frame_skip", 0),
    ("atari_noop_max", -1),
    ("atari_max_episode_frames", 0),
    ("seed", -1),
    ("seed", 2**31),
    ("seed", "one"),
    ("total_env_steps", 0),
    ("total_env_steps", 1e5),
    ("device", "gpu"),
    ("device", "cuda:"),
    ("device", "cuda:-1"),
    ("device", "cuda:²"),
    ("mode", "fast"),
    ("precision", "fp16"),
    ("torch_threads", 0),
    ("run_dir", ""),
    ("resume", "yes"),
    ("network", "resnet"),
    ("hidden_sizes", [0]),
    ("hidden_sizes", [64, 10**6]),
    ("learning_starts_env_steps", 0),
    ("learning_starts_env_steps", 23),  # 8 envs * (1 + 2) is the least
    ("update_period_env_steps", 0.0),
    ("update_period_env_steps", -4.0),
    ("update_period_env_steps", math.nan),
    ("batch_size", 0),
    ("batch_size", 100_001),  # more than the replay holds
    ("n_step", 0),
    ("n_step", 1_001),
    ("gamma", -0.1),
    ("gamma", 1.0001),
    ("gamma", math.nan),
    ("loss", "l1"),
    ("huber_delta", 0.0),
    ("huber_delta", math.inf),
    ("optimizer", "sgd"),
    ("learning_rate", 0.0),
    ("learning_rate", "high"),
    ("learning_rate", 1e9),
    ("learning_rate_final", -1e-5),
    ("optimizer_epsilon", 0.0),
    ("rmsprop_alpha", 1.5),
    ("max_grad_norm", 0.0),
    ("max_grad_value", -1.0),
    ("target_period_updates", 0),
    ("target_tau", 0.0),
    ("target_tau", 1.1),
    ("epsilon_start", 1.5),
    ("epsilon_end", -0.1),
    ("epsilon_schedule", "cosine"),
    ("epsilon_duration_env_steps", 0),
    ("replay_capacity", 0),
    ("replay_capacity", 23),  # 8 envs * (1 + 1 + 1) is the least
    ("priority_alpha", -0.5),
    ("priority_beta_start", 2.0),
    ("priority_beta_end", -1.0),
    ("priority_epsilon", 0.0),
    ("eval_episodes", -1),
    ("eval_num_envs", 0),
    ("eval_period_env_steps", 0),
    ("eval_epsilon", 1.01),
    ("eval_max_env_steps", 0),
    ("stop_return", math.nan),
    ("stop_return", -math.inf),
    ("stop_window", 0),
    ("log_period_env_steps", 0),
    ("checkpoint_period_env_steps", 0),
    ("checkpoint_keep", 0),
    ("checkpoint_replay", "always"),
]

# What only JSON or Python can say; on the command line these words mean something else.
BAD_JSON = [
    ("env_id", None),
    ("env_id", 3),
    ("env_kwargs", []),
    ("env_kwargs", None),
    ("num_envs", None),
    ("num_envs", True),
    ("num_envs", "8"),
    ("num_envs", [8]),
    ("double", "true"),
    ("double", 1),
    ("double", None),
    ("gamma", "0.99"),
    ("gamma", True),
    ("gamma", {}),
    ("loss", None),
    ("loss", ["huber"]),
    ("hidden_sizes", []),
    ("hidden_sizes", 64),
    ("hidden_sizes", [64.0]),
    ("hidden_sizes", [True]),
    ("hidden_sizes", [[64]]),
    ("hidden_sizes", "64"),
    ("run_dir", 7),
    ("run_dir", "a\0b"),
    ("stop_return", "475"),
    ("max_grad_norm", 10**400),
    ("eval_epsilon", None),
]

# Fields that are fine alone and not together: (arguments, the field named).
BAD_PAIRS = [
    ({"mode": "graph", "device": "cpu"}, "mode"),
    ({"max_grad_norm": 10.0, "max_grad_value": 1.0}, "max_grad_value"),
    ({"target_period_updates": None, "target_tau": 0.5}, "target_tau"),
    ({"save_final_checkpoint": False, "checkpoint_period_env_steps": 10}, "save_final_checkpoint"),
    ({"replay_capacity": 100, "num_envs": 10, "frame_stack": 8, "n_step": 2}, "replay_capacity"),
    ({"batch_size": 64, "replay_capacity": 63}, "batch_size"),
    ({"num_envs": 1_000, "learning_starts_env_steps": 2_999}, "learning_starts_env_steps"),
    ({"eval_episodes": 0, "eval_period_env_steps": 100}, "eval_period_env_steps"),
]


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
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '"cartpole"',
        "{'seed': 1}",
        '{"seed": 1,}',
        '{"seed": 1, "seed": 2}',
        '{"seed": 1' + "0" * 5_000 + "}",
        "[" * 100_000,
        '{"format_version": 2}',
        '{"format_version": null}',
        '{"format_version": true}',
        '{"sede": 1}',
        '{"": 1}',
        '{"__class__": "os.system"}',
    ],
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


def test_every_range_belongs_to_a_field_and_holds_its_default():
    names = {field.name for field in fields(Config)}
    assert set(_RANGES) <= names
    numbers = [name for name in names if type(getattr(Config(), name)) in (int, float)]
    assert set(numbers) <= set(_RANGES)


@pytest.mark.parametrize("name", list(_RANGES))
def test_the_ends_of_a_range_are_within_it(name):
    low, high = _RANGES[name]
    for value in (low, high):
        if math.isfinite(value):
            try:
                Config(**{name: value})
            except ConfigError as error:  # another field may object, but not the range
                assert "out of range" not in str(error)


def test_every_field_has_a_docstring():
    # The --help text is made of them; a field without one would show up bare.
    import inspect

    source = inspect.getsource(Config)
    body = source[: source.index("def __post_init__")]
    for field in fields(Config):
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
            "priority_alpha": st.floats(0.0, 10.0),
            "stop_return": st.none() | _finite,
            "log_period_env_steps": period,
            "eval_max_env_steps": period,
        },
    )


@given(_valid_changes())
@settings(max_examples=150, deadline=None)
def test_json_round_trip(changes):
    config = Config(**changes)
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
    assert list(presets()) == ["cartpole", "dqn-atari", "double-dueling-per-atari"]
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


def test_an_unknown_preset_suggests_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'dqn-atari'") as caught:
        preset("dqn-atary")
    assert "cartpole" in str(caught.value)
