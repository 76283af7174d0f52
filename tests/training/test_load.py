"""Policies from checkpoints: an earlier version's, by the description they hold, and forged."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.short_runs import Own, tiny
from torch import nn

import fastdqn
from fastdqn.checkpoints.store import find_checkpoint, load_checkpoint, save_checkpoint
from fastdqn.errors import CheckpointError
from fastdqn.networks.spec import NetworkSpec
from fastdqn.training.train import train

# Written by fastdqn 0.1.0, before the packages; see the values beside it.
OLD_RUN = Path(__file__).parents[1] / "data" / "run_of_0_1_0"
OLD_VALUES = json.loads(OLD_RUN.with_name("run_of_0_1_0_values.json").read_text())
# 900,000 env steps of Pong, trained by 0.1.0, too: frames, quantiles, a residual torso.
OLD_PONG = Path(__file__).parents[2] / "benchmarks" / "results" / "policies" / "pong"
PONG_Q = [[0.2888019, 0.3267051, 0.3658788, 0.3958869, 0.3143249, 0.3673966],
          [0.5019497, 0.4784269, 0.4666953, 0.4590327, 0.4922650, 0.5448133]]  # fmt: skip


# --- a checkpoint of an earlier version ----------------------------------------------------------


def test_a_policy_of_an_earlier_version_acts_as_it_did():
    policy = fastdqn.load(OLD_RUN, device="cpu")
    observation = np.array(OLD_VALUES["observation"], np.float32)
    with torch.no_grad():
        q = policy.network(torch.from_numpy(observation))
    torch.testing.assert_close(q, torch.tensor(OLD_VALUES["q"]), rtol=0, atol=1e-6)
    assert policy.act(observation).tolist() == OLD_VALUES["action"]
    assert set(OLD_VALUES["action"]) == {0, 1}


def test_an_atari_policy_of_an_earlier_version_values_frames_as_it_did():
    policy = fastdqn.load(OLD_PONG, device="cpu")
    frames = (np.arange(2 * 4 * 42 * 42) * 37 // 11 % 256).astype(np.uint8).reshape(2, 4, 42, 42)
    frames[1, :, 10:20] = 0
    with torch.no_grad():
        q = policy.network.q_values(policy.network(torch.from_numpy(frames)))
    torch.testing.assert_close(q, torch.tensor(PONG_Q), rtol=0, atol=1e-5)
    assert fastdqn.Config.load(OLD_PONG / "config.json").env_id == "ALE/Pong-v5"


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(OLD_RUN, run_dir)
    config = fastdqn.Config.load(run_dir / "config.json")
    assert "network" not in load_checkpoint(find_checkpoint(run_dir))["run"]["spec"]
    train(config.replace(run_dir=str(run_dir), resume="require"))
    state = load_checkpoint(find_checkpoint(run_dir))
    assert state["run"]["env_steps"] == 600 and state["learner"]["updates"] > 24
    spec = NetworkSpec.from_dict(state["run"]["spec"]["network"])
    assert (spec.torso, spec.hidden_sizes, spec.dueling) == ("mlp", (16, 16), True)


# --- what a policy alone needs -------------------------------------------------------------------

ACT = """
import sys
import numpy as np
import fastdqn
policy = fastdqn.load(sys.argv[1], device="cpu")
policy.act(np.zeros((3, 4), np.float32))
print(*sys.modules)
"""


def test_a_policy_is_loaded_and_acts_without_replay_learner_and_actor():
    command = [sys.executable, "-c", ACT, str(OLD_RUN)]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "fastdqn.acting.policy" in modules
    banned = ("fastdqn.replay", "fastdqn.learning", "fastdqn.acting.actor", "numba", "tensordict")
    assert [name for name in modules if name.startswith(banned)] == []


# --- the description in the checkpoint -----------------------------------------------------------


def spec_of(run_dir):
    return load_checkpoint(find_checkpoint(Path(run_dir)))["run"]["spec"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory with one checkpoint."""
    return Path(train(tiny(tmp_path_factory.mktemp("load") / "run", dueling=True)).run_dir)


def test_a_checkpoint_describes_its_network(run, tmp_path):
    assert spec_of(run)["network"] == {
        "frame_shape": [4], "num_actions": 2, "frame_stack": None, "torso": "mlp",
        "hidden_sizes": [16], "dueling": True, "batch_norm": False, "impala_width": 1,
        "frame_dtype": "float32", "normalize": False,
        "frame_format": {"image": False, "divisor": 1, "one_hot": [], "packed_image": None},
        "head": "scalar", "atoms": 51, "value_min": -10.0, "value_max": 10.0, "quantiles": 200,
        "iqn_cosines": 64, "iqn_policy_samples": 32, "iqn_cvar": 1.0, "noisy": False,
        "noisy_sigma": 0.5, "padding": "valid", "init": "torch", "layer_norm": False,
    }  # fmt: skip
    own = train(tiny(tmp_path / "own"), network=Own()).run_dir
    assert spec_of(own)["network"] is None


