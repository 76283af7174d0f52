"""Atari games one by one, for what ALE's vector env cannot do: RAM, game modes, difficulties."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import registry
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from fastdqn.config.atari_ids import ALE_KWARGS
from fastdqn.envs.atari import AtariProtocol
from fastdqn.envs.gymnasium import GymnasiumStream
from fastdqn.envs.leaves import ObservationOptions
from fastdqn.errors import EnvError
from fastdqn.system.signals import before_workers


class AtariGame(gymnasium.Env):
    """One game under an AtariProtocol, with the frames, rewards and ends of ALE's vector env.

    As there, FIRE comes before the no-ops of a reset, and the final frame of an episode is stale. A
    lost life ends nothing here: it stands in ``info["life_lost"]``.

    Args:
        game: ALE's name of it, such as ``space_invaders``.
        protocol: The rules.
        mode: Of the game; None: its default.
        difficulty: Of the game; None: its default.
        ram: Observations are the RAM, uint8 [128], instead of grey frames.
    """

    metadata: dict[str, Any] = {"render_modes": [], "render_fps": 60}  # noqa: RUF012

    def __init__(
        self,
        game: str,
        protocol: AtariProtocol,
        mode: int | None = None,
        difficulty: int | None = None,
        ram: bool = False,
    ) -> None:
        from ale_py import ALEInterface, LoggerMode
        from ale_py.env import AtariEnv

        ALEInterface.setLoggerMode(LoggerMode.Error)  # no banner
        self._env = AtariEnv(
            game,
            obs_type="ram",  # the cheapest: nobody looks at it
            frameskip=1,
            repeat_action_probability=protocol.repeat_action_probability,
            full_action_space=protocol.full_action_space,
        )
        self._shown: list[np.ndarray] | None = None
        self._ale = self._env.ale
        for name, value, known, apply in (
            ("mode", mode, self._ale.getAvailableModes(), self._ale.setMode),
            (
                "difficulty",
                difficulty,
                self._ale.getAvailableDifficulties(),
                self._ale.setDifficulty,
            ),
        ):
            if value is None:
                continue
            if type(value) is not int or value not in known:
                some = ", ".join(map(str, known))
                raise EnvError(f"{name} = {value!r} is none of {game}; use one of {some}.")
            apply(value)
        # For load_game(), which a seeded reset calls.
        self._env._game_mode, self._env._game_difficulty = mode, difficulty
        self._actions = (
            self._ale.getLegalActionSet()
            if protocol.full_action_space
            else self._ale.getMinimalActionSet()
        )
        self._fire = next((a for a in self._actions if a.name == "FIRE"), None)
        self._protocol, self._ram = protocol, ram
        self._screens = [np.zeros(self._ale.getScreenDims(), np.uint8) for _ in range(2)]
        shape = (self._ale.getRAMSize(),) if ram else (protocol.frame_size, protocol.frame_size)
        self.observation_space = Box(0, 255, shape, np.uint8)
        self.action_space = Discrete(len(self._actions))
        self._frames = self._lives = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new game; with a seed the emulator starts anew, as ALE's vector env does."""
        super().reset(seed=seed)
        if seed is not None:
            self._ale.setInt("random_seed", seed)
            self._env.load_game()
        self._ale.reset_game()
        rules = self._protocol
        noops = int(self.np_random.integers(rules.noop_max)) if rules.noop_max else 0
        if rules.fire_reset and self._fire is not None:
            self._ale.act(self._fire)
            noops -= 1
        for _ in range(noops):
            self._ale.act(self._actions[0])
            if self._ale.game_over():
                self._ale.reset_game()
        self._frames, self._lives = 0, self._ale.lives()
        self._ale.getScreenGrayscale(self._screens[0])
        self._screens[1][:] = 0
        self._keep_frame()
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """``frame_skip`` frames of the game, fewer where it ends."""
        rules, ale = self._protocol, self._ale
        reward, over, cut = 0.0, False, False
        for left in reversed(range(rules.frame_skip)):
            reward += ale.act(self._actions[action])
            self._frames += 1
            self._keep_frame()
            over = ale.game_over(with_truncation=False)
            cut = self._frames >= rules.max_episode_frames
            if over or cut:
                break
            if left < 2 and not self._ram:
                ale.getScreenGrayscale(self._screens[left])
        lives, before = ale.lives(), self._lives
        self._lives = lives
        lost = rules.life_loss and lives < before
        return self._observe(), reward, over, cut and not over, {"life_lost": lost and not over}

    def show(self, *, window: bool) -> None:
        """From the next seeded reset on: open ALE's window, or keep frames for render()."""
        if window:
            self._ale.setBool("display_screen", True)
        else:
            self._shown = []

    def render(self) -> Any:
        """uint8 [210, 160, 3] of each frame since the last call, if they are kept."""
        shown, self._shown = self._shown, []
        return shown

    def _keep_frame(self) -> None:
        if self._shown is not None:
            self._shown.append(self._ale.getScreenRGB())

    def _observe(self) -> np.ndarray:
        if self._ram:
            return self._ale.getRAM()
        import cv2

        newest, before = self._screens
        if self._protocol.frame_skip > 1:
            np.maximum(newest, before, out=newest)
        side = self._protocol.frame_size
        return cv2.resize(newest, (side, side), interpolation=cv2.INTER_AREA)


