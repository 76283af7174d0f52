"""Baselines in this process: a plain update, and Gymnasium's CartPole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastdqn.bench.cases import eager_update, gymnasium_cartpole
from fastdqn.bench.context import Context
from fastdqn.bench.workload import Workload

_MAKE: Mapping[str, Callable[..., Workload]] = {
    "eager_like": eager_update.make,
    "gymnasium": gymnasium_cartpole.make,
}


def make(context: Context, *, peer: str, **sizes: Any) -> Workload:
    """The workload of one ``peer/`` case."""
    return _MAKE[peer](context, **sizes)
