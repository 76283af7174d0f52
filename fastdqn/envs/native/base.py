"""Envs that are tensors: N of them step at once, on any device, as one pure function.

An env of this kind says how an episode begins, how it goes on and what of it is seen; random
numbers come in as arguments. Everything has a fixed shape and nothing is read by the host, so that
a step on a GPU costs its kernels only, and can be compiled whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from fastdqn.envs import checks
from fastdqn.errors import EnvError
from fastdqn.system.compilation import compile_fixed
from fastdqn.system.devices import resolve_device, restore_generator
from fastdqn.types import Array

State = dict[str, Tensor]
"""Tensors [..., N]: the env is the last axis, so that [N] masks broadcast."""


class NativeVectorEnv(VectorEnv):
    """Base of the envs whose state and dynamics are batched tensors.

    It adds what they share: autoreset in mode NEXT_STEP, the limit on episode lengths, one
    generator, and a state that can be saved. Observations, rewards (float32) and flags (bool) are
    tensors on ``device``, in memory that later steps leave alone. Host actions are checked,
    tensors are trusted: an action out of range counts as some action.

    Args:
        num_envs: Envs (N).
        observation_space: Of one env.
        num_actions: Actions, from 0.
        uniforms: Random numbers in [0, 1) per env and step, R.
        limits: The range of each tensor of the state, ends included; refused beyond it when a
            state is loaded.
        max_episode_steps: Truncate an episode after so many steps.
        device: Where everything lives; ``auto`` is CUDA where there is one.
        compile: Compile the step at its first call, which takes seconds: worth it for many steps.

    Raises:
        EnvError: For a number that is out of range.
        ConfigError: Where the device does not exist here.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    compiles_observations = True
    """Whether :meth:`observe` is compiled, too; copies of frames only become slower by it."""

    def __init__(
        self,
        num_envs: int,
        observation_space: Box,
        num_actions: int,
        *,
        uniforms: int,
        limits: Mapping[str, tuple[float, float]],
        max_episode_steps: int,
        device: torch.device | str = "cpu",
        compile: bool = False,
    ) -> None:
        check_count("num_envs", num_envs)
        check_count("max_episode_steps", max_episode_steps)
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.device = resolve_device(device)
        self.single_observation_space = observation_space
        self.single_action_space = Discrete(num_actions)
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._uniforms = uniforms
        self._limits = {**limits, "steps": (0, max_episode_steps), "over": (0, 1)}
        self._generator = torch.Generator(self.device)
        self._generator.seed()
        self._state: State | None = None
        self._transition: Any = CompiledTransition(self) if compile else self.transition

    # --- what an env says of itself: pure functions --------------------------------------------

    def initial(self, uniform: Tensor) -> State:
        """The state in which an episode begins.

        Args:
            uniform: [R, N] in [0, 1).
        """
        raise NotImplementedError

    def advance(
        self, state: State, actions: Tensor, uniform: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        """The state one step later, the reward float32 [N] and ``terminated`` bool [N].

        Args:
            state: As :meth:`initial` names it.
            actions: int64 [N].
            uniform: [R, N] in [0, 1).
        """
        raise NotImplementedError

    def observe(self, state: State, uniform: Tensor) -> Tensor:
        """The observation [N, *O].

        Args:
            state: As :meth:`initial` names it.
            uniform: [R, N] in [0, 1).
        """
        raise NotImplementedError

    def picture(self, state: State) -> Tensor:
        """What there is to see for a human, uint8 [N, H, W] or [N, 3, H, W]."""
        return self.observe(state, torch.zeros((self._uniforms, self.num_envs), device=self.device))

    def info(self, state: State) -> dict[str, Any]:
        """What reset() and step() tell beside the row."""
        return {}

    def begin(self, uniform: Tensor) -> State:
        """The whole state after a reset of all envs, of ``uniform`` [R, N]."""
        steps = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        return {**self.initial(uniform), "steps": steps, "over": steps > 0}

    def dynamics(
        self, state: State, actions: Tensor, uniform: Tensor
    ) -> tuple[State, Tensor, Tensor, Tensor]:
        """One step of all envs; those whose episode is over start anew and ignore their action.

        Args:
            state: As :meth:`begin` or this function gave it.
            actions: int64 [N].
            uniform: [R, N] in [0, 1).

        Returns:
            The state, reward float32 [N], terminated and truncated bool [N].
        """
        over = state["over"]
        moved, reward, terminated = self.advance(state, actions, uniform)
        following = {
            name: torch.where(over, fresh, moved[name])
            for name, fresh in self.initial(uniform).items()
        }
        terminated = terminated & ~over
        following["steps"] = (state["steps"] + 1).masked_fill(over, 0)
        truncated = following["steps"] >= self.max_episode_steps
        following["over"] = terminated | truncated
        return following, reward.masked_fill(over, 0.0), terminated, truncated

    def transition(
        self, state: State, actions: Tensor, uniform: Tensor
    ) -> tuple[State, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """:meth:`dynamics` and what is seen then: the state, and Gymnasium's row."""
        state, reward, terminated, truncated = self.dynamics(state, actions, uniform)
        return state, (self.observe(state, uniform), reward, terminated, truncated)

    # --- Gymnasium -----------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Start all envs anew; there are no options."""
        if options:
            raise EnvError(f"{self} has no reset options, not {options!r}; leave them out.")
        if seed is not None:
            self._generator.manual_seed(checks.check_seed(seed, self.num_envs))
        uniform = self._draw()
        self._state = self.begin(uniform)
        return self.observe(self._state, uniform), self.info(self._state)

    def step(self, actions: Array) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step all envs by ``actions``, integers [N]; numpy or a tensor on any device."""
        if self._state is None:
            raise EnvError("step() before reset(); call reset() first.")
        checks.check_actions(actions, self.num_envs, int(self.single_action_space.n))
        if not isinstance(actions, Tensor) or actions.dtype != torch.int64:
            actions = torch.as_tensor(actions, dtype=torch.int64)
        if actions.device != self.device:
            actions = actions.to(self.device)
        actions = actions.contiguous()  # what a compiled step expects; nothing to do as a rule
        self._state, row = self._transition(self._state, actions, self._draw())
        return *row, self.info(self._state)

    def render(self) -> tuple[np.ndarray, ...]:
        """The newest state of each env as a picture, uint8 [H, W, 3]."""
        if self._state is None:
            raise EnvError("render() before reset(); call reset() first.")
        pictures = self.picture(self._state).cpu()
        if pictures.dim() == 3:
            pictures = pictures.unsqueeze(1).expand(-1, 3, -1, -1)
        return tuple(pictures.permute(0, 2, 3, 1).numpy())

    def _draw(self) -> Tensor:
        shape = (self._uniforms, self.num_envs)
        return torch.rand(shape, generator=self._generator, device=self.device)

    # --- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on, beside the arguments of the env."""
        if self._state is None:
            raise EnvError("state_dict() before reset(); call reset() first.")
        state = {name: tensor.clone() for name, tensor in self._state.items()}
        return {"state": state, "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called, in envs made with the same arguments.

        Another type of device draws other random numbers from then on.

        Raises:
            EnvError: Where the state does not fit.
        """
        own = self.begin(torch.zeros((self._uniforms, self.num_envs), device=self.device))
        saved = state["state"]
        if saved.keys() != own.keys():
            raise EnvError(
                f"The state of {self} has {', '.join(own)}, not {', '.join(saved)}; make the "
                f"envs with the arguments they were saved with."
            )
        for name, tensor in own.items():
            kept, (low, high) = saved[name], self._limits[name]
            if (kept.shape, kept.dtype) != (tensor.shape, tensor.dtype):
                raise EnvError(
                    f"{name} of {self} is {tensor.dtype} {list(tensor.shape)}, not {kept.dtype} "
                    f"{list(kept.shape)}; make the envs with the arguments they were saved with."
                )
            if not bool(((kept >= low) & (kept <= high)).all()):
                raise EnvError(f"{name} of {self} leaves {low:g} to {high:g} in the saved state.")
        restore_generator(self._generator, state["generator"])
        self._state = {
            name: torch.empty_like(like).copy_(saved[name]) for name, like in own.items()
        }


class CompiledTransition:
    """:meth:`NativeVectorEnv.transition`, compiled by the first call.

    Args:
        envs: Whose transition; what their options are by the first call stays.
    """

    def __init__(self, envs: NativeVectorEnv) -> None:
        self._envs = envs
        self._names: tuple[str, ...] = ()
        self._run: Any = None

    def __call__(
        self, state: State, actions: Tensor, uniform: Tensor
    ) -> tuple[State, tuple[Tensor, ...]]:
        """As the transition; all tensors contiguous."""
        tensors = (*state.values(), actions, uniform)
        if self._run is None:
            self._names = tuple(state)
            self._run = compile_fixed(self._flat, tensors)
        results = self._run(*tensors)
        count = len(self._names)
        following, row = dict(zip(self._names, results, strict=False)), tuple(results[count:])
        if not self._envs.compiles_observations:
            row = (self._envs.observe(following, uniform), *row)
        return following, row

    def _flat(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What is compiled: of tensors and no dictionaries, the state's first."""
        *values, actions, uniform = tensors
        state = dict(zip(self._names, values, strict=True))
        row: tuple[Tensor, ...]
        if self._envs.compiles_observations:
            state, row = self._envs.transition(state, actions, uniform)
        else:
            state, *rest = self._envs.dynamics(state, actions, uniform)
            row = tuple(rest)
        return (*(state[name] for name in self._names), *row)


def check_count(name: str, value: Any, low: int = 1, high: int = 2**31 - 1) -> None:
    """Raise EnvError unless ``value`` is an integer in [low, high]."""
    if type(value) is not int or not low <= value <= high:
        raise EnvError(f"{name} = {value!r} is out of range; use {low} to {high}.")


def check_fraction(name: str, value: Any) -> None:
    """Raise EnvError unless ``value`` is a number in [0, 1]."""
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise EnvError(f"{name} = {value!r} is out of range; use 0 to 1.")


def check_size(size: Any, cells: int) -> None:
    """Raise EnvError unless frames of ``size`` pixels hold ``cells`` of whole pixels."""
    if type(size) is not int or not cells <= size <= 2**12 or size % cells:
        raise EnvError(
            f"size = {size!r} is no multiple of {cells} up to 4096; use {2 * cells}, {3 * cells} "
            f"or {84 // cells * cells}."
        )


def index_below(uniform: Tensor, count: int) -> Tensor:
    """int64 in [0, count), of uniforms in [0, 1)."""
    return (uniform * count).to(torch.int64).clamp(max=count - 1)  # float32 may round up to count
