"""The presets after well-known texts: their fields, short runs of each, and that they learn."""

import numpy as np
import pytest
import torch

import fastdqn
from benchmarks.learning.teaching import (
    SYSTEMS,
    LastObservations,
    held_at_target,
    stopped_in_time,
    table,
)
from fastdqn.checkpoints.store import find_checkpoint
from fastdqn.config.config import Config
from fastdqn.config.presets import preset
from fastdqn.envs.made import reward_threshold
from fastdqn.networks.make import make_network
from fastdqn.training.build import make_stream
from fastdqn.training.train import train
from fastdqn.training.trainer import Trainer

TEACHING = ("cartpole-mlp", "cartpole-pixels", "cartpole-batchnorm", "catch")


# --- what the texts say --------------------------------------------------------------------------

TEXTS = {
    "cartpole-mlp": {
        "network": "mlp", "hidden_sizes": (24, 24), "batch_norm": False, "dueling": False,
        "loss": "mse", "optimizer": "adam", "learning_rate": 2.5e-3, "learning_rate_final": None,
        "replay_capacity": 2_000, "batch_size": 64, "update_period_env_steps": 4.0,
        "target_period_updates": None, "double": False, "n_step": 1, "prioritized": False,
        "epsilon_start": 1.0, "epsilon_end": 0.001, "epsilon_schedule": "exponential",
        "env_kwargs": {"fall_reward": -10.0}, "reward_clip": None,
        "stop_return": 450.0, "stop_window": 10,
    },
    "cartpole-pixels": {
        "network": "batchnorm_cnn", "hidden_sizes": (), "dueling": False,
        "env_kwargs": {"pixels": True, "difference": True}, "frame_stack": None,
        "optimizer": "rmsprop", "rmsprop_centred": False, "rmsprop_alpha": 0.99,
        "optimizer_epsilon": 1e-8, "loss": "huber", "huber_delta": 1.0,
        "batch_size": 128, "epsilon_start": 0.9, "epsilon_end": 0.05,
        "epsilon_schedule": "exponential", "epsilon_duration_env_steps": 200,
        "replay_capacity": 10_000, "prioritized": False,
        "max_grad_value": 1.0, "max_grad_norm": None, "target_tau": 1.0,
    },
    "cartpole-batchnorm": {
        "network": "mlp", "hidden_sizes": (256, 128), "batch_norm": True, "dueling": False,
        "optimizer": "rmsprop", "rmsprop_centred": False, "loss": "huber", "gamma": 0.999,
        "max_grad_value": 1.0, "max_grad_norm": None, "prioritized": False, "target_tau": 1.0,
        "checkpoint_keep_best": True,
    },
    "double-dueling-per-atari": {
        "network": "nature", "dueling": True, "double": True, "prioritized": True,
        "loss": "huber", "target_tau": 1.0, "n_step": 1, "frame_stack": 4,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_preset_has_what_its_text_has(name):
    config = preset(name)
    assert {field: getattr(config, field) for field in TEXTS[name]} == TEXTS[name]


@pytest.mark.parametrize(
    ("name", "observation", "parameters"),
    [
        ("cartpole-mlp", (4,), 4 * 24 + 24 + 24 * 24 + 24 + 24 * 2 + 2),
        ("cartpole-batchnorm", (4,), 1_280 + 512 + 32_896 + 256 + 258),
        # 512 features: 2 x 8 places of 32 channels
        ("cartpole-pixels", (3, 40, 90), 1_216 + 32 + 12_832 + 64 + 25_632 + 64 + 1_026),
    ],
)
def test_its_network_has_the_parameters_of_its_text(name, observation, parameters):
    config = preset(name)
    envs = make_stream(config, num_envs=1)
    assert envs.observation_space.shape == observation and envs.num_actions == 2
    network = make_network(
        observation,
        2,
        kind=config.network,
        hidden_sizes=config.hidden_sizes,
        batch_norm=config.batch_norm,
    )
    assert sum(p.numel() for p in network.parameters()) == parameters


# --- short runs ----------------------------------------------------------------------------------


def short(name, tmp_path, **changes):
    config = preset(name)
    slow = config.network == "batchnorm_cnn"
    return config.replace(
        total_env_steps=config.learning_starts_env_steps + (128 if slow else 400),
        replay_capacity=3_000 if config.replay_capacity > 3_000 else config.replay_capacity,
        log_period_env_steps=200,
        eval_episodes=2,
        eval_num_envs=2,
        eval_max_env_steps=200,
        device="cpu",
        run_dir=str(tmp_path / "run"),
        **changes,
    )


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {}) for name in TEACHING),
        *((name, SYSTEMS[name].changes) for name in ("cartpole-batchnorm-noise",)),
        ("cartpole-batchnorm", {"env_kwargs": {"target_position": [-1.0, 1.0]}}),
        ("cartpole-batchnorm", {"env_id": "CartPole-v1"}),
    ],
)
def test_a_preset_runs_learns_and_can_be_loaded(tmp_path, name, changes):
    changes = {k: v for k, v in changes.items() if k != "total_env_steps"}
    name = name if name in TEACHING else SYSTEMS[name].preset
    config = short(name, tmp_path, **changes)
    result = train(config)
    learning = result.summary["env_steps"] - config.learning_starts_env_steps
    assert result.summary["updates"] == int(learning / config.update_period_env_steps) > 10
    assert result.summary["precision"] == "fp32" or name == "catch"
    envs = make_stream(config, num_envs=3, evaluation=True)
    played = fastdqn.evaluate(fastdqn.load(result.run_dir), envs, episodes_per_env=1,
                              max_env_steps=60)  # fmt: skip
    assert played.episodes == 3


