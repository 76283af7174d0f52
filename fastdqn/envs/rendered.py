"""One env as a stream of rows, with the pictures that it draws of itself."""

from __future__ import annotations

import importlib
from typing import Any, Literal, Protocol

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from fastdqn.envs.stream import EnvStream
from fastdqn.errors import EnvError

RenderMode = Literal["rgb_array", "human"]

_FPS = 30.0  # of envs that say nothing of it


class RenderedEnv(EnvStream, Protocol):
    """A stream of one env that draws itself."""

    fps: float  # pictures per second at which the env runs in its own time
    flickers: bool  # things are drawn in every other picture only, as in Atari games
    shows_observation: bool  # a picture shows just what the network sees, in the same place

    def render(self) -> list[np.ndarray]:
        """Pictures uint8 [H, W, 3] since the last call, those of one row, the newest last."""
        ...


class RenderedStream:
    """A stream of one Gymnasium env that was made with a render mode; see :class:`RenderedEnv`.

    Args:
        envs: The stream.
        name: Of the env, for messages.
        shows_observation: See :class:`RenderedEnv`.
        flickers: See :class:`RenderedEnv`.
    """

    def __init__(
        self, envs: Any, name: str, *, shows_observation: bool = False, flickers: bool = False
    ) -> None:
        self._rendered, self._name = envs, name
        self.shows_observation, self.flickers = shows_observation, flickers
        fps = envs.vector_env.metadata.get("render_fps")
        self.fps = float(fps) if isinstance(fps, int | float) and 0 < fps <= 1000 else _FPS

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rendered, name)

    def render(self) -> list[np.ndarray]:
        """Pictures uint8 [H, W, 3] since the last call, the newest last.

        Raises:
            EnvError: Where the env draws none.
        """
        try:
            drawn = self._rendered.vector_env.render()
        except Exception as error:
            why = " ".join(str(error).split()) or "no reason given"
            raise EnvError(
                f"{self._name} cannot be drawn ({type(error).__name__}: {why})."
            ) from error
        ours = drawn[0] if isinstance(drawn, tuple | list) and drawn else drawn
        pictures = ours if isinstance(ours, list) else [ours]
        return [_as_rgb(picture, self._name) for picture in pictures]


def _as_rgb(picture: Any, name: str) -> np.ndarray:
    """uint8 [H, W, 3] of grey, coloured or partly transparent bytes."""
    shape = np.shape(picture)
    if getattr(picture, "dtype", None) == np.uint8:
        if len(shape) == 2:
            return np.repeat(picture[..., None], 3, axis=2)
        if len(shape) == 3 and shape[2] == 1:
            return np.repeat(picture, 3, axis=2)
        if len(shape) == 3 and shape[2] in (3, 4) and 0 not in shape:
            return np.array(picture[..., :3])  # the env may draw into the same array again
    kind = f"{getattr(picture, 'dtype', type(picture).__name__)} {shape or ''}".rstrip()
    raise EnvError(f"{name} draws {kind}; let its render() return uint8 [height, width, 3].")


def spec_of(env_id: str) -> EnvSpec | None:
    """What Gymnasium knows of an env, whose module is imported; None: nothing by that name."""
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        return gymnasium.spec(name)
    except (ImportError, gymnasium.error.Error):
        return None  # who makes the env says why


def check_renders(env_id: str, mode: RenderMode) -> None:
    """Refuse, by an EnvError, an env that says of itself that it draws no pictures.

    Args:
        env_id: Of an env that is neither ALE's nor native.
        mode: ``rgb_array``, or ``human``, for which pictures suffice.
    """
    spec = spec_of(env_id)
    entry = None if spec is None else spec.entry_point or spec.vector_entry_point
    if entry is None:
        return
    try:
        creator: Any = load_env_creator(entry) if isinstance(entry, str) else entry
    except Exception:
        return  # who makes the env says why
    metadata = getattr(creator, "metadata", None)
    modes = metadata.get("render_modes", ()) if isinstance(metadata, dict) else ("rgb_array",)
    if not {mode, "rgb_array"} & set(modes):
        has = ", ".join(map(str, modes)) or "none"
        raise EnvError(
            f"{env_id} draws no pictures (its render_modes: {has}); give it the mode 'rgb_array'."
        )
