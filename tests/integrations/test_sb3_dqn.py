"""Our DQN behind SB3's interface: its clocks against SB3's own, what it learns, how it acts.

Statements after Stable-Baselines3's tests of runs, predictions and identity envs;
docs/backend/sb3.md lists them.
"""

import inspect

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from helpers.stable_envs import Counted, counted
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import IdentityEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import fastdqn
from fastdqn.integrations.sb3 import DQN

SMALL = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 500, "learning_starts": 20,
         "device": "cpu", "seed": 0}  # fmt: skip


CHEAP = {"hidden_sizes": (8,), "precision": "fp32", "torch_threads": 1}


def model(envs=None, policy="MlpPolicy", **more):
    envs = counted(2, (5,), stack=1) if envs is None else envs
    return DQN(policy, envs, **{**SMALL, **more})


def test_the_call_is_sb3s():
    """The same names in the same order with the same defaults, but for what follows them."""
    theirs, ours = (inspect.signature(kind.__init__).parameters for kind in
                    (stable_baselines3.DQN, DQN))  # fmt: skip
    assert list(ours)[: len(theirs)] == list(theirs)
    assert {n: p.default for n, p in theirs.items()} == {n: ours[n].default for n in theirs}
    for name in ("learn", "predict", "save", "load", "set_env", "get_env", "set_parameters",
                 "get_parameters", "set_logger", "get_vec_normalize_env", "save_replay_buffer",
                 "load_replay_buffer"):  # fmt: skip
        theirs, ours = (inspect.signature(getattr(kind, name)).parameters for kind in
                        (stable_baselines3.DQN, DQN))  # fmt: skip
        known = [p for p in theirs if p != "kwargs"]
        assert list(ours)[: len(known)] == known, name
    assert issubclass(DQN, BaseAlgorithm)


CLOCKS = [
    {"train_freq": 1, "gradient_steps": 1},
    {"train_freq": 4, "gradient_steps": 2, "learning_starts": 33},
    {"train_freq": 3, "gradient_steps": -1},
    {"train_freq": (5, "step"), "gradient_steps": 0},
    {"train_freq": (2, "episode"), "gradient_steps": 3, "n": 1},
    {"train_freq": (1, "episode"), "gradient_steps": -1, "n": 1},
    {"target_update_interval": 7, "tau": 0.5},
    {"target_update_interval": 1, "n": 3},
    {"exploration_fraction": 0.5, "exploration_initial_eps": 0.8, "exploration_final_eps": 0.1},
]


@pytest.mark.filterwarnings(
    "ignore:The number of environments used is greater:UserWarning",
    "ignore:target_update_interval = 1 is less:UserWarning",
)
@pytest.mark.parametrize("settings", CLOCKS, ids=str)
def test_updates_targets_and_epsilon_go_by_sb3s_clock(monkeypatch, settings):
    """SB3's own DQN on the same envs is the oracle; its envs' episodes do not depend on actions."""
    settings = {**settings}
    n = settings.pop("n", 2)
    logged = {}

    def run(kind):
        seen = logged.setdefault(kind, [])

        def note(values, _):
            self = values["self"]
            seen.append((self.num_timesteps, self._n_updates, round(self.exploration_rate, 6),
                         len(moves)))  # fmt: skip
            return True

        moves = []
        if kind is DQN:
            made = kind("MlpPolicy", counted(n, (5,), 1), **{**SMALL, **settings})
            sync = made.engine.learner.sync_target
            monkeypatch.setattr(made.engine.learner, "sync_target",
                                lambda tau: (moves.append(tau), sync(tau)))  # fmt: skip
        else:
            made = kind("MlpPolicy", counted(n, (5,), 1), **{**SMALL, **settings})
            move = stable_baselines3.dqn.dqn.polyak_update

            def moved(online, target, tau):
                online, target = list(online), list(target)
                moves.extend([tau] if online else [])  # of weights, not of running statistics
                move(online, target, tau)

            monkeypatch.setattr(stable_baselines3.dqn.dqn, "polyak_update", moved)
        made.learn(90, callback=note)
        return made, moves

    theirs, their_moves = run(stable_baselines3.DQN)
    ours, our_moves = run(DQN)
    assert (ours.num_timesteps, ours._n_updates) == (theirs.num_timesteps, theirs._n_updates)
    assert ours.exploration_rate == pytest.approx(theirs.exploration_rate)
    assert ours.engine.learner.updates == ours._n_updates
    assert logged[DQN] == logged[stable_baselines3.DQN]
    assert our_moves == their_moves


