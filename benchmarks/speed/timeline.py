"""Where the time of the loop goes: a trace of a few vector steps, and a picture of it.

python -m benchmarks.speed.timeline                        # Pong, 8 envs; on CUDA 64
python -m benchmarks.speed.timeline --picture docs/timeline.png --trace trace.json

The lanes are steps in flight (sent to the envs and not yet received), what the host does, and on
CUDA the kernels. The trace opens in Perfetto or chrome://tracing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch.profiler import ProfilerActivity, profile, record_function

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from fastdqn import presets
from fastdqn.bench.cases.e2e import ENDLESS, MeteredLoop
from fastdqn.config.config import Config
from fastdqn.training.build import keep_memory_for
from fastdqn.training.trainer import Trainer

COLOURS = {
    "envs": "#009E73", "update": "#0072B2", "recv": "#BBBBBB", "add": "#E69F00", "act": "#CC79A7",
    "GPU": "#D55E00",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.timeline", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--preset", default="dqn-atari")
    parser.add_argument("--num-envs", type=int)
    parser.add_argument("--steps", type=int, default=6, help="vector steps in the trace")
    parser.add_argument("--picture", default="timeline.png")
    parser.add_argument("--trace", help="where to write the profiler's trace")
    args = parser.parse_args()
    on_cuda = torch.cuda.is_available()
    num_envs = args.num_envs or (64 if on_cuda else 8)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(config(args.preset, num_envs, str(Path(scratch) / "run")))
        keep_memory_for(trainer.learner.network, trainer.device)
        try:
            spans = record(trainer, args.steps, on_cuda, args.trace)
        finally:
            trainer.close()
        learner = trainer.learner
        title = (
            f"{args.preset}, {num_envs} envs, {learner.precision}, {learner.mode}, "
            f"{'GPU' if on_cuda else f'{torch.get_num_threads()} torch threads'}"
        )
    draw(spans, title, args.picture)
    begin = min(start for _, _, start, _ in spans)
    length = max(end for *_, end in spans) - begin
    for lane in ("envs", "host", "GPU"):
        busy = [(s, e) for name, _, s, e in spans if name == lane]
        if busy:
            print(f"{lane:<6} busy {union(busy) / length:.0%} of {length * 1e3:.1f} ms")


def config(preset: str, num_envs: int, run_dir: str) -> Config:
    base = presets()[preset]
    return base.replace(
        num_envs=num_envs,
        replay_capacity=max(20_000, 100 * num_envs),
        learning_starts_env_steps=20 * num_envs,
        run_dir=run_dir,
        **ENDLESS,
    )


def record(
    trainer: Trainer, steps: int, on_cuda: bool, trace: str | None
) -> list[tuple[str, str, float, float]]:
    """(lane, what, start, end) of everything within the traced steps, in seconds."""
    loop = MeteredLoop(trainer)
    loop.run(40)  # past the start of learning, compilation and captures
    spans: list[tuple[str, str, float, float]] = []
    sent = 0.0

    def watch(owner: Any, method: str, what: str) -> None:
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            nonlocal sent
            start = time.perf_counter()
            with record_function(what):
                result = inner(*args, **kwargs)
            end = time.perf_counter()
            if what == "send":
                sent = start
            elif what == "recv":
                spans.append(("envs", "envs", sent, end))
            if what != "send":
                spans.append(("host", what, start, end))
            return result

        setattr(owner, method, timed)

    watch(trainer.envs, "send", "send")
    watch(trainer.envs, "recv", "recv")
    watch(trainer.learner, "update_from", "update")
    watch(trainer.replay, "add", "add")
    watch(trainer.actor, "act_from", "act")
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_cuda else [])
    if not trace and not on_cuda:
        loop.run(steps)
        return spans
    with profile(activities=activities) as profiler:
        zero = time.perf_counter()
        with record_function("zero"):
            pass
        loop.run(steps)
        if on_cuda:
            torch.cuda.synchronize()
    if trace:
        profiler.export_chrome_trace(trace)
    events = profiler.events()
    origin = next(event.time_range.start for event in events if event.name == "zero")
    for event in events:
        if event.device_type == torch.autograd.DeviceType.CUDA:
            start, end = event.time_range.start - origin, event.time_range.end - origin
            spans.append(("GPU", "GPU", zero + start * 1e-6, zero + end * 1e-6))
    return spans


def draw(spans: list[tuple[str, str, float, float]], title: str, path: str) -> None:
    lanes = [lane for lane in ("GPU", "host", "envs") if any(s[0] == lane for s in spans)]
    begin = min(start for _, _, start, _ in spans)
    figure, axes = plt.subplots(figsize=(10, 1.2 + 0.6 * len(lanes)), layout="constrained")
    seen = set()
    for lane, what, start, end in spans:
        axes.barh(
            lanes.index(lane),
            (end - start) * 1e3,
            left=(start - begin) * 1e3,
            height=0.7,
            color=COLOURS[what],
            label=None if what in seen else {"recv": "waiting for the envs"}.get(what, what),
        )
        seen.add(what)
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_xlabel("ms")
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
    print(path)


def union(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals, in seconds."""
    total, until = 0.0, -1.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


if __name__ == "__main__":
    main()
