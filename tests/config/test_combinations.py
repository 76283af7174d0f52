"""What has no effect is refused where it was set, and put back where it was left over."""

import json
from dataclasses import asdict, fields

import pytest
import torch
from helpers.malformed import IDLE
from helpers.scripted_env import Script, ScriptedVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdqn.cli.main import main
from fastdqn.cli.train_arguments import train_config
from fastdqn.config import details
from fastdqn.config.config import Config
from fastdqn.config.json_format import FORMAT_VERSION
from fastdqn.config.presets import preset, presets
from fastdqn.errors import ConfigError
from fastdqn.learning.learner import Learner
from fastdqn.networks.make import make_network
from fastdqn.training.train import train
from fastdqn.training.trainer import Trainer
from fastdqn.types import Batch


def on_ale(c):
    return c["env_id"] == "ALE/Pong-v5"


def soft(c):
    return c["munchausen"] and c["head"] != "c51"


RAM = {"obs_type": "ram"}

# When a field has an effect, down to the switches that decide; written anew from what each does.
IN_USE = {
    "env_kwargs": lambda c: not on_ale(c) or c["env_kwargs"] in ({}, {"mode": 1}, RAM),
    "env_vectorization": lambda c: (
        not c["env_id"].startswith(("ALE/", "fastdqn/"))
        or c["env_vectorization"] == "vector_entry_point"
        or (on_ale(c) and c["env_kwargs"] in ({"mode": 1}, RAM))
    ),
    "env_threads": lambda c: on_ale(c) and c["env_kwargs"] not in ({"mode": 1}, RAM),
    "atari_protocol": on_ale,
    "atari_sticky_actions": on_ale,
    "atari_full_action_space": on_ale,
    "atari_frame_skip": on_ale,
    "atari_frame_size": lambda c: on_ale(c) and c["env_kwargs"] != RAM,
    "atari_noop_max": on_ale,
    "atari_max_episode_frames": on_ale,
    "mode": lambda c: (c["mode"], c["device"]) != ("graph", "cpu"),
    "resume": lambda c: c["run_dir"] is not None,
    "lock_timeout_s": lambda c: c["run_dir"] is not None,
    "schedule_env_steps": lambda c: c["learning_rate_final"] is not None or c["prioritized"],
    "replan_schedules": lambda c: (
        c["run_dir"] is not None
        and c["resume"] != "never"
        and (c["learning_rate_final"] is not None or c["prioritized"])
    ),
    "initial_torso_only": lambda c: c["initial"] is not None,
    "impala_width": lambda c: c["network"] == "impala",
    "batch_norm": lambda c: c["network"] in ("auto", "mlp"),
    "layer_norm": lambda c: len(c["hidden_sizes"]) > 0,
    "padding": lambda c: c["network"] in ("auto", "nature", "der"),
    "atoms": lambda c: c["head"] == "c51",
    "value_min": lambda c: c["head"] == "c51",
    "value_max": lambda c: c["head"] == "c51",
    "quantiles": lambda c: c["head"] == "qr",
    "iqn_samples": lambda c: c["head"] == "iqn",
    "iqn_target_samples": lambda c: c["head"] == "iqn",
    "iqn_policy_samples": lambda c: c["head"] == "iqn",
    "iqn_cosines": lambda c: c["head"] == "iqn",
    "iqn_cvar": lambda c: c["head"] == "iqn",
    "noisy_sigma": lambda c: c["noisy"],
    "munchausen": lambda c: c["head"] != "c51",
    "munchausen_alpha": lambda c: soft(c),
    "munchausen_temperature": lambda c: soft(c),
    "munchausen_clip": lambda c: soft(c),
    "munchausen_policy": lambda c: soft(c),
    "double": lambda c: c["target_period_updates"] is not None and not soft(c),
    "loss": lambda c: c["head"] == "scalar",
    "target_tau": lambda c: c["target_period_updates"] is not None,
    "updates_per_launch": lambda c: (
        c["updates_per_launch"] is None
        or c["target_period_updates"] in (None, 1)
        or c["updates_per_launch"] <= c["target_period_updates"]
    ),
    "huber_delta": lambda c: (
        c["head"] in ("qr", "iqn") or (c["head"] == "scalar" and c["loss"] == "huber")
    ),
    "rmsprop_centred": lambda c: c["optimizer"] == "rmsprop",
    "rmsprop_alpha": lambda c: c["optimizer"] == "rmsprop",
    "priority_alpha": lambda c: c["prioritized"],
    "priority_beta_start": lambda c: c["prioritized"],
    "priority_beta_end": lambda c: c["prioritized"],
    "priority_epsilon": lambda c: c["prioritized"],
    "eval_period_env_steps": lambda c: c["eval_episodes"] > 0 or c["eval_period_env_steps"] == 0,
    "stop_eval_return": lambda c: c["eval_episodes"] > 0 and c["eval_period_env_steps"] != 0,
    "checkpoint_period_env_steps": lambda c: c["save_final_checkpoint"],
    "checkpoint_keep": lambda c: c["save_final_checkpoint"],
    "checkpoint_replay": lambda c: c["save_final_checkpoint"],
    "checkpoint_keep_best": lambda c: c["save_final_checkpoint"] and c["eval_episodes"] > 0,
}
IDLE_VALUES = {name: getattr(Config(), name) for name in IN_USE} | {"double": False}

