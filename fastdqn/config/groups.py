"""Every field of a configuration: its type, range, default and meaning, by groups.

A field belongs to the group whose class declares it; ``Config`` is made of all of them. The command
line shows its options by these groups, and docs/config.md is written from them. A group by itself
checks nothing: ``Config`` does.
"""

# No postponed annotations: tyro would evaluate these strings anew for every command line.

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastdqn.config.ranges import ABOVE_ZERO, TEMPERATURES, Range


@dataclass(frozen=True, kw_only=True)
class EnvFields:
    """The envs that are learned from, and what is made of what they return."""

    env_id: str = "CartPole-v1"
    """Gymnasium id; ids that start with ``ALE/`` run on ALE's own C++ vector env. Old Atari ids,
    such as ``PongNoFrameskip-v4``, are played as ``ALE/Pong-v5`` with what else they mean."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Extra keyword arguments for the env, as a JSON object. Of ALE: mode, difficulty, and obs_type
    = "ram"; such envs step one after the other."""
    num_envs: Annotated[int, Range(1, 65_536)] = 8
    """Environments stepped together (N)."""
    env_vectorization: Literal["auto", "sync", "async", "vector_entry_point"] = "auto"
    """How gymnasium.make_vec builds the envs; auto takes the env's own vector class if any."""
    step_timeout_s: Annotated[float | None, Range(0.01, 1e6)] = 60.0
    """Seconds that a step of all envs may take, and a reset: then the run ends with a sentence and
    the stacks, instead of hanging. None: any time, to debug an env."""
    env_threads: Annotated[int | None, Range(1, 4096)] = None
    """Threads of ALE's vector env; None: one per usable CPU, at most one per env."""
    frame_stack: Annotated[int | None, Range(1, 64)] = None
    """Frames per observation, stacked by the replay (S); None: observations are used as they are.
    Atari needs it: 4."""
    observation_scale: Literal["auto", "none", "255"] = "auto"
    """What the network divides images and bytes by. auto: by 255 where their space runs from 0 to
    255, but for symbols on a grid of less than 16 x 16; none and 255 settle it."""
    image_layout: Literal["auto", "chw", "hwc"] = "auto"
    """Whether images have their channels first or last; auto: by their sizes. They are stored with
    the channels first."""
    observation_keys: tuple[str, ...] | None = None
    """Of the parts of a Dict or Tuple observation, those to look at (image, goal.position, 0).
    None: all but texts."""
    store_uint8: bool = False
    """Store images of floats as bytes, a quarter of the memory: for those from 0 to 1 or 0 to 255
    that were made of bytes. An image of other values ends the run."""
    normalize_observations: bool = False
    """Shift and scale the numbers in observations by their running mean and deviation, which are
    saved with the policy. Pixels and categories stay as they are."""
    reward_clip: Annotated[float | None, ABOVE_ZERO] = None
    """Learn from rewards clipped to [-x, x]; reported returns stay raw."""
    atari_protocol: Literal["machado", "classic"] = "machado"
    """machado: sticky actions 0.25, episodes end at game over. classic: no sticky actions, a lost
    life is terminal without a reset, FIRE is pressed after a reset."""
    atari_sticky_actions: Annotated[float | None, Range(0.0, 1.0)] = None
    """Chance, per emulator frame, that the action before is repeated; None: the protocol's."""
    atari_full_action_space: bool = False
    """All 18 joystick actions instead of the game's own set."""
    atari_frame_skip: Annotated[int, Range(1, 1000)] = 4
    """Emulator frames per env step."""
    atari_frame_size: Annotated[int, Range(8, 256)] = 84
    """Rows and columns of a grey frame. Half of 84 is a quarter of the replay and of the work of
    most convolutions; small things blur."""
    atari_noop_max: Annotated[int, Range(0, 10_000)] = 30
    """Up to this many no-ops (less one) after a reset."""
    atari_max_episode_frames: Annotated[int, Range(1, 2**31 - 1)] = 108_000
    """Truncate an episode after so many emulator frames (108,000 = 30 minutes)."""


