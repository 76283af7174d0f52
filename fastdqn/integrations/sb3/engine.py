"""What a model of ours is made of: learner, replay and actor, driven by a loop of somebody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.acting.actor import Actor
from fastdqn.acting.exploration import epsilon_greedy
from fastdqn.config.config import Config
from fastdqn.config.seeds import subseed
from fastdqn.errors import TrainingError
from fastdqn.integrations.sb3.memory import check_memory
from fastdqn.integrations.sb3.vec_spaces import VecSpaces
from fastdqn.networks.forward import forward_q
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.system.devices import resolve_device
from fastdqn.system.faults import explain_out_of_memory
from fastdqn.system.process_state import flush_denormals
from fastdqn.system.staging import as_tensor
from fastdqn.training.build import (
    build_learner,
    build_network,
    mode_of_parts,
    replay_arguments,
    set_up_torch,
)
from fastdqn.training.normalized_frames import NormalizedFrames
from fastdqn.training.schedules import linear_schedule
from fastdqn.types import TimeStep


class Engine:
    """The parts of a model. The replay is made at the first :meth:`start`: to predict needs none.

    Args:
        config: What they are like.
        spaces: Of the envs.

    Raises:
        FastDQNError: Where they cannot be made, or the replay would not fit.
    """

    def __init__(self, config: Config, spaces: VecSpaces) -> None:
        self.config, self.spaces = config, spaces
        self.device = resolve_device(config.device)
        # The attributes that a stream of envs is asked for are there.
        network = build_network(config, spaces)  # type: ignore[arg-type]
        self.learner = build_learner(config, network, self.device)
        self._arguments = replay_arguments(config, spaces, self.device)  # type: ignore[arg-type]
        check_memory(self._arguments, config.drawn_at_once(config.launch_on(self.device.type)))
        self.replay: ReplayBuffer | None = None
        self.actor = Actor(
            self.learner.acting_network,
            config.num_envs,
            device=self.device,
            autocast=self.learner.autocast,
            mode=mode_of_parts(self.learner),
            seed=subseed(config.seed, "actor"),
        )
        self.normalize = NormalizedFrames.of(self.learner.network)
        self._generator = torch.Generator(self.device).manual_seed(subseed(config.seed, "predict"))
        self._reported = 0  # updates

    def seed(self, seed: int) -> None:
        """Start every generator anew, as those of a model made with that seed."""
        self._arguments["seed"] = subseed(seed, "replay")
        if self.replay is not None:
            self.replay.generator.manual_seed(self._arguments["seed"])
        self.learner.generator.manual_seed(subseed(seed, "updates"))
        self.actor.generator.manual_seed(subseed(seed, "actor"))
        self._generator.manual_seed(subseed(seed, "predict"))

    def set_up_torch(self) -> None:
        """For a run, within ``torch_as_before``; with no more threads than torch has before."""
        threads = torch.get_num_threads()
        set_up_torch(self.config, self.learner.network, self.device)
        if self.config.torch_threads is None and torch.get_num_threads() > threads:
            torch.set_num_threads(threads)
        flush_denormals()  # see fastdqn.training.train

    def make_replay(self) -> ReplayBuffer:
        """The replay; a new one if there is none."""
        if self.replay is None:
            why = "The replay could not be allocated although it should fit; lower buffer_size."
            with explain_out_of_memory(TrainingError, why):
                self.replay = ReplayBuffer(**self._arguments, mode=mode_of_parts(self.learner))
        return self.replay

    def start(self, observation: Any) -> None:
        """Take in what a reset of all envs returned."""
        self._add(self.spaces.reset_rows(observation), None)

    def add(
        self,
        actions: np.ndarray,
        observation: Any,
        reward: np.ndarray,
        done: np.ndarray,
        infos: Sequence[Mapping[str, Any]],
    ) -> None:
        """Take in what a step of all envs returned, after actions [N] from 0."""
        self._add(self.spaces.rows(observation, reward, done, infos), actions)

    def _add(self, step: TimeStep, actions: np.ndarray | None) -> None:
        self.make_replay().add(step, actions)
        if self.normalize is not None:
            self.normalize.add(step)

    def act(self, epsilon: float) -> np.ndarray:
        """Actions [N] from 0, on the newest observations."""
        self.actor.epsilon = epsilon
        return self.actor.act_from(self.make_replay()).numpy().copy()

    def update(self, times: int, *, progress: float, learning_rate: float) -> None:
        """So many updates.

        Args:
            times: Their number.
            progress: Of the run, from 0 to 1: by which the importance weights are annealed.
            learning_rate: Step size.
        """
        c = self.config
        self.learner.set_learning_rate(learning_rate)
        self.learner.update_from(
            self.make_replay(),
            times,
            batch_size=c.batch_size,
            beta=linear_schedule(progress, c.priority_beta_start, c.priority_beta_end, 0.0, 1.0),
        )

    @torch.no_grad()
    def q_values(self, observation: np.ndarray) -> Tensor:
        """Q, [B, A], of what a network sees, [B, S, *O] or [B, *O]."""
        seen = as_tensor(observation).to(self.device)
        learner = self.learner
        return forward_q(learner.acting_network, seen, learner.autocast)

    def choose(self, observation: np.ndarray, epsilon: float) -> np.ndarray:
        """Actions [B] from 0 for what a network sees."""
        q = self.q_values(observation)
        uniform = torch.rand((2, len(q)), generator=self._generator, device=self.device)
        return epsilon_greedy(q, epsilon, uniform).cpu().numpy()

    def read_means(self) -> dict[str, float]:
        """Means over the updates since the last call, by name; empty where there were none.

        Raises:
            TrainingError: Where a loss was not finite. Waits for the device.
        """
        updates, self._reported = self.learner.updates - self._reported, self.learner.updates
        sums = self.learner.read_statistics()
        if updates and sums["finite"] < updates:
            raise TrainingError(
                f"The loss is not finite since about update "
                f"{self.learner.updates - updates + int(sums['finite']) + 1}; lower learning_rate "
                f"or max_grad_norm, and clip large rewards with reward_clip."
            )
        return {name: sums[name] / updates for name in self.learner.COLUMNS} if updates else {}

    def check_finite(self) -> None:
        """Raise TrainingError where a parameter is not finite; waits for the device."""
        if not bool(torch.isfinite(self.learner.flat.data).all()):
            raise TrainingError(
                f"The parameters are not finite at update {self.learner.updates}; lower "
                f"learning_rate or max_grad_norm, and clip large rewards with reward_clip."
            )

    def state_dict(self) -> dict[str, Any]:
        """Of the learner, and how much of it was reported."""
        return {"learner": self.learner.state_dict(), "reported": self._reported}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`; CheckpointError where it does not fit."""
        self.learner.load_state_dict(state["learner"])
        self._reported = int(state["reported"])
