"""Envs whose every value is known, and the transitions that a replay must make of them.

A :class:`Script` is the truth: pure functions of (env, episode, t) say how long an episode is, how
it ends, what every reward is and what a policy does. Row t of an episode, t = 0 .. length, is what
the env shows after t steps; row 0 comes from a reset. ``reward(env, episode, t, action)`` is for
leaving row t, so it arrives with row t + 1. Nothing here imports fastdqn but the records.

    script = Script(num_envs=4, seed=0)
    env = ScriptedEnv(script, index=2)                               # one plain gymnasium Env
    envs = ScriptedVectorEnv(script, "SAME_STEP", backend="torch")   # a gymnasium VectorEnv
    stream = make_envs(envs)                                         # ... as fastdqn sees it
    stream = ScriptedStream(Script(4, life_loss=True, unflagged=True))   # or a stream directly
    actions = script.act(step.observation)                           # a function of what is seen

How an episode ends (``script.ending``): terminated, truncated, both at once, or, with
``unflagged``, no flag at all: the next episode just begins. With ``life_loss`` some rows in
mid-episode are terminated, too, and the episode goes on. Flagless ends and lost lives exist only in
:class:`ScriptedStream`, because a VectorEnv cannot tell them from the end of an episode.

Observations: float32 frames hold (env, episode, t) themselves; uint8 frames hold their digits, all
of them 1 or more, so that zero padding shows. ``script.decode`` reads both back, for any leading
axes (a whole batch of stacks, say): int64 [..., 3], and -1 for a frame of padding (uint8 only).

The oracle, with S frames per stack::

    script.transition(env, episode, t, n, gamma, stack)   # one, plain Python, from the formula
    script.expected_transitions(episodes, n, gamma)       # all of some episodes
    script.expected_batch(env, episode, t, n, gamma)      # arrays in, arrays out: for 10^6 samples
    script.expected_stack(env, episode, t, stack, padding)   # int64 [..., S, 3], -1 for zeros

All of them assume that the actions came from ``script.act``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv

from fastdqn.envs.stream import EnvStream
from fastdqn.types import TimeStep

TERMINATED, TRUNCATED, BOTH, UNFLAGGED = range(4)
Row = tuple[int, int, int]  # env, episode, t
_BASE = 250  # digits of uint8 frames are 1 .. 250
_DIGITS = 6  # env, episode (3), t (2)


class Transition(NamedTuple):
    """What one draw of the replay must be."""

    state: tuple[Row | None, ...]  # the stack, oldest first; None is a frame of zeros
    action: int
    reward: float  # sum of gamma^(k-1) r[t+k], k = 1 .. m
    discount: float  # gamma^m (1 - terminated[t+m])
    next_state: tuple[Row | None, ...]


@dataclasses.dataclass(frozen=True)
class Script:
    """The truth about ``num_envs`` envs; arguments of its methods are integers or arrays."""

    num_envs: int
    seed: int = 0
    num_actions: int = 5
    max_length: int = 12
    frame_shape: tuple[int, ...] = (3,)
    dtype: str = "float32"
    life_loss: bool = False
    unflagged: bool = False

    def length(self, env: Any, episode: Any) -> Any:
        """Steps of an episode; every fourth is one step long, or so."""
        short = self._draw(1, env, episode) % 4 == 0
        return np.where(short, 1, 1 + self._draw(2, env, episode) % self.max_length)

    def ending(self, env: Any, episode: Any) -> Any:
        """TERMINATED, TRUNCATED, BOTH or UNFLAGGED."""
        return self._draw(3, env, episode) % (4 if self.unflagged else 3)

    def reward(self, env: Any, episode: Any, t: Any, action: Any) -> Any:
        """Of leaving row t by ``action``: a multiple of 1/8 in [-4, 4]."""
        return (self._draw(4, env, episode, t, action) % 65 - 32) / 8.0

    def action(self, env: Any, episode: Any, t: Any) -> Any:
        """What the policy does in row t, from 0."""
        return self._draw(5, env, episode, t) % self.num_actions

    def flags(self, env: Any, episode: Any, t: Any) -> tuple[Any, Any]:
        """``terminated`` and ``truncated`` of row t."""
        ending, over = self.ending(env, episode), np.asarray(t) == self.length(env, episode)
        terminated = over & ((ending == TERMINATED) | (ending == BOTH))
        truncated = over & ((ending == TRUNCATED) | (ending == BOTH))
        if self.life_loss:
            lost = self._draw(6, env, episode, t) % 5 == 0
            terminated = terminated | (lost & ~over & (np.asarray(t) > 0))
        return terminated, truncated

    # --- frames --------------------------------------------------------------------------------

    def encode(self, env: Any, episode: Any, t: Any) -> np.ndarray:
        """Frames [N, *O]."""
        size = int(np.prod(self.frame_shape))
        if self.dtype == "float32":
            code = np.stack([env, episode, t], -1)
        else:
            digits = [env, episode, episode // _BASE, episode // _BASE**2, t, t // _BASE]
            code = np.stack(digits, -1) % _BASE + 1
        if size < code.shape[-1]:
            raise ValueError(f"frame_shape {self.frame_shape} is too small for {self.dtype}")
        copies = -(-size // code.shape[-1])
        code = np.tile(code, copies)[..., :size].astype(self.dtype)
        return code.reshape(*code.shape[:-1], *self.frame_shape)

    def decode(self, frames: Any) -> np.ndarray:
        """int64 [..., 3] of frames [..., *O]: (env, episode, t), or -1 for zeros (uint8)."""
        frames = frames.cpu().numpy() if isinstance(frames, torch.Tensor) else np.asarray(frames)
        lead = frames.shape[: frames.ndim - len(self.frame_shape)]
        assert frames.shape[len(lead) :] == self.frame_shape, frames.shape
        flat = frames.reshape(*lead, -1)
        if self.dtype == "float32":
            return flat[..., :3].astype(np.int64)
        code = flat[..., :_DIGITS].astype(np.int64) - 1
        episode = code[..., 1] + _BASE * code[..., 2] + _BASE**2 * code[..., 3]
        rows = np.stack([code[..., 0], episode, code[..., 4] + _BASE * code[..., 5]], -1)
        return np.where((flat == 0).all(-1)[..., None], -1, rows)

    def act(self, observation: Any) -> Any:
        """The policy's actions int64 [N] for the newest frames [N, *O]; torch in, torch out."""
        env, episode, t = np.moveaxis(self.decode(observation), -1, 0)
        actions = self.action(env, episode, t)
        if isinstance(observation, torch.Tensor):
            return torch.as_tensor(actions, device=observation.device)
        return actions

    # --- the oracle ----------------------------------------------------------------------------

    def transition(
        self,
        env: int,
        episode: int,
        t: int,
        n: int = 1,
        gamma: float = 0.99,
        stack: int = 1,
        padding: str = "zero",
    ) -> Transition:
        """The transition that starts in row t < length, in plain Python."""
        length = int(self.length(env, episode))
        assert 0 <= t < length, (t, length)
        reward = 0.0
        for k in range(1, n + 1):
            action = int(self.action(env, episode, t + k - 1))
            reward += gamma ** (k - 1) * float(self.reward(env, episode, t + k - 1, action))
            terminated, truncated = (bool(x) for x in self.flags(env, episode, t + k))
            if terminated or truncated or t + k == length:
                break
        discount = 0.0 if terminated else gamma**k
        first = int(self.action(env, episode, t))
        state = self._stack(env, episode, t, stack, padding)
        return Transition(
            state, first, reward, discount, self._stack(env, episode, t + k, stack, padding)
        )

    def expected_transitions(
        self, episodes: int, n: int = 1, gamma: float = 0.99, stack: int = 1, padding: str = "zero"
    ) -> Iterator[Transition]:
        """Every transition of episodes 0 .. episodes - 1 of every env."""
        for env in range(self.num_envs):
            for episode in range(episodes):
                for t in range(int(self.length(env, episode))):
                    yield self.transition(env, episode, t, n, gamma, stack, padding)

    def expected_batch(
        self, env: np.ndarray, episode: np.ndarray, t: np.ndarray, n: int, gamma: float
    ) -> dict[str, np.ndarray]:
        """The same for arrays [B] of starts; ``next_t`` tells row t + m. float64."""
        length = self.length(env, episode)
        reward, discount = np.zeros(len(env)), np.ones(len(env))
        next_t, open_ = np.array(t), np.ones(len(env), bool)
        for k in range(1, n + 1):
            action = self.action(env, episode, next_t)
            value = gamma ** (k - 1) * self.reward(env, episode, next_t, action)
            reward = np.where(open_, reward + value, reward)
            next_t = next_t + open_
            terminated, truncated = self.flags(env, episode, next_t)
            discount = np.where(open_, gamma**k * ~terminated, discount)
            open_ = open_ & ~(terminated | truncated | (next_t == length))
        action = self.action(env, episode, t)
        return {"action": action, "reward": reward, "discount": discount, "next_t": next_t}

    def expected_stack(
        self, env: Any, episode: Any, t: Any, stack: int, padding: str = "zero"
    ) -> np.ndarray:
        """int64 [..., S, 3]: the rows that make up the stack of row t, -1 where it is zeros."""
        times = np.asarray(t)[..., None] - np.arange(stack - 1, -1, -1)
        shape = (*times.shape, 1)
        rows = np.concatenate(
            [
                np.broadcast_to(np.asarray(env)[..., None, None], shape),
                np.broadcast_to(np.asarray(episode)[..., None, None], shape),
                np.maximum(times, 0)[..., None],
            ],
            -1,
        )
        return np.where((times < 0)[..., None], -1, rows) if padding == "zero" else rows

    def _stack(self, env: int, episode: int, t: int, stack: int, padding: str) -> tuple:
        rows: list[Row | None] = []
        for i in range(t - stack + 1, t + 1):
            rows.append((env, episode, max(i, 0)) if i >= 0 or padding == "repeat" else None)
        return tuple(rows)

    def _draw(self, *parts: Any) -> Any:
        """A number in [0, 2^31) that looks random, from integers or arrays of them."""
        with np.errstate(over="ignore"):
            x = np.uint64(self.seed * 0x9E3779B9 + 1)
            for part in parts:
                x = (x ^ np.asarray(part).astype(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
                x = x ^ (x >> np.uint64(29))
            x = x * np.uint64(0x94D049BB133111EB)
        return (x >> np.uint64(33)).astype(np.int64)


def _host(x: Any) -> np.ndarray:
    return x.cpu().numpy().copy() if isinstance(x, torch.Tensor) else np.array(x)


class _Clock:
    """Where every env stands in its script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.env = np.arange(script.num_envs)
        self.episode = np.full(script.num_envs, -1)
        self.t = np.zeros(script.num_envs, np.int64)
        self.restart(np.ones(script.num_envs, bool))

    def restart(self, mask: np.ndarray) -> None:
        self.episode = self.episode + mask
        self.t = np.where(mask, 0, self.t)
        self.length = self.script.length(self.env, self.episode)

    def rewind(self) -> None:
        self.episode[:] = -1
        self.restart(np.ones(len(self.env), bool))

    def advance(self, actions: np.ndarray, mask: np.ndarray | None = None) -> tuple:
        """Step the envs in ``mask``; rewards and flags of the others are 0."""
        mask = np.ones(len(self.env), bool) if mask is None else mask
        reward = np.where(mask, self.script.reward(self.env, self.episode, self.t, actions), 0.0)
        self.t = self.t + mask
        terminated, truncated = self.script.flags(self.env, self.episode, self.t)
        return reward, terminated & mask, truncated & mask

    @property
    def over(self) -> np.ndarray:
        return self.t == self.length

    @property
    def frames(self) -> np.ndarray:
        return self.script.encode(self.env, self.episode, self.t)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"episode": self.episode.copy(), "t": self.t.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.episode = _host(state["episode"])
        self.t = _host(state["t"])
        self.length = self.script.length(self.env, self.episode)


class ScriptedVectorEnv(VectorEnv):
    """A script as a Gymnasium VectorEnv, which breaks at once if it is misused.

    ``reset(seed=...)`` starts again at episode 0, ``reset()`` with the next episode of every env.

    Args:
        script: The truth, or a number of envs for a default one.
        mode: An AutoresetMode, or its name.
        backend: ``numpy`` or ``torch`` arrays.
        device: Of the torch arrays.
        start: Number of the first action.
        final_obs: SAME_STEP: ``objects`` (with None holes, as Gymnasium), ``dense`` (with junk
            where no episode ended, as ALE) or ``absent``.
        reuse_buffer: Return the same array every time, as ``copy=False`` does.
        rude: NEXT_STEP: reset rows carry a reward and flags.
    """

    metadata: dict[str, Any] = {}  # noqa: RUF012

    def __init__(
        self,
        script: Script | int,
        mode: AutoresetMode | str = "NEXT_STEP",
        *,
        backend: str = "numpy",
        device: str = "cpu",
        start: int = 0,
        final_obs: str | None = None,
        reuse_buffer: bool = False,
        rude: bool = False,
    ) -> None:
        self.script = Script(script) if isinstance(script, int) else script
        assert not self.script.life_loss and not self.script.unflagged, "use ScriptedStream"
        self.mode = AutoresetMode[mode] if isinstance(mode, str) else mode
        self.metadata = {"autoreset_mode": self.mode}
        self.num_envs = self.script.num_envs
        low, high = (0, 255) if self.script.dtype == "uint8" else (-np.inf, np.inf)
        self.single_observation_space = Box(low, high, self.script.frame_shape, self.script.dtype)
        self.single_action_space = Discrete(self.script.num_actions, start=start)
        batch = gymnasium.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, self.num_envs)
        self.action_space = batch(self.single_action_space, self.num_envs)
        self.backend, self.device, self.start = backend, device, start
        self.final_obs = final_obs or ("dense" if backend == "torch" else "objects")
        self.rude = rude
        self.seeds: list[Any] = []  # every seed that reset() was given
        self.masks: list[np.ndarray] = []  # and every reset_mask
        self.actions: list[Any] = []  # and every batch of actions
        self._clock = _Clock(self.script)
        self._ended = np.zeros(self.num_envs, bool)
        self._buffer = self._clock.frames if reuse_buffer else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self.seeds.append(seed)
        if options is not None and "reset_mask" in options:
            mask = options.pop("reset_mask")  # as Gymnasium does
            assert isinstance(mask, torch.Tensor) == (self.backend == "torch")
            given, mask = mask, _host(mask)
            given[:] = False  # the env's to use up
            assert mask.dtype == bool and mask.any() and mask.shape == (self.num_envs,)
            self.masks.append(mask)
            self._clock.restart(mask)
            self._ended = self._ended & ~mask
        else:
            if seed is not None:
                self._clock.rewind()
            elif len(self.seeds) > 1:
                self._clock.restart(np.ones(self.num_envs, bool))
            self._ended[:] = False
        return self._give(self._observe()), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        assert isinstance(actions, torch.Tensor) == (self.backend == "torch"), type(actions)
        self.actions.append(actions)
        host = _host(actions)
        assert host.dtype == np.int64 and host.shape == (self.num_envs,)
        host = host - self.start
        assert (host >= 0).all() and (host < self.script.num_actions).all(), host
        info: dict[str, Any] = {}
        pending = self._ended  # only SAME_STEP leaves none
        assert self.mode is not AutoresetMode.DISABLED or not pending.any(), "reset them first"
        self._clock.restart(pending)
        reward, terminated, truncated = self._clock.advance(host, ~pending)
        ended = terminated | truncated
        assert (ended == self._clock.over).all()
        if self.mode is AutoresetMode.SAME_STEP:
            if ended.any() and self.final_obs != "absent":
                info = self._final(self._clock.frames, ended)
            self._clock.restart(ended)
        else:
            self._ended = ended
        if self.rude:
            reward = np.where(pending, np.nan, reward)
            terminated, truncated = terminated | pending, truncated | pending
        give = self._give
        return give(self._observe()), give(reward), give(terminated), give(truncated), info

    def state_dict(self) -> dict[str, Any]:
        return {**self._clock.state_dict(), "ended": self._ended.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert self.backend == "torch" or isinstance(state["t"], np.ndarray)
        self._clock.load_state_dict(state)
        self._ended = _host(state["ended"])

    def _observe(self) -> np.ndarray:
        if self._buffer is None:
            return self._clock.frames
        self._buffer[...] = self._clock.frames
        return self._buffer

    def _final(self, frames: np.ndarray, ended: np.ndarray) -> dict[str, Any]:
        if self.final_obs == "dense":
            frames[~ended] = 77  # junk
            return {"final_obs": self._give(frames)}
        objects = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(ended):
            objects[i] = self._give(frames[i])
        return {"final_obs": objects, "_final_obs": ended.copy()}

    def _give(self, x: np.ndarray) -> Any:
        return torch.as_tensor(x, device=self.device) if self.backend == "torch" else x


class ScriptedEnv(gymnasium.Env):
    """One env of a script, for SyncVectorEnv and AsyncVectorEnv.

    With ``reuse_buffer`` it returns the same array every time. Gymnasium's SAME_STEP cannot cope
    with that: its reset overwrites what it has put into ``final_obs`` a line before.
    """

    def __init__(self, script: Script, index: int, start: int = 0, reuse_buffer: bool = False):
        self.script, self.index, self.start = script, index, start
        self.reuse_buffer = reuse_buffer
        low, high = (0, 255) if script.dtype == "uint8" else (-np.inf, np.inf)
        self.observation_space = Box(low, high, script.frame_shape, script.dtype)
        self.action_space = Discrete(script.num_actions, start=start)
        self.episode, self.t = -1, 0
        self._buffer = np.zeros(script.frame_shape, script.dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.t = (0 if seed is not None else self.episode + 1), 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        row = self.index, self.episode, self.t
        reward = float(self.script.reward(*row, int(action) - self.start))
        assert self.t < self.script.length(*row[:2]), "step after the end"
        self.t += 1
        terminated, truncated = self.script.flags(self.index, self.episode, self.t)
        return self._observe(), reward, bool(terminated), bool(truncated), {}

    def _observe(self) -> np.ndarray:
        row = (np.asarray(x) for x in (self.index, self.episode, self.t))
        self._buffer[...] = self.script.encode(*row)
        return self._buffer if self.reuse_buffer else self._buffer.copy()


class ScriptedStream(EnvStream):
    """A script as an EnvStream, with lost lives and resets without a flag if it has them.

    Args:
        script: The truth.
        two_rows: The row after the end of an episode comes in the same step (``reset``), as from
            SAME_STEP and DISABLED envs; otherwise it is the next row (``first``).
        backend: ``numpy`` or ``torch`` arrays.
        device: Of the torch arrays.
        frame_stack: Attribute of the stream.
        stack_padding: Attribute of the stream.
    """

    def __init__(
        self,
        script: Script,
        *,
        two_rows: bool = False,
        backend: str = "numpy",
        device: str = "cpu",
        frame_stack: int | None = None,
        stack_padding: str = "zero",
    ) -> None:
        self.script = script
        self.num_envs = script.num_envs
        self.num_actions = script.num_actions
        self.action_start = 0
        low, high = (0, 255) if script.dtype == "uint8" else (-np.inf, np.inf)
        self.observation_space = Box(low, high, script.frame_shape, script.dtype)
        self.frame_stack = frame_stack
        self.stack_padding = stack_padding
        self.two_rows = two_rows
        self._backend, self._device = backend, device
        self._clock = _Clock(script)
        self._over = np.zeros(self.num_envs, bool)
        self._actions: np.ndarray | None = None
        self._resets = 0

    def reset(self, *, seed: int | None = None) -> TimeStep:
        if seed is not None:
            self._clock.rewind()
        elif self._resets:
            self._clock.restart(np.ones(self.num_envs, bool))
        self._resets += 1
        self._over[:] = False
        zeros = np.zeros(self.num_envs, bool)
        return self._row(self._clock.frames, zeros.astype(np.float32), zeros, zeros, ~zeros)

    def send(self, actions: Any) -> None:
        assert self._actions is None, "send twice"
        actions = _host(actions)
        assert actions.shape == (self.num_envs,)
        self._actions = actions

    def recv(self) -> TimeStep:
        assert self._actions is not None, "recv without send"
        actions, self._actions = self._actions, None
        if self.two_rows:
            reward, terminated, truncated = self._clock.advance(actions)
            frames, over = self._clock.frames, self._clock.over
            self._clock.restart(over)
            none = np.zeros(self.num_envs, bool)
            reset_frames = self._clock.frames
            return self._row(frames, reward, terminated, truncated, none, reset_frames, over)
        first = self._over
        self._clock.restart(first)
        reward, terminated, truncated = self._clock.advance(actions, ~first)
        self._over = self._clock.over & ~first
        return self._row(self._clock.frames, reward, terminated, truncated, first)

    def close(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        assert self._actions is None
        return {**self._clock.state_dict(), "over": self._over.copy(), "resets": self._resets}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._clock.load_state_dict(state)
        self._over = _host(state["over"])
        self._resets, self._actions = int(state["resets"]), None

    def _row(self, frames: Any, reward: Any, *rest: Any) -> TimeStep:
        values = [frames, reward.astype(np.float32), *rest]
        if self._backend == "torch":
            values = [torch.as_tensor(x, device=self._device) for x in values]
        return TimeStep(*values)
