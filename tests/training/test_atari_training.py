"""Pong through ALE, end to end: frames in, updates, raw scores, a policy that loads."""

import json

import numpy as np
import pytest

import fastdqn
from fastdqn.config.presets import preset
from fastdqn.training.train import train

pytest.importorskip("ale_py")


@pytest.mark.parametrize(
    ("name", "protocol"), [("dqn-atari", "machado"), ("double-dueling-per-atari", "classic")]
)
def test_pong_trains_end_to_end(tmp_path, capsys, name, protocol):
    config = preset(name).replace(
        atari_protocol=protocol,
        torch_threads=1,
        num_envs=4,
        total_env_steps=480,
        learning_starts_env_steps=160,
        update_period_env_steps=8.0,
        replay_capacity=2_000,
        target_period_updates=10,
        atari_max_episode_frames=240,  # 60 steps: some episodes end, cut short
        eval_episodes=2,
        eval_num_envs=2,
        log_period_env_steps=160,
        run_dir=str(tmp_path / "run"),
    )
    rows = []
    result = train(config, on_log=lambda row: rows.append(dict(row)))
    summary = result.summary
    with capsys.disabled():
        print(
            f"\n{name}: {summary['frames_per_s']:,.0f} frames/s, "
            f"{summary['updates_per_s']:.1f} updates/s, replay ratio {summary['replay_ratio']:g}, "
            f"{summary['precision']}"
        )
    assert summary["updates"] == (480 - 160) // 8
    assert summary["episodes"] >= 4 and summary["eval_episodes"] == 2
    assert summary["frames_per_s"] == pytest.approx(4 * summary["env_steps_per_s"])
    assert float(summary["eval_return_mean"]).is_integer() or summary["eval_episodes"] == 2
    assert -21 <= summary["train_return_mean"] <= 21
    assert all(np.isfinite(row["loss"]) for row in rows[1:])
    assert json.loads((result.run_dir / "config.json").read_text())["atari_protocol"] == protocol
    frames = np.random.default_rng(0).integers(0, 256, (4, 84, 84), dtype=np.uint8)
    policy = fastdqn.load(result.run_dir)
    result.policy.reset()
    assert np.array_equal(policy.act(frames), result.policy.act(frames))


def test_rewards_are_clipped_for_learning_and_raw_in_the_report(tmp_path):
    """Ms. Pac-Man pays 10 per pill: the replay holds 1."""
    from fastdqn.training.trainer import Trainer

    config = preset("dqn-atari").replace(
        env_id="ALE/MsPacman-v5",
        torch_threads=1, num_envs=2, total_env_steps=400, learning_starts_env_steps=10_000,
        replay_capacity=1_000, atari_max_episode_frames=400, eval_episodes=0,
        run_dir=str(tmp_path / "run"), save_final_checkpoint=False,
        checkpoint_period_env_steps=None, log_period_env_steps=400,
    )  # fmt: skip
    trainer = Trainer(config)
    try:
        from fastdqn.system.signals import StopSignals

        result = trainer.run([], StopSignals())
    finally:
        trainer.close()
    stored = trainer.replay.ring.storage["reward"]
    assert stored.max() == 1.0 and stored.min() >= -1.0
    assert result.summary["train_return_mean"] >= 50
