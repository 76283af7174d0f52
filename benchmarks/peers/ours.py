"""fastdqn: end to end, the update alone, prioritized replay, memory, the cost of TensorDict."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from tensordict import TensorDict

from benchmarks.peers.cycle import measure_cycles, raw_priorities
from benchmarks.peers.measure import (
    Pace,
    Work,
    interleaved_s,
    keep_freed_memory,
    resident_bytes,
    start,
)
from benchmarks.peers.plain import update_alone
from benchmarks.peers.settings import (
    ALPHA,
    BETA,
    EPISODE,
    FRAME,
    HIDDEN,
    PIXEL_BATCHES,
    PIXEL_ROWS,
    PONG_ACTIONS,
    STACK,
    TASKS,
    VECTOR_BATCHES,
    VECTOR_ROWS,
    frames,
)
from fastdqn import Config, Learner, ReplayBuffer, TimeStep, train
from fastdqn.frame_ring import FrameRing
from fastdqn.networks import make_network
from fastdqn.returns import n_step_return

VECTOR = Box(-np.inf, np.inf, (4,), np.float32)
PIXELS = Box(0, 255, FRAME, np.uint8)


def config(work: Work, run_dir: str) -> Config:
    """The row's task. ``work.variant`` holds ``name=value`` pairs that replace fields."""
    task = TASKS[work.row]
    pixels = work.row == "pong-8"
    changes: dict[str, Any] = dict(pair.split("=") for pair in work.variant.split())
    for name in ("updates_per_launch", "torch_threads"):
        if name in changes:
            changes[name] = int(changes[name])
    if changes.get("max_grad_norm") == "none":
        changes["max_grad_norm"] = None
    fields: dict[str, Any] = {
        "env_id": "ALE/Pong-v5" if pixels else task.env_id,
        "atari_protocol": "classic",
        "num_envs": task.num_envs,
        "frame_stack": STACK if pixels else None,
        "reward_clip": 1.0 if pixels else None,
        "hidden_sizes": (512,) if pixels else HIDDEN,
        "total_env_steps": 100_000_000,
        "learning_starts_env_steps": work.scaled(task.learning_starts, 320),
        "update_period_env_steps": float(task.period),
        "batch_size": task.batch_size,
        "n_step": 1,
        "gamma": task.gamma,
        "double": False,
        "loss": "huber",
        "max_grad_norm": task.max_grad_norm,
        "learning_rate": task.learning_rate,
        "learning_rate_final": None,
        "target_period_updates": task.target_period_updates,
        "epsilon_end": task.epsilon_end,
        "epsilon_duration_env_steps": task.epsilon_duration,
        "replay_capacity": task.capacity,
        "eval_episodes": 0,
        "save_final_checkpoint": False,
        "log_period_env_steps": 80 if pixels else work.scaled(3_200, 640),
        "device": work.device,
        # On an MLP fastdqn takes one thread by itself.
        "torch_threads": work.threads if pixels else None,
        "run_dir": run_dir,
    }
    return Config(**{**fields, **changes})


def end_to_end(work: Work) -> dict[str, Any]:
    """Transitions per second after learning starts; rows that envs spend on resets do not count."""
    task = TASKS[work.row]
    # Whole launches of updates, and up to a vector step's updates, may lie across an end.
    launch = 16 + task.num_envs // task.period
    pace = Pace(
        work.seconds,
        task.period,
        warm_updates=work.scaled(task.warm_updates, 8),
        slack_updates=launch,
    )
    counted = [0.0, 0.0]  # transitions and seconds since counting started
    warming = [0, 0.0]  # env steps and seconds before, from the row with the first update on
    last_s, last_steps = time.perf_counter(), 0

    def on_log(row: Mapping[str, float]) -> bool:
        nonlocal last_s, last_steps
        now, env_steps = time.perf_counter(), int(row["env_steps"])
        if pace.counting:
            counted[0] += row["env_steps_per_s"] * (now - last_s)  # without rows of resets
            counted[1] += now - last_s
        elif row["updates"] > 0:
            warming[0] += env_steps - last_steps
            warming[1] += now - last_s
        last_s, last_steps = now, env_steps
        return pace.tick(env_steps, int(row["updates"]))

    with tempfile.TemporaryDirectory() as scratch:
        result = train(config(work, os.path.join(scratch, "run")), on_log=on_log)
    found = pace.result()
    beyond = warming[1] - warming[0] / found["env_steps_per_s"]
    return {
        **found,
        "transitions_per_s": counted[0] / counted[1],
        # What warming up took beyond the time that as many steps take later: compiling, mostly.
        "compile_s": round(max(0.0, beyond), 2),
        "torch_threads": result.summary["torch_threads"],
        "mode": result.summary["mode"],
        "precision": result.summary["precision"],
    }