def test_one_update_is_that_of_sb3(monkeypatch):
    """The same weights and the same transitions: the same step of Adam, to a rounding."""
    envs = counted(1, (5,), 1)
    settings = {**SMALL, "learning_rate": 0.01, "max_grad_norm": 0.3, "batch_size": 8}
    theirs = stable_baselines3.DQN("MlpPolicy", envs, **settings)
    ours = DQN("MlpPolicy", envs, **settings)
    ours.learn(20)
    for model in (theirs, ours):
        assert model.num_timesteps in (0, 20)
    batch = ours.replay_buffer.sample(8)
    names = [name for name, _ in ours.engine.learner.network.named_parameters()]
    weights = dict(zip(names, theirs.q_net.parameters(), strict=True))
    parameters = ours.get_parameters()
    for part in ("policy", "policy_target"):
        parameters[part] = {name: tensor.detach() for name, tensor in weights.items()}
    ours.set_parameters(parameters)
    theirs.q_net_target.load_state_dict(theirs.q_net.state_dict())

    class Fixed:
        def sample(self, batch_size, env=None):
            samples = stable_baselines3.common.buffers.ReplayBufferSamples
            done = (batch.discount == 0).float()
            return samples(batch.observation, batch.action.unsqueeze(1), batch.next_observation,
                           done.unsqueeze(1), batch.reward.unsqueeze(1))  # fmt: skip

    theirs.replay_buffer = Fixed()
    theirs.set_logger(stable_baselines3.common.logger.Logger(None, []))
    theirs.train(1, batch_size=8)
    ours.engine.learner.set_learning_rate(0.01)
    ours.engine.learner.update(batch)
    for name, tensor in ours.engine.learner.network.named_parameters():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "more", [{}, {"prioritized": True, "double": True, "dueling": True, "n_step": 3}], ids=str
)
def test_it_learns_to_say_what_it_sees(more):
    """SB3's IdentityEnv: the action is the observation; a random policy gets 25 of 100."""
    made = DQN("MlpPolicy", IdentityEnv(4), learning_starts=50, learning_rate=5e-3, train_freq=1,
               target_update_interval=50, buffer_size=1000, exploration_fraction=0.5, gamma=0.5,
               seed=0, policy_kwargs={"net_arch": [16]}, device="cpu", **more)  # fmt: skip
    made.learn(700)
    mean, _ = evaluate_policy(made, made.get_env(), n_eval_episodes=2, warn=False)
    assert mean >= 90


MENU = [
    {"head": "c51", "atoms": 11, "value_min": -5.0, "value_max": 5.0},
    {"head": "qr", "quantiles": 8, "munchausen": True},
    {"head": "iqn", "iqn_samples": 4, "iqn_target_samples": 4, "iqn_policy_samples": 4},
    {"noisy": True, "exploration_initial_eps": 0.0, "exploration_final_eps": 0.0},
    {"optimizer": "rmsprop", "rmsprop_centred": False, "loss": "mse", "layer_norm": True},
    {"normalize_observations": True, "max_grad_value": 1.0, "reward_clip": 1.0},
    {"hidden_sizes": (8, 4), "batch_norm": True, "mode": "eager", "updates_per_launch": 2},
]


@pytest.mark.parametrize("more", MENU, ids=str)
def test_our_keywords_reach_our_parts(more):
    made = model(**more).learn(60)
    config = made.engine.config
    for name, value in more.items():
        if not name.startswith("exploration"):
            assert getattr(config, name) == value
    assert made.engine.learner.updates == 6
    assert made.engine.q_values(np.zeros((2, 5), np.float32)).isfinite().all()