@dataclass(frozen=True, kw_only=True)
class RunFields:
    """How long a run is, on what it runs, and from what it starts."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 1
    """Env i of N is seeded with seed + i; evaluation uses seeds far away from those."""
    total_env_steps: Annotated[int, Range(1, 2**53)] = 100_000
    """Length of the run."""
    schedule_env_steps: Annotated[int | None, Range(1, 2**53)] = None
    """Env step at which the annealing of step size and beta ends; None: total_env_steps. A run that
    is resumed to more steps keeps its own: it goes on with what the schedules ended at."""
    replan_schedules: bool = False
    """Let a run that is resumed to more steps anneal over its new length: step size and beta jump
    to where the longer schedules have them."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:<index>; auto takes CUDA where there is one."""
    mode: Literal["auto", "eager", "compile", "graph"] = "auto"
    """How the update runs: eager, torch.compile, or compiled and captured in a CUDA graph. auto is
    graph on CUDA; on a CPU compile for an mlp with 200,000 updates to make, and else eager."""
    updates_per_launch: Annotated[int | None, Range(1, 4096)] = None
    """Updates that run as one, when so many are due: one CUDA graph, and one draw from a uniform
    replay. More of them cost less each, and the policy waits that long for what was learned. None:
    on CUDA as many as a vector step owes, up to 16 and to target_period_updates; on a CPU 1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the network body; head, Q values, targets and loss are always fp32. auto is bf16 for
    convolutional bodies on devices that have it."""
    deterministic: bool = False
    """Only deterministic CUDA kernels: runs repeat bit for bit (on a CPU they do anyway)."""
    torch_threads: Annotated[int | None, Range(1, 4096)] = None
    """CPU threads of torch; None: 1 for mlp on a CPU, all usable CPUs for convolutions."""
    max_wall_s: Annotated[float | None, Range(0.01, 1e9)] = None
    """Stop and save after so many seconds of this process, as at a signal; a resumed run gets as
    many again. On the command line that is exit code 124."""
    run_dir: str | None = None
    """Where the run's files go; None: runs/<env>-seed<seed>-<time>."""
    resume: Literal["never", "auto", "require"] = "never"
    """never: run_dir must be new or empty. auto: go on from its latest checkpoint if there is one.
    require: fail if there is none."""
    initial: str | None = None
    """Start from the weights of this run (its newest checkpoint, or RUN:best, RUN:120000) or
    checkpoint, all else anew. A run that is resumed has weights of its own."""
    initial_torso_only: bool = False
    """Of these weights leave out the head: for other actions, or dueling where they had none."""


@dataclass(frozen=True, kw_only=True)
class NetworkFields:
    """From an observation to Q values."""

    network: Literal[
        "auto", "mlp", "nature", "der", "small_cnn", "impala", "small_resnet", "batchnorm_cnn"
    ] = "auto"
    """auto: nature (the CNN of Mnih 2015) for images, small_cnn (MinAtar's, Young 2019) for those
    smaller than 36 x 36, mlp for vectors; a vector beside an image gets a branch of its own.
    der: the two convolutions of data-efficient Rainbow (van Hasselt 2019). impala: the residual
    CNN of Espeholt 2018. small_resnet: that one with two blocks of six, strides for two of its
    poolings and centred pixels, a third of the work. batchnorm_cnn: the one of PyTorch's DQN
    tutorial."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Hidden layers of the mlp; for nature, der, small_cnn, impala and small_resnet, the one
    layer after the convolutions; batchnorm_cnn can do without any."""
    impala_width: Annotated[int, Range(1, 64)] = 1
    """Multiplies the channels of network impala: 16, 32 and 32."""
    batch_norm: bool = False
    """Batch normalisation before each ReLU of the mlp: statistics of the batch to learn, running
    ones to act and in the target network."""
    layer_norm: bool = False
    """Layer normalisation before the ReLU of each hidden layer, of the mlp and behind convolutions
    (Ba 2016)."""
    dueling: bool = False
    """Dueling head (Wang 2016): Q = V + A - mean A; of a distribution number by number."""
    head: Literal["scalar", "c51", "qr", "iqn"] = "scalar"
    """What is learned of the return: scalar its mean, Q; or its distribution. c51: probabilities of
    fixed values (Bellemare 2017). qr: its quantiles (Dabney 2018a). iqn: the quantile of any
    fraction (Dabney 2018b), which costs most."""
    atoms: Annotated[int, Range(2, 65_536)] = 51
    """Values that head c51 has probabilities of (N)."""
    value_min: Annotated[float, Range(-1e30, 1e30)] = -10.0
    """The first of them ..."""
    value_max: Annotated[float, Range(-1e30, 1e30)] = 10.0
    """... and the last: what returns lie beyond counts as these."""
    quantiles: Annotated[int, Range(1, 65_536)] = 200
    """Quantiles of head qr (N)."""
    iqn_samples: Annotated[int, Range(1, 4_096)] = 64
    """Fractions of head iqn for each transition of an update (N)."""
    iqn_target_samples: Annotated[int, Range(1, 4_096)] = 64
    """Those of its target (N')."""
    iqn_policy_samples: Annotated[int, Range(1, 4_096)] = 32
    """Those by which actions are chosen (K); in evaluation they are midpoints."""
    iqn_cosines: Annotated[int, Range(1, 65_536)] = 64
    """Cosines that a fraction is described by."""
    iqn_cvar: Annotated[float, Range(0.0, 1.0, open_low=True)] = 1.0
    """Act by the mean of this lowest share of the returns (CVaR); below 1 shuns risk."""
    noisy: bool = False
    """Learned noise in the hidden layer behind the body and in the head, to explore by (Fortunato
    2018): set epsilon_start and epsilon_end to 0. Evaluation leaves the noise out."""
    noisy_sigma: Annotated[float, Range(0.0, 100.0)] = 0.5
    """Its deviation at the start, times the root of a layer's inputs; DQN Zoo and Dopamine have
    0.1."""
    padding: Literal["valid", "same"] = "valid"
    """Of the convolutions of networks nature and der: same pads with zeros, as Dopamine does."""
    init: Literal["torch", "xavier", "fan_in", "orthogonal"] = "torch"
    """How weights are drawn. xavier is Dopamine's for DQN, fan_in for c51, qr and iqn, both with
    biases of 0. With a large optimizer_epsilon their scale decides the size of a step. Noisy layers
    keep their own."""