def test_the_best_checkpoint_stays_and_a_restart_goes_on(tmp_path):
    config = short("cartpole-batchnorm", tmp_path, checkpoint_keep=1)
    config = config.replace(eval_period_env_steps=400, checkpoint_period_env_steps=400)
    first = train(config, on_log=lambda row: row["env_steps"] >= 2_200).summary
    assert first["updates"] == (2_208 - 16 - 2_000) // 8  # those of the last step are still due
    again = train(config.replace(resume="auto")).summary
    assert again["env_steps"] == config.total_env_steps
    assert again["updates"] == 400 // 8 > first["updates"]
    assert find_checkpoint(tmp_path / "run").name == "step_000000002400"


def test_native_envs_live_where_the_run_does():
    for native in ("fastdqn/CartPole-v1", "fastdqn/Catch-v0"):
        envs = make_stream(Config(env_id=native, device="cpu"))
        assert torch.is_tensor(envs.reset(seed=0).observation)
    envs = make_stream(Config(env_id="fastdqn/Catch-v0", env_kwargs={"device": "cpu"}))
    assert envs.num_envs == 8


@pytest.mark.gpu
def test_native_envs_live_on_the_gpu_of_the_run(tmp_path):
    trainer = Trainer(short("cartpole-batchnorm", tmp_path).replace(device="cuda"))
    assert trainer.envs.reset(seed=0).observation.is_cuda
    trainer.close()


@pytest.mark.parametrize(
    ("env_id", "kwargs", "threshold"),
    [
        ("fastdqn/CartPole-v1", {}, 475.0),
        ("fastdqn/CartPole-v1", {"observation_noise": 0.05}, 475.0),
        ("fastdqn/CartPole-v1", {"pixels": True, "gray": True}, 475.0),
        ("fastdqn/CartPole-v1", {"fall_reward": -10.0}, None),
        ("fastdqn/CartPole-v1", {"target_position": 1.0}, None),
        ("fastdqn/CartPole-v1", {"max_episode_steps": 100}, None),
        ("fastdqn/Catch-v0", {}, None),
        ("CartPole-v1", {}, 475.0),
        ("CartPole-v1", {"max_episode_steps": 500}, 475.0),
        ("CartPole-v1", {"max_episode_steps": 50}, None),
        ("CartPole-v1", {"sutton_barto_reward": True}, None),
    ],
)
def test_no_threshold_where_returns_count_something_else(env_id, kwargs, threshold):
    envs = make_stream(Config(env_id=env_id, env_kwargs=kwargs, num_envs=1))
    envs.close()
    assert reward_threshold(envs) == threshold


# --- the measurements ----------------------------------------------------------------------------


def test_the_end_of_each_first_episode_is_kept():
    envs = LastObservations(
        make_stream(
            Config(
                env_id="fastdqn/CartPole-v1",
                env_kwargs={"target_position": 1.0, "max_episode_steps": 12},
                num_envs=2,
            )
        )
    )
    step, seen = envs.reset(seed=3), []
    for _ in range(30):  # always to the right: falls after 9 or 10 steps; left and right: stays
        envs.send(np.array([1, len(seen) % 2]))
        step = envs.recv()
        seen.append((step.observation.clone(), step.terminated.clone()))
    fall = next(i for i, (_, terminated) in enumerate(seen) if terminated[0])
    assert 7 <= fall <= 10 and sorted(envs.ends) == [0, 1]
    observation, fell = envs.ends[0]
    assert fell and np.array_equal(observation, seen[fall][0][0].numpy())
    assert observation[4] == pytest.approx(observation[0] - 1.0)
    assert envs.ends[1][1] is False and np.array_equal(envs.ends[1][0], seen[11][0][1].numpy())


def test_the_judges():
    assert held_at_target({"held": 18})[1] and not held_at_target({"held": 17})[1]
    row = {"stopped_by": "stop_return", "episodes": 5_000}
    assert stopped_in_time(row)[1]
    assert not stopped_in_time({**row, "episodes": 5_001})[1]
    assert not stopped_in_time({**row, "stopped_by": "total_env_steps"})[1]
    assert SYSTEMS["catch"].judge({"eval_return_mean": 8.0})[1]  # 9 caught, 1 missed
    assert not SYSTEMS["catch"].judge({"eval_return_mean": 7.9})[1]
    row = {"system": "catch", "seed": 2, "reached": "9.5", "good": True, "wall_s": 61.4}
    missed = {**row, "seed": 1, "reached": "7.0", "good": False, "wall_s": 8.0}
    assert table([row, missed]).endswith("| 7.0 (missed); 9.5 | 8, 61 |")


# --- learning ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_small_mlp_reaches_its_stop_rule(tmp_path):
    summary = train(preset("cartpole-mlp").replace(seed=31, run_dir=str(tmp_path / "run"))).summary
    assert stopped_in_time(summary)[1]
    assert summary["train_return_mean"] >= 450


@pytest.mark.slow
def test_catch_is_caught(tmp_path):
    summary = train(preset("catch").replace(seed=31, run_dir=str(tmp_path / "run"))).summary
    assert summary["eval_return_mean"] >= 8
