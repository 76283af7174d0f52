"""fastdqn: end to end and the update alone; its other rows are in the two files imported here."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.peers.measure import Pace, Work, interleaved_s, keep_freed_memory, start
from benchmarks.peers.ours_replay import pixel_replay, prioritized
from benchmarks.peers.plain import update_alone
from benchmarks.peers.plain_ring import tensordict
from benchmarks.peers.settings import FRAME, HIDDEN, PONG_ACTIONS, STACK, TASKS
from fastdqn import Config, Learner, train
from fastdqn.networks.make import make_network


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
        **({"atari_protocol": "classic"} if pixels else {}),
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
    """Speed after learning starts, and the share of env steps that are no resets."""
    task = TASKS[work.row]
    # Whole launches of updates, and up to a vector step's updates, may lie across an end.
    launch = 16 + task.num_envs // task.period
    pace = Pace(
        work.seconds,
        task.period,
        warm_updates=work.scaled(task.warm_updates, 8),
        slack_updates=launch,
    )
    counted: list[tuple[int, int]] = []  # env steps and episodes since counting started
    warming = [0, 0.0]  # env steps and seconds before, from the row with the first update on
    last_s, last_steps = time.perf_counter(), 0

    def on_log(row: Mapping[str, float]) -> bool:
        nonlocal last_s, last_steps
        now, env_steps = time.perf_counter(), int(row["env_steps"])
        if pace.counting:
            counted.append((env_steps, int(row["episodes"])))
        elif row["updates"] > 0:
            warming[0] += env_steps - last_steps
            warming[1] += now - last_s
        last_s, last_steps = now, env_steps
        return pace.tick(env_steps, int(row["updates"]))

    if work.row == "pong-8" and work.device == "cpu":
        keep_freed_memory()  # as the command line does
    with tempfile.TemporaryDirectory() as scratch:
        result = train(config(work, os.path.join(scratch, "run")), on_log=on_log)
    found = pace.result()
    beyond = warming[1] - warming[0] / found["env_steps_per_s"]
    return {
        **found,
        # Each episode that ends costs its env one step for the reset.
        "share_of_transitions": 1.0
        - (counted[-1][1] - counted[0][1]) / max(1, counted[-1][0] - counted[0][0]),
        # What warming up took beyond the time that as many steps take later: compiling, mostly.
        "compile_s": round(max(0.0, beyond), 2),
        "torch_threads": result.summary["torch_threads"],
        "mode": result.summary["mode"],
        "precision": result.summary["precision"],
    }


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
    ways = [("eager", 1)]  # mode, updates per launch
    if work.variant == "malloc" or on_cuda:
        kind = "LeanRL-like captured, fp32" if on_cuda else "LeanRL-like compiled, fp32"
        plans[kind] = update_alone(batch_size, lean=True, device=work.device)
        ways += [("compile", 1)] + [("graph", 1), ("graph", 8)] * on_cuda
    learners: dict[str, Learner] = {}
    launches = dict.fromkeys(plans, 1)
    for precision in ("fp32", "bf16"):
        for mode, launch in ways:
            torch.manual_seed(0)
            network = make_network(FRAME, PONG_ACTIONS, frame_stack=STACK, hidden_sizes=(512,))
            learner = Learner(
                network,
                loss="mse",
                precision=precision,
                mode=mode,
                updates_per_launch=launch,
                device=work.device,
            )
            label = f"fastdqn {mode}{f' x{launch}' if launch > 1 else ''}, {precision}"
            learners[label], launches[label] = learner, launch
            plans[label] = lambda learner=learner, launch=launch: learner.update_from(
                replay, launch, batch_size=batch_size
            )
    times = interleaved_s(plans, work.seconds / 2, work.device)  # of each: they are many
    for label, learner in learners.items():
        if not torch.isfinite(learner.flat.data).all():
            raise RuntimeError(f"{label}: the parameters are not finite")
    return {"values": {work.row: {label: launches[label] / each for label, each in times.items()}}}


def main(work: Work) -> dict[str, Any]:
    if work.row in TASKS:
        found = end_to_end(work)
        return {
            "values": {work.row: found["env_steps_per_s"] * found["share_of_transitions"]},
            **found,
        }
    if work.row.startswith("update-"):
        return update(work)
    return tensordict(work) if work.row == "tensordict" else prioritized(work)


if __name__ == "__main__":
    start(main)
