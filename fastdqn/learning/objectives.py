"""What an update minimises: from what the networks put out to a loss, a TD error and a priority.

An objective is pure and per sample. It says which forwards it wants, as triples of network, state
and draw, and gets their outputs; what it does not ask for is not computed. It weights nothing and
reduces nothing: the learner does, once.

State ``s`` is the observation, ``s2`` the next one. Only the online network on ``s`` runs in
training mode and with gradients; the online network on ``s2`` and the target network run in
evaluation mode and without. A draw tells forwards of the same network and state apart that shall
have random numbers of their own, where a network takes any (:mod:`fastdqn.networks.draws`).

Those of this package: ``q_learning``, ``categorical_q_learning``, ``quantile_q_learning``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fastdqn.config.arguments import SIZES, check_argument
from fastdqn.errors import ConfigError

NETWORKS, STATES = ("online", "target"), ("s", "s2")


class Forward(NamedTuple):
    """One forward that an objective asks for."""

    network: str
    """``online`` or ``target``."""
    state: str
    """``s``, the observation, or ``s2``, the next one."""
    draw: int = 0
    """Tells forwards with random numbers of their own apart."""


ONLINE_S = Forward("online", "s")
ONLINE_S2 = Forward("online", "s2")
TARGET_S2 = Forward("target", "s2")
TARGET_S = Forward("target", "s")

Randoms = Mapping[Forward, Mapping[str, Tensor]]
"""The random numbers that each forward was given, by the names of ``random_shapes``."""


class Transitions(NamedTuple):
    """A batch as an objective sees it: without weights, which are the learner's to apply."""

    observation: Tensor
    """[B, S, *O]"""
    action: Tensor
    """int64 [B], from 0."""
    reward: Tensor
    """float32 [B]: n-step return."""
    discount: Tensor
    """float32 [B]: gamma^m, 0 where the episode terminated."""
    next_observation: Tensor
    """[B, S, *O]"""


class Outputs:
    """What the forwards returned: ``outputs[forward]`` is a head's output, ``q(forward)`` its Q.

    Args:
        values: By forward, float32.
        to_q: A head's output to Q, [B, A].
    """

    def __init__(self, values: Mapping[Forward, Tensor], to_q: Callable[[Tensor], Tensor]) -> None:
        self._values, self._to_q = values, to_q
        # Of distributions it costs something; what was made without a gradient has none.
        self._q: dict[tuple[Forward, bool], Tensor] = {}

    def __getitem__(self, forward: Forward) -> Tensor:
        return self._values[forward]

    def q(self, forward: Forward) -> Tensor:
        """Q, [B, A]; for actions, selection and statistics whatever the head."""
        key = forward, torch.is_grad_enabled()
        if key not in self._q:
            self._q[key] = self._to_q(self._values[forward])
        return self._q[key]


