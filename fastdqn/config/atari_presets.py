"""Recipes for Atari, with the numbers of their papers."""

from __future__ import annotations

from fastdqn.config.config import Config

# Mnih et al. 2015: batch 32, one update per 4 env steps, a replay of 1M, target every 10k updates,
# epsilon 1 -> 0.1 over 1M frames after 50k random steps (here 0.01 over 1M env steps, as later
# work has it). Adam 6.25e-5 with epsilon 1.5e-4 is Hessel et al. 2018; the paper's RMSprop is one
# flag away. Dopamine has Xavier's weights with these numbers, and at an epsilon of that size the
# scale of the weights decides the size of a step.
DQN_ATARI = Config(
    env_id="ALE/Pong-v5",
    num_envs=16,
    frame_stack=4,
    reward_clip=1.0,
    total_env_steps=10_000_000,
    network="nature",
    init="xavier",
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
DOUBLE_DUELING_PER_ATARI = DQN_ATARI.replace(
    double=True,
    dueling=True,
    prioritized=True,
    priority_alpha=0.6,
    priority_beta_start=0.4,
    priority_beta_end=1.0,
    max_grad_norm=10.0,
)

# --- the value-based menu ------------------------------------------------------------------------
# Each with the numbers of its paper, or of Dopamine or DQN Zoo where the paper is silent, on the
# protocol of `dqn-atari`: sticky actions, 16 envs where those step one. All count env steps and
# updates; at an update per 4 env steps a target of 2,000 updates is 32,000 frames.

# Dopamine's, of which the others differ in little: Adam's epsilon of .01 / 32, gradients as they
# are, a target of 2,000 updates, epsilon annealed over 250,000 env steps after 20,000, weights by
# their fan in (its DQN alone has Xavier's). Its convolutions are padded: that takes 1.6 times as
# long, and on Breakout its curve is met without.
_DOPAMINE = DQN_ATARI.replace(
    num_envs=16,
    learning_starts_env_steps=20_000,
    epsilon_duration_env_steps=250_000,
    target_period_updates=2_000,
    optimizer_epsilon=3.125e-4,
    init="fan_in",
)

# Bellemare 2017; rate and epsilon are Adam's in Dopamine and DQN Zoo.
C51_ATARI = _DOPAMINE.replace(head="c51", learning_rate=2.5e-4)

# Dabney 2018a: uniform replay, 1-step returns. Dopamine's curves called QR-DQN have n = 3 and a
# prioritized replay without importance weights.
QR_ATARI = _DOPAMINE.replace(head="qr", learning_rate=5e-5)

# Dabney 2018b, with Dopamine's 64, 64 and 32 fractions; DQN Zoo chooses by 64. Dopamine's n is 3.
IQN_ATARI = _DOPAMINE.replace(head="iqn", learning_rate=5e-5)

# Vieillard 2020, M-IQN: that of its two agents that is best.
MUNCHAUSEN_ATARI = IQN_ATARI.replace(munchausen=True)

# Hessel 2018, table 1: all six parts. The replay's exponent of importance weights goes from 0.4 to
# 1; the noise explores alone. Its noise of 0.5 is said to be for GPUs; DQN Zoo and Dopamine have
# 0.1. A gradient's norm of 10 is DQN Zoo's. Weights are torch's, which are those of the noisy
# layers, too.
RAINBOW_ATARI = DQN_ATARI.replace(
    head="c51",
    init="torch",
    double=True,
    dueling=True,
    noisy=True,
    noisy_sigma=0.5,
    prioritized=True,
    priority_alpha=0.5,
    n_step=3,
    max_grad_norm=10.0,
    learning_starts_env_steps=20_000,
    target_period_updates=2_000,
    epsilon_start=0.0,
    epsilon_end=0.0,
    eval_epsilon=0.0,
)

# van Hasselt 2019, "data-efficient Rainbow": Rainbow of which every env step is an update, with
# 20-step returns and a network of a sixth of the work, for 100,000 env steps. The protocol is that
# of Atari-100k: no sticky actions, a lost life is terminal; but FIRE is pressed after a reset. One
# env, for an update after every step. Convolutions have Xavier's weights: on RoadRunner they learn
# sooner than with torch's.
DATA_EFFICIENT_ATARI = RAINBOW_ATARI.replace(
    atari_protocol="classic",
    num_envs=1,
    network="der",
    init="xavier",
    hidden_sizes=(256,),
    noisy_sigma=0.1,
    n_step=20,
    learning_rate=1e-4,
    learning_starts_env_steps=1_600,
    update_period_env_steps=1.0,
    total_env_steps=100_000,
    replay_capacity=100_000,
    eval_episodes=100,
    eval_num_envs=10,
    eval_epsilon=0.001,
    log_period_env_steps=1_000,
    checkpoint_period_env_steps=None,
)

# For an ordinary computer. Of Dopamine's published curves none rises sooner on Pong than that of
# QR-DQN with 3-step returns and a prioritized replay. On frames of 42 x 42 kernels of 3 x 3 see
# the ball: after 150,000 env steps training returns of Nature on 52 x 52 are at -19, those of
# IMPALA's network and of the small one near 0, which has a third of the arithmetic. Without layer
# normalisation four hidden units in ten of a seed that stayed near 0 had fallen silent. Adam's
# epsilon is small, epsilon is annealed at once, importance weights count.
PONG = QR_ATARI.replace(
    num_envs=8,
    atari_frame_size=42,
    network="small_resnet",
    layer_norm=True,
    hidden_sizes=(256,),
    quantiles=50,
    n_step=3,
    prioritized=True,
    priority_alpha=0.5,
    learning_rate=4e-4,
    learning_rate_final=4e-5,
    optimizer_epsilon=1e-5,
    max_grad_norm=10.0,
    target_period_updates=500,
    total_env_steps=900_000,
    learning_starts_env_steps=10_000,
    epsilon_duration_env_steps=50_000,
    replay_capacity=900_000,
    eval_episodes=30,
    eval_num_envs=10,
    checkpoint_period_env_steps=100_000,
)
