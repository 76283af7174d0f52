"""Named recipes, each one a :class:`Config` with a few fields replaced."""

from __future__ import annotations

from fastdqn.config import Config
from fastdqn.errors import ConfigError, nearest

# Config's defaults, chosen from about a dozen settings tried on seeds 11 to 15; 499 to 500 on each
# of seeds 11 to 18. What each part of it contributes was not ablated.
_CARTPOLE = Config()

# Mnih et al. 2015: batch 32, one update per 4 env steps, a replay of 1M, target every 10k updates,
# epsilon 1 -> 0.1 over 1M frames after 50k random steps (here 0.01 over 1M env steps, as later
# work has it). Adam 6.25e-5 with epsilon 1.5e-4 is Hessel et al. 2018; the paper's RMSprop is one
# flag away.
_DQN_ATARI = Config(
    env_id="ALE/Pong-v5",
    num_envs=16,
    frame_stack=4,
    reward_clip=1.0,
    total_env_steps=10_000_000,
    network="nature",
    hidden_sizes=(512,),
    learning_starts_env_steps=50_000,
    update_period_env_steps=4.0,
    batch_size=32,
    n_step=1,
    double=False,
    loss="huber",
    learning_rate=6.25e-5,
    learning_rate_final=None,
    max_grad_norm=None,
    optimizer_epsilon=1.5e-4,
    target_period_updates=10_000,
    epsilon_start=1.0,
    epsilon_end=0.01,
    epsilon_duration_env_steps=1_000_000,
    replay_capacity=1_000_000,
    eval_episodes=16,
    eval_num_envs=16,
    eval_epsilon=0.001,
    log_period_env_steps=10_000,
    checkpoint_period_env_steps=1_000_000,
)

# van Hasselt 2016 + Wang 2016 + Schaul 2016: clipped gradients and a quarter of DQN's step size
# belong to the last two.
_DOUBLE_DUELING_PER_ATARI = _DQN_ATARI.replace(
    double=True,
    dueling=True,
    prioritized=True,
    priority_alpha=0.6,
    priority_beta_start=0.4,
    priority_beta_end=1.0,
    max_grad_norm=10.0,
)

_PRESETS = {
    "cartpole": (_CARTPOLE, "CartPole-v1 from its state, solved in about a minute on 2 CPU cores"),
    "dqn-atari": (_DQN_ATARI, "DQN with the schedule of Mnih 2015 (Nature CNN, replay of 1M)"),
    "double-dueling-per-atari": (
        _DOUBLE_DUELING_PER_ATARI,
        "double Q, dueling head and prioritized replay on the same schedule",
    ),
}


def presets() -> dict[str, Config]:
    """Every preset by name."""
    return {name: config for name, (config, _) in _PRESETS.items()}


def describe_presets() -> dict[str, str]:
    """One line about each preset, by name."""
    return {name: line for name, (_, line) in _PRESETS.items()}


def preset(name: str) -> Config:
    """The preset of that name; raises ConfigError with the nearest name."""
    if name not in _PRESETS:
        known = list(_PRESETS)
        raise ConfigError(
            f"There is no preset {name!r}{nearest(name, known)}; the presets are "
            f"{', '.join(known)}."
        )
    return _PRESETS[name][0]
