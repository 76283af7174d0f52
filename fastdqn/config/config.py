"""The one configuration object: frozen, flat, checked when it is made, free of torch.

Units are in the names. ``env_steps`` counts agent steps summed over all envs and is the clock of
every schedule; ``updates`` counts optimizer steps. Only the trainer and the command line read a
``Config``; every component takes plain keyword arguments.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fastdqn.config.combinations import check_pairs, settled, shown, without_rivals
from fastdqn.errors import ConfigError, nearest
from fastdqn.system.bounded_json import read_bounded

FORMAT_VERSION = 1
_LONGEST_LAUNCH = 16  # updates; each then bears a sixteenth of what a launch costs


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


# One argument of JSON; tyro's own rule for a dict would take pairs of words.
JSON_ARGUMENT: tyro.constructors.PrimitiveConstructorSpec[dict[str, Any]] = (
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=lambda words: _json_object(words[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )
)


# (lowest, highest), both allowed; an open bound is written with math.nextafter.
_ABOVE_ZERO = math.nextafter(0.0, 1.0)
_RANGES: dict[str, tuple[float, float]] = {
    "num_envs": (1, 65_536),
    "step_timeout_s": (0.01, 1e6),
    "env_threads": (1, 4_096),
    "frame_stack": (1, 64),
    "reward_clip": (_ABOVE_ZERO, math.inf),
    "atari_frame_skip": (1, 1_000),
    "atari_noop_max": (0, 10_000),
    "atari_max_episode_frames": (1, 2**31 - 1),
    "seed": (0, 2**31 - 1),
    "total_env_steps": (1, 2**53),
    "schedule_env_steps": (1, 2**53),
    "max_wall_s": (0.01, 1e9),
    "impala_width": (1, 64),
    "learning_starts_env_steps": (1, 2**53),
    "update_period_env_steps": (1e-3, 1e9),
    "batch_size": (1, 2**20),
    "updates_per_launch": (1, 4096),
    "n_step": (1, 1_000),
    "gamma": (0.0, 1.0),
    "huber_delta": (_ABOVE_ZERO, math.inf),
    "learning_rate": (_ABOVE_ZERO, 10.0),
    "learning_rate_final": (0.0, 10.0),
    "optimizer_epsilon": (_ABOVE_ZERO, 1.0),
    "rmsprop_alpha": (0.0, 1.0),
    "max_grad_norm": (_ABOVE_ZERO, math.inf),
    "max_grad_value": (_ABOVE_ZERO, math.inf),
    "target_period_updates": (1, 2**53),
    "target_tau": (_ABOVE_ZERO, 1.0),
    "epsilon_start": (0.0, 1.0),
    "epsilon_end": (0.0, 1.0),
    "epsilon_duration_env_steps": (1, 2**53),
    "replay_capacity": (1, 2**40),
    "priority_alpha": (0.0, 1.0),
    "priority_beta_start": (0.0, 1.0),
    "priority_beta_end": (0.0, 1.0),
    "priority_epsilon": (1e-12, 1.0),
    "eval_episodes": (0, 1_000_000),
    "eval_num_envs": (1, 65_536),
    "eval_period_env_steps": (1, 2**53),
    "eval_epsilon": (0.0, 1.0),
    "eval_max_env_steps": (1, 2**53),
    "eval_patience_env_steps": (1, 2**53),
    "stop_window": (1, 100_000),
    "log_period_env_steps": (1, 2**53),
    "checkpoint_period_env_steps": (1, 2**53),
    "checkpoint_keep": (1, 1_000_000),
    "lock_timeout_s": (0.0, 1e6),
    "torch_threads": (1, 4_096),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a run depends on. The defaults are the preset ``cartpole``.

    A value other than the default is refused where nothing would use it, such as a ``huber_delta``
    of 2 with ``loss = 'mse'``.
    """

    # --- environment ---------------------------------------------------------------------------
    env_id: str = "CartPole-v1"
    """Gymnasium id; ids that start with ``ALE/`` run on ALE's own C++ vector env."""
    env_kwargs: Annotated[dict[str, Any], JSON_ARGUMENT] = field(default_factory=dict)
    """Extra keyword arguments for the env, as a JSON object."""
    num_envs: int = 8
    """Environments stepped together (N)."""
    env_vectorization: Literal["auto", "sync", "async", "vector_entry_point"] = "auto"
    """How gymnasium.make_vec builds the envs; auto takes the env's own vector class if any."""
    step_timeout_s: float | None = 60.0
    """Seconds that a step of all envs may take, and a reset: then the run ends with a sentence and
    the stacks, instead of hanging. None: any time, to debug an env."""
    env_threads: int | None = None
    """Threads of ALE's vector env; None: one per usable CPU, at most one per env."""
    frame_stack: int | None = None
    """Frames per observation, stacked by the replay (S); None: observations are used as they are.
    Atari needs it: 4."""
    reward_clip: float | None = None
    """Learn from rewards clipped to [-x, x]; reported returns stay raw."""
    atari_protocol: Literal["machado", "classic"] = "machado"
    """machado: sticky actions 0.25, episodes end at game over. classic: no sticky actions, a lost
    life is terminal without a reset, FIRE is pressed after a reset."""
    atari_full_action_space: bool = False
    """All 18 joystick actions instead of the game's own set."""
    atari_frame_skip: int = 4
    """Emulator frames per env step."""
    atari_noop_max: int = 30
    """Up to this many no-ops (less one) after a reset."""
    atari_max_episode_frames: int = 108_000
    """Truncate an episode after so many emulator frames (108,000 = 30 minutes)."""

    # --- the run -------------------------------------------------------------------------------
    seed: int = 1
    """Env i of N is seeded with seed + i; evaluation uses seeds far away from those."""
    total_env_steps: int = 100_000
    """Length of the run."""
    schedule_env_steps: int | None = None
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
    updates_per_launch: int | None = None
    """Updates that run as one, when so many are due: one CUDA graph, and one draw from a uniform
    replay. More of them cost less each, and the policy waits that long for what was learned. None:
    on CUDA as many as a vector step owes, up to 16 and to target_period_updates; on a CPU 1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the network body; head, Q values, targets and loss are always fp32. auto is bf16 for
    convolutional bodies on devices that have it."""
    deterministic: bool = False
    """Only deterministic CUDA kernels: runs repeat bit for bit (on a CPU they do anyway)."""
    torch_threads: int | None = None
    """CPU threads of torch; None: 1 for mlp on a CPU, all usable CPUs for convolutions."""
    max_wall_s: float | None = None
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

    # --- network -------------------------------------------------------------------------------
    network: Literal["auto", "mlp", "nature", "impala", "batchnorm_cnn"] = "auto"
    """auto: nature (the CNN of Mnih 2015) for images, mlp for vectors. impala: the residual CNN of
    Espeholt 2018. batchnorm_cnn: the one of PyTorch's DQN tutorial."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Hidden layers of the mlp; for nature and impala, the one layer after the convolutions;
    batchnorm_cnn can do without any."""
    impala_width: int = 1
    """Multiplies the channels of network impala: 16, 32 and 32."""
    batch_norm: bool = False
    """Batch normalisation before each ReLU of the mlp: statistics of the batch to learn, running
    ones to act and in the target network."""
    dueling: bool = False
    """Dueling head (Wang 2016): Q = V + A - mean A."""

    # --- learning ------------------------------------------------------------------------------
    learning_starts_env_steps: int = 1_000
    """First update after so many env steps; until then the replay fills."""
    update_period_env_steps: float = 4.0
    """One update per so many env steps, summed over envs; 0.5 means two updates per env step."""
    batch_size: int = 64
    """Transitions per update (B)."""
    n_step: int = 3
    """Steps of the n-step return."""
    gamma: float = 0.99
    """Discount per env step."""
    double: bool = True
    """Double Q-learning (van Hasselt 2016). Off without a target network, where it is the same."""
    loss: Literal["huber", "mse"] = "huber"
    """Of the TD error; mse is td^2, huber is quadratic up to huber_delta."""
    huber_delta: float = 1.0
    """Where the Huber loss turns linear."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Adam, or RMSprop centred as in Mnih 2015."""
    learning_rate: float = 1e-3
    """Step size."""
    learning_rate_final: float | None = 0.0
    """Anneal the step size linearly to this at schedule_env_steps; None: constant."""
    optimizer_epsilon: float = 1e-8
    """Term in the denominator of Adam or RMSprop."""
    rmsprop_centred: bool = True
    """RMSprop as in Mnih 2015, with epsilon inside the root; false: torch's plain form."""
    rmsprop_alpha: float = 0.95
    """Smoothing of RMSprop's averages."""
    max_grad_norm: float | None = 10.0
    """Scale the whole gradient down to this 2-norm. It and max_grad_value exclude each other."""
    max_grad_value: float | None = None
    """Clamp each gradient entry to [-x, x]."""
    target_period_updates: int | None = 100
    """Move the target network every so many updates; None: no target network."""
    target_tau: float = 1.0
    """How far it moves: 1 copies, less is a Polyak average."""

    # --- exploration ---------------------------------------------------------------------------
    epsilon_start: float = 1.0
    """Chance of a random action until learning starts."""
    epsilon_end: float = 0.05
    """And at the end of the schedule."""
    epsilon_schedule: Literal["linear", "exponential"] = "linear"
    """exponential has its time constant at epsilon_duration_env_steps."""
    epsilon_duration_env_steps: int = 10_000
    """Length of the schedule, counted from learning_starts_env_steps."""

    # --- replay --------------------------------------------------------------------------------
    replay_capacity: int = 100_000
    """Rows over all envs; every frame is stored once."""
    prioritized: bool = False
    """Proportional prioritized replay (Schaul 2016)."""
    priority_alpha: float = 0.6
    """Exponent of the priorities: 0 draws uniformly, 1 in proportion."""
    priority_beta_start: float = 0.4
    """Exponent of the importance weights at the start ..."""
    priority_beta_end: float = 1.0
    """... and at schedule_env_steps, linear between."""
    priority_epsilon: float = 1e-6
    """Added to every |TD error|, so that none becomes undrawable."""

    # --- evaluation and the end ----------------------------------------------------------------
    eval_episodes: int = 100
    """Episodes of the final evaluation, rounded up to a multiple of eval_num_envs; 0: none."""
    eval_num_envs: int = 10
    """Envs that evaluate side by side, each with the same quota of episodes."""
    eval_period_env_steps: int | None = None
    """Evaluate during the run, too, every so many env steps."""
    eval_epsilon: float = 0.0
    """Chance of a random action in evaluation."""
    eval_max_env_steps: int | None = 10_000_000
    """Give up an evaluation after so many env steps; unfinished episodes count as they stand."""
    eval_patience_env_steps: int | None = None
    """Give it up, too, when no episode has ended for so many env steps; None: 30,000 in each env,
    or as long as the env's own limit lets an episode last."""
    stop_return: float | None = None
    """Stop once the mean return of the last stop_window training episodes reaches this; not
    before there are so many."""
    stop_window: int = 100
    """Episodes in that mean, and in the reported mean return."""
    stop_eval_return: float | None = None
    """Stop once the mean return of an evaluation during the run reaches this."""

    # --- files ---------------------------------------------------------------------------------
    log_period_env_steps: int | None = None
    """One row of metrics.csv per so many env steps; None: 100 rows in the run."""
    checkpoint_period_env_steps: int | None = None
    """Checkpoint every so many env steps; None: only when the run ends or is stopped."""
    checkpoint_keep: int = 2
    """Older checkpoints are deleted."""
    checkpoint_keep_best: bool = False
    """Keep the one with the best evaluation, too, however old. What counts is an evaluation at the
    very step of a checkpoint: give both the same period."""
    checkpoint_replay: Literal["none", "exit", "every"] = "exit"
    """Which checkpoints hold the replay: a run resumed without it must fill it anew."""
    save_final_checkpoint: bool = True
    """Write a checkpoint at the end; without one the run cannot be evaluated or resumed."""
    lock_timeout_s: float = 5.0
    """Seconds to wait for another process that is at work in run_dir, before the run is refused."""

    def __post_init__(self) -> None:
        """Check types, choices, ranges and pairs; raise ConfigError with one sentence."""
        values = _checked(vars(self))
        was_set = [name for name, value in values.items() if value != _defaults()[name]]
        vars(self).update(settled(values, was_set, _defaults()))
        try:  # a copy that JSON has seen, so that a resumed run gets equal values
            vars(self)["env_kwargs"] = _plain_json(self.env_kwargs)
        except (TypeError, ValueError, RecursionError):
            raise ConfigError(
                f"env_kwargs = {shown(self.env_kwargs)} cannot be written as a JSON object of "
                f"names and plain values."
            ) from None
        check_pairs(self)

    def replace(self, **changes: Any) -> Config:
        """A copy with some fields changed; an unknown name is refused with the nearest one.

        A change that has no effect is refused; what it leaves without effect falls back to its
        default: ``replace(loss="mse")`` forgets ``huber_delta``.
        """
        _refuse_unknown(changes)
        return _settled({**vars(self), **changes}, changes)

    def to_json(self) -> str:
        """The whole configuration as a JSON object."""
        body = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(body, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Read what :meth:`to_json` wrote (or a part of it); unknown keys are refused.

        With ``format_version`` it is the record of a run: what has no effect in it is left over.
        Without, somebody wrote it, and that is refused.
        """
        try:
            body = json.loads(text, object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:  # ValueError: also an int of 5,000 digits
            raise ConfigError(f"The configuration is not valid JSON ({error}).") from None
        if not isinstance(body, dict):
            raise ConfigError("The configuration must be a JSON object of field names and values.")
        record = "format_version" in body
        version = body.pop("format_version", FORMAT_VERSION)
        if type(version) is not int or version != FORMAT_VERSION:
            raise ConfigError(
                f"format_version = {shown(version)} is not known; this fastdqn reads "
                f"{FORMAT_VERSION}."
            )
        _refuse_unknown(body)
        return _settled({**_defaults(), **body}, () if record else body)

    @classmethod
    def load(cls, path: str | Path) -> Config:
        """Read a configuration from a JSON file."""
        try:
            if not Path(path).is_file():  # reading a pipe would wait for ever
                raise OSError("it is no file; name a config.json or a run directory")
            text = read_bounded(Path(path))
        except (OSError, ValueError) as error:  # ValueError: too much, not UTF-8, or a bad path
            raise ConfigError(f"The configuration {path} cannot be read ({error}).") from None
        return cls.from_json(text)

    @property
    def expected_updates(self) -> int:
        """Updates of the whole run."""
        learning = max(0, self.total_env_steps - self.learning_starts_env_steps)
        return int(learning / self.update_period_env_steps)

    def launch_on(self, device_type: str) -> int:
        """``updates_per_launch``, resolved for a type of device: cpu or cuda."""
        if self.updates_per_launch is not None:
            return self.updates_per_launch
        owed = int(self.num_envs / self.update_period_env_steps)  # by one vector step
        if device_type != "cuda" or owed <= 1:
            return 1
        most = _LONGEST_LAUNCH
        if self.target_period_updates is not None and self.target_period_updates > 1:
            most = min(most, self.target_period_updates)
        if not self.prioritized:
            most = min(most, self.replay_capacity // self.batch_size)
        return owed // math.ceil(owed / most)

    def drawn_at_once(self, launch: int) -> int:
        """Transitions in one draw for a launch: prioritized ones depend on those before."""
        return self.batch_size * (1 if self.prioritized else launch)

    @property
    def replay_ratio(self) -> float:
        """Transitions trained on per env step; quote it with every speed."""
        return self.batch_size / self.update_period_env_steps

    @property
    def schedules_end_env_steps(self) -> int:
        """``schedule_env_steps``, resolved."""
        return self.schedule_env_steps or self.total_env_steps

    @property
    def log_every_env_steps(self) -> int:
        """``log_period_env_steps``, resolved."""
        return self.log_period_env_steps or max(1, self.total_env_steps // 100)


@functools.cache
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(Config)


@functools.cache
def _defaults() -> dict[str, Any]:
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in dataclasses.fields(Config)
    }


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all fields; ConfigError where one is of another type or out of its range."""
    values = dict(values)
    if isinstance(values["hidden_sizes"], list):  # as JSON has it
        values["hidden_sizes"] = tuple(values["hidden_sizes"])
    for name, hint in _hints().items():
        value = values[name]
        check_type(name, value, hint)
        if name in _RANGES and value is not None:
            low, high = _RANGES[name]
            if not low <= value <= high:  # also refuses NaN
                raise ConfigError(
                    f"{name} = {shown(value)} is out of range; use {_range(low, high)}."
                )
    return values


def _settled(values: Mapping[str, Any], was_set: Collection[str]) -> Config:
    """The configuration of these values, of which somebody meant those that were set."""
    values = without_rivals(_checked(values), was_set)
    return Config(**settled(values, was_set, _defaults()))


def _plain_json(value: dict[str, Any]) -> dict[str, Any]:
    if not all(isinstance(name, str) for name in value):
        raise TypeError("names must be strings")
    return dict(json.loads(json.dumps(value, allow_nan=False)))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands there twice")
    return body


def _refuse_unknown(names: typing.Iterable[str]) -> None:
    known = [f.name for f in dataclasses.fields(Config)]
    for name in names:
        if name not in known:
            hint = nearest(str(name), known) or "; 'fastdqn train --help' lists them"
            raise ConfigError(f"{shown(name)} is not a field of Config{hint}.")


def check_type(name: str, value: Any, hint: Any) -> None:
    """Raise unless ``value`` is of the annotated type (an int passes for a float)."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        origin = typing.get_origin(option)
        if origin is Literal:
            choices = typing.get_args(option)
            if isinstance(value, str) and value in choices:
                return
            hint_text = nearest(str(value), list(choices))
            raise ConfigError(
                f"{name} = {shown(value)} must be one of {', '.join(choices)}{hint_text}."
            )
        if option is type(None) and value is None:
            return
        if origin is tuple and isinstance(value, tuple) and all(type(v) is int for v in value):
            return
        if origin is dict and isinstance(value, dict):
            return
        if option in (int, bool, str) and type(value) is option:
            return
        if option is float and type(value) in (int, float):
            if not -sys.float_info.max <= value <= sys.float_info.max:
                allowed = _range(*_RANGES[name]) if name in _RANGES else "a finite number"
                raise ConfigError(f"{name} = {shown(value)} is not finite; use {allowed}.")
            return
    names = " or ".join(_type_name(option) for option in options)
    raise ConfigError(f"{name} = {shown(value)} has the wrong type; use {names}.")


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:g}"


def _type_name(option: Any) -> str:
    if option is type(None):
        return "None"
    if option is int:
        return "a whole number in digits"
    if option is float:
        return "a number"
    if option is bool:
        return "true or false"
    if option is str:
        return "a text"
    if typing.get_origin(option) is tuple:
        return "whole numbers (on the command line with spaces between them: 64 64)"
    if typing.get_origin(option) is dict:
        return "a JSON object"
    return getattr(typing.get_origin(option) or option, "__name__", str(option))


def _range(low: float, high: float) -> str:
    if low == _ABOVE_ZERO:
        return "a number above 0" + ("" if math.isinf(high) else f" and at most {_number(high)}")
    if math.isinf(high):
        return f"a number from {_number(low)}"
    return f"a number from {_number(low)} to {_number(high)}"
