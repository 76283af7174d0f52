"""Moments of an episode: what the network saw, what it made of it, and where it looked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.acting.evaluation import evaluate
from fastdqn.acting.policy import Policy
from fastdqn.envs import EnvStream
from fastdqn.learning.input_gradients import (
    float_form,
    input_gradient,
    network_of,
    q_of,
)
from fastdqn.learning.perturbation import perturbation_saliency

_MOST = 128  # observations kept of an episode, at the least; at most twice that


@dataclass(frozen=True)
class Episode:
    """Observations spread evenly over an episode, as the network saw them."""

    step: list[int]  # [K], ascending, from 0
    observation: Tensor  # [K, ...], on the policy's device
    length: int  # env steps
    episode_return: float
    unfinished: bool  # cut at the limit of steps


@dataclass(frozen=True)
class Moments:
    """K observations and what explains the greedy actions in them; arrays of numpy."""

    step: list[int]
    observation: np.ndarray  # [K, ...]
    q: np.ndarray  # [K, A]
    gradient: np.ndarray  # [A, K, ...]: d Q(s, a) / ds for every action
    perturbation: np.ndarray | None  # [K, H, W]; None for vectors

    @property
    def action(self) -> np.ndarray:
        """The greedy actions, [K]."""
        return self.q.argmax(axis=1)


class _Recorder:
    """Keeps every k-th observation that a network is given, and doubles k when it has too many."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, Tensor]] = []
        self._calls, self._every = 0, 1

    def __call__(self, network: Any, inputs: tuple[Tensor, ...]) -> None:
        if self._calls % self._every == 0:
            self.kept.append((self._calls, inputs[0].detach().clone()))
            if len(self.kept) >= 2 * _MOST:
                self.kept = self.kept[::2]
                self._every *= 2
        self._calls += 1


def play_episode(
    policy: Policy,
    envs: EnvStream,
    *,
    seed: int,
    epsilon: float = 0.0,
    max_env_steps: int,
    stop: Callable[[], bool] | None = None,
) -> Episode:
    """Play the first episode of one env as :func:`fastdqn.evaluate` does, and watch the network.

    Args:
        policy: Acts.
        envs: One env; its state is lost.
        seed: Of the env and of the random actions.
        epsilon: Chance of a random action.
        max_env_steps: Stop there.
        stop: Asked before every step; raises to give up.
    """
    with _watched(policy) as recorder:
        result = evaluate(
            policy,
            envs,
            episodes_per_env=1,
            epsilon=epsilon,
            max_env_steps=max_env_steps,
            seed=seed,
            stop=stop,
        )
    length = int(result.lengths[0])
    # A policy is also asked after the last step of an episode; nothing comes of that answer.
    kept = [(step, observation) for step, observation in recorder.kept if step < length]
    return Episode(
        [step for step, _ in kept],
        torch.cat([observation for _, observation in kept]),
        length,
        float(result.returns[0]),
        result.unfinished > 0,
    )


@contextmanager
def _watched(policy: Policy) -> Iterator[_Recorder]:
    recorder = _Recorder()
    handle = policy.acting_network.register_forward_pre_hook(recorder)
    try:
        yield recorder
    finally:
        handle.remove()


def spread(count: int, of: int) -> list[int]:
    """``count`` indices (or all, if there are fewer), in the middle of equal parts of 0..of-1."""
    count = min(count, of)
    return [(2 * k + 1) * of // (2 * count) for k in range(count)]


def explain(policy: Policy, episode: Episode, chosen: list[int], *, stride: int = 4) -> Moments:
    """Q, its input gradients and, for pictures, perturbation maps of some observations.

    Args:
        policy: Whose network it is.
        episode: Where the observations come from.
        chosen: Their indices in it.
        stride: Of the perturbation maps.
    """
    observation, network = episode.observation[chosen], network_of(policy)
    with torch.no_grad():
        q = q_of(network, float_form(network, observation)[0])
    gradients = [
        input_gradient(network, observation, torch.full((len(chosen),), action))
        for action in range(q.shape[1])
    ]
    maps = None
    if is_picture(observation.shape[1:]):
        maps = perturbation_saliency(network, observation.cpu().numpy(), stride=stride)
    return Moments(
        [episode.step[index] for index in chosen],
        observation.cpu().numpy(),
        q.cpu().numpy(),
        np.stack([_numpy(gradient) for gradient in gradients]),
        None if maps is None else _numpy(maps),
    )


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether an observation [..., H, W] can be looked at: at least 8 x 8."""
    return len(shape) >= 2 and min(shape[-2:]) >= 8


def _numpy(x: Any) -> np.ndarray:
    return x.cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
