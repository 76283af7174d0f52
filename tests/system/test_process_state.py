"""What a process has once is as before when a run, or playing with one, is over."""

import signal
import warnings

import pytest
import torch
from helpers.short_runs import scripted, small

import fastdqn
from fastdqn.cli.main import main
from fastdqn.system.process_state import flushes_denormals, torch_as_before
from fastdqn.training.playing import playing
from fastdqn.training.train import train

can_flush = torch.set_flush_denormal(False)


def state():
    return {
        "threads": torch.get_num_threads(),
        "denormals": flushes_denormals(),
        "benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "generator": torch.get_rng_state().tolist(),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "filters": list(warnings.filters),
        "handlers": [signal.getsignal(number) for number in range(1, 32)],
    }


def upset(*_):
    """Everything otherwise, as a run on any device may have it."""
    torch.set_num_threads(3 - torch.get_num_threads())
    torch.set_flush_denormal(not flushes_denormals())
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    mode = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(not mode, warn_only=not mode)
    torch.rand(3)


@pytest.fixture(params=["as Python starts", "otherwise"])
def before(request):
    first = state()
    with torch_as_before(torch.device("cpu")):
        if request.param == "otherwise":
            upset()
        yield state()
    assert state() == first


def test_a_run_leaves_no_trace(tmp_path, before):
    train(small(tmp_path, total_env_steps=400), envs=scripted(), on_log=upset)
    assert state() == before


def test_a_run_that_fails_leaves_none(tmp_path, before):
    def fail(row):
        upset()
        raise KeyError("by design")

    with pytest.raises(KeyError):
        train(small(tmp_path, total_env_steps=400), envs=scripted(), on_log=fail)
    with pytest.raises(fastdqn.FastDQNError):
        train(small(tmp_path / "other", gamma=1.0, env_id="Pendulum-v1"))
    assert state() == before


def test_playing_leaves_none(tmp_path, before):
    config = small(tmp_path, total_env_steps=400)
    run = str(train(config).run_dir)
    with playing(run, config, num_envs=2) as (_, envs, stop):
        assert flushes_denormals() or not can_flush, "as the run computed"
        upset()
        envs.reset(seed=1)
        assert not stop()
    assert state() == before


# --- what cannot be undone -----------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    calls = []
    monkeypatch.setattr("fastdqn.training.build.keep_freed_memory", lambda: calls.append(True))
    return calls


IMAGES = {
    "env_id": "fastdqn/Catch-v0", "frame_stack": 2, "hidden_sizes": (8,), "total_env_steps": 100,
    "learning_starts_env_steps": 100, "device": "cpu", "torch_threads": 1, "eval_episodes": 0,
    "replay_capacity": 200,
}  # fmt: skip


def test_a_python_program_keeps_its_allocator(tmp_path, asked):
    train(small(tmp_path, **IMAGES))
    assert asked == []


@pytest.mark.parametrize(("network", "times"), [("images", 1), ("vectors", 0)])
def test_the_command_line_keeps_the_memory_that_convolutions_free(tmp_path, asked, network, times):
    changes = IMAGES if network == "images" else {**IMAGES, "env_id": "CartPole-v1"}
    if network == "vectors":
        changes["frame_stack"] = None
    path = tmp_path / "config.json"
    path.write_text(small(tmp_path, **changes).to_json())
    run = tmp_path / "run"
    assert main(["train", "--config", str(path)]) == 0
    assert len(asked) == times
    assert main(["eval", str(run), "--episodes", "1", "--num-envs", "1", "--device", "cpu"]) == 0
    assert len(asked) == 2 * times
