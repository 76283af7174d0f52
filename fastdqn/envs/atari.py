"""Atari games on ALE's own C++ vector env: the protocol in words, and the envs as a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.envs.registration import registry
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv

from fastdqn.config.checks import shown
from fastdqn.envs.gymnasium import GymnasiumStream
from fastdqn.envs.leaves import ObservationOptions
from fastdqn.errors import EnvError, nearest
from fastdqn.system.host import usable_cpus


@dataclass(frozen=True, kw_only=True)
class AtariProtocol:
    """Under which rules a game is played; scores of different protocols do not compare.

    ALE presses FIRE *before* the no-ops of a reset and draws 0 to noop_max - 1 of them (one less
    after FIRE), where Baselines and EnvPool draw 1 to 30 and press FIRE last.
    """

    name: str = "machado"
    """What to call it in reports."""
    repeat_action_probability: float = 0.25
    """Sticky actions: the chance, per frame, that the action before is repeated."""
    life_loss: bool = False
    """A lost life is terminal, although the game goes on without a reset."""
    fire_reset: bool = False
    """Press FIRE after a reset, in games that have it."""
    noop_max: int = 30
    """Fewer than this many no-ops after a reset, drawn at random; 0: none."""
    frame_skip: int = 4
    """Frames per action; observations are the maximum of the last two."""
    frame_size: int = 84
    """Rows and columns to which a screen of 210 x 160 is scaled, by area."""
    max_episode_frames: int = 108_000
    """Truncate an episode after so many frames, without the no-ops of its reset."""
    full_action_space: bool = False
    """All 18 joystick actions instead of the game's own set."""

    def __post_init__(self) -> None:
        """Check ranges."""
        ranges = {
            "repeat_action_probability": (0.0, 1.0),
            "noop_max": (0, 10_000),
            "frame_skip": (1, 1_000),
            "frame_size": (8, 256),
            "max_episode_frames": (1, 2**31 - 1),
        }
        for field, (low, high) in ranges.items():
            value = getattr(self, field)
            whole = field != "repeat_action_probability"
            if type(value) is not int and (whole or type(value) is not float):
                kind = "a whole number" if whole else "a number"
                raise EnvError(f"AtariProtocol.{field} = {shown(value)}; use {kind}.")
            if not low <= value <= high:  # also refuses NaN
                raise EnvError(f"AtariProtocol.{field} = {value!r}; use {low} to {high}.")

        if not isinstance(self.name, str):
            raise EnvError(f"AtariProtocol.name = {shown(self.name)}; use a text.")
        for field in ("life_loss", "fire_reset", "full_action_space"):
            if type(getattr(self, field)) is not bool:
                raise EnvError(
                    f"AtariProtocol.{field} = {shown(getattr(self, field))}; use True or False."
                )

    @classmethod
    def machado(cls, **overrides: Any) -> AtariProtocol:
        """Machado et al. 2018: sticky actions 0.25, an episode is a whole game.

        Args:
            overrides: Fields that are otherwise.
        """
        return cls(**{"name": "machado", **overrides})

    @classmethod
    def classic(cls, **overrides: Any) -> AtariProtocol:
        """Mnih et al. 2015: no sticky actions, a lost life is terminal, FIRE after a reset.

        Args:
            overrides: Fields that are otherwise.
        """
        rules = {"repeat_action_probability": 0.0, "life_loss": True, "fire_reset": True}
        return cls(**{"name": "classic", **rules, **overrides})