# Values that no other check refuses.
VALUES = {
    "env_id": ["CartPole-v1", "fastdqn/CartPole-v1", "ALE/Pong-v5"],
    "env_kwargs": [{}, {"a": 1}, {"mode": 1}, RAM],
    "env_vectorization": ["auto", "sync", "vector_entry_point"],
    "env_threads": [None, 2],
    "atari_protocol": ["machado", "classic"],
    "atari_sticky_actions": [None, 0.5],
    "atari_full_action_space": [False, True],
    "atari_frame_skip": [4, 2],
    "atari_frame_size": [84, 42],
    "atari_noop_max": [30, 0],
    "atari_max_episode_frames": [108_000, 600],
    "device": ["auto", "cpu"],
    "mode": ["auto", "graph", "compile"],
    "run_dir": [None, "x"],
    "resume": ["never", "auto"],
    "lock_timeout_s": [5.0, 0.0],
    "initial": [None, "x"],
    "initial_torso_only": [False, True],
    "schedule_env_steps": [None, 2**40],
    "replan_schedules": [False, True],
    "learning_rate_final": [None, 1e-9],
    "network": ["auto", "mlp", "impala", "small_resnet", "nature", "der"],
    "padding": ["valid", "same"],
    "head": ["scalar", "c51", "qr", "iqn"],
    "atoms": [51, 21],
    "value_min": [-10.0, -1.0],
    "value_max": [10.0, 5.0],
    "quantiles": [200, 32],
    "iqn_samples": [64, 8],
    "iqn_target_samples": [64, 8],
    "iqn_policy_samples": [32, 8],
    "iqn_cosines": [64, 8],
    "iqn_cvar": [1.0, 0.25],
    "noisy": [False, True],
    "noisy_sigma": [0.5, 0.1],
    "munchausen": [False, True],
    "munchausen_alpha": [0.9, 0.5],
    "munchausen_temperature": [0.03, 0.1],
    "munchausen_clip": [-1.0, -2.0],
    "munchausen_policy": ["target", "online"],
    "impala_width": [1, 2],
    "batch_norm": [False, True],
    "target_period_updates": [None, 1, 10, 10_000],
    "target_tau": [1.0, 0.5],
    "double": [False, True],
    "updates_per_launch": [None, 1, 11],
    "loss": ["huber", "mse"],
    "huber_delta": [1.0, 2.0],
    "optimizer": ["adam", "rmsprop"],
    "rmsprop_centred": [True, False],
    "rmsprop_alpha": [0.95, 0.9],
    "prioritized": [False, True],
    "priority_alpha": [0.6, 0.5],
    "priority_beta_start": [0.4, 0.5],
    "priority_beta_end": [1.0, 0.5],
    "priority_epsilon": [1e-6, 1e-3],
    "eval_episodes": [0, 4],
    "eval_period_env_steps": [None, 0, 100],
    "stop_eval_return": [None, 5.0],
    "save_final_checkpoint": [False, True],
    "checkpoint_period_env_steps": [None, 100],
    "checkpoint_keep": [2, 3],
    "checkpoint_keep_best": [False, True],
    "checkpoint_replay": ["exit", "none"],
}
CLUSTERS = [
    [name for name in VALUES if name.startswith(("env_", "atari_"))],
    ["device", "mode"],
    ["run_dir", "resume", "lock_timeout_s", "replan_schedules"],
    ["initial", "initial_torso_only"],
    ["schedule_env_steps", "replan_schedules", "learning_rate_final", "prioritized"],
    ["network", "impala_width", "batch_norm", "padding"],
    ["head", "atoms", "value_min", "value_max", "quantiles", "loss", "huber_delta"],
    ["head", *(name for name in VALUES if name.startswith("iqn_"))],
    ["head", "double", *(name for name in VALUES if name.startswith("munchausen"))],
    ["noisy", "noisy_sigma"],
    ["target_period_updates", "target_tau", "double", "updates_per_launch"],
    ["loss", "huber_delta", "optimizer", "rmsprop_centred", "rmsprop_alpha"],
    [name for name in VALUES if name.startswith("prio")],
    [name for name in VALUES if name.startswith(("eval_", "stop_", "save_", "checkpoint_"))],
]


