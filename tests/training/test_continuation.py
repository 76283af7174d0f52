"""A resumed run: with more steps, on other hardware, from envs with a state of their own."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from helpers.scripted_env import Script, ScriptedStream, ScriptedVectorEnv
from helpers.short_runs import assert_same_checkpoint, read_rows, same_numbers, small

from fastdqn.checkpoints.store import find_checkpoint, load_checkpoint
from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.training.continuation import (
    check_precision,
    continued,
    say_what_becomes,
    say_what_differs,
)
from fastdqn.training.schedules import Schedules
from fastdqn.training.train import train

RUN = Path("runs/a")


def scripted():
    return ScriptedVectorEnv(Script(4, seed=5), "NEXT_STEP")


# --- schedules -----------------------------------------------------------------------------------


def test_schedules_by_hand():
    config = Config(
        total_env_steps=2_000, schedule_env_steps=1_000, learning_rate=1e-3, prioritized=True,
        learning_rate_final=1e-4, priority_beta_start=0.4, priority_beta_end=1.0,
    )  # fmt: skip
    schedules = Schedules(config)
    assert schedules.learning_rate(500) == pytest.approx(5.5e-4)
    assert schedules.learning_rate(1_000) == schedules.learning_rate(2_000) == 1e-4
    assert schedules.beta(500) == pytest.approx(0.7)
    assert schedules.beta(1_000) == schedules.beta(2_000) == 1.0
    assert Schedules(config.replace(schedule_env_steps=None)).beta(1_000) == pytest.approx(0.7)
    assert Schedules(config.replace(learning_rate_final=None)).learning_rate(900) == 1e-3


def test_more_steps_are_what_one_longer_run_with_the_same_schedules_is(tmp_path):
    changes = {"learning_rate_final": 1e-5, "prioritized": True, "n_step": 3}
    whole = small(tmp_path / "whole", schedule_env_steps=1_200, **changes)
    train(whole, envs=scripted())
    parts = small(tmp_path / "parts", **changes)
    train(parts.replace(total_env_steps=1_200), envs=scripted())
    more = train(parts.replace(resume="require"), envs=scripted())
    assert_same_checkpoint(
        find_checkpoint(Path(whole.run_dir)), find_checkpoint(Path(parts.run_dir))
    )
    # The row at its first end has the update that the longer run makes a step later.
    ours, theirs = (same_numbers(read_rows(config.run_dir)) for config in (parts, whole))
    assert ours[:2] == theirs[:2] and ours[-1] == theirs[-1] and len(ours) == len(theirs)
    # What it was is on record, and a third session keeps to it.
    recorded = Config.load(more.run_dir / "config.json")
    assert recorded.schedule_env_steps == 1_200 and recorded.total_env_steps == 2_000
    assert (
        continued(parts.replace(total_env_steps=9_000), recorded, RUN).schedule_env_steps == 1_200
    )


def test_going_on_without_a_step_size_is_refused_and_changes_nothing(tmp_path):
    config = small(tmp_path, total_env_steps=400, eval_episodes=0)
    train(config)
    before = {p: p.stat().st_mtime_ns for p in Path(config.run_dir).rglob("*") if p.name != "lock"}
    with pytest.raises(ConfigError, match=r"total_env_steps = 800 .* after env step 400.*replan"):
        train(config.replace(resume="require", total_env_steps=800))
    assert {
        p: p.stat().st_mtime_ns for p in Path(config.run_dir).rglob("*") if p.name != "lock"
    } == before


def test_also_where_the_end_of_the_schedule_is_still_to_come():
    before = Config(total_env_steps=10_000)
    with pytest.raises(ConfigError, match="annealed its learning rate to 0"):
        continued(before.replace(total_env_steps=20_000), before, RUN)
    fewer = continued(before.replace(total_env_steps=5_000), before, RUN)
    assert fewer.schedule_env_steps == 10_000, "cut short, not compressed"
    assert continued(
        fewer.replace(total_env_steps=10_000, schedule_env_steps=None), fewer, RUN
    ) == (before)


def test_replanning_says_what_each_schedule_becomes(tmp_path):
    config = small(tmp_path, total_env_steps=1_000, eval_episodes=0, prioritized=True)
    train(config)
    more = config.replace(resume="require", total_env_steps=2_000, replan_schedules=True)
    said = (
        r"they end at env step 2,000 instead of 1,000; at env step 1,000 "
        r"learning_rate 0 -> 0\.0005, beta 1 -> 0\.7\."
    )
    rates = []
    with pytest.warns(UserWarning, match=said):
        result = train(more, on_log=lambda row: rates.append(row["env_steps"]) and None)
    recorded = Config.load(result.run_dir / "config.json")
    assert (recorded.schedule_env_steps, recorded.replan_schedules) == (None, False)
    # The job may be requeued with the same line: nothing is left to plan.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert continued(more, recorded, RUN).schedule_env_steps is None
        say_what_becomes(more, recorded, 2_000)


def test_constant_schedules_just_go_on():
    before = Config(learning_rate_final=None, total_env_steps=1_000)
    more = before.replace(total_env_steps=5_000)
    assert continued(more, before, RUN) == more
    before = before.replace(prioritized=True, priority_beta_start=1.0)
    more = before.replace(total_env_steps=5_000)
    assert continued(more, before, RUN) == more


def test_another_end_of_the_schedules_must_be_asked_for():
    before = Config(learning_rate_final=1e-5, total_env_steps=1_000)
    more = before.replace(
        total_env_steps=5_000, schedule_env_steps=3_000, resume="require", run_dir=str(RUN)
    )
    with pytest.raises(ConfigError, match=r"schedule_env_steps = 3000 differs from the 1000"):
        continued(more, before, RUN)
    assert continued(more.replace(replan_schedules=True), before, RUN) == more


def test_a_step_size_of_zero_to_the_end_is_refused():
    with pytest.raises(ConfigError, match=r"schedule_env_steps = 500 leaves a learning rate of 0"):
        Config(schedule_env_steps=500, total_env_steps=1_000)


# --- other hardware ------------------------------------------------------------------------------


def test_another_precision_is_refused_unless_asked_for(tmp_path, monkeypatch):
    config = small(tmp_path, env_id="fastdqn/Catch-v0", env_kwargs={"size": 36}, frame_stack=1,
                   network="nature", precision="bf16", total_env_steps=80, eval_episodes=0,
                   checkpoint_replay="none", learning_rate_final=None)  # fmt: skip
    train(config)
    monkeypatch.setattr("fastdqn.system.devices.has_bf16", lambda device: False)
    more = config.replace(resume="require", precision="auto", total_env_steps=160)
    before = {p: p.stat().st_mtime_ns for p in Path(config.run_dir).rglob("*") if p.name != "lock"}
    with pytest.raises(CheckpointError, match=r"'auto' is fp32 .* learned in bf16.*--precision"):
        train(more)
    assert {
        p: p.stat().st_mtime_ns for p in Path(config.run_dir).rglob("*") if p.name != "lock"
    } == before
    with pytest.warns(UserWarning, match="precision bf16 -> fp32"):
        result = train(more.replace(precision="fp32"))
    assert result.summary["precision"] == "fp32"
    spec = load_checkpoint(find_checkpoint(result.run_dir))["run"]["spec"]
    assert spec["bf16"] is False
    record = json.loads((result.run_dir / "run.json").read_text())
    assert [session["precision"] for session in record["sessions"]] == ["bf16", "fp32"]


def test_precision_by_hand():
    auto = Config()
    check_precision(auto, "fp32", "fp32", "cpu")
    check_precision(auto.replace(precision="fp32"), "bf16", "fp32", "cpu")
    with pytest.raises(CheckpointError, match=r"'auto' is bf16 on a GPU.*learned in fp32"):
        check_precision(auto, "fp32", "bf16", "a GPU")


def test_what_differs_is_said():
    saved = {"device": "A", "precision": "fp32", "mode": "graph", "torch_threads": 2}
    with pytest.warns(UserWarning, match=r"device A -> B, mode graph -> eager;"):
        say_what_differs(saved, {**saved, "device": "B", "mode": "eager"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        say_what_differs(saved, dict(saved))
        say_what_differs({}, saved)  # a checkpoint that does not say


def test_threads_are_stored_and_compared(tmp_path):
    config = small(tmp_path, torch_threads=2, eval_episodes=0, learning_rate_final=None)
    train(config.replace(total_env_steps=800))
    state = load_checkpoint(find_checkpoint(Path(config.run_dir)))
    assert state["run"]["resolved"]["torch_threads"] == 2
    with pytest.warns(UserWarning, match="torch_threads 2 -> 1"):
        train(config.replace(resume="require", torch_threads=1))


# --- envs with a state of their own --------------------------------------------------------------


class Documented:
    """A stream of somebody else's: what EnvStream documents, and nothing more."""

    def __init__(self, backend: str) -> None:
        self._inner = ScriptedStream(Script(4, seed=5), backend=backend)
        for name in (
            "num_envs", "num_actions", "action_start", "observation_space", "frame_stack",
            "stack_padding", "reset", "send", "recv", "close",
        ):  # fmt: skip
            setattr(self, name, getattr(self._inner, name))
        self.loaded = None

    def state_dict(self):
        return {"nested": {"inner": self._inner.state_dict()}}

    def load_state_dict(self, state):
        self.loaded = state
        self._inner.load_state_dict(state["nested"]["inner"])


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_stream_with_the_documented_methods_is_saved(tmp_path, backend):
    whole = small(tmp_path / "whole", eval_episodes=0)
    train(whole, envs=Documented(backend))
    parts = small(tmp_path / "parts", eval_episodes=0)
    train(parts, envs=Documented(backend), on_log=lambda row: row["env_steps"] >= 1_200)
    second = Documented(backend)
    train(parts.replace(resume="require"), envs=second)
    assert_same_checkpoint(
        find_checkpoint(Path(whole.run_dir)), find_checkpoint(Path(parts.run_dir))
    )
    assert not isinstance(second.loaded["nested"]["inner"]["t"], torch.Tensor), "arrays stay arrays"


def test_a_stream_that_cannot_is_not_saved(tmp_path):
    class Unable(Documented):
        can_save_state = False

    config = small(tmp_path, eval_episodes=0)
    train(config, envs=Unable("numpy"))
    assert load_checkpoint(find_checkpoint(Path(config.run_dir)))["run"]["envs"] is None
