"""Prioritized replays of other packages, driven as their users drive them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fastdqn.bench.checks import expect
from fastdqn.bench.context import Context
from fastdqn.bench.workload import UnavailableError, Workload

_ALPHA, _BETA, _EPSILON = 0.6, 0.6, 1e-6
_CHUNK = 10_000

Cycle = Callable[[], tuple[np.ndarray, np.ndarray]]  # indices and weights of the batch drawn


def make(context: Context, peer: str, *, size: int, batch_size: int) -> Workload:
    """Draw, gather, weights, write back, on vectors of 4 in host memory; a repeat is one batch."""
    size, batch_size = context.small(size, 2_000), context.small(batch_size, 64)
    rng = np.random.default_rng(0)
    cycle = _PEERS[peer](rng, size, batch_size)

    def run(repeats: int) -> None:
        for _ in range(repeats):
            cycle()

    def check() -> None:
        index, weight = cycle()
        expect(index.shape == (batch_size,), "not as many draws as asked for")
        expect(bool((index >= 0).all() and (index < size).all()), "an index is out of range")
        expect(bool(np.isfinite(weight).all() and (weight > 0).all()), "a weight is not positive")

    return Workload(
        run=run,
        check=check,
        unit="cycle",
        counts={"samples": batch_size},
        host_clock=True,
        threads=1,
        details={"capacity": size, "device": "cpu"},
    )


def _rows(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    return {
        "observation": rng.standard_normal((size, 4), dtype=np.float32),
        "action": rng.integers(0, 2, size),
        "reward": rng.standard_normal(size, dtype=np.float32),
        "next_observation": rng.standard_normal((size, 4), dtype=np.float32),
        "done": rng.random(size) < 0.01,
    }


def _torchrl(rng: np.random.Generator, size: int, batch_size: int) -> Cycle:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from tensordict import TensorDict
            from torchrl.data import LazyTensorStorage, TensorDictPrioritizedReplayBuffer

            buffer = TensorDictPrioritizedReplayBuffer(
                alpha=_ALPHA,
                beta=_BETA,
                eps=_EPSILON,
                storage=LazyTensorStorage(size),
                batch_size=batch_size,
                priority_key="td_error",
            )
    except Exception as error:  # its C++ extension fits few builds of torch
        why = " ".join(str(error).split())[:60]
        raise UnavailableError(f"torchrl's prioritized replay cannot be made ({why})") from None
    rows = TensorDict(
        {name: torch.as_tensor(values) for name, values in _rows(rng, size).items()}, [size]
    )
    rows["td_error"] = torch.as_tensor(rng.random(size, dtype=np.float32))
    for start in range(0, size, _CHUNK):
        buffer.extend(rows[start : start + _CHUNK])
    priority = torch.as_tensor(rng.random(batch_size, dtype=np.float32))

    def cycle() -> tuple[np.ndarray, np.ndarray]:
        batch = buffer.sample()
        batch["td_error"] = priority
        buffer.update_tensordict_priority(batch)
        weight = "priority_weight" if "priority_weight" in batch.keys() else "_weight"  # noqa: SIM118
        return batch["index"].numpy().reshape(-1), batch[weight].numpy()

    return cycle


def _cpprb(rng: np.random.Generator, size: int, batch_size: int) -> Cycle:
    try:
        from cpprb import PrioritizedReplayBuffer  # type: ignore[import-not-found]
    except ImportError:
        raise UnavailableError("needs cpprb: pip install cpprb") from None
    buffer = PrioritizedReplayBuffer(
        size,
        {
            "obs": {"shape": 4, "dtype": np.float32},
            "act": {"dtype": np.int64},
            "rew": {"dtype": np.float32},
            "next_obs": {"shape": 4, "dtype": np.float32},
            "done": {"dtype": np.float32},
        },
        alpha=_ALPHA,
        eps=_EPSILON,
    )
    rows, priority = _rows(rng, size), rng.random(batch_size, dtype=np.float32)
    for start in range(0, size, _CHUNK):
        part = {name: values[start : start + _CHUNK] for name, values in rows.items()}
        buffer.add(
            obs=part["observation"], act=part["action"], rew=part["reward"],
            next_obs=part["next_observation"], done=part["done"].astype(np.float32),
            priorities=rng.random(len(part["reward"]), dtype=np.float32),
        )  # fmt: skip

    def cycle() -> tuple[np.ndarray, np.ndarray]:
        batch = buffer.sample(batch_size, beta=_BETA)
        buffer.update_priorities(batch["indexes"], priority)
        return batch["indexes"], batch["weights"]

    return cycle


def _tianshou(rng: np.random.Generator, size: int, batch_size: int) -> Cycle:
    try:
        from tianshou.data import (  # type: ignore[import-not-found]
            Batch,
            PrioritizedReplayBuffer,
        )
    except ImportError:
        raise UnavailableError("needs tianshou: pip install tianshou") from None
    buffer: Any = PrioritizedReplayBuffer(size, alpha=_ALPHA, beta=_BETA)
    rows, priority = _rows(rng, size), rng.random(batch_size, dtype=np.float32)
    # add() takes a row at a time, minutes for a million: the storage is set as a whole.
    buffer.set_batch(
        Batch(
            obs=rows["observation"],
            act=rows["action"],
            rew=rows["reward"],
            terminated=rows["done"],
            truncated=np.zeros(size, dtype=bool),
            done=rows["done"],
            obs_next=rows["next_observation"],
            info=Batch(),
            policy=Batch(),
        )
    )
    buffer._size = size
    buffer.update_weight(np.arange(size), rng.random(size))

    def cycle() -> tuple[np.ndarray, np.ndarray]:
        batch, index = buffer.sample(batch_size)
        buffer.update_weight(index, priority)
        return index, np.asarray(batch.weight)

    return cycle


_PEERS = {"torchrl": _torchrl, "cpprb": _cpprb, "tianshou": _tianshou}
