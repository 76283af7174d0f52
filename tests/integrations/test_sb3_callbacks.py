"""SB3's callbacks on our DQN: called after each step of all envs, and obeyed.

Statements after Stable-Baselines3's tests of its callbacks; docs/backend/sb3.md lists them.
"""

import gymnasium
import numpy as np
import pytest
import torch
from helpers.stable_envs import Counted, counted
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.envs import IdentityEnv
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecMonitor,
    VecNormalize,
)

from fastdqn.integrations.sb3 import DQN


def model(env="CartPole-v1", **more):
    return DQN("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, train_freq=8, device="cpu",
               learning_starts=80, buffer_size=500, seed=0, **more)  # fmt: skip


class Noting(BaseCallback):
    def __init__(self, answer=True):
        super().__init__()
        self.answer, self.calls, self.steps = answer, [], []

    def _on_training_start(self):
        self.calls.append("training start")

    def _on_rollout_start(self):
        self.calls.append("rollout start")

    def _on_step(self):
        self.calls.append("step")
        self.steps.append(self.num_timesteps)
        return self.answer

    def _on_rollout_end(self):
        self.calls.append("rollout end")

    def _on_training_end(self):
        self.calls.append("training end")


def test_every_hook_is_called_in_its_place():
    noting = Noting()
    made = model(counted(2, (5,), 1)).learn(32, callback=noting)
    rollout = ["rollout start", *["step"] * 8, "rollout end"]
    assert noting.calls == ["training start", *rollout * 2, "training end"]
    assert noting.steps == list(range(2, 34, 2))
    assert noting.n_calls == 16 and noting.num_timesteps == made.num_timesteps == 32
    assert noting.training_env is made.get_env() and noting.logger is made.logger


@pytest.mark.parametrize("no", [False, np.bool_(0), torch.tensor(False)], ids=repr)
def test_a_callback_that_says_no_stops_after_its_step(no):
    noting = Noting(no)
    made = model().learn(100, callback=noting)
    assert noting.n_calls == 1 and made.num_timesteps == 1
    assert len(made.replay_buffer) == 1  # the step that was made is kept


def test_locals_are_those_of_the_step():
    made, seen = model(counted(2, (5,), 1)), []

    def look(values, _):
        seen.append((values["new_obs"].shape, values["dones"].shape, len(values["infos"]),
                     values["rewards"].shape, values["self"] is made, values["env"] is made.env,
                     values["total_timesteps"], values["num_collected_steps"]))  # fmt: skip

    class Looking(BaseCallback):
        def _on_step(self):
            look(self.locals, None)
            return True

    made.learn(16, callback=Looking())
    assert seen == [((2, 5), (2,), 2, (2,), True, True, 16, k) for k in range(1, 9)]


def test_all_of_sb3s_at_once(tmp_path):
    checkpoint = CheckpointCallback(save_freq=64, save_path=tmp_path, save_replay_buffer=True)
    on_best = StopTrainingOnRewardThreshold(reward_threshold=1e6)
    no_improvement = StopTrainingOnNoModelImprovement(max_no_improvement_evals=50, min_evals=1)
    evaluate = EvalCallback(
        gymnasium.make("CartPole-v1"), callback_on_new_best=on_best, eval_freq=40,
        callback_after_eval=no_improvement, best_model_save_path=tmp_path, log_path=tmp_path,
        n_eval_episodes=2, warn=False, verbose=0,
    )  # fmt: skip
    on_event = CheckpointCallback(save_freq=1, save_path=tmp_path, name_prefix="event")
    every = EveryNTimesteps(n_steps=64, callback=on_event)
    episodes = StopTrainingOnMaxEpisodes(max_episodes=1000)
    together = CallbackList([checkpoint, evaluate, every, LogEveryNTimesteps(64), episodes])
    made = model().learn(128, callback=together)
    assert made.env.observation_space.contains(together.locals["new_obs"][0])
    for child in (checkpoint, every, on_event):
        assert child.locals["new_obs"] is together.locals["new_obs"]
    assert every.num_timesteps == every.n_calls == made.num_timesteps == 128
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "rl_model_64_steps.zip", "rl_model_128_steps.zip", "event_64_steps.zip",
        "event_128_steps.zip", "rl_model_replay_buffer_64_steps.pkl",
        "rl_model_replay_buffer_128_steps.pkl", "best_model.zip", "evaluations.npz",
    }  # fmt: skip
    assert list(np.load(tmp_path / "evaluations.npz")["timesteps"]) == [40, 80, 120]
    best = DQN.load(tmp_path / "best_model")
    assert best.num_timesteps in (40, 80, 120)
    again = DQN.load(tmp_path / "rl_model_128_steps.zip", env="CartPole-v1")
    again.load_replay_buffer(tmp_path / "rl_model_replay_buffer_128_steps.pkl")
    assert len(again.replay_buffer) == 127  # callbacks come before the step is stored, as SB3's
    again.learn(16, reset_num_timesteps=False)
    assert again.num_timesteps == 144
    made.learn(16, callback=[checkpoint, episodes])  # a list becomes one
    made.learn(16, callback=lambda values, more: True)
    made.learn(16, callback=None)


