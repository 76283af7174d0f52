"""The example runs, and its loop learns."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torchrl.collectors import Collector
from torchrl.envs import GymEnv, SerialEnv
from torchrl.objectives import DQNLoss, SoftUpdate

import fastdqn
from fastdqn.integrations.torchrl import TorchRLStream, q_value_actor
from fastdqn.networks.make import make_network

ROOT = Path(__file__).parents[2]
EXAMPLE, DOCUMENT = ROOT / "examples" / "torchrl_dqn.py", ROOT / "docs" / "backend" / "torchrl.md"


@pytest.fixture(autouse=True)
def as_before():
    """An example is a program: it seeds torch."""
    with torch.random.fork_rng():
        yield


def example():
    spec = importlib.util.spec_from_file_location("torchrl_dqn", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_short():
    assert len(EXAMPLE.read_text().splitlines()) <= 80


@pytest.mark.parametrize(
    "wrong", [["--steps", "-5"], ["--envs", "0"], ["--period", "0"], ["--seed", "-1"]]
)
def test_it_refuses_numbers_out_of_range(wrong, capsys):
    with pytest.raises(SystemExit) as caught:
        example().main(wrong)
    assert caught.value.code == 2
    assert "or more" in capsys.readouterr().err


@pytest.mark.parametrize("n_step", ["1", "3"])
def test_it_runs(n_step, capsys):
    assert example().main(["--steps", "2560", "--n-step", n_step, "--envs", "4"]) > 8
    assert "return" in capsys.readouterr().out


@pytest.mark.slow
def test_it_learns():
    assert example().main([]) > 150


def test_what_the_document_shows_runs(monkeypatch):
    """In order, beside what a program around it has."""
    trained = []
    monkeypatch.setattr(fastdqn, "train", lambda config, envs: trained.append(envs))
    env = SerialEnv(8, lambda: GymEnv("CartPole-v1"))
    network = make_network((4,), 2)
    actor = q_value_actor(network, GymEnv("CartPole-v1").action_spec)
    loss = DQNLoss(actor)
    SoftUpdate(loss, eps=0.99)
    scope = {
        "fastdqn": fastdqn, "env": env, "loss": loss, "network": network, "GymEnv": GymEnv,
        "SoftUpdate": SoftUpdate, "torch": torch,
        "collector": Collector(env, actor, frames_per_batch=400, total_frames=400),
    }  # fmt: skip
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), flags=re.M | re.S)
    assert len(blocks) == 5
    for number, block in enumerate(blocks):
        exec(compile(block, f"torchrl.md, example {number}", "exec"), scope)
    scope["collector"].shutdown()
    assert isinstance(trained[0], TorchRLStream) and trained[0].num_envs == 8
    assert scope["learner"].updates == 1