def test_what_sb3s_keywords_become():
    made = model(counted(2, (5,), 1), buffer_size=600, learning_starts=30, tau=0.5, n_steps=4,
                 train_freq=3, gradient_steps=2, max_grad_norm=5, gamma=0.9, batch_size=16,
                 learning_rate=1e-3, seed=7, policy_kwargs={"net_arch": [8, 4]})  # fmt: skip
    c, replay = made.engine.config, made.engine.make_replay()
    assert (c.num_envs, c.n_step, c.gamma, c.batch_size, c.seed) == (2, 4, 0.9, 16, 7)
    assert (c.network, c.hidden_sizes, c.double, c.max_grad_norm) == ("mlp", (8, 4), False, 5)
    assert (c.update_period_env_steps, c.target_tau, c.learning_rate) == (3.0, 0.5, 1e-3)
    assert replay.capacity == 600 + 2 * (1 + 4)
    assert made.engine.learner.target.tau == 0.5


def test_a_learning_rate_may_be_a_function_of_what_remains(monkeypatch):
    made, seen = model(learning_rate=lambda remaining: 1e-3 * remaining), []
    monkeypatch.setattr(made.engine.learner, "set_learning_rate", seen.append)
    made.learn(100)
    assert len(seen) > 5 and seen == sorted(seen, reverse=True)
    assert seen[0] == pytest.approx(1e-3 * (1 - 24 / 100)) and seen[-1] == pytest.approx(0.0)


def test_importance_weights_are_annealed_over_the_run(monkeypatch):
    made, seen = model(prioritized=True, priority_beta_start=0.2), []
    update = made.engine.learner.update_from

    def noting(replay, times, *, batch_size, beta):
        seen.append((beta, times, batch_size))
        return update(replay, times, batch_size=batch_size, beta=beta)

    monkeypatch.setattr(made.engine.learner, "update_from", noting)
    made.learn(80)
    # One update after each 8 env steps from step 24 on, towards 1 at step 80.
    betas = [pytest.approx(0.2 + 0.8 * done / 80) for done in range(24, 81, 8)]
    assert seen == [(beta, 1, 32) for beta in betas]


def test_stacked_images_are_stored_once_and_learned_from():
    made = model(counted(2, (36, 36, 1)), policy="CnnPolicy", policy_kwargs=None,
                 batch_size=4, **CHEAP).learn(40)  # fmt: skip
    replay = made.replay_buffer
    assert replay.frame_stack == 4 and replay.ring.frames.shape[1:] == (36, 36)
    assert made.engine.config.network == "auto" and made.engine.learner.updates > 0
    seen = made.get_env().reset()
    latest = made.engine.spaces.stacks(seen)[0]
    assert latest.shape == (2, 4, 36, 36)
    actions, state = made.predict(seen, deterministic=True)
    last = made.predict(np.moveaxis(seen, 1, -1), deterministic=True)[0]  # channels last
    assert (actions == last).all() and actions.shape == (2,) and state is None


def test_what_it_acts_on_is_what_it_is_asked_with(monkeypatch):
    """In training it acts on stacks of the replay's, in predict on those of the envs."""
    made = model(counted(2, (36, 36, 1)), policy="CnnPolicy", policy_kwargs=None, batch_size=4,
                 **CHEAP)  # fmt: skip
    seen = []

    def look(values, _):
        seen.append(torch.equal(made.replay_buffer.latest(), torch.from_numpy(
            made.engine.spaces.stacks(values["self"]._last_obs)[0])))  # fmt: skip
        return True

    made.learn(60, callback=look)
    assert len(seen) == 32 and all(seen)


SPACES = {
    "vector": spaces.Box(-1, 1, (3,), np.float32),
    "float64": spaces.Box(-1, 1, (3,), np.float64),
    "category": spaces.Discrete(5),
    "categories": spaces.MultiDiscrete([3, 4]),
    "switches": spaces.MultiBinary(4),
    "image": spaces.Box(0, 255, (36, 36, 3), np.uint8),
    "bytes": spaces.Box(0, 255, (6,), np.uint8),
}