class AtariStream(GymnasiumStream):
    """ALE's AtariVectorEnv, in which neither ``done`` nor ``lives`` tells when an episode is over.

    A lost life may be terminal without a reset, it may fall together with the frame limit (then
    there is a reset that no flag announces), and games without lives report 0 throughout. What
    tells is ``frame_number - episode_frame_number``, the frames played before this episode: it
    grows with every reset and at no other time.

    Envs without wrappers step in ALE's threads from send() to recv(). A single frame [N, 1, 84, 84]
    is delivered as [N, 84, 84] where the replay stacks them. The final frame of an episode is
    stale: ALE leaves its frame skip before it grabs the screen, so that a truncated episode
    bootstraps from the frame before (or a blend of it); a terminated one bootstraps from nothing.
    ALE cannot save its state.
    """

    def __init__(
        self,
        envs: VectorEnv,
        *,
        frame_stack: int | None = None,
        seed: int | None = None,
        observation: ObservationOptions | None = None,
    ) -> None:
        super().__init__(
            envs,
            frame_stack=frame_stack,
            stack_padding="zero",
            seed=seed,
            observation=observation,
        )
        low, high = self.observation_space.low, self.observation_space.high
        self._squeeze = frame_stack is not None and len(low) == 1
        if self._squeeze:
            self.observation_space = Box(low[0], high[0], dtype=np.uint8)
        self._direct = envs is self._base  # a wrapper must see step()
        self.frame_number: Any = None  # [N] emulator frames up to the newest rows
        self._frames_before: Any = None  # [N] frames before the running episodes

    def close(self) -> None:
        """Stop ALE's threads."""
        if self._closed:
            return
        super().close()
        # They end with the C++ object; a user may hold the Python one for long.
        vars(self._base).pop("ale", None)

    def _begin(self, info: Mapping[str, Any]) -> None:
        self.frame_number = info["frame_number"]
        self._frames_before = info["frame_number"] - info["episode_frame_number"]

    def _restarted(self, info: Mapping[str, Any], ended: Any) -> Any:
        self.frame_number = info["frame_number"]
        before, self._frames_before = (
            self._frames_before,
            info["frame_number"] - info["episode_frame_number"],
        )
        return self._frames_before != before

    def _dispatch(self, actions: Any) -> None:
        if self._direct:
            self._base.send(actions)
        else:
            super()._dispatch(actions)

    def _collect(self) -> tuple[Any, Any, Any, Any, Mapping[str, Any]]:
        return self._base.recv() if self._direct else super()._collect()

    def _deliver(self, raw: Any) -> Any:
        frames = super()._deliver(raw)
        return frames[:, 0] if self._squeeze else frames

    def _final_batch(self, raw: Any) -> Any:
        frames = super()._final_batch(raw)
        return frames[:, 0] if self._squeeze else frames


def check_game(env_id: str) -> None:
    """Raise EnvError where there is no such game, or no ALE to play it on."""
    try:
        import ale_py.vector_env  # noqa: F401
    except ImportError:
        raise EnvError(
            f"{env_id} needs the Arcade Learning Environment; pip install 'fastdqn[atari]'."
        ) from None
    if env_id not in registry:
        known = [name for name in registry if name.startswith("ALE/")]
        raise EnvError(f"There is no env {env_id!r}{nearest(env_id, known)}.")


def make_atari(
    env_id: str,
    num_envs: int,
    *,
    protocol: AtariProtocol | None = None,
    frame_stack: int | None = 4,
    num_threads: int | None = None,
    seed: int | None = None,
    observation: ObservationOptions | None = None,
) -> AtariStream:
    """The envs of ``ALE/<Game>-v5``, one grey frame per step, rewards as they are.

    Args:
        env_id: The id.
        num_envs: Envs (N).
        protocol: The rules; None: machado.
        frame_stack: Frames that the replay shall stack.
        num_threads: Of ALE; None: one per usable CPU, at most one per env.
        seed: Of the first ``reset()`` that names none.
        observation: What observations mean.
    """
    check_game(env_id)
    from ale_py.vector_env import AtariVectorEnv

    protocol = protocol or AtariProtocol.machado()
    if num_threads is not None and num_threads < 1:
        raise EnvError(f"num_threads = {num_threads} is out of range; use 1 or more, or None.")

    class _Envs(AtariVectorEnv):
        # AtariVectorEnv writes its mode into the dictionary that all VectorEnvs share.
        metadata: dict[str, Any] = {}  # noqa: RUF012

    try:
        envs = _Envs(
            registry[env_id].kwargs["game"],
            num_envs,
            # Every argument, because the defaults of ale-py and of its Gymnasium ids differ.
            batch_size=num_envs,
            num_threads=num_threads or min(num_envs, usable_cpus()),
            thread_affinity_offset=-1,
            max_num_frames_per_episode=protocol.max_episode_frames,
            repeat_action_probability=protocol.repeat_action_probability,
            full_action_space=protocol.full_action_space,
            continuous=False,
            autoreset_mode=AutoresetMode.NEXT_STEP,
            img_height=protocol.frame_size,
            img_width=protocol.frame_size,
            grayscale=True,
            stack_num=1,
            frameskip=protocol.frame_skip,
            maxpool=protocol.frame_skip > 1,
            noop_max=protocol.noop_max,
            use_fire_reset=protocol.fire_reset,
            episodic_life=False,
            life_loss_info=protocol.life_loss,
            reward_clipping=False,
        )
    except Exception as error:
        raise EnvError(f"{env_id} cannot be made ({type(error).__name__}: {error}).") from error
    return AtariStream(envs, frame_stack=frame_stack, seed=seed, observation=observation)
