"""A film of a policy at play: its episodes, picture by picture, into a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastdqn.acting.policy import Policy
from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.config.windows import without_display
from fastdqn.envs import arrays
from fastdqn.envs.rendered import RenderedEnv
from fastdqn.errors import ConfigError, EnvError
from fastdqn.plotting.saliency_episode import is_picture
from fastdqn.recording.camera import Camera
from fastdqn.recording.drawing import Drawing
from fastdqn.recording.film_file import MOST_FPS, film_file, film_path
from fastdqn.recording.insight import Insight, watched
from fastdqn.spaces import check_played

_FPS = Range(0.1, 240.0)


@dataclass(frozen=True)
class FilmSummary:
    """What a film shows."""

    returns: tuple[float, ...]
    """Raw, one of each episode."""
    lengths: tuple[int, ...]
    """In env steps."""
    unfinished: bool
    """Whether the last one was cut."""
    frames: int
    """Pictures in the file."""
    fps: float
    """Of them per second."""


def film(
    policy: Policy,
    envs: RenderedEnv,
    out: Path | str,
    *,
    seed: int,
    episodes: int = 1,
    epsilon: float = 0.0,
    max_env_steps: int | None = None,
    fps: float | None = None,
    q_bars: bool = False,
    saliency: bool = False,
    actions: Sequence[str] | None = None,
    stop: Callable[[], bool] | None = None,
) -> FilmSummary:
    """Play as :func:`fastdqn.evaluate` does, and film it.

    The film is written whole or not at all; one that is stopped ends there and is whole.

    Args:
        policy: Acts; its stacks and its generator start anew.
        envs: One env that draws itself; its state is lost.
        out: The film, ``.mp4`` (needs PyAV) or ``.gif``. A file of that name is replaced.
        seed: Of the env and of the random actions.
        episodes: Play so many.
        epsilon: Chance of a random action.
        max_env_steps: Stop after so many.
        fps: Pictures per second, at most; others are left out, the speed stays the env's. None:
            as many as the env has, in a ``.gif`` at most 30.
        q_bars: Show Q of every action beside the picture.
        saliency: Colour what the network looks at (:func:`fastdqn.learning.perturbation_saliency`).
        actions: Names, [A].
        stop: Asked before every step; True ends the film there.

    Raises:
        ConfigError: Where an argument is out of range or the env has other spaces than the policy.
        EnvError: Where the env draws no pictures.
        OSError: Where the film cannot be written.
    """
    check_argument("episodes", episodes, int, Range(1, 10**6))
    check_argument("max_env_steps", max_env_steps, int | None, Range(1))
    check_argument("fps", fps, float | None, _FPS)
    path = film_path(out, fps)
    if policy.spaces is not None:
        check_played(policy.spaces, envs)
    shape = envs.observation_space.shape
    if saliency and not is_picture(shape):
        raise ConfigError(
            f"saliency = True needs observations that are pictures, where these have shape "
            f"{shape}; leave it out."
        )
    names = list(actions or (f"action {i}" for i in range(envs.num_actions)))
    panel = (shape[-2], shape[-1]) if saliency and not envs.shows_observation else None
    drawing = Drawing(names if q_bars else (), panel)
    most = fps or MOST_FPS[path.suffix.lower()]
    policy.reset()
    policy.generator.manual_seed(seed)
    with (
        without_display(),
        watched(policy, saliency=saliency, wanted=q_bars or saliency) as look,
        film_file(path, min(most, envs.fps)) as file,
    ):
        camera = Camera(file, drawing, fps=envs.fps, flickers=envs.flickers)
        returns, lengths, unfinished = _play(
            policy, envs, camera, look, seed, episodes, epsilon, max_env_steps, stop
        )
        if not camera.frames:
            raise EnvError("The env has drawn no pictures; let its render() return them.")
    return FilmSummary(returns, lengths, unfinished, camera.frames, file.fps)


def _play(
    policy: Policy,
    envs: RenderedEnv,
    camera: Camera,
    look: Callable[[int], Insight | None],
    seed: int,
    episodes: int,
    epsilon: float,
    max_env_steps: int | None,
    stop: Callable[[], bool] | None,
) -> tuple[tuple[float, ...], tuple[int, ...], bool]:
    """Returns and lengths of the episodes, and whether the last was cut."""
    returns: list[float] = []
    lengths: list[int] = []
    step, score, length = envs.reset(seed=seed), 0.0, 0
    frame, first = step.observation, step.first
    pictures = envs.render()
    while len(returns) < episodes:
        said = _caption(score, length, len(returns), episodes)
        if (stop is not None and stop()) or (
            max_env_steps is not None and sum(lengths) + length >= max_env_steps
        ):
            camera.show(pictures, said)
            if length:
                returns.append(score)
                lengths.append(length)
            return tuple(returns), tuple(lengths), True
        action = policy.act(frame, first=first, epsilon=epsilon) - policy.action_start
        insight = look(int(action[0]))
        envs.send(action)
        step = envs.recv()
        frame, first = step.observation, step.first
        if bool(first[0]) and length > 0:  # what was acted on was the last row of its episode
            camera.show(pictures, said, last=True)
            returns.append(score)
            lengths.append(length)
        else:
            camera.show(pictures, said, insight)
        if bool(first[0]):
            score, length = 0.0, 0
        else:
            score, length = score + float(step.reward[0]), length + 1
        pictures = envs.render()
        if step.reset is not None and step.reset_observation is not None and bool(step.reset[0]):
            returns.append(score)  # the env has moved on, and so have its pictures
            lengths.append(length)
            score, length = 0.0, 0
            frame, first = arrays.as_kind_of(step.reset_observation, frame), first | step.reset
    return tuple(returns), tuple(lengths), False


def _caption(score: float, length: int, done: int, episodes: int) -> tuple[str, str]:
    """What stands above the picture, left and right."""
    number = f"episode {done + 1}, " if episodes > 1 else ""
    return f"return {np.round(score, 2):g}", f"{number}step {length:,}"
