"""Whatever is passed wrongly to the integration of SB3 is answered by one sentence of ours."""

import io
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers.stable_envs import Counted, counted
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

import fastdqn
from fastdqn.integrations.sb3 import DQN, FrameReplayBuffer, VecEnvStream

GREY = spaces.Box(0, 255, (4, 8, 8), np.uint8)
VECTOR = spaces.Box(-1, 1, (3,), np.float32)
ACTION = spaces.Discrete(3)


def buffer(space=VECTOR, actions=ACTION, size=50, **more):
    return FrameReplayBuffer(size, space, actions, **{"device": "cpu", **more})


def add(made=None, **changes):
    made = made or buffer()
    fields = {"obs": np.zeros((1, 3)), "next_obs": np.ones((1, 3)), "action": np.zeros(1, int),
              "reward": np.zeros(1), "done": np.zeros(1, bool), "infos": [{}]}  # fmt: skip
    made.add(**{**fields, **changes})
    return made


def normalised():
    envs = VecNormalize(counted(1, (3,), 1))
    made = buffer(n_steps=2)
    for _ in range(6):
        add(made)
    made.sample(2, envs)


def model(env=None, policy="MlpPolicy", **more):
    env = counted(2, (5,), 1) if env is None else env
    return DQN(policy, env, **{"buffer_size": 100, "device": "cpu", **more})


def save_with(**more):
    model().save("never", **more)


def parts():
    space = spaces.Dict({"a": VECTOR})
    env = Counted(0, (3,))
    env.observation_space = space
    return DummyVecEnv([lambda: env])


def continuous():
    env = Counted(0, (3,))
    env.action_space = spaces.Box(-1, 1, (1,))
    return DummyVecEnv([lambda: env])


def pair():
    env = Counted(0, (3,))
    env.observation_space = spaces.Tuple((VECTOR, VECTOR))
    return DummyVecEnv([lambda: env])


def bounded():
    """Bounds that numpy prints in several lines."""
    envs, high = counted(2, (30,), 1), np.arange(1, 31, dtype=np.float32)
    envs.observation_space = spaces.Box(-high, high)
    return envs


