"""Environments alone with random actions: through the streams that the trainer uses, or bare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

import fastdqn.envs  # noqa: F401  (registers what fastdqn has of its own)
from fastdqn.bench.checks import expect
from fastdqn.bench.context import Context
from fastdqn.bench.synthetic_envs import SyntheticPixelEnvs
from fastdqn.bench.workload import UnavailableError, Workload
from fastdqn.envs import EnvStream, make_envs

FRAME_SKIP = 4
_STEPS_BEFORE_ANY_FALL = 6  # of a CartPole


def make(
    context: Context,
    *,
    env_id: str,
    num_envs: int,
    num_threads: int | None = None,
    bare: bool = False,
    per_frame: bool = False,
    **options: Any,
) -> Workload:
    """The workload of one ``env/`` case: a repeat is one vector step.

    fastdqn's own envs are tensors: they step on the device of the run.

    Args:
        context: Device and sizes.
        env_id: Of Gymnasium, ALE or fastdqn, or ``synthetic``.
        num_envs: N.
        num_threads: Of ALE.
        bare: Time the env's own step() instead of the stream's send() and recv().
        per_frame: Give times per frame, not per vector step.
        **options: Of the env.
    """
    if options.get("compile"):
        context.require_compiler()
    num_envs = context.small(num_envs, 4)
    if num_threads is not None:
        num_threads = context.small(num_threads, 2)
    native = env_id.startswith("fastdqn/")
    device = str(context.device) if native else "cpu"
    stream = make_stream(env_id, num_envs, num_threads, device, **options)
    shape = (64, num_envs)
    random = torch.randint(0, stream.num_actions, shape, generator=torch.Generator().manual_seed(0))
    actions: Any = random.to(context.device) if native else random.numpy()
    envs: Any = None
    if bare:
        envs = gymnasium.make_vec(
            env_id, num_envs, vectorization_mode="vector_entry_point", device=device, **options
        )
        envs.reset(seed=0)
    turn = 0

    def run(repeats: int) -> None:
        nonlocal turn
        for _ in range(repeats):
            turn += 1
            if bare:
                envs.step(actions[turn % 64])
            else:
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
        if env_id == "fastdqn/CartPole-v1" and not options.get("pixels"):
            start = _host(stream.reset(seed=0).observation)
            _expect_physics(start, lambda action: _through(stream, action), actions)
            if bare:
                _expect_physics(
                    _host(envs.reset(seed=0)[0]),
                    lambda action: _host(envs.step(action)[0]),
                    actions,
                )
        elif options.get("difference"):
            _expect_differences(env_id, num_envs, device, options, actions)

    skip = FRAME_SKIP if env_id.startswith("ALE/") else 1
    units = num_envs if per_frame else 1
    counts = {"env_steps": num_envs // units}
    if skip > 1:
        counts["frames"] = num_envs * skip
    return Workload(
        run=run,
        check=check,
        unit="frame" if per_frame else "vector step",
        units=units,
        counts=counts,
        host_clock=not native,
        threads=1,
        details={"env_id": env_id, "num_envs": num_envs, "num_threads": num_threads, **options},
        close=stream.close,
    )


def _host(array: Any) -> Tensor:
    return torch.as_tensor(array).cpu()


def _through(stream: EnvStream, action: Any) -> Tensor:
    stream.send(action)
    return _host(stream.recv().observation)


def _expect_physics(seen: Tensor, step: Callable[[Any], Tensor], actions: Any) -> None:
    """Raise CheckError unless Gymnasium's own CartPole moves as ``step`` does."""
    mode = "vector_entry_point"
    theirs = gymnasium.make_vec("CartPole-v1", len(seen), vectorization_mode=mode)
    theirs.reset(seed=0)
    for turn in range(_STEPS_BEFORE_ANY_FALL):
        theirs.unwrapped.state = seen.numpy().T.astype(np.float64)  # type: ignore[attr-defined]
        expected = theirs.step(_host(actions[turn]).numpy())[0]
        seen = step(actions[turn])
        error = float((seen - torch.as_tensor(expected)).abs().max())
        expect(error <= 1e-6, f"a step differs from Gymnasium's by {error:.2g}")


def _expect_differences(
    env_id: str, num_envs: int, device: str, options: dict[str, Any], actions: Any
) -> None:
    """Raise CheckError unless a difference is what two screens in a row differ by."""
    differences = make_stream(env_id, num_envs, device=device, **options)
    screens = make_stream(env_id, num_envs, device=device, **{**options, "difference": False})
    before = _host(screens.reset(seed=0).observation).float()
    differences.reset(seed=0)
    for action in actions[:_STEPS_BEFORE_ANY_FALL]:
        now, seen = _through(screens, action).float(), _through(differences, action)
        expect(bool((seen != 0).any()), "nothing moves")
        error = float((seen - (now - before) / 255).abs().max())
        expect(error <= 1e-6, f"a difference is off by {error:.2g}")
        before = now


def make_stream(
    env_id: str,
    num_envs: int,
    num_threads: int | None = None,
    device: str = "cpu",
    **options: Any,
) -> EnvStream:
    """The stream of one id or of ``synthetic``; UnavailableError where it is not installed."""
    if env_id == "synthetic":
        return make_envs(SyntheticPixelEnvs(num_envs), frame_stack=4)
    if env_id.startswith("ALE/"):
        require_ale()
        return make_envs(env_id, num_envs, num_threads=num_threads)
    if env_id not in gymnasium.registry:
        raise UnavailableError(f"{env_id} is not registered with gymnasium")
    return make_envs(env_id, num_envs, device=device, **options)


def require_ale() -> None:
    """UnavailableError without ale-py."""
    try:
        import ale_py  # noqa: F401
    except ImportError:
        raise UnavailableError("needs ale-py: pip install 'fastdqn[atari]'") from None