class AtariGamesStream(GymnasiumStream):
    """Vector envs of AtariGame, in which a lost life may be terminal without a reset."""

    _over: Any = None  # [N] games whose newest row is their last
    _over_before: Any = None

    def _begin(self, info: Mapping[str, Any]) -> None:
        self._over = np.zeros(self.num_envs, bool)

    def _collect(self) -> tuple[Any, Any, Any, Any, Mapping[str, Any]]:
        raw, reward, terminated, truncated, info = super()._collect()
        self._over_before, self._over = self._over, terminated | truncated
        lost = info.get("life_lost", np.zeros(self.num_envs, bool))
        return raw, reward, terminated | lost, truncated & ~lost, info  # as ALE reports both

    def _restarted(self, info: Mapping[str, Any], ended: Any) -> Any:
        return self._over_before


def make_atari_games(
    env_id: str,
    num_envs: int,
    *,
    protocol: AtariProtocol | None = None,
    frame_stack: int | None = None,
    seed: int | None = None,
    asynchronous: bool = False,
    step_timeout_s: float | None = 60.0,
    observation: ObservationOptions | None = None,
    **kwargs: Any,
) -> AtariGamesStream:
    """The envs of ``ALE/<Game>-v5`` with RAM observations, another mode or another difficulty.

    Args:
        env_id: The id.
        num_envs: Envs (N).
        protocol: The rules; None: machado.
        frame_stack: Frames that the replay shall stack; None: 4 of screens, RAM as it is.
        seed: Of the first ``reset()`` that names none.
        asynchronous: One process per env; else they step one after the other.
        step_timeout_s: How long processes may take for one step.
        observation: What observations mean.
        **kwargs: ``obs_type`` (``ram``), ``mode``, ``difficulty``.

    Raises:
        EnvError: Where there is no such game, mode, difficulty or argument.
    """
    if unknown := [name for name in kwargs if name not in ALE_KWARGS]:
        raise EnvError(
            f"{unknown[0]} does not apply to {env_id}, which takes mode, difficulty and obs_type; "
            f"set the rules with atari=AtariProtocol(...), or pass a VectorEnv."
        )
    protocol = protocol or AtariProtocol.machado()
    obs_type = kwargs.pop("obs_type", None)
    if obs_type not in (None, "ram"):
        raise EnvError(
            f"obs_type = {obs_type!r} gives raw screens of 210x160; use 'ram', or leave it out for "
            f"grey frames of {protocol.frame_size}x{protocol.frame_size}."
        )
    ram = obs_type == "ram"
    if not ram:
        try:
            import cv2  # noqa: F401
        except ImportError:
            raise EnvError(
                f"{env_id} with a mode or a difficulty scales its screens with OpenCV; pip install "
                f"opencv-python-headless, or use obs_type = 'ram'."
            ) from None
    game = registry[env_id].kwargs["game"]
    make = functools.partial(AtariGame, game, protocol, ram=ram, **kwargs)
    envs: VectorEnv
    if asynchronous:
        methods = multiprocessing.get_all_start_methods()
        before_workers()
        make().close()  # what is wrong with it is said here, not in a worker
        context = "forkserver" if "forkserver" in methods else "spawn"
        envs = AsyncVectorEnv([make] * num_envs, context=context)
    else:
        envs = SyncVectorEnv([make] * num_envs)
    return AtariGamesStream(
        envs,
        frame_stack=frame_stack if ram or frame_stack is not None else 4,
        stack_padding="zero",
        seed=seed,
        step_timeout_s=step_timeout_s,
        observation=observation,
    )