class Objective(Protocol):
    """What ``Learner`` and ``fastdqn.train`` take as ``objective``.

    One that needs other numbers of quantile fractions than the network acts by may also have
    ``samples``, a mapping from its forwards: the network's ``random_shapes(batch_size, samples)``
    gets them.
    """

    @property
    def forwards(self) -> Sequence[Forward]:
        """What it asks for, the online network on ``s`` among it; the same all the time."""
        ...

    def __call__(
        self, outputs: Outputs, batch: Transitions, randoms: Randoms
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, TD error and priority, each float32 [B]; a priority is finite and >= 0."""
        ...


def run_forwards(
    objective: Objective,
    run: Callable[[Forward], Tensor],
    to_q: Callable[[Tensor], Tensor],
) -> Outputs:
    """Every forward that an objective asks for, with gradients where it trains.

    Args:
        objective: Which asks.
        run: One forward to a head's output, float32.
        to_q: A head's output to Q, [B, A].
    """
    values = {}
    with torch.no_grad():
        for forward in objective.forwards:
            if not trains(forward):
                values[forward] = run(forward)
    for forward in objective.forwards:
        if trains(forward):
            values[forward] = run(forward)
    return Outputs(values, to_q)


def trains(forward: Forward) -> bool:
    """Whether a gradient flows through it."""
    return forward[0] == "online" and forward[1] == "s"


def first_trained(objective: Objective) -> Forward:
    """The forward whose Q is reported."""
    return next(forward for forward in objective.forwards if trains(forward))


def check_forwards(objective: Any) -> None:
    """Refuse, by a ConfigError, an objective that does not say what it asks for."""
    if isinstance(objective, type):
        raise ConfigError(
            f"objective = {objective.__name__} is a class; pass an instance of it: "
            f"{objective.__name__}(...)."
        )
    name = type(objective).__name__
    forwards = getattr(objective, "forwards", None)
    if not callable(objective) or not isinstance(forwards, Sequence) or not forwards:
        raise ConfigError(
            f"The objective ({name}) has no forwards; give it a sequence of (network, state, "
            f"draw) triples, such as ('online', 's', 0)."
        )
    for forward in forwards:
        if not (
            isinstance(forward, tuple)
            and len(forward) == 3
            and forward[0] in NETWORKS
            and forward[1] in STATES
            and type(forward[2]) is int
        ):
            raise ConfigError(
                f"The objective ({name}) asks for {forward!r}; use a triple of online or target, "
                f"s or s2, and the number of a draw."
            )
    if not any(trains(forward) for forward in forwards):
        raise ConfigError(
            f"The objective ({name}) trains nothing; let it ask for ('online', 's', 0)."
        )
    _check_samples(name, forwards, getattr(objective, "samples", {}))


def _check_samples(name: str, forwards: Sequence[Any], samples: Any) -> None:
    """Refuse, by a ConfigError, numbers of fractions that are none or of no forward."""
    if not isinstance(samples, Mapping):
        raise ConfigError(
            f"The objective ({name}) has samples that are {type(samples).__name__}; give it a "
            f"mapping from its forwards to whole numbers."
        )
    for forward, count in samples.items():
        if forward not in forwards:
            raise ConfigError(
                f"The objective ({name}) has samples of {forward!r}, which is none of its "
                f"forwards; leave it out."
            )
        check_argument(f"samples[{forward!r}]", count, int, SIZES)


def check_terms(objective: Any, terms: Any, batch_size: int) -> None:
    """Refuse, by a ConfigError, what is not a loss, a TD error and a priority, each [B]."""
    name = type(objective).__name__
    if not isinstance(terms, tuple) or len(terms) != 3:
        raise ConfigError(
            f"The objective ({name}) returned {type(terms).__name__}; return a tuple of the loss, "
            f"the TD error and the priority of every sample."
        )
    for what, term in zip(("loss", "TD error", "priority"), terms, strict=True):
        found = list(term.shape) if isinstance(term, Tensor) else type(term).__name__
        if found != [batch_size]:
            raise ConfigError(
                f"The objective ({name}) returned {found} as its {what}; return one number for "
                f"each of the {batch_size} samples, [{batch_size}], neither weighted nor reduced."
            )


def check_trainable_terms(
    objective: Objective, terms: tuple[Tensor, Tensor, Tensor], outputs: Outputs
) -> None:
    """Refuse, by a ConfigError, terms that are not float32, and a loss that trains nothing.

    Args:
        objective: Which returned them.
        terms: Of the right shapes.
        outputs: Of which they were made, with a gradient.
    """
    name = type(objective).__name__
    for what, term in zip(("loss", "TD error", "priority"), terms, strict=True):
        if term.dtype != torch.float32:
            raise ConfigError(
                f"The objective ({name}) returned {term.dtype} as its {what}; make it float32 with "
                f".float()."
            )
    trained = any(outputs[forward].requires_grad for forward in objective.forwards)
    if trained and not terms[0].requires_grad:
        raise ConfigError(
            f"The objective ({name}) returned a loss without a gradient; make it of what "
            f"('online', 's', 0) put out, without detach and torch.no_grad."
        )