def stream(count: int, num_envs: int, observations: Iterator[np.ndarray]) -> Iterator[TimeStep]:
    """``count`` vector steps after a reset; every episode ends by termination."""
    reward, no = np.ones(num_envs, np.float32), np.zeros(num_envs, bool)
    for step in range(count + 1):
        first = np.full(num_envs, step % (EPISODE + 1) == 0)
        ended = np.full(num_envs, step % (EPISODE + 1) == EPISODE)
        yield TimeStep(next(observations), np.where(first, 0, reward), ended & ~first, no, first)


def fill(replay: ReplayBuffer, rows: int, observations: Iterator[np.ndarray]) -> None:
    """Add rows through the public interface."""
    steps = stream(rows // replay.num_envs, replay.num_envs, observations)
    replay.add(next(steps), None)
    actions = np.ones(replay.num_envs, np.int64)
    for step in steps:
        replay.add(step, actions)


def vectors(num_envs: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    while True:
        yield random.standard_normal((num_envs, 4), dtype=np.float32)


def images(num_envs: int) -> Iterator[np.ndarray]:
    pool, step = frames(), 0
    offsets = np.arange(num_envs) * 31
    while True:
        yield pool[(step * 7 + offsets) % 256]
        step += 1


def pixel_replay(rows: int, num_envs: int, device: str, **kwargs: Any) -> ReplayBuffer:
    """Filled; every frame stored once."""
    replay = ReplayBuffer(
        rows, num_envs, PIXELS, frame_stack=STACK, alpha=ALPHA, device=device, **kwargs
    )
    fill(replay, rows, images(num_envs))
    return replay


def update(work: Work) -> dict[str, Any]:
    """The Nature double-DQN update, every implementation in turn within this process.

    The plain ones train on one batch that stays where it is; fastdqn's draw theirs from a replay.
    """
    batch_size = int(work.row.removeprefix("update-"))
    if work.variant == "malloc":
        keep_freed_memory()
    on_cuda = work.device != "cpu"
    replay = pixel_replay(work.scaled(8_192, 1_024), 8, work.device)
    plans: dict[str, Callable[[], object]] = {
        "CleanRL-like eager, fp32": update_alone(batch_size, device=work.device)
    }
    modes = ["eager"]
    if work.variant == "malloc" or on_cuda:
        kind = "LeanRL-like captured, fp32" if on_cuda else "LeanRL-like compiled, fp32"
        plans[kind] = update_alone(batch_size, lean=True, device=work.device)
        modes += ["compile"] + ["graph"] * on_cuda
    learners: dict[str, Learner] = {}
    for precision in ("fp32", "bf16"):
        for mode in modes:
            torch.manual_seed(0)
            network = make_network(FRAME, PONG_ACTIONS, frame_stack=STACK, hidden_sizes=(512,))
            learner = Learner(
                network, loss="mse", precision=precision, mode=mode, device=work.device
            )
            label = f"fastdqn {mode}, {precision}"
            learners[label] = learner
            plans[label] = lambda learner=learner: learner.update_from(
                replay, 1, batch_size=batch_size
            )
    times = interleaved_s(plans, work.seconds, work.device)
    for label, learner in learners.items():
        if not torch.isfinite(learner.flat.data).all():
            raise RuntimeError(f"{label}: the parameters are not finite")
    return {"values": {work.row: {label: 1 / each for label, each in times.items()}}}


def prioritized(work: Work) -> dict[str, Any]:
    """The cycle, and on pixels the memory that filling took."""
    values: dict[str, Any] = {}
    if work.row == "per-vector":
        rows, envs, batches, shape = VECTOR_ROWS, 64, VECTOR_BATCHES, (4,)
        replay = ReplayBuffer(
            work.scaled(rows, 6_400), envs, VECTOR, prioritized=True, alpha=ALPHA,
            device=work.device,
        )  # fmt: skip
        fill(replay, replay.capacity, vectors(envs))
    else:
        batches, shape = PIXEL_BATCHES, (STACK, *FRAME)
        before = resident_bytes()
        replay = pixel_replay(work.scaled(PIXEL_ROWS, 1_000), 8, work.device, prioritized=True)
        if work.device == "cpu":
            values["memory-100k"] = (resident_bytes() - before) / 1e9
    everything = torch.arange(replay.capacity, device=work.device)
    raw = torch.from_numpy(raw_priorities(replay.capacity)).to(work.device)
    replay.update_priorities(everything, raw)

    def cycle(batch_size: int, priority: torch.Tensor) -> Any:
        batch = replay.sample(batch_size, beta=BETA)  # with its importance weights
        replay.update_priorities(batch.index, priority)
        return batch.observation

    def convert(priority: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(priority).to(work.device)

    return {"values": {**values, **measure_cycles(work, cycle, batches, shape, convert)}}


class PlainRing:
    """FrameRing's write and one-step gather, operation by operation, on tensors of nobody."""

    def __init__(self, rows: int, num_envs: int) -> None:
        self.num_envs, self.size = num_envs, rows * num_envs
        self.frames = torch.zeros(self.size + 1, 4)
        self.action = torch.zeros(self.size, dtype=torch.int64)
        self.reward = torch.zeros(self.size)
        self.terminated, self.truncated, self.first = torch.zeros(3, self.size, dtype=torch.bool)

    def write(self, index: Any, observation: Any, *scalars: Any) -> None:
        """As FrameRing.write."""
        action, reward, terminated, truncated, first = scalars
        keep = ~first
        self.frames.index_copy_(0, index, observation.to(self.frames.dtype))
        self.action.index_copy_(0, index, action.to(torch.int64) * keep)
        self.reward.index_copy_(0, index, torch.where(keep, reward.to(torch.float32), 0.0))
        self.terminated.index_copy_(0, index, terminated & keep)
        self.truncated.index_copy_(0, index, truncated & keep)
        self.first.index_copy_(0, index, first)

    def transition(self, index: Any, gamma_powers: Any) -> tuple[torch.Tensor, ...]:
        """As FrameRing.transition for n = 1."""
        following = (index + self.num_envs) % self.size
        action = self.action.index_select(0, following)
        window = following.unsqueeze(1)
        reward = self.reward.index_select(0, window.view(-1)).view(window.shape)
        terminated = self.terminated.index_select(0, window.view(-1)).view(window.shape)
        reward, discount, _ = n_step_return(reward, terminated, terminated[:, :0], gamma_powers)
        observation = self.frames.index_select(0, index)
        return observation, action, reward, discount, self.frames.index_select(0, following)


def tensordict(work: Work) -> dict[str, Any]:
    """What a TensorDict as the owner of its tensors costs the ring that writes and reads."""
    rows, envs, batch_size = work.scaled(VECTOR_ROWS, 6_400) // 64, 64, 256
    ring, plain = FrameRing(rows, envs, VECTOR), PlainRing(rows, envs)
    assert isinstance(ring.storage, TensorDict)
    generator = torch.Generator().manual_seed(0)
    powers = torch.tensor([1.0, 0.99])
    draws = [torch.randint(0, rows * envs, (batch_size,), generator=generator) for _ in range(64)]
    slots = [torch.randperm(rows * envs, generator=generator)[:envs] for _ in range(64)]
    row = (
        torch.randn(envs, 4, generator=generator),
        torch.ones(envs, dtype=torch.int64),
        torch.randn(envs, generator=generator),
        *(torch.rand(3, envs, generator=generator) < 0.1),
    )
    for store in (ring, plain):
        for slot in slots:
            store.write(slot, *row)
    for draw in draws:
        pair = zip(ring.transition(draw, 1, powers), plain.transition(draw, powers), strict=True)
        if not all(torch.equal(a, b) for a, b in pair):
            raise RuntimeError("the plain ring and FrameRing differ")
    turn = 0

    def next_of(indices: list[torch.Tensor]) -> torch.Tensor:
        nonlocal turn
        turn += 1
        return indices[turn % len(indices)]

    times = interleaved_s(
        {
            "write plain": lambda: plain.write(next_of(slots), *row),
            "write fastdqn": lambda: ring.write(next_of(slots), *row),
            "sample plain": lambda: plain.transition(next_of(draws), powers),
            "sample fastdqn": lambda: ring.transition(next_of(draws), 1, powers),
        },
        work.seconds,
    )
    labels = {"plain": "plain tensors", "fastdqn": "fastdqn (TensorDict)"}
    return {
        "values": {
            f"tensordict-{what}": {
                label: times[f"{what} {kind}"] * 1e6 for kind, label in labels.items()
            }
            for what in ("write", "sample")
        }
    }


def main(work: Work) -> dict[str, Any]:
    if work.row in TASKS:
        found = end_to_end(work)
        return {"values": {work.row: found["transitions_per_s"]}, **found}
    if work.row.startswith("update-"):
        return update(work)
    return tensordict(work) if work.row == "tensordict" else prioritized(work)


if __name__ == "__main__":
    start(main)