CALLS = [
    # The replay.
    (buffer, {"size": 0}, "buffer_size = 0"),
    (buffer, {"size": 2.5}, "buffer_size = 2.5"),
    (buffer, {"size": 2**38, "space": GREY}, "buffer_size = 27.* fit .*largest that does"),
    (buffer, {"n_envs": 0}, "n_envs = 0"),
    (buffer, {"n_steps": 0}, "n_steps = 0"),
    (buffer, {"n_steps": 2, "gamma": 0.0}, "gamma = 0"),
    (buffer, {"gamma": 1.5}, "gamma = 1.5"),
    (buffer, {"seed": "one"}, "seed = 'one'"),
    (buffer, {"optimize_memory_usage": True}, "optimize_memory_usage = True .*leave it out"),
    (buffer, {"space": spaces.Dict({"a": VECTOR})}, "not one array"),
    (buffer, {"space": "Box"}, "not one array"),
    (buffer, {"actions": spaces.Box(-1, 1, (1,))}, "not Discrete"),
    (buffer, {"space": spaces.Box(0, 2**30, (3,), np.int64)}, "1073741824, which float32 rounds"),
    (buffer, {"space": spaces.Discrete(2**25)}, "float32 rounds"),
    (buffer, {"space": GREY, "frame_stack": 3}, "frame_stack = 3 does not divide the 4 channels"),
    (buffer, {"space": GREY, "frame_stack": "4"}, "frame_stack = '4'"),
    (buffer, {"space": GREY, "channels_order": "hwc"}, "channels_order = 'hwc'"),
    (buffer, {"space": GREY, "stack_padding": "none"}, "stack_padding = 'none'"),
    (buffer, {"space": spaces.Discrete(4), "frame_stack": 2}, "needs a Box"),
    (buffer().sample, (0,), "batch_size = 0"),
    (buffer().sample, (4,), "add more steps"),
    (normalised, "norm_reward = False"),
    (add, {"obs": np.zeros((1, 4))}, r"obs has shape \(1, 4\)"),
    (add, {"next_obs": np.zeros(2)}, r"next_obs has shape \(2,\)"),
    (add, {"obs": np.array([["a"] * 3])}, r"obs has shape \(1, 3\) of <U1"),
    (add, {"action": np.array([3])}, "holds 3"),
    (add, {"action": None}, "action = None"),
    (add, {"reward": np.zeros(2)}, "reward = .*not a number of each of 1 envs"),
    (add, {"done": "yes"}, "done = 'yes'"),
    (add, {"infos": [{}, {}]}, "infos = .*not a number of each"),
    (add, {"infos": [None]}, r"infos = \[None\]"),
    (buffer().load_state_dict, ({},), "none of such a buffer"),
    # The stream.
    (VecEnvStream, ("CartPole-v1",), r"envs is str.*fastdqn\.make_envs"),
    (VecEnvStream, (gymnasium.make_vec("CartPole-v1", 1),), "no VecEnv"),
    (VecEnvStream, (continuous(),), r"needs Discrete\(n\)"),
    (VecEnvStream, (counted(1),), {"frame_stack": 3}, "frame_stack = 3 does not divide"),
    (VecEnvStream, (counted(1),), {"frame_stack": 0}, "frame_stack = 0"),
    (VecEnvStream, (counted(1),), {"stack_padding": "x"}, "stack_padding = 'x'"),
    (VecEnvStream, (counted(1),), {"observation_keys": 5}, "observation_keys = 5"),
    (VecEnvStream, (counted(1),), {"observation_scale": "x"}, "observation_scale = 'x'"),
    # The model: what it is made of.
    (model, {"policy": "MLPPolicy"}, "policy = 'MLPPolicy' .*did you mean 'MlpPolicy'"),
    (model, {"policy": nn.Linear}, "policy = .*must be one of"),
    (model, {"env": parts()}, "use MultiInputPolicy"),
    (model, {"env": 3}, "env is int"),
    (model, {"env": Counted}, "env is the class Counted"),
    (model, {"env": "CartPol-v1"}, "CartPol"),
    (model, {"env": continuous()}, r"needs Discrete\(n\)"),
    (model, {"num_envs": 4}, "num_envs = 4 is for ids"),
    (model, {"env": "CartPole-v1", "num_envs": 0}, "num_envs = 0"),
    (model, {"learning_rate": "fast"}, "learning_rate = 'fast'"),
    (model, {"learning_rate": -1.0}, "learning_rate = -1"),
    (model, {"learning_rate": lambda progress: None}, "learning_rate = .*no number at 1.0"),
    (model, {"learning_rate": lambda: 1e-3}, "learning_rate = .*no number at 1.0"),
    (model, {"buffer_size": 0}, "buffer_size = 0"),
    (model, {"buffer_size": 2**38}, "buffer_size = .* does not fit"),
    (model, {"buffer_size": 10, "batch_size": 64}, "batch_size = 64 exceeds buffer_size = 10;"),
    (model, {"learning_starts": -1}, "learning_starts = -1"),
    (model, {"batch_size": 0}, "batch_size = 0"),
    (model, {"tau": 0.0}, "tau = 0"),
    (model, {"gamma": 2.0}, "gamma = 2"),
    (model, {"train_freq": 0}, "train_freq = 0"),
    (model, {"train_freq": (4, "epoch")}, "'step' or 'episode'"),
    (model, {"train_freq": (1, "episode")}, "there are 2; count steps"),
    (model, {"gradient_steps": -2}, "gradient_steps = -2"),
    (model, {"gradient_steps": 0.5}, "gradient_steps = 0.5"),
    (model, {"replay_buffer_class": ReplayBuffer}, "replay_buffer_class"),
    (model, {"replay_buffer_kwargs": {"n_steps": 3}}, "set prioritized or n_steps"),
    (model, {"n_steps": 0}, "n_steps = 0"),
    (model, {"n_steps": 2, "n_step": 3}, "two names of one thing"),
    (model, {"target_update_interval": 0}, "target_update_interval = 0"),
    (model, {"exploration_fraction": 2.0}, "exploration_fraction = 2"),
    (model, {"exploration_initial_eps": "1"}, "exploration_initial_eps = '1'"),
    (model, {"exploration_final_eps": -0.1}, "exploration_final_eps = -0.1"),
    (model, {"max_grad_norm": -1}, "max_grad_norm = -1"),
    (model, {"stats_window_size": 0}, "stats_window_size = 0"),
    (model, {"seed": 1.5}, "seed = 1.5"),
    (model, {"device": "gpu"}, "device = 'gpu'"),
    (model, {"device": torch.device("meta")}, "device = 'meta'"),
    (model, {"frame_stack": 2}, "does not divide the 5 channels"),
    (model, {"frame_stack": 0}, "frame_stack = 0"),
    (model, {"frame_stack": "4"}, "frame_stack = '4'"),
    (model, {"frame_stack": 1.5}, "frame_stack = 1.5"),
    (model, {"env": pair()}, "cannot be saved"),
    (model, {"stack_padding": 1}, "stack_padding = 1"),
    (model, {"policy_kwargs": {"net_arch": 64}}, "net_arch.* = 64"),
    (model, {"policy_kwargs": {"net_arch": []}}, r"net_arch.* = \[\]"),
    (model, {"policy_kwargs": {"net_arch": [64, "x"]}}, "hidden_sizes"),
    (model, {"policy_kwargs": {"net_arch": {"pi": [64]}}}, "net_arch"),
    (model, {"policy_kwargs": {"activation_fn": nn.Tanh}}, "activation_fn"),
    (model, {"policy_kwargs": {"optimizer_class": torch.optim.SGD}}, "optimizer_class"),
    (model, {"policy_kwargs": {"features_extractor_kwargs": {"features_dim": 8}}}, "features_dim"),
    (model, {"policy_kwargs": {"features_extractor_kwargs": 8}}, "must be a dictionary"),
    (model, {"policy_kwargs": "net"}, "policy_kwargs = 'net'"),
    (model, {"env": counted(1, (36, 36, 1)), "policy": "CnnPolicy",
             "policy_kwargs": {"net_arch": [64]}}, "one layer follows"),
    # Fields of Config.
    (model, {"doubel": True}, "doubel is no keyword .*double"),
    (model, {"double": 1}, "double = 1"),
    (model, {"head": "c52"}, "head = 'c52'"),
    (model, {"atoms": 11}, "atoms = 11 is for head"),
    (model, {"network": "nature"}, "nature"),
    (model, {"noisy": True, "noisy_sigma": -1.0}, "noisy_sigma = -1"),
    (model, {"replay_capacity": 100}, "replay_capacity is called buffer_size here"),
    (model, {"target_tau": 0.5}, "target_tau is called tau here"),
    (model, {"epsilon_end": 0.1}, "exploration_final_eps here"),
    (model, {"total_env_steps": 100}, "total_timesteps here"),
    (model, {"run_dir": "runs"}, "run_dir has no effect"),
    (model, {"eval_episodes": 5}, "eval_episodes has no effect"),
    (model, {"atari_frame_skip": 2}, "atari_frame_skip has no effect"),
    (model, {"huber_delta": 2.0, "loss": "mse"}, "huber_delta = 2"),
    # What it does.
    (lambda: model().learn(0), "total_timesteps = 0"),
    (lambda: model().learn("100"), "total_timesteps = '100'"),
    (lambda: model().learn(10, log_interval=0), "log_interval = 0"),
    (lambda: model().predict(np.zeros(3)), "observation does not fit"),
    (lambda: model().predict("left"), "observation does not fit"),
    (lambda: model().predict(np.zeros((0, 5))), "observation is of 0 envs"),
    (lambda: model().set_env(3), "env is int"),
    (lambda: model().set_env(bounded()), "use envs like those"),
    (lambda: model().set_env(counted(2, (6,), 1)), "use envs like those"),
    (save_with, {"exclude": ["env"]}, "exclude = "),
    (save_with, {"include": ["env"]}, "include = "),
    (lambda: model().save(None), "path = None names no file"),
    (lambda: model().save(""), "path = '' names no file"),
    (lambda: model().save(io.StringIO()), "open in binary mode"),
    (lambda: model().save(f"{__file__}/below"), "cannot be written"),
    (lambda: model().save_replay_buffer(5), "path = 5 names no file"),
    (lambda: model().load_replay_buffer("."), "path = '.' names no file"),
    (lambda: model().set_parameters(5), "path = 5 names no file"),
    (lambda: model().set_parameters({"policy": 5}, exact_match=False), "policy = 5 is no part"),
    (DQN.load, ("nowhere",), "does not exist"),
    (DQN.load, (None,), "path = None names no file"),
    (DQN.load, ("nowhere",), {"custom_objects": 5}, "custom_objects = 5"),
]  # fmt: skip


def _row(function, *rest):
    *given, said = rest
    args = next((x for x in given if isinstance(x, tuple)), ())
    return function, args, next((x for x in given if isinstance(x, dict)), {}), said


@pytest.mark.parametrize(
    ("function", "args", "options", "said"),
    [_row(*row) for row in CALLS],
    ids=[f"{getattr(row[0], '__name__', row[0])}-{row[-1]}" for row in CALLS],
)
def test_a_wrong_argument_is_answered_in_one_sentence(tmp_path, monkeypatch, function, args,
                                                      options, said):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fastdqn.FastDQNError, match=said) as refused:
        function(*args, **options)
    text = str(refused.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 600
    assert not list(tmp_path.iterdir())


def test_without_sb3_one_sentence_says_what_to_install():
    code = (
        "import sys; sys.modules['stable_baselines3'] = None\n"
        "try: import fastdqn.integrations.sb3\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "fastdqn.integrations.sb3 needs Stable-Baselines3; pip install 'fastdqn[sb3]'."
    )


def test_its_public_names_are_listed():
    import fastdqn.integrations.sb3 as sb3

    assert sb3.__all__ == ["DQN", "FrameReplayBuffer", "VecEnvStream"]
