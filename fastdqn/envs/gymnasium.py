"""Any Gymnasium VectorEnv, in any autoreset mode, as one stream of rows."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv

from fastdqn.envs import arrays, checks, failures
from fastdqn.envs.leaves import ObservationOptions
from fastdqn.envs.stream import EnvStream
from fastdqn.errors import EnvError
from fastdqn.system.clock import Awake
from fastdqn.types import Array, StackPadding, TimeStep

_TICK_S = 0.25


class GymnasiumStream(EnvStream):
    """Adapter of a VectorEnv with a Discrete action space.

    NEXT_STEP envs are a stream already: the row after the end of an episode is ``first``.
    SAME_STEP and DISABLED envs give two observations where an episode ends, the final one and the
    first of the next; every row of theirs carries ``reset`` and ``reset_observation``, so that a
    consumer sees one structure. Rows of :meth:`reset` never do.

    Arrays are what the envs deal in, numpy or torch. Torch envs on a GPU are never waited for,
    except in mode DISABLED, where the host must know whether to call reset. A single env that
    returns the same array every time loses its final observation in SAME_STEP: Gymnasium's reset
    overwrites it before anyone sees it. Use NEXT_STEP for such envs.

    Args:
        envs: The envs.
        frame_stack: Frames that the replay shall stack; None: observations are whole.
        stack_padding: What stands before an episode's first frame.
        seed: Of the first ``reset()`` that names none.
        step_timeout_s: How long the workers of an AsyncVectorEnv may take for one step.
        observation: What observations mean, where their space leaves it open.

    Attributes:
        reader: Makes frames of the observations.
        frame_format: What the numbers of a frame mean.
    """

    def __init__(
        self,
        envs: VectorEnv,
        *,
        frame_stack: int | None = None,
        stack_padding: StackPadding = "repeat",
        seed: int | None = None,
        step_timeout_s: float | None = 60.0,
        observation: ObservationOptions | None = None,
    ) -> None:
        checks.check_is_vector_env(envs)
        self.autoreset_mode = checks.read_autoreset_mode(envs)
        self.num_actions, self.action_start = checks.read_actions(envs)
        if frame_stack is not None and frame_stack < 1:
            raise EnvError(f"frame_stack = {frame_stack} is out of range; use 1 or more, or None.")
        self.reader = checks.read_observation(
            envs, observation or ObservationOptions(), frame_stack
        )
        self.observation_space = self.reader.frame_space
        self.frame_format = self.reader.format
        self.num_envs = envs.num_envs
        self.frame_stack = frame_stack
        self.stack_padding = stack_padding
        self._envs = envs
        self._base = envs.unwrapped
        self._seed = seed
        self._timeout_s = step_timeout_s
        self._delivers: arrays.DType = (
            "uint8" if self.observation_space.dtype == np.uint8 else "float32"
        )
        self._example: Array | None = None  # tells which arrays the envs want: kind and device
        self._dtype: Any = None  # of the envs' observations, once it is checked
        self._shape: Any = None
        self._ended: Any = None  # [N] envs whose newest row ends an episode
        self._actions: Any = None  # sent, but not yet stepped
        self._in_flight = False
        self._started = False
        self._closed = False

    # --- the stream ----------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None) -> TimeStep:
        """Start every env anew; without a seed the first call uses the stream's own."""
        self._check_open()
        if self._in_flight:  # workers must be idle before they can reset
            self.recv()
        if seed is None:
            seed, self._seed = self._seed, None
        if seed is not None:
            seed = checks.check_seed(seed, self.num_envs)
        with failures.named(self._envs, "reset", self._timeout_s):
            raw, info = self._reset(seed)
        self._dtype = None  # check this one in full
        observation = self._deliver(raw)
        none = arrays.no_flags(observation)
        if self._ended is None or not self._keeps_autoreset():
            self._ended = none
        self._begin(info)
        self._started = True
        return TimeStep(observation, arrays.cast(none, "float32"), none, none, ~none)

    def send(self, actions: Array) -> None:
        """Hand over actions [N] from 0; host arrays are checked, CUDA tensors are trusted."""
        self._check_open()
        if not self._started:
            raise EnvError("send() before reset(); call reset() first.")
        if self._in_flight:
            raise EnvError("send() twice in a row; call recv() in between.")
        actions = self._convert(actions)
        with failures.named(self._envs, "step", self._timeout_s):
            self._dispatch(actions)
        self._in_flight = True

    def recv(self) -> TimeStep:
        """Wait for the rows that the last :meth:`send` leads to."""
        self._check_open()
        if not self._in_flight:
            raise EnvError("recv() without send(); call send(actions) first.")
        self._in_flight = False  # also if the step fails
        with failures.named(self._envs, "step", self._timeout_s):
            raw, reward, terminated, truncated, info = self._collect()
        observation = self._deliver(raw)
        reward = self._per_env("reward", reward, "float32")
        terminated = self._per_env("terminated", terminated, "bool")
        truncated = self._per_env("truncated", truncated, "bool")
        restarted = self._restarted(info, terminated | truncated)
        restarted = self._per_env("the reset mask", restarted, "bool")
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            reward = arrays.zero_where(restarted, reward)
            terminated, truncated = terminated & ~restarted, truncated & ~restarted
            self._ended = terminated | truncated
            return TimeStep(observation, reward, terminated, truncated, restarted)
        following = observation
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            observation = self._final_frames(info, observation, restarted)
        elif bool(restarted.any()):
            # Envs may return their own buffer, which the reset overwrites. The dictionary and the
            # mask are new each time: Gymnasium pops the mask out of it.
            observation = arrays.copy(observation)
            with failures.named(self._envs, "reset", self._timeout_s):
                raw, _ = self._envs.reset(options={"reset_mask": arrays.copy(restarted)})
            following = self._deliver(raw)
        first = arrays.no_flags(observation)
        return TimeStep(observation, reward, terminated, truncated, first, following, restarted)

    def close(self) -> None:
        """Release the envs; never waits for a worker, and does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        if not isinstance(self._base, AsyncVectorEnv):
            self._envs.close()
            return
        try:
            with warnings.catch_warnings():  # that a step is pending is nothing to warn about
                warnings.simplefilter("ignore")
                self._envs.close(terminate=True)
        except Exception:  # the pipe of a dead worker: end the others by hand
            for process in self._base.processes:
                process.terminate()
                process.join()
            self._base.closed = True

    @property
    def vector_env(self) -> VectorEnv:
        """The envs, as they were handed over."""
        return self._envs

    # --- state ---------------------------------------------------------------------------------

    @property
    def can_save_state(self) -> bool:
        """Whether the envs can save and restore their state, and so the stream."""
        # Not the unwrapped envs: the state of a wrapper would be lost in silence.
        return hasattr(self._envs, "state_dict") and hasattr(self._envs, "load_state_dict")

    def state_dict(self) -> dict[str, Any]:
        """The state of the envs and of the stream; only between recv() and send()."""
        if not self.can_save_state:
            raise EnvError(f"{self._envs} cannot save its state: it has no state_dict().")
        if self._in_flight or not self._started:
            raise EnvError("state_dict() must be called after reset() or recv(), before send().")
        return {
            "envs": self._envs.state_dict(),
            "ended": arrays.to_numpy(self._ended).copy(),
            # None: of torch envs, loaded a moment ago.
            "tensors": not isinstance(self._example, np.ndarray),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called; the stream is ready for send()."""
        if not self.can_save_state:
            raise EnvError(f"{self._envs} cannot load a state: it has no load_state_dict().")
        # A checkpoint on disk holds tensors only; numpy envs get back what they gave.
        envs = state["envs"] if state["tensors"] else arrays.without_tensors(state["envs"])
        self._envs.load_state_dict(envs)
        self._ended = state["ended"]
        # Where a torch env wants its actions will show with its next observation; until then
        # they stay where the caller has them.
        self._example = None if state["tensors"] else np.empty(0)
        self._started, self._in_flight, self._actions, self._seed = True, False, None, None

    # --- hooks for envs with laws of their own -------------------------------------------------

    def _begin(self, info: Mapping[str, Any]) -> None:
        """Look at the info of a reset of all envs."""

    def _restarted(self, info: Mapping[str, Any], ended: Any) -> Any:
        """[N] envs that have been reset: before this step in NEXT_STEP, else within it.

        Args:
            info: Of the step.
            ended: [N] terminated | truncated in this step.
        """
        return self._ended if self.autoreset_mode is AutoresetMode.NEXT_STEP else ended

    def _dispatch(self, actions: Any) -> None:
        """Start a step; envs that cannot work in the background step in :meth:`_collect`."""
        if isinstance(self._envs, AsyncVectorEnv):
            self._envs.step_async(actions)
        else:
            self._actions = actions

    def _collect(self) -> tuple[Any, Any, Any, Any, Mapping[str, Any]]:
        """Finish the step."""
        if not isinstance(self._envs, AsyncVectorEnv):
            actions, self._actions = self._actions, None
            return self._envs.step(actions)
        self._await_workers()
        return self._envs.step_wait()

    def _reset(self, seed: int | None) -> tuple[Any, Mapping[str, Any]]:
        """Reset all envs, and wait no longer for their workers than for a step."""
        if not isinstance(self._envs, AsyncVectorEnv):
            return self._envs.reset(seed=seed)
        self._envs.reset_async(seed=seed)
        self._await_workers()
        return self._envs.reset_wait()

    def _await_workers(self) -> None:
        """Wait until every worker has answered, or TimeoutError.

        Gymnasium's own wait counts time in which all of us were stopped, workers included.
        """
        if self._timeout_s is None:
            return
        awake = Awake(min(_TICK_S, self._timeout_s / 4))
        for pipe in self._base.parent_pipes:
            while not pipe.poll(awake.tick_s):
                if awake.look() > self._timeout_s:
                    raise multiprocessing.TimeoutError

    def _deliver(self, raw: Any) -> Any:
        """Observations of the envs as frames, checked, in the dtype of ``observation_space``."""
        if not self.reader.plain:
            frames = self.reader.frames(raw, self.num_envs)
            self._example = frames
            return frames
        try:
            new = self._dtype is None or raw.dtype != self._dtype or raw.shape != self._shape
        except AttributeError:  # it was an array before, and is none now
            new = True
        if new:
            raw = checks.check_frames(self._envs, raw)
            self._dtype, self._shape = raw.dtype, raw.shape
        self._example = raw
        return arrays.cast(raw, self._delivers)

    # --- helpers -------------------------------------------------------------------------------

    def _final_frames(self, info: Mapping[str, Any], frames: Any, ended: Any) -> Any:
        """``frames`` [N, *O] with the final ones where ``ended``."""
        final = info.get("final_obs")
        if final is None:
            final = info.get("final_observation")  # as it was called before Gymnasium 1.0
        if final is None:
            if not bool(ended.any()):
                return frames
            raise EnvError(
                f"An episode of {self._envs} ended without info['final_obs']; autoreset mode "
                f"SAME_STEP needs it, or use AutoresetMode.NEXT_STEP."
            )
        if not isinstance(final, np.ndarray) or final.dtype != object:  # rows not ended are junk
            if self.reader.checks_values:
                return self._with_rows(frames, final, np.flatnonzero(arrays.to_numpy(ended)))
            final = self._final_batch(final)
            return arrays.choose(ended, arrays.as_kind_of(final, frames), frames)
        out = arrays.copy(frames)  # an object array with holes
        for i in np.flatnonzero(arrays.to_numpy(ended)):
            if final[i] is None:
                raise EnvError(
                    f"Env {i} of {self._envs} ended its episode, but info['final_obs'][{i}] is "
                    f"None; give its last observation."
                )
            frame = self.reader.single(final[i], f"info['final_obs'][{i}]")
            out[i] = arrays.as_kind_of(frame, frames)
        return out

    def _with_rows(self, frames: Any, final: Any, rows: Any) -> Any:
        """``frames`` with those of ``final`` in these rows, the only ones that are looked at."""
        out = arrays.copy(frames)
        if len(rows):
            final = arrays.take(final, rows, self.num_envs)
            new = self.reader.frames(final, len(rows), "final_obs")
            out[rows] = arrays.as_kind_of(new, frames)
        return out

    def _final_batch(self, raw: Any) -> Any:
        """Final observations of all envs as frames, junk where no episode ended."""
        return self.reader.frames(raw, self.num_envs, "final_obs")

    def _per_env(self, name: str, value: Any, dtype: arrays.DType) -> Any:
        """``value`` [N] in the kind of array that observations are."""
        assert self._example is not None
        value = arrays.cast(arrays.as_kind_of(value, self._example), dtype)
        return checks.check_per_env(self._envs, name, value)

    def _convert(self, actions: Any) -> Any:
        """``actions`` as the envs want them: their kind of array, int64, from action_start."""
        wants = self._example
        if wants is None:  # a torch env whose state was loaded
            wants = actions if isinstance(actions, torch.Tensor) else torch.empty(0)
        is_meta = getattr(actions, "is_meta", False)  # refused below
        if not is_meta and (arrays.on_host(actions) or arrays.on_host(wants)):
            actions = arrays.to_numpy(actions)
        checks.check_actions(actions, self.num_envs, self.num_actions)
        # The sum is new memory: the caller may write to its own before the envs have stepped.
        return arrays.as_kind_of(arrays.cast(actions, "int64") + self.action_start, wants)

    def _keeps_autoreset(self) -> bool:
        """Whether a reset of all envs leaves a pending autoreset in place.

        Workers without shared memory do, so that their next step is a reset once more; keeping
        ``_ended`` makes its row ``first``.
        """
        base = self._base
        next_step = self.autoreset_mode is AutoresetMode.NEXT_STEP
        return next_step and isinstance(base, AsyncVectorEnv) and not base.shared_memory

    def _check_open(self) -> None:
        if self._closed:
            raise EnvError("The stream is closed; make a new one.")
