"""Playing whole episodes with a policy: the only honest score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn

from fastdqn.acting.exploration import check_chances
from fastdqn.acting.policy import Policy
from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.envs import arrays, make_envs
from fastdqn.envs.stream import EnvStream, is_stream
from fastdqn.errors import ConfigError
from fastdqn.spaces import check_played


@dataclass(frozen=True)
class EvalResult:
    """Raw (unclipped) returns and lengths, in the order of envs, each env's in order of time."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("mean", "std", "median", "min", "max")
    """What it says of the returns, in a run's evaluations.csv."""

    returns: np.ndarray
    """float64 [episodes]."""
    lengths: np.ndarray
    """int64 [episodes], in env steps."""
    unfinished: int
    """Episodes that are counted as they stood when it was given up."""
    given_up: str = ""
    """Why, as a clause; empty: every env played its quota."""

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.returns)

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean()) if self.episodes else float("nan")

    @property
    def std(self) -> float:
        """Standard deviation of the returns over episodes."""
        return float(self.returns.std()) if self.episodes else float("nan")

    @property
    def median(self) -> float:
        """Median return."""
        return float(np.median(self.returns)) if self.episodes else float("nan")

    @property
    def min(self) -> float:
        """Lowest return."""
        return float(self.returns.min()) if self.episodes else float("nan")

    @property
    def max(self) -> float:
        """Highest return."""
        return float(self.returns.max()) if self.episodes else float("nan")


def evaluate(
    policy: Policy,
    envs: VectorEnv | EnvStream,
    *,
    episodes_per_env: int,
    epsilon: float | Tensor = 0.0,
    max_env_steps: int | None = None,
    patience_env_steps: int | None = None,
    seed: int | None = None,
    stop: Callable[[], bool] | None = None,
) -> EvalResult:
    """Play the same number of episodes in every env.

    A quota per env, because taking the first episodes to finish would favour short ones.

    Args:
        policy: Its stacks start anew.
        envs: Their state is lost; never the training envs. A VectorEnv is adapted by
            :func:`fastdqn.make_envs`.
        episodes_per_env: Episodes of each env.
        epsilon: Chance of a random action, or one for each env, [N].
        max_env_steps: Give up after so many steps over all envs.
        patience_env_steps: Give up when for so many steps over all envs none has ended an episode
            of its quota.
        seed: Of the envs and of the random actions; None leaves both as they are.
        stop: Asked before every step; True gives up.

    Raises:
        ConfigError: Where an argument is of another type or out of range, or the envs have other
            spaces than those that the policy is for.
        EnvError: Where the envs are not supported.
    """
    _check_players(policy, envs)
    counts = Range(1, 2**63)
    episodes_per_env = check_argument("episodes_per_env", episodes_per_env, int, counts)
    check_argument("max_env_steps", max_env_steps, int | None, Range(0))
    check_argument("patience_env_steps", patience_env_steps, int | None, counts)
    seed = check_argument("seed", seed, int | None, Range(0, 2**63 - 1))
    if stop is not None and not callable(stop):
        raise ConfigError(f"stop = {stop!r} is no function; pass one that returns True to give up.")
    if isinstance(envs, gymnasium.Env | VectorEnv):  # read as the policy's own were
        said = {} if policy.reader is None else asdict(policy.reader.options)
        envs = make_envs(envs, frame_stack=policy.frame_stack, **said)
    epsilon = _checked_epsilon(epsilon, envs.num_envs)
    if policy.spaces is not None:
        check_played(policy.spaces, envs)
    total = np.zeros(envs.num_envs)
    length = np.zeros(envs.num_envs, dtype=np.int64)
    finished: list[list[tuple[float, int]]] = [[] for _ in range(envs.num_envs)]
    env_steps = newest_end = 0

    def finish(over: np.ndarray) -> None:
        nonlocal newest_end
        for env in np.flatnonzero(over & (length > 0)):
            finished[env].append((total[env], int(length[env])))
            total[env], length[env] = 0.0, 0
            if len(finished[env]) <= episodes_per_env:
                newest_end = env_steps

    policy.reset()
    if seed is not None:
        policy.generator.manual_seed(seed)
    step = envs.reset(seed=seed)
    frame, first = step.observation, step.first
    given_up = ""
    while min(map(len, finished)) < episodes_per_env:
        if max_env_steps is not None and env_steps >= max_env_steps:
            given_up = f"after {env_steps:,} env steps"
            break
        if patience_env_steps is not None and env_steps - newest_end >= patience_env_steps:
            given_up = f"none ended within {env_steps - newest_end:,} env steps"
            break
        if stop is not None and stop():
            given_up = "on request"
            break
        envs.send(policy.act(frame, first=first, epsilon=epsilon) - policy.action_start)
        step = envs.recv()
        env_steps += envs.num_envs
        frame, first = step.observation, step.first
        started = arrays.to_numpy(first)
        finish(started)
        total += np.where(started, 0.0, arrays.to_numpy(step.reward))
        length += ~started
        if step.reset is not None and step.reset_observation is not None:
            finish(arrays.to_numpy(step.reset))
            moved_on, newest = (
                arrays.as_kind_of(x, frame) for x in (step.reset, step.reset_observation)
            )
            frame = arrays.choose(moved_on, newest, frame)
            first = first | step.reset
    unfinished = 0
    for env, episodes in enumerate(finished):
        if len(episodes) < episodes_per_env and length[env] > 0:
            episodes.append((total[env], int(length[env])))
            unfinished += 1
    kept = [episode for episodes in finished for episode in episodes[:episodes_per_env]]
    returns, lengths = zip(*kept, strict=True) if kept else ((), ())
    return EvalResult(np.array(returns, float), np.array(lengths, np.int64), unfinished, given_up)


def _check_players(policy: Any, envs: Any) -> None:
    """Refuse, by a ConfigError, what neither plays nor is played."""
    if isinstance(policy, nn.Module):
        raise ConfigError(
            f"policy is {type(policy).__name__}, a network; evaluate fastdqn.Policy(network), or a "
            f"learner's policy()."
        )
    if not callable(getattr(policy, "act", None)):
        raise ConfigError(
            f"policy is {type(policy).__name__}; pass a fastdqn.Policy, as fastdqn.load makes it."
        )
    if isinstance(envs, str):
        raise ConfigError(
            f"envs = {envs!r} is a text; pass fastdqn.make_envs({envs!r}, num_envs=...)."
        )
    if not (isinstance(envs, gymnasium.Env | VectorEnv) or is_stream(envs)):
        raise ConfigError(
            f"envs is {type(envs).__name__}; pass a VectorEnv, or what fastdqn.make_envs makes."
        )


def _checked_epsilon(epsilon: Any, num_envs: int) -> float | Tensor:
    """A chance, or one for each env."""
    if isinstance(epsilon, np.ndarray) and epsilon.ndim and epsilon.dtype.kind in "biuf":
        epsilon = torch.as_tensor(epsilon)
    if not isinstance(epsilon, Tensor):
        chance: float = check_argument("epsilon", epsilon, float, Range(0.0, 1.0))
        return chance
    check_chances(epsilon, num_envs)
    return epsilon
