"""The examples run, short, as somebody would start them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def as_before():
    """An example is a program: it seeds torch."""
    state = torch.random.get_rng_state()
    yield
    torch.random.set_rng_state(state)


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_loop_in_one_file_fits_on_a_page():
    assert len((EXAMPLES / "dqn_atari_fast.py").read_text().splitlines()) <= 120


def test_the_loop_in_one_file_trains_on_pixels(capsys):
    one_file = example("dqn_atari_fast")
    args = one_file.Args(
        env_id="fastdqn/Catch-v0", device="cpu", total_env_steps=4_000, buffer_size=1_000,
        learning_starts_env_steps=3_600, epsilon_env_steps=400, log_period_env_steps=2_000,
        prioritized=True, n_step=2, head="c51",
    )  # fmt: skip
    assert -10 <= one_file.main(args) <= 10
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "100 updates" in lines[-1]


def test_the_loop_in_one_file_learns():
    one_file = example("dqn_atari_fast")
    args = one_file.Args(
        env_id="CartPole-v1", device="cpu", total_env_steps=16_000, buffer_size=10_000,
        learning_starts_env_steps=1_000, epsilon_env_steps=8_000, learning_rate=5e-4,
        target_period_updates=100,
    )  # fmt: skip
    assert one_file.main(args) > 50  # random play: 22


def test_learning_from_data_beats_the_play_they_show(tmp_path, capsys):
    offline = example("offline")
    args = offline.Args(data=tmp_path / "play.npz", transitions=8_000, updates=1_000, device="cpu")
    first = offline.main(args)
    out = capsys.readouterr().out
    assert "8,000 transitions, return 2" in out and first > 60
    with np.load(tmp_path / "play.npz") as arrays:
        assert set(arrays) == set(offline.KEYS) and len(arrays["actions"]) == 8_000
    assert offline.main(args) == first  # from the file, the same
