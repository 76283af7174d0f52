"""Every event comes when it says it does, and each may ask to stop."""

import math
import signal

import numpy as np
import pytest
import torch
from helpers.short_runs import read_rows, scripted, tiny

from fastdqn import Callback, ConfigError, Episode, load, train
from fastdqn.callbacks.callback import EVENTS
from fastdqn.callbacks.callback_list import CallbackList, as_callbacks
from fastdqn.callbacks.names import evaluation_figures, training_figures


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("fastdqn.training.trainer.plot_returns", lambda *_, **__: None)


def diary(*events, stop_at=None):
    """A callback that keeps what it hears of these events, and may ask to stop at one."""
    heard = []

    def hear(event):
        def method(self, *what):
            heard.append((event, *what))
            return event == stop_at

        return method

    kind = type("Diary", (Callback,), {event: hear(event) for event in events})
    return kind(), heard


def run(path, *callbacks, **changes):
    changes = {"eval_episodes": 2, **changes}
    if changes["eval_episodes"]:
        changes["eval_period_env_steps"] = 120
    config = tiny(path, checkpoint_period_env_steps=160, **changes)
    evaluates = config.eval_episodes > 0
    return train(
        config,
        envs=scripted(),
        eval_envs=scripted(2) if evaluates else None,
        callbacks=callbacks,
    )


def test_all_events_in_their_order(tmp_path):
    callback, heard = diary(*(set(EVENTS) - {"on_step", "on_film"}))
    result = run(tmp_path, callback)
    names = [name for name, *_ in heard if name != "on_episode"]
    assert names == [
        "on_start",
        "on_evaluation", "on_log",  # at 120
        "on_checkpoint",  # at 160
        "on_evaluation_start", "on_evaluation", "on_log",  # at 240
        "on_checkpoint", "on_end",
    ]  # fmt: skip
    found = {name: what for name, *what in heard}
    assert found["on_end"] == [result.summary]
    (path,) = found["on_checkpoint"]
    assert path == tmp_path / "checkpoints" / "step_000000000240" and path.is_dir()
    rows = [what[0]["env_steps"] for name, *what in heard if name == "on_log"]
    assert rows == [120, 240] == [int(row["env_steps"]) for row in read_rows(tmp_path)]


def test_every_step_and_every_episode_is_told_once(tmp_path):
    """Beside a plain count over the same script."""
    callback, heard = diary("on_step", "on_episode")
    envs, rows = scripted(), []
    step_envs = envs.step

    def step(actions):
        result = step_envs(actions)
        rows.append([np.array(part) for part in result[1:4]])
        return result

    envs.step = step
    config = tiny(tmp_path, total_env_steps=2_000, log_period_env_steps=400)
    train(config, envs=envs, callbacks=[callback])
    steps = [what for name, *what in heard if name == "on_step"]
    assert [env_steps for env_steps, _ in steps] == list(range(4, 2_001, 4))
    episodes = [what[0] for name, *what in heard if name == "on_episode"]
    assert all(type(episode) is Episode for episode in episodes) and len(episodes) > 20

    expected = []
    total, length = np.zeros(4), np.zeros(4, int)
    over = np.zeros(4, bool)
    for number, (reward, terminated, truncated) in enumerate(rows, start=1):
        for i in range(4):
            if over[i]:  # this row is a reset's
                expected.append((total[i], length[i], 4 * number))
                total[i], length[i] = 0.0, 0
            else:
                total[i] += reward[i]
                length[i] += 1
        over = terminated | truncated
    assert len(expected) == len(episodes)
    for (value, steps, at), episode in zip(expected, episodes, strict=True):
        assert episode.episode_return == pytest.approx(value, rel=1e-5)
        assert (episode.length, episode.env_steps) == (steps, at)
    last = read_rows(tmp_path)[-1]
    assert float(last["return_mean"]) == pytest.approx(
        np.mean([e.episode_return for e in episodes[-100:]]), rel=1e-5
    )


def test_episodes_go_on_with_a_resumed_run(tmp_path):
    first, before = diary("on_episode", stop_at="on_log")
    run(tmp_path, first, eval_episodes=0)
    second, after = diary("on_episode")
    with pytest.warns(UserWarning, match="planned anew"):
        run(tmp_path, second, total_env_steps=480, resume="require", eval_episodes=0,
            replan_schedules=True)  # fmt: skip
    assert before and after and min(e.env_steps for _, e in after) > 240


@pytest.mark.parametrize("event", [e for e in EVENTS if e not in ("on_end", "on_film")])
def test_each_may_ask_to_stop(tmp_path, event):
    callback, heard = diary(event, stop_at=event)
    result = run(tmp_path, callback)
    assert result.summary["stopped_by"] == (
        event if event != "on_evaluation_start" else "total_env_steps"
    )
    assert len(heard) >= 1
    steps = {"on_start": 0, "on_step": 4, "on_log": 120, "on_evaluation": 120, "on_checkpoint": 160}
    if event in steps:
        assert result.summary["env_steps"] == steps[event]
    assert result.summary["eval_env_steps"] == result.summary["env_steps"]  # evaluated as at an end
    assert (tmp_path / "checkpoints").exists()


