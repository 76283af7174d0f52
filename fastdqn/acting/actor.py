"""The training twin of a policy: stacks in, actions out, epsilon on the device."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fastdqn.acting import exploration, exploration_numba
from fastdqn.networks.forward import forward_q
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.replay.buffer_torch import newest_stacks
from fastdqn.system import loops
from fastdqn.system.compilation import CapturedStep, compile_pure, resolve_mode, weakly
from fastdqn.system.devices import resolve_device, restore_generator


class Actor:
    """Acts on the replay's newest stacks.

    Args:
        network: In evaluation mode, e.g. ``learner.acting_network``.
        num_envs: N.
        device: Where the network lives.
        autocast: Run the network under autocast to bfloat16.
        to_host: Return the actions in (pinned) host memory, having waited for them: the only
            synchronisation of a vector step. Envs that live on the device want False.
        mode: Of :meth:`act_from`: ``eager``; ``compile``, from the newest stacks to the actions as
            one function; ``graph``, that captured in a CUDA graph; ``auto``: graph on CUDA, else
            eager.
        seed: Of the exploration.
        compile_backend: Of torch.compile.

    Raises:
        ConfigError: Where the device does not exist here, or the mode is not possible on it.
    """

    def __init__(
        self,
        network: nn.Module,
        num_envs: int,
        *,
        device: torch.device | str = "cpu",
        autocast: bool = False,
        to_host: bool = True,
        mode: str = "auto",
        seed: int = 0,
        compile_backend: str = "inductor",
    ) -> None:
        self.network = network
        self.num_envs = num_envs
        self.device = resolve_device(device)
        self.autocast = autocast
        self.epsilon = torch.ones((), device=self.device)  # [] or [N]; change it in place
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.to_host = to_host
        self.mode = resolve_mode(mode, self.device, backend=compile_backend)
        way = exploration_numba if loops.choose_loops(self.device) else exploration
        self._epsilon_greedy = way.epsilon_greedy
        # A function of the replay, not of one: what is compiled serves the next one, too.
        self._chosen = compile_pure(_chosen_from, self.mode, compile_backend)
        # By `to_host`; a graph goes with the replay whose memory it reads.
        self._captured: WeakKeyDictionary[ReplayBuffer, dict[bool, CapturedStep]] = (
            WeakKeyDictionary()
        )
        if self.device.type == "cuda":
            self._host = torch.zeros(num_envs, dtype=torch.int64, pin_memory=True)
            self._ready = torch.cuda.Event()

    @torch.no_grad()
    def act(self, observation: Tensor) -> Tensor:
        """Actions int64 [N], from 0, valid until the next call.

        Args:
            observation: [N, S, *O] or [N, *O], on the device.
        """
        return self._wait_for(self._choose(observation))

    @torch.no_grad()
    def act_from(self, replay: ReplayBuffer) -> Tensor:
        """``act(replay.latest())``, faster: on CUDA one launch and one wait."""
        if self.mode == "eager" or replay.compiled:
            return self.act(replay.latest())
        if self.mode != "graph":
            return self._wait_for(self._choose_from(replay)[0])
        captured = self._captured.setdefault(replay, {})
        if self.to_host not in captured:
            # Nothing but the generator changes, so nothing else is to be put back.
            step = weakly(self._choose_from, replay)
            captured[self.to_host] = CapturedStep(step, [], [self.generator], self.device)
        return self._wait_for(captured[self.to_host]()[0])

    def _choose_from(self, replay: ReplayBuffer) -> tuple[Tensor]:
        """Actions on the newest stacks, compiled from the one to the other."""
        return (self._on_their_way(self._chosen(self, replay, self._uniform())),)

    def _choose(self, observation: Tensor) -> Tensor:
        return self._on_their_way(self._actions(observation, self._uniform()))

    def _uniform(self) -> Tensor:
        return torch.rand((2, self.num_envs), generator=self.generator, device=self.device)

    def _actions(self, observation: Tensor, uniform: Tensor) -> Tensor:
        """Pure."""
        q = forward_q(self.network, observation, self.autocast)
        return self._epsilon_greedy(q, self.epsilon, uniform)

    def _on_their_way(self, actions: Tensor) -> Tensor:
        """Actions on the device, and to the host if that is where they go."""
        if self.to_host and self.device.type == "cuda":
            self._host.copy_(actions, non_blocking=True)
        return actions

    def _wait_for(self, actions: Tensor) -> Tensor:
        if not self.to_host or self.device.type != "cuda":
            return actions
        self._ready.record(torch.cuda.current_stream(self.device))
        self._ready.synchronize()
        return self._host

    def state_dict(self) -> dict[str, Any]:
        """Epsilon and the generator."""
        return {"epsilon": self.epsilon, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.epsilon.copy_(state["epsilon"])
        restore_generator(self.generator, state["generator"])


def _chosen_from(actor: Actor, replay: ReplayBuffer, uniform: Tensor) -> Tensor:
    """Actions on the newest stacks of a replay; pure."""
    return actor._actions(newest_stacks(replay), uniform)