@dataclass(frozen=True, kw_only=True)
class LearningFields:
    """The update: its data, target, loss and optimizer."""

    learning_starts_env_steps: Annotated[int, Range(1, 2**53)] = 1_000
    """First update after so many env steps; until then the replay fills."""
    update_period_env_steps: Annotated[float, Range(1e-3, 1e9)] = 4.0
    """One update per so many env steps, summed over envs; 0.5 means two updates per env step."""
    batch_size: Annotated[int, Range(1, 2**20)] = 64
    """Transitions per update (B)."""
    n_step: Annotated[int, Range(1, 1000)] = 3
    """Steps of the n-step return."""
    gamma: Annotated[float, Range(0.0, 1.0)] = 0.99
    """Discount per env step."""
    double: bool = True
    """Double Q-learning (van Hasselt 2016). Off without a target network, where it is the same, and
    with munchausen, which chooses no next action."""
    munchausen: bool = False
    """Munchausen Q-learning (Vieillard 2020): a soft policy in the place of the best action, and
    its log-probability added to the reward."""
    munchausen_alpha: Annotated[float, Range(0.0, 1.0)] = 0.9
    """Share of the log-probability that is added."""
    munchausen_temperature: Annotated[float, TEMPERATURES] = 0.03
    """Of the soft policy."""
    munchausen_clip: Annotated[float, Range(-1e9, 0.0)] = -1.0
    """The least that temperature times log-probability counts as."""
    munchausen_policy: Literal["target", "online"] = "target"
    """Whose policy the log-probability is of: the target network's, as published, or the online
    network's, which saves a forward."""
    loss: Literal["huber", "mse"] = "huber"
    """Of the TD error; mse is td^2, huber is quadratic up to huber_delta. Quantiles have Huber's
    (divided by huber_delta), c51 has the cross-entropy."""
    huber_delta: Annotated[float, ABOVE_ZERO] = 1.0
    """Where the Huber loss turns linear."""
    random_shift: Annotated[int, Range(0, 64)] = 0
    """Move each image of a batch by up to so many pixels, its edges repeated (DrQ, Yarats 2021: 4
    of 84); 0 leaves them."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Adam, or RMSprop centred as in Mnih 2015."""
    learning_rate: Annotated[float, Range(0.0, 10.0, open_low=True)] = 1e-3
    """Step size."""
    learning_rate_final: Annotated[float | None, Range(0.0, 10.0)] = 0.0
    """Anneal the step size linearly to this at schedule_env_steps; None: constant."""
    optimizer_epsilon: Annotated[float, Range(0.0, 1.0, open_low=True)] = 1e-8
    """Term in the denominator of Adam or RMSprop."""
    rmsprop_centred: bool = True
    """RMSprop as in Mnih 2015, with epsilon inside the root; false: torch's plain form."""
    rmsprop_alpha: Annotated[float, Range(0.0, 1.0)] = 0.95
    """Smoothing of RMSprop's averages."""
    max_grad_norm: Annotated[float | None, ABOVE_ZERO] = 10.0
    """Scale the whole gradient down to this 2-norm. It and max_grad_value exclude each other."""
    max_grad_value: Annotated[float | None, ABOVE_ZERO] = None
    """Clamp each gradient entry to [-x, x]."""
    target_period_updates: Annotated[int | None, Range(1, 2**53)] = 100
    """Move the target network every so many updates; None: no target network."""
    target_tau: Annotated[float, Range(0.0, 1.0, open_low=True)] = 1.0
    """How far it moves: 1 copies, less is a Polyak average."""


@dataclass(frozen=True, kw_only=True)
class ExplorationFields:
    """The chance of a random action (epsilon), annealed from start to end."""

    epsilon_start: Annotated[float, Range(0.0, 1.0)] = 1.0
    """Chance of a random action until learning starts."""
    epsilon_end: Annotated[float, Range(0.0, 1.0)] = 0.05
    """And at the end of the schedule."""
    epsilon_schedule: Literal["linear", "exponential"] = "linear"
    """exponential has its time constant at epsilon_duration_env_steps."""
    epsilon_duration_env_steps: Annotated[int, Range(1, 2**53)] = 10_000
    """Length of the schedule, counted from learning_starts_env_steps."""


