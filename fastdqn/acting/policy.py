"""What a trained network does outside of training: frames in, actions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastdqn.acting.exploration import check_chances, epsilon_greedy
from fastdqn.config.arguments import SEEDS, check_argument, check_choice
from fastdqn.config.ranges import Range
from fastdqn.envs import EnvStream, arrays
from fastdqn.envs.reader import ObservationReader
from fastdqn.envs.stream import is_stream
from fastdqn.errors import ConfigError, EnvError
from fastdqn.networks.checks import check_module
from fastdqn.networks.forward import forward_q
from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.trial import try_network
from fastdqn.spaces import Spaces
from fastdqn.system.devices import resolve_device
from fastdqn.system.staging import as_tensor
from fastdqn.types import Array, StackPadding


class Policy:
    """Acts on single frames and keeps the stacks itself.

    Args:
        network: In evaluation mode, float32; maps observations to Q (see fastdqn.networks).
        frame_stack: S; None: observations are used as they come.
        stack_padding: What precedes an episode's first frame, as in training.
        action_start: Added to actions, for spaces that do not start at 0.
        device: Where the network lives.
        autocast: Run the network under autocast to bfloat16.
        seed: Of the exploration.
        lowered: Acts instead of the network: the same with its body in bfloat16.
        spaces: Of the envs it is for: others are refused. They stand for the three arguments about
            stacks and actions, too.
        reader: Makes frames of observations as the envs themselves return them.
        envs: A stream that stands for ``spaces`` and ``reader``: the policy then takes what those
            envs return, be it a dictionary or an integer. Without, one observation and N are told
            apart by what the network takes; N where it takes both.

    Raises:
        ConfigError: Where an argument is of another type or out of range, the device does not
            exist here, or the network is on another.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        frame_stack: int | None = None,
        stack_padding: StackPadding = "zero",
        action_start: int = 0,
        device: torch.device | str = "cpu",
        autocast: bool = False,
        seed: int = 0,
        lowered: nn.Module | None = None,
        spaces: Spaces | None = None,
        reader: ObservationReader | None = None,
        envs: EnvStream | None = None,
    ) -> None:
        self.network = check_module(network)
        if envs is not None:
            if not is_stream(envs):
                raise ConfigError(
                    f"envs is {type(envs).__name__}; pass a stream, as fastdqn.make_envs makes it."
                )
            spaces, reader = Spaces.of(envs), getattr(envs, "reader", None)
        for name, given, kind in (
            ("spaces", spaces, Spaces),
            ("reader", reader, ObservationReader),
            ("lowered", lowered, nn.Module),
        ):
            if given is not None and not isinstance(given, kind):
                raise ConfigError(
                    f"{name} is {type(given).__name__}; pass a {kind.__name__}, or leave it out."
                )
        self.spaces, self.reader = spaces, reader
        if spaces is not None:
            frame_stack, stack_padding = spaces.frame_stack, spaces.stack_padding
            action_start = spaces.action_start
        check_choice("stack_padding", stack_padding, ("zero", "repeat"))
        self._lowered = lowered
        frame_stack = check_argument("frame_stack", frame_stack, int | None, Range(1, 2**31))
        self.frame_stack, self.stack_padding = frame_stack, stack_padding
        self.action_start = check_argument("action_start", action_start, int, SEEDS)
        check_argument("seed", seed, int, SEEDS)
        self.device = resolve_device(device)
        for parameter in self.network.parameters():
            if parameter.device != self.device:
                raise ConfigError(
                    f"The network is on {parameter.device}, where device = {str(device)!r}; move "
                    f"it with network.to({str(device)!r})."
                )
        self.autocast = check_argument("autocast", autocast, bool)
        self._met: dict[Any, bool] = {}  # by the looks of an observation, whether it is one env's
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._stack: Tensor | None = None

    def __repr__(self) -> str:
        kind = type(self.network).__name__
        parts = [f"{kind} of {sum(p.numel() for p in self.network.parameters()):,} parameters"]
        if self.spaces is not None:
            dtype = self.spaces.frame_dtype or ""
            parts.append(f"frames {self.spaces.frame_shape} {dtype}".rstrip())
        if self.frame_stack is not None:
            parts.append(f"stacks of {self.frame_stack} padded by {self.stack_padding}")
        if self.spaces is not None:
            parts.append(f"{self.spaces.num_actions} actions from {self.action_start}")
        elif self.action_start:
            parts.append(f"actions from {self.action_start}")
        if self.autocast or self._lowered is not None:
            parts.append("bf16")
        return f"Policy({', '.join(parts)}, {self.device})"

    @property
    def acting_network(self) -> nn.Module:
        """What computes the actions: the network, or its copy in lower precision."""
        return self.network if self._lowered is None else self._lowered

    @torch.no_grad()
    def act(
        self,
        observation: Array | Mapping[str, Any] | Sequence[Any] | int,
        *,
        first: Array | None = None,
        epsilon: float | Tensor = 0.0,
    ) -> Array | np.integer:
        """Actions for N envs, as their action space counts them, or for one.

        Args:
            observation: [N, *O], the newest frame of each env, or what the envs themselves return
                (channels last, a dictionary, integers): with an axis of N in front, or without for
                one env.
            first: bool [N], envs that were just reset: their stacks start anew. None: only where
                the number of envs changed (or at the first call).
            epsilon: Chance of a random action, or one for each env, [N].

        Returns:
            int64 [N], or one where the observation is one; numpy if the observation is numpy, else
            a tensor on the device.

        Raises:
            ConfigError: Where an argument has another shape than the envs or N ask for.
        """
        frames, single = self._frames(observation)
        num = len(frames)
        if first is not None:
            first = _flags(first, num)
        if isinstance(epsilon, Tensor):
            check_chances(epsilon, num)
            epsilon = epsilon.to(self.device)
        elif type(epsilon) is not float or not 0 <= epsilon <= 1:
            epsilon = check_argument("epsilon", epsilon, float, Range(0.0, 1.0))
        numpy = not isinstance(frames, Tensor)
        seen = as_tensor(frames).to(self.device)
        seen = seen if seen.dtype == torch.uint8 else seen.float()
        q = forward_q(self.acting_network, self._observe(seen, first), self.autocast)
        uniform = torch.rand((2, q.shape[0]), generator=self.generator, device=self.device)
        actions = epsilon_greedy(q, epsilon, uniform) + self.action_start
        chosen = actions.cpu().numpy() if numpy else actions
        return chosen[0] if single else chosen

    def _frames(self, observation: Any) -> tuple[Array, bool]:
        """Frames [N, *O], and whether the observation was that of one env."""
        shape = None if self.spaces is None else self.spaces.frame_shape
        if isinstance(observation, Tensor) and observation.is_meta:
            raise ConfigError("observation is on meta and holds no numbers; use one that does.")
        if isinstance(observation, Array) and self._are_frames(observation.dtype):
            found = tuple(observation.shape)
            if shape is None:
                looks = found, observation.dtype
                single = self._met.get(looks)
                if single is None:
                    single = self._met[looks] = self._meet(observation)
                return (observation[None], True) if single else (observation, False)
            if found[1:] == shape:
                return observation, False
            if found == shape:
                return observation[None], True
        reader = self.reader
        try:
            if reader is not None:  # which also takes lists, and axes of 1
                return reader.of_caller(observation)
        except EnvError as error:
            if reader is not None and not reader.plain:
                raise ConfigError(f"observation does not fit this policy: {error}") from None
        except TypeError:  # no array at all
            pass
        what, found = type(observation).__name__, ()
        if isinstance(observation, Array):
            found = tuple(observation.shape)
            what = f"{found} {observation.dtype}"
        if shape is None:
            raise ConfigError(
                f"observation is {what}, where this policy takes arrays of frames; pass one, or "
                f"make the policy with envs = the stream whose observations it is to read."
            )
        if isinstance(observation, Array) and shape in (found, found[1:]):
            assert self.spaces is not None
            wanted = self.spaces.frame_dtype
            raise ConfigError(
                f"observation is {observation.dtype}, where the frames of this policy are "
                f"{wanted}; use {wanted}."
            )
        raise ConfigError(
            f"observation has shape {what}, where this policy takes a frame of shape {shape} for "
            f"each of N envs; pass all N as one array."
        )

    def _meet(self, observation: Array) -> bool:
        """Whether an array of new looks is one observation; ConfigError where it is none."""
        if arrays.kind(observation.dtype) not in ("uint8", "int", "float", "bool"):
            raise ConfigError(f"observation is {observation.dtype}; use uint8 or float32.")
        shape = tuple(observation.shape)
        if shape[:1] == (0,):
            raise ConfigError(f"observation has shape {shape}; use a frame for each of N envs.")
        dtype = torch.uint8 if arrays.kind(observation.dtype) == "uint8" else torch.float32
        stack = () if self.frame_stack is None else (self.frame_stack,)
        low = self.autocast and not isinstance(self.network, QNetwork)
        refused: ConfigError | None = None
        for single, frame in ((False, shape[1:]), (True, shape)):
            try:
                try_network(
                    self.network,
                    (*stack, *frame),
                    dtype,
                    None,
                    precision="bf16" if low else "fp32",
                    trained=False,
                )
            except ConfigError as error:
                refused = refused or error
            else:
                return single
        assert refused is not None
        raise refused

    def _are_frames(self, dtype: Any) -> bool:
        """Whether arrays of a dtype may be frames already: a reader might make bytes of floats."""
        if self.reader is None or self.spaces is None or self.spaces.frame_dtype is None:
            return True
        return arrays.kind(dtype) == ("uint8" if self.spaces.frame_dtype == "uint8" else "float")

    def reset(self) -> None:
        """Forget the stacks: the next call starts every env anew."""
        self._stack = None

    def _observe(self, frames: Tensor, first: Array | None) -> Tensor:
        """Push frames [N, *O] onto the stacks and return them, [N, S, *O]."""
        if self.frame_stack is None:
            return frames
        last = self._stack
        if (
            last is None
            or len(last) != len(frames)
            or last.shape[2:] != frames.shape[1:]
            or last.dtype != frames.dtype
        ):
            last = frames.new_zeros((frames.shape[0], self.frame_stack, *frames.shape[1:]))
            starts = torch.ones(frames.shape[0], dtype=torch.bool, device=self.device)
        elif first is None:
            starts = torch.zeros(frames.shape[0], dtype=torch.bool, device=self.device)
        else:
            starts = as_tensor(first).to(self.device)
        newest = frames.unsqueeze(1)
        padding = torch.zeros_like(newest) if self.stack_padding == "zero" else newest
        shape = (-1, *(1 for _ in last.shape[1:]))
        older = torch.where(starts.view(shape), padding, last[:, 1:])
        self._stack = torch.cat((older, newest), dim=1)
        return self._stack


def _flags(first: Any, num: int) -> Array:
    """``first`` as an array; ConfigError where it is not one flag for each env."""
    flags: Array = first if isinstance(first, Array) else np.asarray(first)
    if tuple(flags.shape) != (num,):
        raise ConfigError(
            f"first has shape {tuple(flags.shape)}; use one flag for each of {num} envs."
        )
    if arrays.kind(flags.dtype) != "bool":
        raise ConfigError(f"first is {flags.dtype}; make it bool.")
    return flags
