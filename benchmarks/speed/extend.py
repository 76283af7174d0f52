"""How fast a data set of transitions becomes a replay.

python -m benchmarks.speed.extend
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from benchmarks.result_file import write_result
from fastdqn import ReplayBuffer

# Of a transition: the shape and dtype of a frame, and how many there are.
CASES = {
    "4 floats": ((4,), np.float32, 1_000_000),
    "17 floats": ((17,), np.float32, 1_000_000),
    "84 x 84 bytes": ((84, 84), np.uint8, 50_000),
}
EPISODE = 500


def data_set(shape: tuple[int, ...], dtype: type, length: int) -> list[np.ndarray]:
    """Random transitions; every episode has 500."""
    random = np.random.default_rng(0)
    if dtype is np.uint8:
        frames = random.integers(0, 256, (length + 1, *shape), dtype=np.uint8)
    else:
        frames = random.standard_normal((length + 1, *shape), dtype=np.float32)
    reward = random.standard_normal(length, dtype=np.float32)
    ends = np.arange(length) % EPISODE == EPISODE - 1
    action = random.integers(0, 4, length)
    return [frames[:-1], action, reward, frames[1:], ends, np.zeros(length, bool)]


def seconds(arrays: list[np.ndarray], space: Box, prioritized: bool, device: str) -> float:
    """From arrays on the host to a replay that can be drawn from."""
    length = len(arrays[0])
    replay = ReplayBuffer(
        length + length // EPISODE + 1, 1, space, prioritized=prioritized, device=device
    )
    start = time.perf_counter()
    replay.extend(*arrays)
    drawable = int(replay.drawable)  # waits for a GPU
    taken = time.perf_counter() - start
    assert drawable == length
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.extend", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--smoke", action="store_true", help="seconds, no claim")
    parser.add_argument("--out", help="where to write the JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    for name, (shape, dtype, length) in CASES.items():
        arrays = data_set(shape, dtype, length // 100 if args.smoke else length)
        space = Box(0, 255, shape, np.uint8) if dtype is np.uint8 else Box(-9, 9, shape, dtype)
        size = sum(array.nbytes for array in arrays) / 1e6
        for prioritized in (False, True):
            seconds(arrays, space, prioritized, args.device)  # what is loaded at first use
            taken = [
                seconds(arrays, space, prioritized, args.device)
                for _ in range(1 if args.smoke else args.rounds)
            ]
            speed = size / statistics.median(taken)
            label = f"{name}, {'prioritized' if prioritized else 'uniform'}"
            rows[label] = {"MB": size, "transitions": len(arrays[0]), "seconds": taken,
                           "MB/s": speed}  # fmt: skip
            print(f"{label:<30}{len(arrays[0]):>10,} transitions {size:6.0f} MB {speed:7.0f} MB/s")
    if not args.smoke or args.out:
        body = {"device": args.device, "threads": 1, "rows": rows}
        print(write_result("speed.extend", body, args.out))


if __name__ == "__main__":
    main()