def some_changes():
    def with_values(names):
        return st.fixed_dictionaries({name: st.sampled_from(VALUES[name]) for name in names})

    # Half of the time fields that have to do with each other: else they rarely meet.
    fields_of = st.sampled_from([sorted(VALUES)] * len(CLUSTERS) + CLUSTERS)
    names = fields_of.flatmap(
        lambda known: st.lists(st.sampled_from(known), min_size=1, max_size=4, unique=True)
    )
    return names.flatmap(with_values)


def idle_in(values):
    return {name for name, in_use in IN_USE.items() if not in_use(values)}


def test_the_table_and_the_oracle_name_the_same_fields():
    named = [name for detail in details._DETAILS for name in detail.names.split()]
    assert set(named) == set(IN_USE) <= {field.name for field in fields(Config)}
    # These have two switches, others one.
    for name in ("atari_frame_size", "checkpoint_keep_best", "replan_schedules", "double"):
        named.remove(name)
    assert len(named) == len(IN_USE)


@given(st.sampled_from(sorted(presets())), st.lists(some_changes(), min_size=1, max_size=4))
@settings(max_examples=250, deadline=None)
def test_what_has_no_effect_was_refused_or_is_idle(name, steps):
    config = preset(name).replace(hidden_sizes=(8,))
    for changes in steps:
        wanted = {**asdict(config), **changes}
        idle = idle_in(wanted)
        refused = {n for n in idle & changes.keys() if changes[n] != IDLE_VALUES[n]}
        if refused:
            with pytest.raises(ConfigError) as caught:
                config.replace(**changes)
            assert str(caught.value).split(" = ")[0] in refused
            continue
        if changes.get("batch_norm"):
            wanted["layer_norm"] = False  # pong's
        config = config.replace(**changes)
        assert asdict(config) == wanted | {name: IDLE_VALUES[name] for name in idle}
        assert config.replace(**changes) == config.replace() == config
        assert Config.from_json(config.to_json()) == Config(**asdict(config)) == config


@given(some_changes())
@settings(max_examples=100, deadline=None)
def test_a_file_and_the_constructor_are_as_strict(changes):
    """Where a default cannot be told from what was left out, it is let pass."""
    config = outcome(lambda: Config().replace(**changes))
    assert outcome(lambda: Config.from_json(json.dumps(changes))) == config
    if changes.get("double") is not True:
        assert outcome(lambda: Config(**changes)) == config


