"""The benchmark on Atari: its rows, what it reads off a run, its memory, and a run of seconds."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastdqn
from benchmarks.learning import jobs
from benchmarks.learning.atari import __main__ as atari
from benchmarks.learning.atari.curve import first_at, mean_return, read_curve
from benchmarks.learning.atari.policies import POLICIES, keep_policy
from benchmarks.learning.atari.rows import ROWS
from benchmarks.learning.atari.runs import identity, is_done, row_of, run
from benchmarks.learning.atari.sticky import play
from benchmarks.learning.atari.table import table
from fastdqn import Config
from fastdqn.errors import ConfigError

LINE = "env_steps,updates,episodes,return_mean,wall_s"


def curve_of(episodes, values):
    steps = [1_000 * (k + 1) for k in range(len(episodes))]
    return {"env_steps": steps, "updates": [s // 4 for s in steps], "wall_s": steps,
            "episodes": episodes, "return": values}  # fmt: skip


def a_row(task="dqn-breakout", seed=1, value=6.2, met=True, **more):
    config = json.loads(ROWS[task].config.to_json())
    curve = curve_of([2, 0, 4], [1.0, None, 4.0])
    return {"task": task, "seed": seed, "config": config, "value": value, "met": met,
            "wall_s": 3_600.0, "env_steps": 3_000, "updates": 750, "torch_threads": 1,
            "precision": "bf16", "device": "a CPU", "environment": {"cpu": "a CPU"},
            "curve": curve, **more}  # fmt: skip


# --- rows -----------------------------------------------------------------------------------------


def test_rows_have_one_thread_and_a_window_over_all_their_episodes():
    for name, row in ROWS.items():
        config = row.config
        assert (config.torch_threads, config.env_threads, config.precision) == (1, 1, "auto"), name
        # An Atari episode is longer than 20 env steps.
        assert config.stop_window >= config.total_env_steps / 20, name
        assert row.window is None or row.window[1] == 4 * config.total_env_steps, name
        assert (config.eval_episodes > 0) == (row.window is None), name
        assert config.atari_frame_skip == 4, name


def test_rows_on_dopamines_protocol_are_its_agents():
    dqn, qr, rainbow = (ROWS[name].config for name in ("dqn-breakout", "qr-pong", "rainbow-krull"))
    for config in (dqn, qr, rainbow):
        assert config.atari_protocol == "machado" and config.atari_noop_max == 0
        assert (config.learning_starts_env_steps, config.target_period_updates) == (20_000, 2_000)
        assert (config.epsilon_end, config.epsilon_duration_env_steps) == (0.01, 250_000)
        assert (config.batch_size, config.update_period_env_steps) == (32, 4)
        assert config.padding == "valid" and not config.double and config.max_grad_norm is None
    assert ROWS["dqn-breakout-padded"].config == dqn.replace(padding="same")
    longer = {"total_env_steps": 750_000, "replay_capacity": 750_000}
    assert ROWS["dqn-breakout-3m"].config == dqn.replace(**longer)
    assert ROWS["qr-boxing"].config == qr.replace(env_id="ALE/Boxing-v5")
    assert (qr.init, rainbow.init) == ("fan_in", "fan_in")
    assert (dqn.loss, dqn.init, dqn.learning_rate, dqn.optimizer_epsilon, dqn.n_step) == (
        "mse", "xavier", 6.25e-5, 1.5e-4, 1,
    )  # fmt: skip
    assert (qr.head, qr.learning_rate, qr.optimizer_epsilon, qr.n_step) == ("qr", 5e-5, 3.125e-4, 3)
    assert (rainbow.head, rainbow.learning_rate, rainbow.optimizer_epsilon, rainbow.n_step) == (
        "c51", 6.25e-5, 1.5e-4, 3,
    )  # fmt: skip
    assert not rainbow.dueling and not rainbow.noisy
    assert (qr.priority_alpha, qr.priority_beta_start, qr.priority_beta_end) == (0.5, 0, 0)
    assert (rainbow.priority_beta_start, rainbow.priority_beta_end) == (0.5, 0.5)


def test_published_means_are_of_a_million_frames_each_the_last_first():
    row = ROWS["dqn-breakout-3m"]
    found = [(one.value, one.sd, one.frames) for one in row.published]
    assert found == [
        (14.2, 0.4, (2_000_000, 3_000_000)),
        (7.1, 0.8, (1_000_000, 2_000_000)),
        (1.8, 0.1, (0, 1_000_000)),
    ]
    assert row.bar == pytest.approx(13.4) and ROWS["qr-boxing"].bar == pytest.approx(10.5)


# --- curves ---------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.integers(-21, 400), max_size=6), min_size=1, max_size=12),
    st.integers(0, 12),
    st.integers(0, 12),
)
@settings(max_examples=60, deadline=None)
def test_a_window_is_the_mean_of_the_episodes_that_ended_in_it(tmp_path_factory, periods, a, b):
    path = tmp_path_factory.mktemp("run") / "metrics.csv"
    done, lines = [], [LINE]
    for k, returns in enumerate(periods):
        done += returns
        mean = f"{np.mean(done):.7g}" if done else ""
        lines.append(f"{1000 * (k + 1)},{250 * k},{len(done)},{mean},{k + 0.5}")
    path.write_text("\n".join(lines) + "\n")
    curve = read_curve(path, window=100)
    wanted = [value for returns in periods[a:b] for value in returns]
    found = mean_return(curve, 1000 * a, 1000 * b)
    assert math.isnan(found) if not wanted else found == pytest.approx(np.mean(wanted), abs=0.02)
    assert curve["episodes"] == [len(returns) for returns in periods]


def test_more_episodes_than_the_window_are_refused(tmp_path):
    (tmp_path / "metrics.csv").write_text(f"{LINE}\n1000,1,101,2.5,1\n")
    with pytest.raises(ConfigError, match="101 episodes are more than stop_window = 100"):
        read_curve(tmp_path / "metrics.csv", window=100)


def test_a_level_is_reached_by_the_newest_episodes_together():
    curve = curve_of([10, 10, 0, 5, 15], [0.0, 20.0, None, 19.0, 21.0])
    assert first_at(curve, 10.0, episodes=20) == 1
    # The newest 20 are 15 of mean 21 and 5 of mean 19, in whole periods.
    assert first_at(curve, 20.5, episodes=20) == 4
    assert first_at(curve, 20.6, episodes=20) is None
    assert first_at(curve, 20.0, episodes=10) == 1
    assert first_at(curve, 0.0, episodes=41) is None


# --- the result file ------------------------------------------------------------------------------


def test_a_run_counts_as_done_by_what_it_learns_and_not_by_where():
    config = ROWS["dqn-breakout"].config
    rows = [a_row()]
    assert is_done(rows, "dqn-breakout", 1, config.replace(torch_threads=2, device="cpu"))
    assert is_done(rows, "dqn-breakout", 1, config.replace(precision="fp32"))
    assert not is_done(rows, "dqn-breakout", 2, config)
    assert not is_done(rows, "dqn-breakout", 1, config.replace(learning_rate=1e-4))
    del rows[0]["config"]["atari_frame_size"]  # a run of before there was this field
    assert is_done(rows, "dqn-breakout", 1, config)
    assert "seed" not in identity(config)


def test_a_directory_of_another_configuration_is_no_row(tmp_path):
    config = ROWS["dqn-breakout"].config.replace(seed=1, gamma=0.5)
    (tmp_path / "config.json").write_text(config.to_json())
    with pytest.raises(SystemExit, match="another configuration"):
        row_of("dqn-breakout", 1, tmp_path, ROWS["dqn-breakout"].config)


def test_the_table_says_what_was_counted_published_and_reached():
    rows = [a_row(), a_row(seed=2, value=5.0, met=False, precision="fp32")]
    rows += [a_row("der-roadrunner", seed, value, True) for seed, value in ((1, 9_600), (2, 7_200))]
    rows += [a_row("der-krull", 1, 2_851.5, True), a_row("der-pong", 1, -20.0, None)]
    rows.append(a_row("der-roadrunner-torch", 1, 100.0, False))  # no game of its own
    text = table(rows)
    assert (
        "| DQN | Breakout | training, frames 1M-2M | 7.1 ± 0.8 | 6.2, 5.0 | 3,000 | 750 | bf16, "
        "fp32 | 60, 60 | 1 of 2 |"
    ) in text
    assert "100 final episodes, epsilon 0.001 | 9600 | 9,600, 7,200 |" in text
    assert "| -20.0 | 3,000 | 750 | bf16 | 60 | stated |" in text
    assert "games with a bar: 0.94." in text, "the mean of 0.875 and 1"
    assert "3 games, 4 runs" in text
    assert "came to" not in text, "no row says when"


def test_the_table_says_when_training_came_to_the_bar():
    there = {"env_steps": 320_000, "updates": 77_500, "wall_s": 3_000.0}
    rows = [a_row("pong", 1, 19.5, True), a_row("pong", 2, 12.0, False)]
    rows[0]["reached_at"], rows[1]["reached_at"] = there, None
    assert (
        "preset `pong`: the mean of 20 training episodes came to 18 first: "
        "seed 1 after 320,000 env steps and 50 minutes; seed 2 never."
    ) in table(rows)


def test_a_call_runs_only_what_its_file_lacks_and_draws(tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(
        atari, "run", lambda name, seed, runs: (ran.append((name, seed)), a_row(name, seed))[1]
    )
    out = ["--out", str(tmp_path / "atari.json")]
    atari.main(["--only", "dqn-breakout", "--seeds", "1", *out])
    atari.main(["--only", "dqn-breakout", *out])
    assert ran == [("dqn-breakout", 1), ("dqn-breakout", 2)], "the row's own seeds"
    atari.main(["--report", *out])
    assert capsys.readouterr().out.count("| 2 of 2 |") == 2
    assert (tmp_path / "atari.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_run_that_is_over_is_read_and_its_policy_kept(tmp_path):
    config = jobs.shortened(ROWS["pong"].config).replace(epsilon_duration_env_steps=128)
    row = run("pong", 3, tmp_path, config)
    assert (row["task"], row["seed"], row["updates"]) == ("pong", 3, 32)
    written = (tmp_path / "pong-seed3" / "summary.json").stat().st_mtime_ns
    again = run("pong", 3, tmp_path, config)
    assert again["wall_s"] == row["wall_s"] and again["config"] == identity(config)
    assert (tmp_path / "pong-seed3" / "summary.json").stat().st_mtime_ns == written

    kept = keep_policy(tmp_path / "pong-seed3", tmp_path / "kept")
    assert str(tmp_path) not in "".join(path.read_text() for path in kept.rglob("*.json"))
    ours, theirs = (
        fastdqn.load(path, device="cpu").network.state_dict()
        for path in (kept, tmp_path / "pong-seed3")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_committed_policy_of_pong_is_the_row_s_and_acts():
    config = Config.from_json((POLICIES / "pong" / "config.json").read_text())
    assert identity(config) == identity(ROWS["pong"].config)
    policy = fastdqn.load(POLICIES / "pong", device="cpu")
    frames = np.random.default_rng(0).integers(0, 256, (64, 42, 42), dtype=np.uint8)
    actions = policy.act(frames)
    assert actions.shape == (64,)
    assert set(actions.tolist()) <= set(range(6))


def test_a_policy_whose_every_action_is_repeated_never_moves(tmp_path):
    kept = shutil.copytree(POLICIES / "pong", tmp_path / "pong")
    config = Config.from_json((kept / "config.json").read_text())
    (kept / "config.json").write_text(config.replace(eval_num_envs=1).to_json())
    row = play(kept, 1.0, 1)
    assert (row["sticky_actions"], row["returns"], row["unfinished"]) == (1.0, [-21.0], 0)


def test_the_committed_results_are_those_of_the_rows():
    record = json.loads((atari.RESULTS / "atari.json").read_text())
    for row in record["runs"]:
        config = Config.from_json(json.dumps(row["config"]))
        assert identity(config) == identity(ROWS[row["task"]].config), row["task"]
