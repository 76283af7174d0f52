"""What the cases of a run share: the device, the sizes, and replays full of random bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from fastdqn.bench.case import IMPALA_WIDTHS
from fastdqn.bench.floors import (
    DER,
    FRAME,
    STACK,
    NetworkWork,
    impala_work,
    mlp_work,
    nature_work,
    strided_work,
)
from fastdqn.bench.random_replay import fill_random
from fastdqn.bench.workload import UnavailableError
from fastdqn.networks.make import make_network
from fastdqn.networks.q_network import QNetwork
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.system.compilation import has_cpp_compiler, resolve_mode
from fastdqn.system.devices import has_bf16, resolve_device
from fastdqn.system.host import keep_freed_memory, usable_cpus

NUM_ACTIONS = {"nature": 18, "mlp": 2}
HIDDEN_SIZES = {"nature": (512,), "mlp": (120, 84), "der": (256,)}  # nature's of other images
_NUMBERS = {"scalar": 1, "c51": 51, "qr": 200, "iqn": 1}  # of each action, by head


def is_mlp(net: str) -> bool:
    """Whether a net of the catalogue is the one on vectors."""
    return net in ("mlp", "vector")


class Context:
    """One run of the bench.

    On a CPU, convolutions get every usable CPU and the allocator keeps what is freed, as in a
    training run; all cases of the process have it so, the peers among them.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        smoke: Tiny sizes.
    """

    def __init__(self, device: str, *, smoke: bool = False) -> None:
        self.device = resolve_device(device)
        self.smoke = smoke
        self._replays: dict[Any, ReplayBuffer] = {}
        if self.device.type == "cpu":
            keep_freed_memory()
        else:
            torch.cuda.set_device(self.device)
            torch.backends.cudnn.benchmark = True

    def small(self, size: int, smoke_size: int) -> int:
        """``size``, or at most ``smoke_size`` in a smoke run."""
        return min(size, smoke_size) if self.smoke else size

    def threads(self, net: str) -> int:
        """CPU threads that a training run would give this net."""
        return 1 if is_mlp(net) or self.device.type == "cuda" else usable_cpus()

    def precision(self, net: str) -> str:
        """What ``auto`` is for this net here."""
        return "bf16" if not is_mlp(net) and has_bf16(self.device) else "fp32"

    def require_compiler(self) -> None:
        """UnavailableError (or ConfigError, on CUDA) where nothing can be compiled."""
        if self.device.type == "cpu" and not has_cpp_compiler():
            raise UnavailableError("needs a C++ compiler")
        resolve_mode("compile", self.device)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def generator(self, seed: int) -> torch.Generator:
        """On the device."""
        return torch.Generator(self.device).manual_seed(seed)

    def network(self, net: str, seed: int = 0, **options: Any) -> QNetwork:
        """A new network on the device; options as for :func:`make_network`."""
        mlp, width = is_mlp(net), IMPALA_WIDTHS.get(net)
        options = {"dueling": net == "nature_duel", "impala_width": width or 1, **options}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = make_network(
                (4,) if mlp else FRAME,
                NUM_ACTIONS["mlp" if mlp else "nature"],
                kind="mlp" if mlp else "impala" if width else "der" if net == "der" else "nature",
                frame_stack=None if mlp else STACK,
                hidden_sizes=HIDDEN_SIZES["mlp"] if mlp else _hidden_sizes(net),
                **options,
            )
        return network.to(self.device)

    def replay(
        self,
        net: str,
        *,
        prioritized: bool = False,
        n_step: int = 1,
        capacity: int | None = None,
        num_envs: int = 8,
        mode: str = "auto",
    ) -> ReplayBuffer:
        """A replay full of random bytes; equal arguments give the same one within a family.

        Raises:
            MemoryPlanError: Where it does not fit.
        """
        key = (is_mlp(net), prioritized, n_step, capacity, num_envs, mode)
        if key not in self._replays:
            self._replays[key] = self._make_replay(*key)
        return self._replays[key]

    def forget_replays(self) -> None:
        """Between families."""
        self._replays.clear()

    def pixel_capacity(self) -> int:
        """Frames in a replay of images: more than any cache holds."""
        return self.small(1_000_000 if self.device.type == "cuda" else 20_000, 1_600)

    def _make_replay(
        self,
        mlp: bool,
        prioritized: bool,
        n_step: int,
        capacity: int | None,
        num_envs: int,
        mode: str,
    ) -> ReplayBuffer:
        default = self.small(100_000, 2_000) if mlp else self.pixel_capacity()
        arguments: dict[str, Any] = {
            "capacity": capacity or default,
            "num_envs": num_envs,
            "observation_space": Box(-np.inf, np.inf, (4,), np.float32)
            if mlp
            else Box(0, 255, FRAME, np.uint8),
            "frame_stack": None if mlp else STACK,
            "n_step": n_step,
            "prioritized": prioritized,
            "device": self.device,
        }
        ReplayBuffer.plan(**arguments, batch_size=1024)
        replay = ReplayBuffer(**arguments, mode=mode)
        fill_random(replay, NUM_ACTIONS["mlp" if mlp else "nature"])
        return replay


def _hidden_sizes(net: str) -> tuple[int, ...]:
    return HIDDEN_SIZES.get(net, HIDDEN_SIZES["nature"])


def network_work(net: str, *, head: str = "scalar", **options: Any) -> NetworkWork:
    """FLOP and bytes of a net of the catalogue; options as for :func:`strided_work`."""
    if is_mlp(net):
        return mlp_work(4, HIDDEN_SIZES["mlp"], NUM_ACTIONS["mlp"])
    if net in IMPALA_WIDTHS:
        return impala_work(NUM_ACTIONS["nature"], IMPALA_WIDTHS[net])
    options["numbers"] = _NUMBERS[head]
    if net == "der":
        return strided_work(DER, NUM_ACTIONS["nature"], hidden=HIDDEN_SIZES["der"][0], **options)
    return nature_work(NUM_ACTIONS["nature"], **{"dueling": net == "nature_duel", **options})