def test_evaluations_in_vector_envs_and_a_threshold_that_stops():
    evaluate = EvalCallback(DummyVecEnv([lambda: IdentityEnv(2)] * 1), eval_freq=10, warn=False,
                            callback_on_new_best=StopTrainingOnRewardThreshold(-1.0), verbose=0,
                            n_eval_episodes=1)  # fmt: skip
    made = model(IdentityEnv(2)).learn(300, callback=evaluate)
    assert made.num_timesteps == 10 and evaluate.last_mean_reward > -1


def test_the_most_episodes_stop_it():
    stop = StopTrainingOnMaxEpisodes(max_episodes=2)
    made = model(counted(2, (5,), 1)).learn(500, callback=stop)
    assert stop.n_episodes == 4 and made._episode_num >= 3
    assert made.num_timesteps < 50


def test_evaluation_is_normalised_as_training_is():
    train, test = (VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
                   for _ in range(2))  # fmt: skip
    test.training = test.norm_reward = False
    train.reset()
    seen = train.get_original_obs()
    evaluate = EvalCallback(test, eval_freq=40, warn=False, verbose=0, n_eval_episodes=1)
    model(train).learn(40, callback=evaluate)
    assert np.allclose(train.normalize_obs(seen), test.normalize_obs(seen))
    assert not np.allclose(test.obs_rms.mean, 0)


def test_checkpoints_hold_the_statistics_of_vec_normalize(tmp_path):
    envs = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    save = CheckpointCallback(save_freq=50, save_path=tmp_path, save_vecnormalize=True)
    model(envs).learn(56, callback=save)
    assert (tmp_path / "rl_model_vecnormalize_50_steps.pkl").exists()
    VecNormalize.load(str(tmp_path / "rl_model_vecnormalize_50_steps.pkl"),
                      DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))  # fmt: skip


def test_a_callback_may_change_the_model():
    class Halving(BaseCallback):
        def _on_step(self):
            self.model.exploration_final_eps = 0.5
            return True

    made = model().learn(64, callback=Halving())
    assert made.exploration_rate == 0.5


def test_what_a_callback_raises_comes_out_and_the_model_goes_on():
    class Angry(BaseCallback):
        def _on_step(self):
            if self.n_calls == 5:
                raise KeyError("by design")
            return True

    made = model(counted(2, (5,), 1))
    with pytest.raises(KeyError, match="by design"):
        made.learn(100, callback=Angry())
    made.learn(32)
    assert made.num_timesteps == 32


def test_a_run_goes_on_after_an_interrupt_in_a_callback():
    def interrupt(*_):
        if made.num_timesteps == 106:
            raise KeyboardInterrupt
        return True

    made = model(counted(2, (5,), stack=1))
    with pytest.raises(KeyboardInterrupt):
        made.learn(200, callback=interrupt)
    made.learn(94, reset_num_timesteps=False)
    rows = (made.replay_buffer.tree.leaves > 0).nonzero().squeeze(1)
    batch = made.replay_buffer.gather(rows)
    # The observation that the callback kept from the replay is skipped by no transition.
    steps = (batch.next_observation - batch.observation)[:, 0]
    assert set(steps.tolist()) == {100.0} and made.num_timesteps >= 200


def test_worker_processes_go_on_after_an_interrupt_in_an_update(monkeypatch):
    envs = SubprocVecEnv([Counted] * 2, start_method="forkserver")
    try:
        made = model(VecMonitor(envs), network="mlp", learning_rate=1e-4)

        def interrupt(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(made.engine, "update", interrupt)
            made.learn(200)
        assert made.learn(100).num_timesteps == 112
    finally:
        envs.close()