class Sampled(gymnasium.Env):
    def __init__(self, space, actions):
        self.observation_space, self.action_space = space, actions

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        return self.observation_space.sample(), 1.0, self.np_random.random() < 0.2, False, {}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("start", [0, -2])
def test_every_space_is_learned_in_and_predicted_for(name, start):
    space = SPACES[name]
    actions = spaces.Discrete(3, start=start)
    envs = DummyVecEnv([lambda: Sampled(space, actions)] * 1)
    made = model(envs, policy="MultiInputPolicy" if name == "image" else "MlpPolicy",
                 batch_size=4, precision="fp32", torch_threads=1).learn(36)  # fmt: skip
    one, many = envs.observation_space.sample(), np.stack([space.sample() for _ in range(6)])
    for deterministic in (True, False):
        made.exploration_rate = 0.5
        action, state = made.predict(one, deterministic=deterministic)
        assert isinstance(action, np.ndarray) and action.shape == () and state is None
        assert actions.contains(int(action))
        batch, state = made.predict(many, state=("kept",), deterministic=deterministic)
        assert batch.shape == (6,) and batch.dtype == np.int64 and state == ("kept",)
        assert all(actions.contains(int(a)) for a in batch)


def test_dictionaries():
    envs = make_vec_env(lambda: SimpleMultiObsEnv(random_start=False), n_envs=2)
    made = model(envs, policy="MultiInputPolicy", policy_kwargs=None, batch_size=4,
                 **CHEAP).learn(40)  # fmt: skip
    seen = envs.reset()
    assert made.predict(seen)[0].shape == (2,)
    assert made.predict({k: v[0] for k, v in seen.items()})[0].shape == ()


@pytest.mark.parametrize(("more", "sizes"), [({}, (512,)), ({"network": "mlp"}, (64, 64))])
def test_an_image_among_parts_has_one_layer_after_its_convolutions(more, sizes):
    envs = make_vec_env(lambda: SimpleMultiObsEnv(random_start=False))
    made = DQN("MultiInputPolicy", envs, buffer_size=100, device="cpu", **more)
    assert made.engine.config.hidden_sizes == sizes


def test_a_seed_may_be_numpys():
    assert model(seed=np.int64(3)).learn(8).seed == 3


def test_threads_are_not_more_than_the_user_asked_for():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        envs = make_vec_env(lambda: SimpleMultiObsEnv(random_start=False))
        made = DQN("MultiInputPolicy", envs, buffer_size=100, device="cpu")
        made.learn(2, callback=lambda *_: seen.append(torch.get_num_threads()) or True)
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_predictions_are_the_best_action_or_any():
    made = model()
    seen = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32) * 10
    with torch.no_grad():
        best = made.engine.learner.acting_network(torch.from_numpy(seen)).argmax(1).numpy()
    assert (made.predict(seen, deterministic=True)[0] == best).all()
    made.exploration_rate = 0.0
    assert (made.predict(seen)[0] == best).all()
    made.exploration_rate = 1.0
    counts = np.bincount(made.predict(seen)[0], minlength=3)
    assert counts.min() > 40  # 67 each; 40 is four deviations away


def test_the_first_steps_are_random_whatever_epsilon_is():
    taken = []

    class Watched(Counted):
        def step(self, action):
            taken.append(int(action))
            return super().step(action)

    greedy = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}
    made = model(DummyVecEnv([lambda: Watched(0, (5,))]), learning_starts=40, **greedy)
    made.learn(80)
    assert len(set(taken[:40])) == 3
    made.learn(40, reset_num_timesteps=False)
    seen = made.engine.spaces.stacks(made._last_obs)[0]  # greedy from here on
    assert made._actions == made.engine.q_values(seen).argmax(1).numpy()


