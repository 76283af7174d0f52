"""The training twin of a policy: stacks in, actions out, epsilon on the device."""

from __future__ import annotations

from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from fastdqn.acting import exploration
from fastdqn.config.arguments import SEEDS, check_argument, check_state
from fastdqn.config.ranges import Range
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.networks.checks import check_module
from fastdqn.networks.draws import draw_all, draws_of
from fastdqn.networks.forward import forward_q
from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.trial import try_network
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.replay.buffer_torch import newest_stacks
from fastdqn.system import loops
from fastdqn.system.compilation import (
    CapturedStep,
    check_backend,
    compile_pure,
    resolve_mode,
    weakly,
)
from fastdqn.system.devices import resolve_device, restore_generator


class Actor:
    """Acts on the replay's newest stacks.

    Args:
        network: In evaluation mode, e.g. ``learner.acting_network``. One that has
            ``acting_shapes`` (noise, quantile fractions) acts with random numbers of the actor's
            generator, each env with its own.
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
        ConfigError: Where an argument is of another type or out of range, the device does not
            exist here, or the mode is not possible on it.
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
        self.network = check_module(network)
        self.num_envs = check_argument("num_envs", num_envs, int, Range(1, 2**31))
        check_argument("seed", seed, int, SEEDS)
        check_argument("autocast", autocast, bool)
        check_argument("to_host", to_host, bool)
        check_backend(compile_backend)
        self.device = resolve_device(device)
        for parameter in self.network.parameters():
            if parameter.device != self.device:
                raise ConfigError(
                    f"The network is on {parameter.device}, where device = {str(device)!r}; move "
                    f"it with network.to({str(device)!r})."
                )
        self.autocast = autocast
        self._draws = draws_of(self.network, "acting_shapes", self.num_envs)
        self._epsilon = torch.ones((), device=self.device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.to_host = to_host
        self.mode = resolve_mode(mode, self.device, backend=compile_backend)
        self._epsilon_greedy = exploration.epsilon_greedy
        if loops.choose_loops(self.device):
            from fastdqn.acting import exploration_numba  # Numba, which takes 0.2 s

            self._epsilon_greedy = exploration_numba.epsilon_greedy
        # A function of the replay, not of one: what is compiled serves the next one, too.
        self._chosen = compile_pure(_chosen_from, self.mode, compile_backend)
        # By `to_host`; a graph goes with the replay whose memory it reads.
        self._captured: WeakKeyDictionary[ReplayBuffer, dict[bool, CapturedStep]] = (
            WeakKeyDictionary()
        )
        if self.device.type == "cuda":
            self._host = torch.zeros(num_envs, dtype=torch.int64, pin_memory=True)
            self._ready = torch.cuda.Event()
        self._met: set[torch.Size] = set()  # shapes of observations that were looked at
        self._met_replay: ReferenceType[ReplayBuffer] | None = None

    @property
    def epsilon(self) -> Tensor:
        """Chance of a random action, float32 [] or [N]; it may be changed in place."""
        return self._epsilon

    @epsilon.setter
    def epsilon(self, epsilon: float | Tensor) -> None:
        if not isinstance(epsilon, Tensor):
            self._epsilon.fill_(check_argument("epsilon", epsilon, float, Range(0.0, 1.0)))
            return
        exploration.check_chances(epsilon, self.num_envs)
        if epsilon.shape == self._epsilon.shape:
            self._epsilon.copy_(epsilon)
        else:
            self._epsilon = epsilon.to(self.device, torch.float32, copy=True)
            self._captured.clear()  # graphs read the one before

    @torch.no_grad()
    def act(self, observation: Tensor) -> Tensor:
        """Actions int64 [N], from 0, valid until the next call.

        Args:
            observation: [N, S, *O] or [N, *O], uint8 or float32, on the device.

        Raises:
            ConfigError: Where the first of its shape has another type, size or device, or the
                network does not take it.
        """
        if getattr(observation, "shape", None) not in self._met:
            self._meet(observation)
        return self._wait_for(self._choose(observation))

    @torch.no_grad()
    def act_from(self, replay: ReplayBuffer) -> Tensor:
        """``act(replay.latest())``, faster: on CUDA one launch and one wait.

        Args:
            replay: Of the envs that act.

        Raises:
            ConfigError: Where it is no replay of N envs on the actor's device.
        """
        if self._met_replay is None or self._met_replay() is not replay:
            self._meet_replay(replay)
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

    def _meet(self, observation: Any) -> None:
        """Look at an observation of a new shape, and at what the network makes of it."""
        if not isinstance(observation, Tensor):
            raise ConfigError(
                f"observation is {type(observation).__name__}; make it a tensor with "
                f"torch.as_tensor."
            )
        if observation.device != self.device:
            raise ConfigError(
                f"observation is on {observation.device}, where the actor is on {self.device}; "
                f"move it with .to({str(self.device)!r})."
            )
        shape = list(observation.shape)
        if shape[:1] != [self.num_envs]:
            raise ConfigError(
                f"observation has shape {shape}, where the actor acts in {self.num_envs} envs; use "
                f"[{self.num_envs}, ...]."
            )
        if observation.dtype not in (torch.uint8, torch.float32):
            raise ConfigError(
                f"observation is {observation.dtype}; use uint8, or make it float32 with .float()."
            )
        low = self.autocast and not isinstance(self.network, QNetwork)
        try_network(
            self.network,
            observation.shape[1:],
            observation.dtype,
            None,
            precision="bf16" if low else "fp32",
            trained=False,
        )
        self._met.add(observation.shape)

    def _meet_replay(self, replay: Any) -> None:
        """Refuse what is no replay of as many envs on the same device."""
        if not isinstance(replay, ReplayBuffer):
            raise ConfigError(
                f"replay is {type(replay).__name__}; pass a fastdqn.ReplayBuffer, or use act for "
                f"observations of your own."
            )
        if replay.num_envs != self.num_envs or replay.device != self.device:
            raise ConfigError(
                f"The replay has {replay.num_envs} envs on {replay.device}, where the actor has "
                f"{self.num_envs} on {self.device}; make both of the same."
            )
        self._met_replay = ref(replay)

    def _choose_from(self, replay: ReplayBuffer) -> tuple[Tensor]:
        """Actions on the newest stacks, compiled from the one to the other."""
        return (self._on_their_way(self._chosen(self, replay, self._uniform(), *self._drawn())),)

    def _choose(self, observation: Tensor) -> Tensor:
        return self._on_their_way(self._actions(observation, self._uniform(), *self._drawn()))

    def _uniform(self) -> Tensor:
        return torch.rand((2, self.num_envs), generator=self.generator, device=self.device)

    def _drawn(self) -> list[Tensor]:
        """What the network takes, outside what is compiled."""
        return draw_all(list(self._draws.values()), self.generator) if self._draws else []

    def _actions(self, observation: Tensor, uniform: Tensor, *drawn: Tensor) -> Tensor:
        """Pure."""
        randoms = dict(zip(self._draws, drawn, strict=True))
        q = forward_q(self.network, observation, self.autocast, randoms)
        return self._epsilon_greedy(q, self._epsilon, uniform)

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
        """Restore :meth:`state_dict`; CheckpointError where it is none."""
        check_state("actor", state, list(self.state_dict()))
        try:
            self.epsilon = state["epsilon"]
        except ConfigError as error:
            raise CheckpointError(f"The state of the actor does not fit: {error}") from None
        restore_generator(self.generator, state["generator"])


def _chosen_from(actor: Actor, replay: ReplayBuffer, uniform: Tensor, *drawn: Tensor) -> Tensor:
    """Actions on the newest stacks of a replay; pure."""
    return actor._actions(newest_stacks(replay), uniform, *drawn)