@dataclass(frozen=True, kw_only=True)
class ReplayFields:
    """What is remembered, and how it is drawn from."""

    replay_capacity: Annotated[int, Range(1, 2**40)] = 100_000
    """Rows over all envs; every frame is stored once."""
    prioritized: bool = False
    """Proportional prioritized replay (Schaul 2016)."""
    priority_alpha: Annotated[float, Range(0.0, 1.0)] = 0.6
    """Exponent of the priorities: 0 draws uniformly, 1 in proportion."""
    priority_beta_start: Annotated[float, Range(0.0, 1.0)] = 0.4
    """Exponent of the importance weights at the start ..."""
    priority_beta_end: Annotated[float, Range(0.0, 1.0)] = 1.0
    """... and at schedule_env_steps, linear between."""
    priority_epsilon: Annotated[float, Range(1e-12, 1.0)] = 1e-6
    """Added to every |TD error|, so that none becomes undrawable."""


@dataclass(frozen=True, kw_only=True)
class EvaluationFields:
    """Episodes that are played to be scored, and scores that end the run."""

    eval_episodes: Annotated[int, Range(0, 1_000_000)] = 100
    """Episodes of the final evaluation, rounded up to a multiple of eval_num_envs; 0: none."""
    eval_num_envs: Annotated[int, Range(1, 65_536)] = 10
    """Envs that evaluate side by side, each with the same quota of episodes."""
    eval_period_env_steps: Annotated[int | None, Range(0, 2**53)] = None
    """Evaluate during the run, too, every so many env steps; 0: only at its end. None: 20 times in
    the run, by at most 10 episodes each."""
    eval_epsilon: Annotated[float, Range(0.0, 1.0)] = 0.0
    """Chance of a random action in evaluation."""
    eval_max_env_steps: Annotated[int | None, Range(1, 2**53)] = 10_000_000
    """Give up an evaluation after so many env steps; unfinished episodes count as they stand."""
    eval_patience_env_steps: Annotated[int | None, Range(1, 2**53)] = None
    """Give it up, too, when no episode has ended for so many env steps; None: 30,000 in each env,
    or as long as the env's own limit lets an episode last."""
    stop_return: float | None = None
    """Stop once the mean return of the last stop_window training episodes reaches this; not
    before there are so many."""
    stop_window: Annotated[int, Range(1, 100_000)] = 100
    """Episodes in that mean, and in the reported mean return."""
    stop_eval_return: float | None = None
    """Stop once the mean return of an evaluation during the run reaches this."""


@dataclass(frozen=True, kw_only=True)
class FileFields:
    """What a run writes, when, and how much of it is kept."""

    log_period_env_steps: Annotated[int | None, Range(1, 2**53)] = None
    """One row of metrics.csv per so many env steps; None: 100 rows in the run."""
    logger: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    """Where rows go beside metrics.csv: tensorboard, wandb, mlflow, trackio; several at once. Each
    needs the extra of its name (tensorboard: tb). One that breaks never stops a run."""
    record_period_env_steps: Annotated[int | None, Range(1, 2**53)] = None
    """Film an episode every so many env steps and at the end, into films/; needs the extra video.
    None: never."""
    checkpoint_period_env_steps: Annotated[int | None, Range(1, 2**53)] = None
    """Checkpoint every so many env steps; None: only when the run ends or is stopped."""
    checkpoint_keep: Annotated[int, Range(1, 1_000_000)] = 2
    """Older checkpoints are deleted."""
    checkpoint_keep_best: bool = False
    """Keep the one with the best evaluation, too, however old. What counts is an evaluation at the
    very step of a checkpoint: where only one of both periods is named, the other goes by it."""
    checkpoint_replay: Literal["none", "exit", "every"] = "exit"
    """Which checkpoints hold the replay: a run resumed without it must fill it anew."""
    save_final_checkpoint: bool = True
    """Write a checkpoint at the end; without one the run cannot be evaluated or resumed."""
    lock_timeout_s: Annotated[float, Range(0.0, 1e6)] = 5.0
    """Seconds to wait for another process that is at work in run_dir, before the run is refused."""


GROUPS: dict[str, type] = {
    "env": EnvFields,
    "run": RunFields,
    "network": NetworkFields,
    "learning": LearningFields,
    "exploration": ExplorationFields,
    "replay": ReplayFields,
    "evaluation": EvaluationFields,
    "files": FileFields,
}
"""By name, in the order of the fields: what most people set comes first."""