def outcome(make):
    try:
        return make()
    except ConfigError as error:
        return str(error)


@given(some_changes())
@settings(max_examples=100, deadline=None)
def test_in_a_record_nothing_was_set(changes):
    record = {"format_version": FORMAT_VERSION, **changes}
    wanted = {**asdict(Config()), **changes}
    wanted |= {name: IDLE_VALUES[name] for name in idle_in(wanted)}
    assert asdict(Config.from_json(json.dumps(record))) == wanted


# --- gradient limits and normalisations, which exclude each other --------------------------------


def test_of_two_that_exclude_each_other_the_one_set_stands():
    config = Config().replace(max_grad_value=1.0)
    assert (config.max_grad_value, config.max_grad_norm) == (1.0, None)
    config = config.replace(max_grad_norm=5.0)
    assert (config.max_grad_value, config.max_grad_norm) == (None, 5.0)
    assert config.replace(max_grad_value=None) == config
    with pytest.raises(ConfigError, match=r"max_grad_value = 1\.0 and max_grad_norm exclude"):
        Config().replace(max_grad_norm=10.0, max_grad_value=1.0)
    with pytest.raises(ConfigError, match=r"max_grad_value = 1\.0 and max_grad_norm exclude"):
        Config(max_grad_value=1.0)  # 10.0 may have been meant
    config = preset("cartpole-batchnorm").replace(layer_norm=True)
    assert (config.layer_norm, config.batch_norm) == (True, False)
    config = preset("pong").replace(network="mlp", batch_norm=True)
    assert (config.layer_norm, config.batch_norm) == (False, True)
    assert preset("pong").replace(batch_norm=False) == preset("pong")
    with pytest.raises(ConfigError, match="layer_norm = True and batch_norm exclude each other"):
        preset("pong").replace(network="mlp", batch_norm=True, layer_norm=True)


# --- on the command line -------------------------------------------------------------------------


