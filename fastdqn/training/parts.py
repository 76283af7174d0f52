"""What a run is made of, in the order in which refusing it costs least."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from gymnasium.vector import VectorEnv
from torch import nn

from fastdqn.acting.actor import Actor
from fastdqn.callbacks.make_loggers import make_loggers
from fastdqn.config.combinations import check_unevaluated
from fastdqn.config.config import Config
from fastdqn.config.seeds import subseed
from fastdqn.envs import EnvStream
from fastdqn.envs.made import name_of, reward_threshold, warn_of_statistics
from fastdqn.envs.watched import watched
from fastdqn.errors import ConfigError, MemoryPlanError
from fastdqn.learning.objectives import Objective
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.replay.memory_plan import MemoryPlan, format_bytes
from fastdqn.runs.directory import open_run_dir, refuse_held
from fastdqn.spaces import Spaces, check_eval_envs
from fastdqn.system.default_generators import DefaultGenerators
from fastdqn.system.devices import resolve_device
from fastdqn.system.faults import DiskFaults, explain_out_of_memory
from fastdqn.system.stopping import StopRequest
from fastdqn.system.watchdog import Watchdog
from fastdqn.training.build import (
    as_stream,
    build_learner,
    build_network,
    is_own_network,
    make_stream,
    mode_of_parts,
    policy_spec,
    replay_arguments,
    set_up_torch,
)
from fastdqn.training.continuation import continued
from fastdqn.training.filming import check_filming
from fastdqn.training.normalized_frames import NormalizedFrames
from fastdqn.training.planned_replay import plan_replay
from fastdqn.training.report import Report
from fastdqn.training.restore_parts import check_resumable
from fastdqn.training.run_json import describe_envs, describe_network, resolved
from fastdqn.training.schedules import Schedules
from fastdqn.training.warm_start import find_initial, load_initial


class Parts:
    """Envs, networks, replay, report and directory of one run; arguments as for ``train``.

    Args:
        lower_replay: Lower ``config.replay_capacity`` to what fits, instead of refusing it.
    """

    def __init__(
        self,
        config: Config,
        envs: VectorEnv | EnvStream | None = None,
        eval_envs: VectorEnv | EnvStream | None = None,
        network: nn.Module | None = None,
        objective: Objective | None = None,
        lower_replay: bool = False,
    ) -> None:
        if envs is not None and eval_envs is envs:
            raise ConfigError("eval_envs must be other envs than envs: evaluation resets them.")
        if envs is not None and eval_envs is None:
            check_unevaluated(config)
        if objective is not None and config.munchausen:
            raise ConfigError(
                "munchausen = True has no effect beside an objective of your own; leave it out."
            )
        refuse_held(config)  # before anything is made
        self.loggers = make_loggers(config.logger)
        warm = find_initial(config)
        self.device = resolve_device(config.device)
        if self.device.type == "cuda":  # streams, events and captures go to the current device
            torch.cuda.set_device(self.device)
        self.generators = DefaultGenerators(self.device)
        self.generators.seed(subseed(config.seed, "default"))
        self.stop = stop = StopRequest(config.max_wall_s)
        self._resources = ExitStack()
        for logger in self.loggers:
            self._resources.callback(logger.close)
        # Not a function of this trainer: a cycle would keep its replay until garbage is collected.
        dog = self._resources.enter_context(Watchdog(config.step_timeout_s, lambda: stop.signal))
        self.name = name = config.env_id if envs is None else name_of(envs)
        try:
            self.envs = make_stream(config) if envs is None else as_stream(envs, config)
        except BaseException:
            self.close()
            raise
        self.envs = watched(self.envs, dog, name)
        self._resources.callback(self.envs.close)
        self.eval_envs: EnvStream | None = None
        try:
            warn_of_statistics(self.envs)
            self.config = config = config.replace(num_envs=self.envs.num_envs)
            if envs is None and config.eval_episodes:
                self.eval_envs = make_stream(config, evaluation=True)
            elif eval_envs is not None:
                self.eval_envs = as_stream(eval_envs, config)
            if self.eval_envs is not None:
                self.eval_envs = watched(self.eval_envs, dog, f"the evaluation envs of {name}")
                self._resources.callback(self.eval_envs.close)
                check_eval_envs(self.envs, self.eval_envs)
            if config.record_period_env_steps is not None:
                check_filming(config, own_envs=envs is not None)
            config, plan = plan_replay(config, self.envs, self.device, lower=lower_replay)
            self.config = config
            arguments = replay_arguments(config, self.envs, self.device)
            self.launch = config.launch_on(self.device.type)
            spaces = Spaces.of(self.envs)
            given = {
                "envs": envs is not None,
                "network": network is not None,
                "objective": objective is not None,
            }
            check_resumable(config, spaces, **given)
            network = build_network(config, self.envs, network)
            own_network = is_own_network(config, self.envs, network)
            self.initial = load_initial(config, network, spaces, own_network) if warm else None
            set_up_torch(config, network, self.device)
            self.learner = build_learner(config, network, self.device, objective)
            self.spec = policy_spec(
                config,
                self.envs,
                self.learner,
                own_envs=envs is not None,
                own_network=own_network,
                own_objective=objective is not None,
            )
            # What is refused leaves none.
            self.run_dir, self.resuming, self.lock = open_run_dir(config, name)
            self._resources.callback(self.lock.release)
            self.before = config
            if self.resuming:  # maybe what another process made, while this one waited
                self.initial = None
                check_resumable(config, spaces, **given)
                self.before = Config.load(self.run_dir / "config.json")
                self.config = config = continued(config, self.before, self.run_dir)
            with explain_out_of_memory(MemoryPlanError, no_room_for(plan)):
                self.replay = ReplayBuffer(**arguments, mode=mode_of_parts(self.learner))
            self.actor = Actor(
                self.learner.acting_network,
                config.num_envs,
                device=self.device,
                autocast=self.learner.autocast,
                mode=mode_of_parts(self.learner),
                seed=subseed(config.seed, "actor"),
            )
            self.normalize = NormalizedFrames.of(self.learner.network)
            self.disk = DiskFaults()
            threshold = reward_threshold(self.envs)
            self.report = Report(
                config, self.learner, self.replay, threshold, self.disk, spaces.format
            )
            self._resources.callback(self.report.close)
            self.schedules = Schedules(config)
            self.plan = plan
            self.resolved = resolved(self.learner, torch.get_num_threads())
            self.session: dict[str, Any] = {}  # from `begin` on
            self.described = (
                describe_envs(self.envs, envs, config),
                describe_network(network, made_from_config=not own_network),
            )
            self.policy = self.learner.policy(
                spaces=spaces, reader=getattr(self.envs, "reader", None)
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release envs and files."""
        self._resources.close()


def no_room_for(plan: MemoryPlan) -> str:
    """Where the replay cannot be allocated although its plan said so."""
    return (
        f"The replay does not fit: replay_capacity = {plan.capacity} needs "
        f"{format_bytes(plan.total)} on {plan.device}, and less could be allocated; try "
        f"replay_capacity = {plan.capacity // 2}, or give the process more memory."
    )