def test_all_are_told_and_the_first_to_ask_is_named():
    one, heard_one = diary("on_log", stop_at="on_log")
    other, heard_other = diary("on_log", "on_start", stop_at="on_start")
    told = CallbackList([one, other])
    assert told.hear("on_log") and told.hear("on_start") and not told.hear("on_episode")
    told.tell("on_log", {"x": 1})
    assert heard_one == heard_other == [("on_log", {"x": 1})]
    told.tell("on_start", None)
    assert told.stopped_by == "on_log"


def test_a_function_and_one_callback_alone_are_taken():
    rows = []
    (made,) = as_callbacks([], rows.append)
    CallbackList([made]).tell("on_log", {"x": 1})
    assert rows == [{"x": 1}]
    one = Callback()
    assert as_callbacks(one) == [one] == as_callbacks(iter([one]))


def test_an_exception_ends_the_run_and_comes_out(tmp_path):
    class Fails(Callback):
        def on_log(self, row):
            raise KeyError("by design")

    listens, heard = diary("on_end")
    with pytest.raises(KeyError, match="by design"):
        run(tmp_path, listens, Fails())
    assert heard == []


def test_a_run_can_be_looked_at_and_steered(tmp_path):
    """The uses that docs/howto/logging-and-callbacks.md shows."""
    seen = []

    class Steers(Callback):
        def on_start(self, run):
            self.run = run
            assert (
                run.config.num_envs == 4 and run.run_dir == tmp_path / "run" and run.env_steps == 0
            )
            assert "envs" in run.header() and run.title
            run.schedules.epsilon = lambda env_steps: 0.25
            run.schedules.learning_rate = lambda env_steps: 1e-3 if env_steps < 160 else 0.0

        def on_step(self, env_steps, updates):
            if env_steps in (120, 160, 240):
                seen.append(self.run.learner.flat.data.clone())
            if env_steps == 160:
                self.path = self.run.save()

    steers = Steers()
    changes = {"total_env_steps": 240, "eval_episodes": 0}
    plain = run(tmp_path / "plain", **changes)
    changed = train(
        tiny(tmp_path / "run", total_env_steps=240), envs=scripted(), callbacks=[steers]
    )
    assert {float(row["epsilon"]) for row in read_rows(changed.run_dir)} == {0.25}
    assert not torch.equal(seen[0], seen[1]), "it learned until then"
    assert torch.equal(seen[1], seen[2]), "and not with a step size of 0"
    assert plain.summary["updates"] == changed.summary["updates"]
    saved = load(steers.path).network.state_dict()
    for name, tensor in changed.policy.network.state_dict().items():
        assert torch.equal(saved[name], tensor)


def test_evaluations_come_by_themselves_and_cost_the_training_nothing(tmp_path):
    changes = {"total_env_steps": 400, "log_period_env_steps": 400}
    on, heard = diary("on_evaluation")
    config = tiny(tmp_path / "on", eval_episodes=12, **changes).replace(eval_period_env_steps=None)
    with_them = train(config, envs=scripted(), eval_envs=scripted(2), callbacks=[on])
    rows = [what[0] for _, *what in heard]
    assert [row["env_steps"] for row in rows] == [*range(20, 400, 20), 400]
    assert [row["episodes"] for row in rows] == [10] * 19 + [12]
    assert [row["final"] for row in rows] == [0] * 19 + [1]
    without = run(tmp_path / "off", eval_episodes=0, **changes)
    assert torch.equal(
        torch.cat([p.flatten() for p in with_them.policy.network.parameters()]),
        torch.cat([p.flatten() for p in without.policy.network.parameters()]),
    )