def test_seeds_repeat_a_run():
    def run(seed):
        torch.manual_seed(99)  # has no say
        made = model("CartPole-v1", seed=seed).learn(150)
        return made.engine.learner.flat.data.clone()

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_a_seed_set_later_repeats_a_run():
    runs = []
    for seed in (0, 1):
        made = DQN("MlpPolicy", make_vec_env("CartPole-v1", 2), **SMALL | {"seed": seed})
        if seed == 0:
            before = made.get_parameters()
        made.set_parameters(before)
        for again in (5, 5):
            made.set_random_seed(again)
            made.replay_buffer = made.engine.replay = None
            made.set_parameters(before)
            made.learn(120)
            runs.append((made.engine.learner.flat.data.clone(), made.predict(np.zeros((99, 4)))[0]))
    for parameters, actions in runs[1:]:
        assert torch.equal(parameters, runs[0][0]) and np.array_equal(actions, runs[0][1])


def test_learning_goes_on_or_starts_counting_anew():
    made = model()
    made.learn(40)
    before, updates = len(made.replay_buffer), made._n_updates
    made.learn(40, reset_num_timesteps=False)
    assert made.num_timesteps == 80 and len(made.replay_buffer) > before
    assert made._n_updates == updates + 5
    made.learn(40)
    assert made.num_timesteps == 40


def test_ids_make_envs():
    made = model("CartPole-v1", num_envs=3).learn(30)
    assert made.get_env().num_envs == 3 == made.n_envs
    assert len(made.ep_info_buffer) >= 0 and made.logger is not None
    assert made.engine.spaces.num_actions == 2


def test_games_are_made_as_sb3_makes_them():
    pytest.importorskip("ale_py")
    made = model("ALE/Pong-v5", policy="CnnPolicy", policy_kwargs=None, network="small_resnet",
                 batch_size=2, learning_starts=10, num_envs=2, **CHEAP)  # fmt: skip
    assert made.observation_space.shape == (4, 84, 84)
    assert made.engine.spaces.frame_stack == 4
    made.learn(24)
    assert made.replay_buffer.ring.frames.shape[1:] == (84, 84)
    game = made.get_env().get_attr("ale")[0]
    assert game.getFloat("repeat_action_probability") == 0.25


def test_vec_normalize_and_the_process_are_left_alone():
    threads = torch.get_num_threads()
    envs = VecNormalize(counted(2, (5,), 1))
    state = torch.get_rng_state()
    made = model(envs)
    made.learn(40)
    assert made.get_vec_normalize_env() is envs
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)


def test_a_loss_that_is_not_finite_ends_the_run():
    class Broken(Counted):
        def step(self, action):
            seen, _, *rest = super().step(action)
            return seen, np.nan, *rest

    with pytest.raises(fastdqn.TrainingError, match="loss is not finite since about update 1"):
        model(DummyVecEnv([lambda: Broken(0, (5,))])).learn(100, log_interval=1)
    with pytest.raises(fastdqn.TrainingError, match="parameters are not finite at update 21"):
        model(DummyVecEnv([lambda: Broken(0, (5,))])).learn(104, log_interval=None)


def test_the_log_has_sb3s_names(tmp_path):
    from stable_baselines3.common.logger import configure

    made = model("CartPole-v1")
    made.set_logger(configure(str(tmp_path), ["csv"]))
    made.learn(200, log_interval=2)
    made.logger.close()
    header = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    assert {
        "time/fps", "time/episodes", "time/total_timesteps", "rollout/ep_rew_mean",
        "rollout/ep_len_mean", "rollout/exploration_rate", "train/loss", "train/n_updates",
        "train/learning_rate", "train/q_mean",
    } <= set(header)  # fmt: skip


def test_more_envs_than_a_target_interval_is_said():
    with pytest.warns(UserWarning, match="target_update_interval = 1 is less than the 2 envs"):
        model(target_update_interval=1)


def test_stacked_dictionaries_are_learned_from_whole():
    parts = VecFrameStack(DummyVecEnv([lambda: SimpleMultiObsEnv(random_start=False)]), 2)
    made = model(parts, "MultiInputPolicy", policy_kwargs=None, batch_size=4, **CHEAP).learn(40)
    assert made.replay_buffer.frame_stack is None
    assert made.predict(parts.reset())[0].shape == (1,)
