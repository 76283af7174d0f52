"""One case: the parts of a run on the fake device, each named, run, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box

from benchmarks.speed.launches.device import CUDA
from benchmarks.speed.launches.nodes import Node
from benchmarks.speed.launches.watch import WATCH, Tally
from fastdqn.acting.actor import Actor
from fastdqn.config.config import Config
from fastdqn.config.presets import preset
from fastdqn.learning.learner import Learner
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.training.build import build_learner, build_network, replay_arguments
from fastdqn.types import TimeStep

_ACTIONS = 6  # Pong's
_DOUBLE = {"double": True}
CASES: dict[str, Config] = {
    name: preset(recipe).replace(updates_per_launch=1, **changes)
    for name, (recipe, changes) in {
        "dqn-atari": ("dqn-atari", {}),
        "dqn-atari-256": ("dqn-atari", {"batch_size": 256}),
        "prioritized": ("double-dueling-per-atari", {}),
        "prioritized-n3": ("double-dueling-per-atari", {"n_step": 3}),
        "prioritized-256": ("double-dueling-per-atari", {"batch_size": 256}),
        "double": ("dqn-atari", _DOUBLE),
        "c51": ("dqn-atari", {**_DOUBLE, "head": "c51"}),
        "qr": ("dqn-atari", {**_DOUBLE, "head": "qr"}),
        "iqn": ("dqn-atari", {**_DOUBLE, "head": "iqn"}),
        "munchausen": ("dqn-atari", {"munchausen": True}),
        "munchausen-iqn": ("dqn-atari", {"head": "iqn", "munchausen": True}),
        "noisy": ("dqn-atari", {**_DOUBLE, "noisy": True}),
        "dueling": ("dqn-atari", {**_DOUBLE, "dueling": True}),
        "rainbow": ("rainbow-atari", {}),
        "der": ("data-efficient-atari", {}),
        "same": ("dqn-atari", {**_DOUBLE, "padding": "same"}),
        "impala": ("double-dueling-per-atari", {"network": "impala"}),
        "impala-256": ("double-dueling-per-atari", {"network": "impala", "batch_size": 256}),
    }.items()
}


class Cost(NamedTuple):
    """What one call asks of the device and of the host."""

    nodes: Tally  # all of them, those of the graphs launched included
    outside: int  # of them, launched one by one
    graphs: int  # launched
    waits: int  # of the host


def measure(call: Callable[[], Any], warm_up: int = 2) -> Cost:
    """The cost of a call once everything is compiled and captured."""
    for _ in range(warm_up):
        call()
    WATCH.outside, WATCH.launched, WATCH.waits = Counter(), [], 0
    WATCH.counting = True
    try:
        call()
    finally:
        WATCH.counting = False
    nodes = Counter(WATCH.outside)
    for graph in WATCH.launched:
        nodes.update(graph.nodes)
        for _ in graph.drawn_from:  # it is told each generator's seed and offset before
            fill = "", Node("aten", "fill_ of a generator's state")
            nodes[fill] += 2
            WATCH.outside[fill] += 2
    return Cost(nodes, WATCH.outside.total(), len(WATCH.launched), WATCH.waits)


class Run:
    """Replay, learner and actor of a config, as the trainer makes them."""

    def __init__(self, config: Config, mode: str) -> None:
        WATCH.strict = False  # what is made once may come from the host
        self.config = config = config.replace(mode=mode)
        self.random = np.random.default_rng(0)
        envs: Any = SimpleNamespace(
            num_envs=config.num_envs,
            observation_space=Box(0, 255, (84, 84), np.uint8),
            frame_stack=config.frame_stack,
            stack_padding="zero",
            num_actions=_ACTIONS,
            action_start=0,
        )
        with CUDA:  # fake parameters cannot be moved there
            network = build_network(config, envs)
        self.learner: Learner = build_learner(config, network, CUDA)
        mode = self.learner.mode
        self.replay = ReplayBuffer(**replay_arguments(config, envs, CUDA), mode=mode)
        self.actor = Actor(
            self.learner.acting_network,
            config.num_envs,
            device=CUDA,
            autocast=self.learner.autocast,
            mode=mode,
        )
        # Fake parameters cannot be tried, and a trial is no part of an update.
        self.learner._met_replays[self.replay] = {config.batch_size}
        self._name_parts()
        self.actions = np.zeros(config.num_envs, np.int64)
        WATCH.strict = True
        self.replay.add(self.step(first=True), None)
        for _ in range(config.n_step + 3):
            self.add()

    def _name_parts(self) -> None:
        for owner, method, part in (
            (self.replay, "add", "add"),
            (self.actor, "act_from", "act"),
            (self.replay, "latest", "newest stacks alone"),
            (self.replay, "sample", "draw"),
            (self.learner._draws, "draw", "random numbers"),
            (self.learner, "_gradients", "gradients"),
            (self.learner, "_apply", "apply"),
            (self.replay, "update_priorities", "write-back"),
            (self.learner, "sync_target", "target sync"),
        ):
            setattr(owner, method, WATCH.named(part, getattr(owner, method)))

    def step(self, first: bool = False, two: bool = False) -> TimeStep:
        """A row per env, or two, in the host's memory."""
        n = self.config.num_envs
        frames = self.random.integers(0, 256, (2, n, 84, 84), dtype=np.uint8)
        no = np.zeros(n, bool)
        row = (frames[0], np.zeros(n, np.float32), no, no, np.full(n, first))
        return TimeStep(*row, frames[1], no) if two else TimeStep(*row)

    def add(self, two: bool = False) -> None:
        """One vector step's rows."""
        self.replay.add(self.step(two=two), self.actions)

    def update(self) -> None:
        """One launch of updates, with all that belongs to them."""
        launch = self.learner.updates_per_launch
        self.learner.update_from(self.replay, launch, batch_size=self.config.batch_size)

    def costs(self) -> dict[str, Cost]:
        """By call."""
        calls: dict[str, Callable[[], Any]] = {
            "update": self.update,
            "target sync": self.learner.sync_target,
            "add": self.add,
            "act": lambda: self.actor.act_from(self.replay),
            "newest stacks alone": self.replay.latest,
            "add of two rows": WATCH.named("add of two rows", lambda: self.add(two=True)),
        }
        return {name: measure(call) for name, call in calls.items()}


def describe(cost: Cost) -> dict[str, Any]:
    """As plain numbers: nodes by part, kind and name."""
    parts: dict[str, dict[str, dict[str, int]]] = {}
    for (part, node), count in sorted(cost.nodes.items()):
        parts.setdefault(part, {}).setdefault(node.kind, {})[node.name] = count
    return {
        "parts": parts,
        "outside": cost.outside,
        "graphs": cost.graphs,
        "waits": cost.waits,
    }