@pytest.mark.parametrize(("args", "words"), IDLE, ids=lambda value: " ".join(value))
def test_what_was_typed_in_vain_is_refused(args, words, capsys):
    assert main(["train", *args, "--dry-run"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"fastdqn: error: {words[0]}")
    assert all(word in printed.err for word in words)
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "changes"),
    [
        (
            ["cartpole-batchnorm", "--eval-episodes", "0"],
            {"eval_episodes": 0, "eval_period_env_steps": None, "checkpoint_keep_best": False},
        ),
        (
            ["cartpole-pixels", "--eval-episodes=0"],
            {"eval_episodes": 0, "eval_period_env_steps": None, "stop_eval_return": None},
        ),
        (
            ["cartpole-pixels", "--eval-period-env-steps", "0"],
            {"eval_period_env_steps": 0, "stop_eval_return": None},
        ),
        (
            ["cartpole-pixels", "--optimizer", "adam"],
            {"optimizer": "adam", "rmsprop_centred": True, "rmsprop_alpha": 0.95},
        ),
        (
            ["cartpole-pixels", "--max-grad-norm", "10"],
            {"max_grad_norm": 10.0, "max_grad_value": None},
        ),
        (["--max-grad-value", "1"], {"max_grad_norm": None, "max_grad_value": 1.0}),
        (["double-dueling-per-atari", "--no_prioritized"], {"prioritized": False}),
        (
            ["cartpole-batchnorm", "--network", "batchnorm_cnn"],
            {"network": "batchnorm_cnn", "batch_norm": False},
        ),
        (
            ["dqn-atari", "--no-save-final-checkpoint"],
            {"save_final_checkpoint": False, "checkpoint_period_env_steps": None},
        ),
        (["--target-period-updates", "None"], {"target_period_updates": None, "double": False}),
        (["cartpole-mlp", "--env-id", "ALE/Pong-v5"], {"env_id": "ALE/Pong-v5", "env_kwargs": {}}),
        # What has an effect stays, whoever wrote it.
        (["dqn-atari", "--env-id", "CartPole-v1"], {"env_id": "CartPole-v1"}),
        (["dqn-atari", "--eval-episodes", "0"], {"eval_episodes": 0}),
        (["--checkpoint-keep-best"], {"checkpoint_keep_best": True}),  # the final one counts
        (
            ["--target-period-updates", "1", "--target-tau", "0.01", "--updates-per-launch", "4"],
            {"target_period_updates": 1, "target_tau": 0.01, "updates_per_launch": 4},
        ),
        # Idle values say nothing, typed or not.
        (
            [
                "--eval-episodes",
                "0",
                "--eval-period-env-steps",
                "None",
                "--no-checkpoint-keep-best",
            ],
            {"eval_episodes": 0},
        ),
        (["--loss", "mse", "--huber-delta", "1"], {"loss": "mse"}),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_a_preset_leaves_over_goes_with_its_switch(args, changes):
    base = Config() if args[0].startswith("--") else preset(args[0])
    assert asdict(train_config(args)[0]) == {**asdict(base), **changes}


def test_details_of_a_file_go_with_their_switch_and_are_refused_where_typed(tmp_path):
    file = tmp_path / "mine.json"
    atari = {"atari_protocol": "classic", "atari_frame_skip": 2, "env_threads": 1}
    mine = {"huber_delta": 2.0, "mode": "graph", "updates_per_launch": 16, "impala_width": 2}
    file.write_text(
        json.dumps({"env_id": "ALE/Pong-v5", "network": "impala", **atari, **mine})
    )  # fmt: skip
    base = ["--config", str(file)]
    assert train_config(base)[0].huber_delta == 2.0
    assert train_config([*base, "--loss", "mse"])[0].huber_delta == 1.0
    assert train_config([*base, "--env-id", "CartPole-v1"])[0] == Config(network="impala", **mine)
    assert train_config([*base, "--device", "cpu"])[0].mode == "auto"
    assert train_config([*base, "--target-period-updates", "10"])[0].updates_per_launch is None
    assert train_config([*base, "--network", "nature"])[0].impala_width == 1
    with pytest.raises(ConfigError, match=r"huber_delta = 2\.0 has no effect"):  # the file's value
        train_config([*base, "--loss", "mse", "--huber-delta", "2"])


# --- why -----------------------------------------------------------------------------------------


def test_without_a_target_network_double_q_learning_is_the_same():
    generator = torch.Generator().manual_seed(0)
    observation, following = torch.randn(2, 16, 4, generator=generator)
    ones, action, index = torch.ones(16), torch.arange(16) % 3, torch.arange(16)
    batch = Batch(observation, action, ones, 0.9 * ones, following, ones, index)
    parameters = []
    for double in (False, True):
        torch.manual_seed(0)
        network = make_network((4,), 3, hidden_sizes=(8,))
        learner = Learner(network, double=double, target_period_updates=None, learning_rate=0.1)
        for _ in range(3):
            learner.update(batch)
        parameters.append(learner.flat.data.clone())
    assert torch.equal(*parameters)


@pytest.mark.parametrize(
    "changes",
    [{"eval_period_env_steps": 100}, {"checkpoint_keep_best": True}],
    ids=lambda changes: next(iter(changes)),
)
def test_envs_of_the_callers_are_evaluated_on_others_or_not_at_all(changes, tmp_path):
    config = Config(
        total_env_steps=200, learning_starts_env_steps=40, hidden_sizes=(8,), replay_capacity=400,
        batch_size=8, num_envs=4, eval_episodes=2, eval_num_envs=2, device="cpu",
        run_dir=str(tmp_path / "run"), **changes,
    )  # fmt: skip

    def envs(count):
        return ScriptedVectorEnv(Script(count, seed=5), "NEXT_STEP")

    with pytest.raises(ConfigError, match=f"{next(iter(changes))} = .* pass eval_envs"):
        train(config, envs=envs(4))
    assert not (tmp_path / "run").exists()
    Trainer(config, envs(4), envs(2)).close()
    Trainer(config.replace(eval_episodes=0, run_dir=None), envs(4)).close()
