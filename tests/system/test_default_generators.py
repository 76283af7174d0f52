"""torch's default generators: seeded by the run, saved with it, and left as they were."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from helpers.dropout_runs import run
from helpers.scripted_env import Script, ScriptedVectorEnv
from helpers.short_runs import assert_same_checkpoint, read_rows, same_numbers, small

import fastdqn.learning.learner
from fastdqn.checkpoints.store import (
    load_checkpoint,
    open_checkpoint,
    refusing,
    save_checkpoint,
)
from fastdqn.cli.main import main
from fastdqn.errors import CheckpointError
from fastdqn.system.compilation import compile_pure
from fastdqn.system.default_generators import DefaultGenerators
from fastdqn.training.restore_parts import restore_default_generators
from fastdqn.training.train import train
from fastdqn.training.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def the_callers_generator_goes_on():
    torch.seed()  # by chance
    yield


@pytest.mark.parametrize("kind", ["dropout", "noise"])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, kind):
    whole = run(tmp_path / "whole", kind)
    run(tmp_path / "parts", kind, stop=180)
    parts = run(tmp_path / "parts", kind, resume="require")
    assert_same_checkpoint(whole, parts)
    rows = [same_numbers(read_rows(tmp_path / part / "run")) for part in ("whole", "parts")]
    assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.parametrize("launch", [1, 2])
def test_also_where_the_update_is_compiled(tmp_path, monkeypatch, launch):
    def on_a_cpu_without_a_compiler(function, mode, backend, **_):
        return compile_pure(function, mode, "aot_eager")

    monkeypatch.setattr(fastdqn.learning.learner, "compile_pure", on_a_cpu_without_a_compiler)
    monkeypatch.setattr("fastdqn.system.compilation.has_cpp_compiler", lambda: True)
    changes = {"mode": "compile", "updates_per_launch": launch, "update_period_env_steps": 2.0}
    whole = run(tmp_path / "whole", **changes)
    run(tmp_path / "parts", stop=180, **changes)
    torch._dynamo.reset()  # as in a new process
    assert_same_checkpoint(whole, run(tmp_path / "parts", resume="require", **changes))


@pytest.mark.parametrize("kind", ["dropout", "noise"])
def test_the_seed_decides_and_evaluations_do_not(tmp_path, kind):
    checkpoints = [
        run(tmp_path / "a", kind),
        run(tmp_path / "b", kind, eval_period_env_steps=40),
        run(tmp_path / "c", kind, eval_episodes=0),
    ]
    for other in checkpoints[1:]:
        assert_same_checkpoint(checkpoints[0], other)
    other = load_checkpoint(run(tmp_path / "d", kind, seed=2))["run"]
    mine = load_checkpoint(checkpoints[0])["run"]
    assert not torch.equal(*(r["default_generators"]["cpu"]["generator"] for r in (mine, other)))


def test_dropout_is_drawn_from_the_generator_that_is_saved(tmp_path):
    """Else the tests above could not fail."""
    state = load_checkpoint(run(tmp_path))["run"]["default_generators"]["cpu"]["generator"]
    fresh = torch.Generator().manual_seed(0).get_state()
    assert state.shape == fresh.shape
    trainer = Trainer(small(tmp_path / "other"), ScriptedVectorEnv(Script(4)))
    try:
        assert not torch.equal(state, torch.default_generator.get_state())
    finally:
        trainer.close()


def test_an_evaluation_repeats(tmp_path):
    """In a run, and with its policy later; its envs draw from the default generator."""
    run(tmp_path, "noise")
    first = json.loads((tmp_path / "run" / "summary.json").read_text())["eval_return_mean"]
    run(tmp_path / "again", "noise")
    again = json.loads((tmp_path / "again" / "run" / "summary.json").read_text())
    assert first == again["eval_return_mean"]


# --- checkpoints of other versions and devices ---------------------------------------------------


def test_a_checkpoint_without_them_resumes(tmp_path, monkeypatch):
    def without(directory, env_steps, state, *args, **kwargs):
        del state["run"]["default_generators"]
        return save_checkpoint(directory, env_steps, state, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("fastdqn.training.run_state.save_checkpoint", without)
        assert "default_generators" not in load_checkpoint(run(tmp_path, stop=180))["run"]
    state = load_checkpoint(run(tmp_path, resume="require"))["run"]
    assert state["env_steps"] == 300 and "default_generators" in state


def restore(tmp_path, saved):
    generators = DefaultGenerators(CPU)
    path = save_checkpoint(tmp_path, 1, {"run": {"default_generators": saved}}, 1)
    with refusing(path), generators.put_back():
        restore_default_generators(open_checkpoint(path)["run"], generators)
        return torch.rand(3)


def test_a_checkpoint_of_another_device_resumes(tmp_path):
    saved = DefaultGenerators(CPU).state_dict()
    expected = torch.rand(3)
    saved["cuda"] = {"generator": torch.zeros(16, dtype=torch.uint8)}
    assert torch.equal(restore(tmp_path, saved), expected)


@pytest.mark.parametrize(
    "wrong",
    [None, 3, [], {"cpu": None}, {"cpu": {}}, {"cpu": {"generator": 3}},
     {"cpu": {"generator": torch.zeros(5_056)}},
     {"cpu": {"generator": torch.full((5_056,), 255, dtype=torch.uint8)}}],
)  # fmt: skip
def test_what_is_none_is_refused(tmp_path, wrong):
    with pytest.raises(CheckpointError):
        restore(tmp_path, wrong)


# --- the class -----------------------------------------------------------------------------------


def test_what_is_drawn_inside_leaves_no_trace():
    generators = DefaultGenerators(CPU)
    generators.seed(3)
    expected = torch.rand(4)
    generators.seed(3)
    with pytest.raises(KeyError), generators.put_back():
        generators.seed(9)
        torch.rand(4)
        raise KeyError
    assert torch.equal(torch.rand(4), expected)


def test_an_empty_state_changes_nothing():
    generators = DefaultGenerators(CPU)
    before = generators.state_dict()
    restore_default_generators({}, generators)
    after = generators.state_dict()
    assert torch.equal(before["cpu"]["generator"], after["cpu"]["generator"])


class NoisyEnv(gymnasium.Env):
    """Rewards from torch's default generator, episodes of five steps."""

    observation_space = Box(-1, 1, (3,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(3, np.float32), torch.rand(()).item(), False, self.t == 5, {}


def test_the_command_line_plays_the_final_evaluation_again(tmp_path, capsys):
    gymnasium.register("NoisyOfTests-v0", NoisyEnv)
    try:
        config = small(tmp_path, env_id="NoisyOfTests-v0", total_env_steps=300, eval_episodes=4)
        summary = train(config).summary
        args = ["eval", str(tmp_path / "run"), "--episodes", "4", "--device", "cpu", "--json"]
        assert main(args) == 0
    finally:
        gymnasium.registry.pop("NoisyOfTests-v0")
    again = json.loads(capsys.readouterr().out)
    assert again["return_mean"] == summary["eval_return_mean"]
