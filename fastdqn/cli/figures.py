"""The commands that draw: ``fastdqn plot`` and ``fastdqn saliency``."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fastdqn.cli.arguments import parse
from fastdqn.cli.play_flags import PlayFlags, config_for
from fastdqn.config.seeds import eval_seed
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.plotting.sparkline import sparkline
from fastdqn.runs.reader import Evaluation, Run, read_run

_FORMATS = (".png", ".svg", ".pdf")
_SPARKLINE = 32  # characters


@dataclass(frozen=True, kw_only=True)
class _PlotFlags:
    """The options of ``fastdqn plot``."""

    run: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Run directories, finished or in progress. Those that differ only in their seed are drawn as
    their mean and interval."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = "curves.png"
    """The picture: .png, .svg or .pdf. An existing one is overwritten."""


def plot(args: list[str]) -> int:
    """Draw the curves of runs; ``fastdqn plot``."""
    flags = parse(_PlotFlags, args, prog="fastdqn plot", description="Draw the curves of runs.")
    out = _picture_path(flags.out)
    if not flags.run:
        raise ConfigError("fastdqn plot needs RUN; 'fastdqn plot --help' says more.")
    paths = {Path(run).resolve(): Path(run) for run in flags.run}  # each only once
    runs = [run for run in map(read_run, paths.values()) if _has_rows(run)]
    if not runs:
        raise CheckpointError(
            "none of these runs has logged a row yet; wait for the first, or name others."
        )
    from fastdqn.plotting.many_runs import plot_curves

    with _disk_may_refuse(out):
        groups = plot_curves(runs, out)
    print("\n".join(_summary(runs)))
    kinds = "" if len(groups) == 1 else f", {len(groups)} configurations"
    print(f"{out} ({len(runs)} {'run' if len(runs) == 1 else 'runs'}{kinds})")
    return 0


def _has_rows(run: Run) -> bool:
    if run.curve("env_steps")[0]:
        return True
    warnings.warn(f"{run.path} has logged no row yet; it is left out.", stacklevel=2)
    return False


def _summary(runs: Sequence[Run]) -> list[str]:
    """A line per run: its returns as a sparkline, the newest, and the newest evaluation."""
    width = max(len(str(run.path)) for run in runs)
    lines = []
    for run in runs:
        _, returns = run.curve("return_mean")
        at = f"at {run.curve('env_steps')[0][-1]:,.0f} env steps"
        marks = sparkline(returns, _SPARKLINE, stream=sys.stdout)
        newest = f"return {returns[-1]:.1f} {at}" if returns else f"no episode yet {at}"
        score = f"; {_score(run.evaluations[-1])}" if run.evaluations else ""
        lines.append(f"{run.path!s:<{width}}  {marks:<{_SPARKLINE}}  {newest}{score}")
    return lines


def _score(newest: Evaluation) -> str:
    spread = f" +- {newest.std:.1f}" if math.isfinite(newest.std) else ""
    when = "final evaluation" if newest.final else f"evaluated at {newest.env_steps:,.0f}"
    return f"{when}: {newest.mean:.1f}{spread}"


@dataclass(frozen=True, kw_only=True)
class _SaliencyFlags(PlayFlags):
    """The options of ``fastdqn saliency``."""

    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = "saliency.png"
    """The picture: .png, .svg or .pdf. An existing file is overwritten."""
    frames: int = 8
    """Moments to draw, spread evenly over the episode."""
    epsilon: float = 0.0
    """Chance of a random action."""
    max_env_steps: int = 5_000
    """Look at no more than so many steps of the episode."""


def saliency(args: list[str]) -> int:
    """Play an episode and draw what the network looked at; ``fastdqn saliency``."""
    flags = parse(
        _SaliencyFlags,
        args,
        prog="fastdqn saliency",
        description="Play an episode and draw what the network looks at.",
    )
    for name, high in (("frames", 32), ("max_env_steps", 10_000_000)):
        if not 1 <= getattr(flags, name) <= high:
            value = getattr(flags, name)
            raise ConfigError(f"{name} = {value} is out of range; use 1 to {high:,}.")
    out = _picture_path(flags.out)
    call = "fastdqn.input_gradient({policy}, observations)"
    config = config_for(flags, "saliency", call=call, eval_epsilon=flags.epsilon)
    seed = eval_seed(config, flags.seed)

    from fastdqn.plotting import labels, saliency_episode, saliency_picture
    from fastdqn.training import playing

    with playing.playing(flags.run, config, num_envs=1, checkpoint=flags.choice) as played:
        policy, envs, stop = played
        episode = saliency_episode.play_episode(
            policy,
            envs,
            seed=seed,
            epsilon=config.eval_epsilon,
            max_env_steps=flags.max_env_steps,
            stop=stop,
        )
        everything = list(range(len(episode.step)))
        chosen = saliency_episode.spread(flags.frames, len(everything))
        moments = saliency_episode.explain(policy, episode, chosen)
        cut = ", cut there" if episode.unfinished else ""
        what = (
            f"{config.env_id}, return {episode.episode_return:g} in {episode.length:,} steps{cut}"
        )
        title = f"{Path(flags.run).name}: {what}"[:110]
        actions = labels.action_names(
            config.env_id, envs.num_actions, full_action_space=config.atari_full_action_space
        )
        with _disk_may_refuse(out):
            if moments.perturbation is not None:
                saliency_picture.draw_frames(
                    moments, out, title=title, actions=actions, frame_stack=policy.frame_stack
                )
            else:
                variables = labels.variable_names(
                    config.env_id, moments.observation[0].size, policy.frame_stack
                )
                saliency_picture.draw_vectors(
                    moments,
                    saliency_episode.explain(policy, episode, everything),
                    out,
                    title=title,
                    actions=actions,
                    variables=variables,
                )
    print(f"{what}\n{out} ({len(moments.step)} of its steps)")
    return 0


def _picture_path(out: str) -> Path:
    """Where to draw, refused before anything is computed if it cannot be."""
    path = Path(out)
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"out = {out!r} is no picture; end it in {', '.join(_FORMATS)}.")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a directory" if path.is_dir() else f"needs the directory {str(path.parent)!r}"
        raise ConfigError(f"out = {out!r} {what}; name a file in a directory that exists.")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"out = {out!r} cannot be written there; name another directory.")
    return path


@contextlib.contextmanager
def _disk_may_refuse(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"out = {str(out)!r} cannot be written ({error.strerror}); name another file."
        ) from None