def test_names_by_hand():
    row = {
        "env_steps": 8, "updates": 2, "episodes": 1, "return_mean": 3.0, "length_mean": math.nan,
        "epsilon": 0.5, "loss": 0.1, "td_error_abs": 0.2, "q_mean": -1.0, "eval_return_mean": 4.0,
        "env_steps_per_s": 9.0, "frames_per_s": 36.0, "updates_per_s": 2.0, "wall_s": 1.0,
    }  # fmt: skip
    assert training_figures(row) == {
        "train/updates": 2.0, "rollout/episodes": 1.0, "rollout/return_mean": 3.0,
        "rollout/epsilon": 0.5, "train/loss": 0.1, "train/td_error_abs": 0.2,
        "train/q_mean": -1.0, "time/env_steps_per_s": 9.0, "time/frames_per_s": 36.0,
        "time/updates_per_s": 2.0, "time/wall_s": 1.0,
    }  # fmt: skip
    evaluation = {"env_steps": 8, "episodes": 2, "mean": 1.0, "std": math.nan, "final": 0}
    assert evaluation_figures(evaluation) == {"eval/episodes": 2.0, "eval/return_mean": 1.0}
    assert evaluation_figures({**evaluation, "final": 1}) == {
        "final/episodes": 2.0, "final/return_mean": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("answer", [np.array([True, False]), torch.tensor([0, 1])])
def test_an_answer_that_is_neither_yes_nor_no_is_refused_by_name(tmp_path, answer):
    class Vague(Callback):
        def on_log(self, row):
            return answer

    with pytest.raises(ConfigError, match=r"Vague.on_log returned .*return True to stop the run"):
        run(tmp_path, Vague(), eval_episodes=0)


@pytest.mark.parametrize("answer", [np.bool_(True), np.array(True), torch.tensor(True), 1])
def test_numbers_of_numpy_and_torch_are_answers(tmp_path, answer):
    class Stops(Callback):
        def on_log(self, row):
            return answer

    assert run(tmp_path, Stops(), eval_episodes=0).summary["stopped_by"] == "on_log"


class Steered(Callback):
    """Schedules of its own; may stop."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at

    def on_start(self, run):
        run.schedules.learning_rate = lambda env_steps: 1e-3 * (1 + env_steps / 100)
        run.schedules.epsilon = 0.3

    def on_step(self, env_steps, updates):
        return env_steps == self.stop_at


def test_with_schedules_of_its_own_a_resumed_run_is_that_which_went_through(tmp_path):
    """Its first update after the resume learns with the callback's step size, too."""
    changes = {"env_id": "fastdqn/Catch-v0", "network": "mlp", "update_period_env_steps": 4.0}
    through = train(tiny(tmp_path / "through", **changes), callbacks=[Steered()])
    config = tiny(tmp_path / "cut", **changes)
    train(config, callbacks=[Steered(stop_at=160)])
    resumed = train(config.replace(resume="require"), callbacks=[Steered()])
    assert resumed.summary["updates"] == through.summary["updates"] > 20
    for one, other in zip(
        resumed.policy.network.parameters(), through.policy.network.parameters(), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["epsilon", "learning_rate", "beta"])
@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda env_steps: None, r"schedules.{}\(0\) = None has the wrong type; use a number"),
        (lambda env_steps: math.nan, r"schedules.{}\(0\) = nan is not finite; use a number from 0"),
        (lambda env_steps: -1.0, r"schedules.{}\(0\) = -1.0 is out of range; use a number from 0"),
        ("fast", r"schedules.{} = 'fast' has the wrong type; use a number"),
    ],
)
def test_a_schedule_that_is_none_is_refused(tmp_path, name, schedule, message):
    class Assigns(Callback):
        def on_start(self, run):
            setattr(run.schedules, name, schedule)

    with pytest.raises(ConfigError, match=message.format(name)):
        run(tmp_path, Assigns(), eval_episodes=0)


@pytest.mark.parametrize("schedule", [0.25, np.float32(0.25), lambda _: torch.tensor(0.25)])
def test_a_schedule_may_be_a_number_of_any_kind(tmp_path, schedule):
    class Assigns(Callback):
        def on_start(self, run):
            run.schedules.epsilon = run.schedules.learning_rate = run.schedules.beta = schedule

    result = run(tmp_path, Assigns(), eval_episodes=0)
    assert {float(row["epsilon"]) for row in read_rows(result.run_dir)} == {0.25}


def test_before_the_first_step_there_is_nothing_to_save(tmp_path):
    class Saves(Callback):
        def on_start(self, run):
            run.save()

    with pytest.raises(ConfigError, match="nothing to save before the first step; save in a later"):
        run(tmp_path, Saves(), eval_episodes=0)


@pytest.mark.parametrize("env_id", ["fastdqn/Catch-v0", "CartPole-v1"])
def test_a_run_that_is_interrupted_in_its_final_evaluation_is_ended_by_a_resume(tmp_path, env_id):
    """Which makes no step, and saves envs that were only loaded."""

    class Interrupts(Callback):
        def on_evaluation_start(self, episodes):
            signal.raise_signal(signal.SIGTERM)

    config = tiny(tmp_path, env_id=env_id, network="mlp", eval_episodes=2)
    with pytest.raises(SystemExit):
        train(config, callbacks=[Interrupts()])
    for _ in range(2):  # and as often as one likes
        result = train(config.replace(resume="require"))
        assert result.summary["stopped_by"] == "total_env_steps"
        assert result.summary["eval_env_steps"] == 240
    assert [int(row["env_steps"]) for row in read_rows(tmp_path)] == [120, 240]


def test_a_run_that_is_interrupted_where_a_checkpoint_was_due_saves_once(tmp_path):
    """A replay of gigabytes is not written twice while a scheduler counts the seconds."""

    class Interrupts(Callback):
        saved = 0

        def on_step(self, env_steps, updates):
            if env_steps == 160:
                signal.raise_signal(signal.SIGTERM)

        def on_checkpoint(self, path):
            self.saved += 1

    interrupts = Interrupts()
    config = tiny(tmp_path, checkpoint_period_env_steps=160, checkpoint_replay="every")
    with pytest.raises(SystemExit):
        train(config, envs=scripted(), callbacks=[interrupts])
    assert interrupts.saved == 1
    assert (tmp_path / "checkpoints" / "step_000000000160").is_dir()