def changed(run, tmp_path, *, spec=None, config=None, network=None):
    """A copy of the checkpoint with other values; a value of None leaves the entry out."""
    state = load_checkpoint(find_checkpoint(run))
    for part, changes in (("spec", spec), ("config", config)):
        state["run"][part].update(changes or {})
    if network:
        state["run"]["spec"]["network"].update(network)
    return save_checkpoint(tmp_path, 7, {name: state[name] for name in ("run", "learner")}, keep=1)


def test_the_description_says_what_is_built_and_the_config_does_not(run, tmp_path):
    path = changed(run, tmp_path, config={"hidden_sizes": [3, 3], "dueling": False})
    one, other = fastdqn.load(path, device="cpu").network, fastdqn.load(run, device="cpu").network
    assert str(one) == str(other)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spec": {"network": None}}, "network = None must be an object"),
        ({"spec": {"network": [1]}}, r"network = \[1\] must be an object"),
        ({"spec": {"own_network": True}}, "describes a network that was the caller's own"),
        ({"network": {"torso": "resnet"}}, "network.torso = 'resnet' is no torso"),
        ({"network": {"depth": 3}}, "has a field that no network has, 'depth'"),
        ({"network": {"frame_shape": [5]}}, r"network.frame_shape = \(5,\), where .* = \(4,\)"),
        ({"network": {"frame_stack": 4}}, "network.frame_stack = 4, where frame_stack = None"),
        ({"network": {"num_actions": 9}}, "network.num_actions = 9, where num_actions = 2"),
        ({"network": {"torso": "nature"}}, r"needs images .* not frames of shape \(4,\)"),
        ({"network": {"hidden_sizes": [16] * 999}}, "more layers than it has parameters for"),
        ({"network": {"hidden_sizes": [2**31]}}, r"is \[32, 4\] .* and \[4294967296, 4\]"),
        ({"network": {"hidden_sizes": [2**31, 2**31]}}, "does not hold what it should"),
        ({"network": {"head": "c52"}}, "network.head = 'c52' is no head"),
        ({"network": {"head": ["qr"]}}, r"network.head = \['qr'\] is no head"),
        ({"network": {"atoms": 1}}, "network.atoms = 1 is no atoms"),
        ({"network": {"head": "c51", "value_min": 10.0}}, r"value_min = 10\.0 must be below"),
        ({"network": {"value_min": "a"}}, "network.value_min = 'a' is no value_min"),
        ({"network": {"value_max": 10**400}}, "value_max"),
        ({"network": {"noisy_sigma": -3.0}}, "network.noisy_sigma"),
        ({"network": {"head": "iqn", "iqn_policy_samples": 65_536}}, "network.iqn_policy_samples"),
        ({"network": {"iqn_cvar": float("nan")}}, "iqn_cvar"),
        ({"network": {"head": "qr"}}, r"is \[1, 8\] .* and \[200, 8\]|head"),
        ({"network": {"head": "iqn"}}, "'embedding.linear.* is missing from the checkpoint"),
        ({"network": {"noisy": True}}, "'head.advantage.bias_sigma' is missing"),
        ({"network": {"padding": "same"}}, "padding = 'same' is for network = 'nature'"),
        ({"network": {"head": "qr", "quantiles": 2**31}}, "network.quantiles"),
        ({"network": {"dueling": False}}, "missing from the checkpoint|unknown to this network"),
        ({"network": {"torso": "impala", "impala_width": 2**31}}, "needs images"),
    ],
)
def test_forged_descriptions_are_refused_before_memory_is_taken(
    run, tmp_path, monkeypatch, changes, message
):
    def to_empty(self, *, device):
        raise AssertionError("memory was taken")

    monkeypatch.setattr(nn.Module, "to_empty", to_empty)
    path = changed(run, tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message) as error:
        fastdqn.load(path, device="cpu")
    assert len(str(error.value)) < 600


def test_a_forged_image_of_any_size_takes_no_memory(run, tmp_path):
    for torso in ("nature", "impala", "batchnorm_cnn"):
        huge = {"frame_shape": [2**31, 2**31, 2**31], "frame_stack": 2**31}
        network = {**huge, "torso": torso, "impala_width": 2**31}
        path = changed(run, tmp_path / torso, spec=huge, network=network)
        with pytest.raises(CheckpointError):
            fastdqn.load(path, device="cpu")
