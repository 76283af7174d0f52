"""Environments alone, through the streams that the trainer uses, with random actions."""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from torch import Tensor

import fastdqn.envs  # noqa: F401  (registers what fastdqn has of its own)
from fastdqn.bench.checks import expect
from fastdqn.bench.context import Context
from fastdqn.bench.synthetic_envs import SyntheticPixelEnvs
from fastdqn.bench.workload import UnavailableError, Workload
from fastdqn.envs import EnvStream, make_envs

FRAME_SKIP = 4


def make(
    context: Context, *, env_id: str, num_envs: int, num_threads: int | None = None
) -> Workload:
    """The workload of one ``env/`` case: a repeat is one vector step.

    fastdqn's own envs are tensors: they step on the device of the run.
    """
    num_envs = context.small(num_envs, 4)
    if num_threads is not None:
        num_threads = context.small(num_threads, 2)
    native = env_id.startswith("fastdqn/")
    stream = make_stream(env_id, num_envs, num_threads, str(context.device) if native else "cpu")
    shape = (64, num_envs)
    random = torch.randint(0, stream.num_actions, shape, generator=torch.Generator().manual_seed(0))
    actions: Any = random.to(context.device) if native else random.numpy()
    turn = 0

    def run(repeats: int) -> None:
        nonlocal turn
        for _ in range(repeats):
            turn += 1
            stream.send(actions[turn % 64])
            stream.recv()

    def check() -> None:
        shape = (num_envs, *stream.observation_space.shape)
        step = stream.reset(seed=0)
        expect(bool(_host(step.first).all()), "a row of reset() is not marked as first")
        for _ in range(4):
            stream.send(actions[0])
            step = stream.recv()
            expect(tuple(step.observation.shape) == shape, f"frames are not {shape}")
            for name in ("reward", "terminated", "truncated", "first"):
                expect(tuple(getattr(step, name).shape) == (num_envs,), f"{name} is not [N]")
            over = _host(step.terminated) | _host(step.truncated)
            expect(not (_host(step.first) & over).any(), "a row is both first and an end")
        expect(bool(torch.isfinite(_host(step.reward)).all()), "a reward is not finite")

    skip = FRAME_SKIP if env_id.startswith("ALE/") else 1
    counts = {"env_steps": num_envs}
    if skip > 1:
        counts["frames"] = num_envs * skip
    return Workload(
        run=run,
        check=check,
        unit="vector step",
        counts=counts,
        host_clock=not native,
        threads=1,
        details={"env_id": env_id, "num_envs": num_envs, "num_threads": num_threads},
        close=stream.close,
    )


def _host(array: Any) -> Tensor:
    return torch.as_tensor(array).cpu()


def make_stream(
    env_id: str, num_envs: int, num_threads: int | None = None, device: str = "cpu"
) -> EnvStream:
    """The stream of one id or of ``synthetic``; UnavailableError where it is not installed."""
    if env_id == "synthetic":
        return make_envs(SyntheticPixelEnvs(num_envs), frame_stack=4)
    if env_id.startswith("ALE/"):
        require_ale()
        return make_envs(env_id, num_envs, num_threads=num_threads)
    if env_id not in gymnasium.registry:
        raise UnavailableError(f"{env_id} is not registered with gymnasium")
    return make_envs(env_id, num_envs, device=device)


def require_ale() -> None:
    """UnavailableError without ale-py."""
    try:
        import ale_py  # noqa: F401
    except ImportError:
        raise UnavailableError("needs ale-py: pip install 'fastdqn[atari]'") from None
