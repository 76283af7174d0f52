"""A replay that does not fit: refused where somebody chose it, else lowered."""

import pytest
from helpers.short_runs import small

from fastdqn import MemoryPlanError
from fastdqn.cli.main import main
from fastdqn.config.config import Config
from fastdqn.replay import memory_plan
from fastdqn.system.signals import StopSignals
from fastdqn.training.train import train, train_until_stopped


@pytest.fixture
def little_memory(monkeypatch):
    """Room for some 20,000 rows of CartPole."""
    monkeypatch.setattr(memory_plan, "available_memory", lambda device: 1_000_000)


def test_a_chosen_size_is_refused(tmp_path, little_memory):
    with pytest.raises(MemoryPlanError, match="largest replay_capacity that fits is") as error:
        train(small(tmp_path, replay_capacity=100_000))
    assert 10_000 < error.value.fits < 30_000 and str(error.value.fits) in str(error.value)
    assert not (tmp_path / "run").exists()


def test_one_that_nobody_chose_is_lowered_and_goes_on(tmp_path, little_memory, capsys):
    run = str(tmp_path / "run")
    args = ["--total-env-steps", "1500", "--run-dir", run, "--device", "cpu", "--mode", "eager",
            "--eval-episodes", "0", "--learning-rate-final", "0.001"]  # fmt: skip
    with pytest.warns(UserWarning, match="lowered to that; set replay_capacity") as said:
        assert main(["train", *args]) == 0
    fits = Config.load(f"{run}/config.json").replay_capacity
    assert f"fits is {fits}." in str(said[0].message)
    assert 10_000 < fits < 30_000 and fits % 8 == 0
    more = [*args[2:], "--total-env-steps", "2000", "--resume", "require"]
    assert main(["train", *more]) == 0, "the same run, whatever fits now"
    assert Config.load(f"{run}/config.json").replay_capacity == fits
    assert main(["train", "--replay-capacity", "100000", "--dry-run"]) == 2
    assert "largest replay_capacity that fits" in capsys.readouterr().err


def test_a_dry_run_lowers_it_too(little_memory, capsys):
    with pytest.warns(UserWarning, match="lowered to that"):
        assert main(["train", "--dry-run"]) == 0
    assert "100,000 rows" not in capsys.readouterr().out


def test_what_is_too_small_for_the_run_is_refused_with_the_first_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_plan, "available_memory", lambda device: 12_000)
    config = small(tmp_path, replay_capacity=100_000, batch_size=128)
    with pytest.raises(MemoryPlanError, match="replay_capacity = 100000 needs"):
        train_until_stopped(config, signals=StopSignals(), lower_replay=True)
