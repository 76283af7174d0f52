"""What was predicted before anything was run on a GPU, and what is wanted. Needs no torch.

Predictions are for an H100 with 16 processor cores, from counts of kernels, FLOP and bytes at 1.6
to 2.2 us for each node of a captured graph. A miss either way wants an explanation.

The rungs' were made first, three of them for more than the rung has: 3 was to be the step from one
tensor per layer to a flat buffer, and the learner's is flat from 0 on; 6 was to be one forward over
s, s' and s' with the weights chosen by row, and is one over s and s' beside the target's; 7 was to
have a first convolution that reads bytes, and has a kernel that gathers them into its input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Found = Mapping[str, Mapping[str, Any]]
"""Entries by stage."""
Find = Callable[[Found], float | None]

TRAINS = "2_graph"  # the rung that is the learner as it trains on CUDA


@dataclass(frozen=True)
class Prediction:
    """A number foreseen between ``low`` and ``high``."""

    stage: str
    line: str
    low: float
    high: float
    unit: str
    find: Find


@dataclass(frozen=True)
class Target:
    """A number wanted: at least ``must``, or at most where ``at_most``; hoped for: ``aim``."""

    line: str
    must: float
    aim: float | None
    unit: str
    find: Find
    at_most: bool = False


# --- where the numbers are found -----------------------------------------------------------------


def entry(stage: str, key: str, *path: str) -> Find:
    """A number within an entry."""

    def find(found: Found) -> float | None:
        value: Any = found.get(stage, {}).get(key)
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return None if value is None else float(value)

    return find


def update_us(batch_size: int, rung: str = TRAINS) -> Find:
    """Microseconds per update of a rung, at the number per launch where it is fastest."""

    def find(found: Found) -> float | None:
        value = found.get(f"ladder{batch_size}", {}).get(rung, {})
        times = [float(value[name]["us"]) for name in value if name.startswith("K")]
        return min(times, default=None)

    return find


def _peer_us(batch_size: int, peer: str) -> Find:
    """Microseconds of a peer's update, with TF32 or without, whichever is faster."""

    def find(found: Found) -> float | None:
        ways = [entry("peers", f"{peer}/B{batch_size}/{tf32}", "us") for tf32 in ("fp32", "tf32")]
        return min((us for way in ways if (us := way(found)) is not None), default=None)

    return find


def _per_second(us: Find) -> Find:
    return lambda found: None if (value := us(found)) is None else 1e6 / value


def _ratio(above: Find, below: Find) -> Find:
    def find(found: Found) -> float | None:
        a, b = above(found), below(found)
        return None if a is None or not b else a / b

    return find


def _frames(case: str) -> Find:
    return entry("e2e", case, "frames_per_s")


# --- predictions ---------------------------------------------------------------------------------

RUNG_US: dict[str, dict[int, tuple[float, float]]] = {
    "0_eager": {32: (1500, 2500), 256: (1600, 2600)},
    "1_compile": {32: (700, 1000), 256: (750, 1000)},
    "2a_eager_replay": {32: (400, 450)},  # 187 launches, 126 of them the replay's and the step's
    "2_graph": {32: (190, 230), 256: (300, 380)},
    "3_flatadam": {32: (170, 200), 256: (280, 350)},
    "4_s2d": {32: (160, 185), 256: (250, 300)},
    "5_streams": {32: (120, 140), 256: (220, 270)},
    "6_2B": {32: (90, 110), 256: (180, 220)},
    "7_fused": {32: (60, 80), 256: (110, 140)},
}
"""Microseconds per update by rung and batch size."""

# Nodes, and three fills around the graph: of beta, and of the generator's seed and offset.
_LAUNCHES = {"2a_eager_replay": (190, 190), "2_graph": (93, 93), "7_fused": (53, 63)}
_FRAMES = {16: 54_000, 64: 66_000, 128: 69_000}

PREDICTIONS = (
    Prediction("probe", "a node of a captured graph", 1.6, 2.2, "us", entry("probe", "node_us")),
    *(
        Prediction(
            f"ladder{batch_size}", rung, *ranges[batch_size], "us/update",
            update_us(batch_size, rung),
        )
        for batch_size in (32, 256)
        for rung, ranges in RUNG_US.items()
        if batch_size in ranges
    ),
    *(
        Prediction(
            "ladder32", f"launches of {rung}", low, high, "",
            entry("ladder32", rung, "kernels", "launches"),
        )
        for rung, (low, high) in _LAUNCHES.items()
    ),
    Prediction(
        "parts", "storing eager, 64 envs", 150, 190, "us", entry("parts", "add/N64/eager", "us")
    ),
    Prediction(
        "e2e", "64 envs alone", 178_000, 178_000, "frames/s",
        entry("probe", "pong/N64", "frames_per_s"),
    ),
    *(
        Prediction(
            "e2e", f"A on Pong, {n} envs", frames, frames, "frames/s", _frames(f"A/pong/N{n}")
        )
        for n, frames in _FRAMES.items()
    ),
)  # fmt: skip

# --- targets -------------------------------------------------------------------------------------


def _update_targets(batch_size: int, must: float, aim: float) -> tuple[Target, ...]:
    us = update_us(batch_size)
    name = f"Nature double DQN with PER, batch {batch_size}"
    return (
        Target(name, must, aim, "updates/s", _per_second(us)),
        Target(
            f"{name}, over plain eager torch", 6, None, "x",
            _ratio(_peer_us(batch_size, "plain"), us),
        ),
        Target(
            f"{name}, over LeanRL-like", 1.5, None, "x",
            _ratio(_peer_us(batch_size, "lean"), us),
        ),
    )  # fmt: skip


_TREE = entry("parts", "tree/1M/B256/graph", "us")
TARGETS = (
    *_update_targets(32, 4_500, 9_000),
    *_update_targets(256, 3_000, 6_000),
    Target(
        "Pong, batch 32, 1 update per 4 env steps, 64 envs", 60_000, 125_000, "frames/s",
        _frames("A/pong/N64"),
    ),
    Target(
        "Pong, batch 256, 1 update per 64 env steps, over the envs alone", 0.9, None, "x",
        _ratio(_frames("B/pong/N64"), entry("probe", "pong/N64", "frames_per_s")),
    ),
    Target("PER draw and write-back, 2^20 leaves, batch 256", 60, 15, "us", _TREE, at_most=True),
    Target(
        "PER draw and write-back, over a cumulative sum of all leaves", 20, None, "x",
        _ratio(entry("parts", "tree/1M/B256/cumsum", "us"), _TREE),
    ),
)  # fmt: skip
