"""``checkpoint_keep_best`` without periods: checkpoints come where evaluations do."""

import pytest
from helpers.short_runs import scripted, tiny

from fastdqn import Callback, Config, train
from fastdqn.checkpoints.names import find_checkpoint, list_checkpoints, read_score


class Evaluations(Callback):
    def __init__(self):
        self.rows = []

    def on_evaluation(self, row):
        self.rows.append(row)


@pytest.mark.parametrize(
    ("changes", "evaluated", "saved"),
    [
        ({}, 500, None),  # nobody asked for the best
        ({"checkpoint_keep_best": True}, 500, 500),
        ({"checkpoint_keep_best": True, "eval_period_env_steps": 300}, 300, 300),
        ({"checkpoint_keep_best": True, "checkpoint_period_env_steps": 200}, 400, 200),
        ({"checkpoint_keep_best": True, "checkpoint_period_env_steps": 7_000}, 7_000, 7_000),
        ({"checkpoint_period_env_steps": 200}, 500, 200),
        ({"checkpoint_keep_best": True, "eval_period_env_steps": 0}, None, None),
        (
            {
                "checkpoint_keep_best": True,
                "eval_period_env_steps": 300,
                "checkpoint_period_env_steps": 200,
            },
            300,
            200,
        ),
    ],
)
def test_periods_by_hand(changes, evaluated, saved):
    config = Config(total_env_steps=10_000, **changes)
    assert (config.eval_every_env_steps, config.checkpoint_every_env_steps) == (evaluated, saved)


def test_the_best_of_a_run_is_there_without_a_period(tmp_path):
    heard = Evaluations()
    config = tiny(tmp_path, eval_episodes=4, checkpoint_keep_best=True, log_period_env_steps=240)
    config = config.replace(eval_period_env_steps=None)
    train(config, envs=scripted(), eval_envs=scripted(2), callbacks=[heard])
    rows = heard.rows
    assert len(rows) == 20
    best = max(rows, key=lambda row: row["mean"])  # the first of equals
    found = find_checkpoint(tmp_path, "best")
    assert int(found.name.removeprefix("step_")) == best["env_steps"]
    assert read_score(found) == best["mean"]
    assert len(list_checkpoints(tmp_path / "checkpoints")) <= 3  # checkpoint_keep, and the best
