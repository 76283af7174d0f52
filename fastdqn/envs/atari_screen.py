"""An Atari game in its own colours, beside ALE's vector env, which gives grey frames only."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from gymnasium.envs.registration import registry

from fastdqn.envs.atari import AtariProtocol, AtariStream
from fastdqn.envs.rendered import RenderMode
from fastdqn.errors import EnvError
from fastdqn.types import Array, TimeStep

FPS = 60


class RenderedAtari:
    """A stream of one game, and a second emulator that plays the same frame by frame.

    The policy is given the rows of ALE's vector env, as in training. The second emulator starts
    from the same seed, so that its sticky actions are the same, too, and follows by the frame
    counter: no-ops up to the first frame of an episode, then each action for as many frames as the
    vector env played. Frames and rewards are compared after every row.

    Args:
        envs: Of one env.
        env_id: Its id, ``ALE/<Game>-v5``.
        protocol: The rules that it was made by.
        seed: Of the first ``reset()`` that names none.
        mode: ``rgb_array``: pictures come from :meth:`render`; ``human``: into ALE's window, at 60
            frames per second.
    """

    fps = float(FPS)
    flickers = True
    shows_observation = True

    def __init__(
        self,
        envs: AtariStream,
        env_id: str,
        protocol: AtariProtocol,
        *,
        seed: int,
        mode: RenderMode = "rgb_array",
    ) -> None:
        from ale_py import ALEInterface, LoggerMode, roms

        self._rendered, self._name = envs, env_id
        self._seed: int | None = seed
        self._window = mode == "human"
        self._rom = roms.get_rom_path(registry[env_id].kwargs["game"])
        ALEInterface.setLoggerMode(LoggerMode.Error)  # no banner
        self._ale = ale = ALEInterface()
        ale.setFloat("repeat_action_probability", protocol.repeat_action_probability)
        ale.setBool("display_screen", self._window)
        self._load(seed)
        full = protocol.full_action_space
        self._actions = ale.getLegalActionSet() if full else ale.getMinimalActionSet()
        fire = next((action for action in self._actions if action.name == "FIRE"), None)
        self._fire = fire if protocol.fire_reset else None
        self._sent = 0
        self._pictures: list[np.ndarray] = []
        self._due = 0.0  # when the window may show the next frame

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rendered, name)

    def reset(self, *, seed: int | None = None) -> TimeStep:
        """Start the game anew; without a seed it goes on with the random numbers of before."""
        if seed is None:
            seed, self._seed = self._seed, None
        step = self._rendered.reset(seed=seed)
        if seed is not None:
            self._load(seed)
        self._restart()
        return step

    def send(self, actions: Array) -> None:
        """Hand over the action [1]."""
        self._sent = int(actions[0])
        self._rendered.send(actions)

    def recv(self) -> TimeStep:
        """Wait for the row, and play its frames once more."""
        step = self._rendered.recv()
        if step.first[0]:
            self._restart()
            return step
        reward = 0
        while self._ale.getFrameNumber() < self._target:
            reward += self._act(self._actions[self._sent])
        if self._ale.getFrameNumber() != self._target or reward != step.reward[0]:
            raise EnvError(f"Two emulators played two games of {self._name}; report this as a bug.")
        return step

    def step(self, actions: Array) -> TimeStep:
        """Both."""
        self.send(actions)
        return self.recv()

    def render(self) -> list[np.ndarray]:
        """Frames uint8 [210, 160, 3] since the last call, the newest last."""
        pictures, self._pictures = self._pictures, []
        return pictures

    @property
    def _target(self) -> int:
        return int(self._rendered.frame_number[0])

    def _load(self, seed: int) -> None:
        self._ale.setInt("random_seed", seed)
        try:
            self._ale.loadROM(self._rom)
        except RuntimeError as error:
            raise EnvError(f"{self._name} cannot open a window here ({error}).") from None

    def _restart(self) -> None:
        self._ale.reset_game()
        if self._fire is not None:
            self._ale.act(self._fire)
        while self._ale.getFrameNumber() < self._target:
            self._ale.act(self._actions[0])
            if self._ale.game_over():
                self._ale.reset_game()
        self._pictures = []
        self._keep()

    def _act(self, action: Any) -> int:
        if self._window:  # ALE itself shows some 110 frames per second
            time.sleep(max(0.0, self._due - time.monotonic()))
            self._due = time.monotonic() + 1 / FPS
        reward: int = self._ale.act(action)
        self._keep()
        return reward

    def _keep(self) -> None:
        if not self._window:
            self._pictures.append(self._ale.getScreenRGB())
