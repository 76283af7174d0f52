"""A run with an objective of the caller's: it is what is minimised, at first and after a resume."""

import pytest
from helpers.short_runs import assert_same_checkpoint, read_rows, same_numbers, scripted, tiny

from fastdqn import train
from fastdqn.checkpoints.names import find_checkpoint
from fastdqn.errors import ConfigError
from fastdqn.learning.objectives import ONLINE_S, TARGET_S2
from fastdqn.learning.q_learning import QLearning


class Sarsa:
    """Squared TD error of the mean over the next actions; its priority is 1."""

    forwards = (TARGET_S2, ONLINE_S)

    def __call__(self, outputs, batch, randoms):
        target = batch.reward + batch.discount * outputs.q(TARGET_S2).mean(1)
        td = outputs.q(ONLINE_S).gather(1, batch.action[:, None])[:, 0] - target
        return 0.5 * td * td, td, td.detach() * 0 + 1


def run(path, objective, on_log=None, **changes):
    return train(tiny(path, **changes), envs=scripted(), objective=objective, on_log=on_log)


def test_it_trains_and_a_resume_needs_it_again(tmp_path):
    whole = run(tmp_path / "whole", Sarsa())
    usual = run(tmp_path / "usual", None)
    assert whole.summary["updates"] == usual.summary["updates"] > 0
    assert same_numbers(read_rows(whole.run_dir)) != same_numbers(read_rows(usual.run_dir))

    half = tmp_path / "half"
    run(half, Sarsa(), on_log=lambda row: True)
    with pytest.raises(ConfigError, match=r"an objective .*pass it again: .*objective=objective\)"):
        run(half, None, resume="require")
    run(half, Sarsa(), resume="require")
    assert same_numbers(read_rows(half)) == same_numbers(read_rows(whole.run_dir))
    assert_same_checkpoint(*(find_checkpoint(path) for path in (half, whole.run_dir)))


def test_it_stands_in_the_place_of_double_loss_and_huber_delta(tmp_path):
    """Bit for bit, whatever these say."""
    said = {"double": False, "loss": "huber", "huber_delta": 0.5}
    run(tmp_path / "said", None, **said)
    run(tmp_path / "given", QLearning(**said), double=True, loss="mse")
    one, other = (read_rows(tmp_path / name) for name in ("said", "given"))
    assert same_numbers(one) == same_numbers(other)
