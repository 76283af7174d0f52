"""``fastdqn record``: film a trained agent at play."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import tyro

from fastdqn.cli.arguments import parse
from fastdqn.cli.pictures import disk_may_refuse
from fastdqn.cli.play_flags import PlayFlags, config_for
from fastdqn.cli.status_line import StatusLine
from fastdqn.config.seeds import eval_seed
from fastdqn.errors import ConfigError
from fastdqn.recording.film_file import film_path
from fastdqn.system.signals import Stopped

if TYPE_CHECKING:
    from fastdqn.envs.rendered import RenderedEnv
    from fastdqn.recording.film import FilmSummary

_SAID_EVERY = 30  # env steps


@dataclass(frozen=True, kw_only=True)
class _RecordFlags(PlayFlags):
    """The options of ``fastdqn record``."""

    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = "play.mp4"
    """The film: .mp4 (needs fastdqn[video]) or .gif. An existing file is overwritten."""
    episodes: int = 1
    """Play so many."""
    epsilon: float = 0.0
    """Chance of a random action."""
    max_env_steps: int = 10_000
    """Stop after so many env steps."""
    fps: float | None = None
    """Pictures per second, at most; the speed stays the env's. None: as many as the env has, in a
    .gif at most 30."""
    q_bars: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show Q of every action beside the picture, that of the action taken in colour."""
    saliency: tyro.conf.FlagCreatePairsOff[bool] = False
    """Colour what the network looks at: where blurring the picture changes Q."""


def run(args: list[str]) -> int:
    """Film a trained agent at play; ``fastdqn record``."""
    flags = parse(
        _RecordFlags,
        args,
        prog="fastdqn record",
        description="Film a trained agent at play.",
        example="fastdqn record runs/MY-RUN --out play.mp4 --q-bars",
    )
    for name, low, high in (
        ("episodes", 1, 10_000),
        ("max_env_steps", 1, 10_000_000),
        ("fps", 0.1, 240),
    ):
        value = getattr(flags, name)
        if value is not None and not low <= value <= high:
            raise ConfigError(f"{name} = {value} is out of range; use {low} to {high:,}.")
    out = film_path(flags.out, flags.fps)
    call = "fastdqn.evaluate({policy}, envs, episodes_per_env=1)"
    config = config_for(flags, "record", call=call, eval_epsilon=flags.epsilon)
    seed = eval_seed(config, flags.seed)

    steps = 0
    with StatusLine() as status:
        status.say(f"{config.env_id}: loading torch ...")
        from fastdqn.recording.film import film
        from fastdqn.training import filming, playing

        with playing.playing(
            flags.run, config, checkpoint=flags.choice, render_mode="rgb_array"
        ) as played:
            policy, made, leave = played
            envs = cast("RenderedEnv", made)

            def stop() -> bool:
                nonlocal steps
                if steps % _SAID_EVERY == 0:
                    status.say(f"{config.env_id}: filming, env step {steps:,} ...")
                steps += 1
                try:
                    return leave()
                except Stopped:  # comes once more when the film is finished
                    return True

            with disk_may_refuse(out):
                summary = film(
                    policy,
                    envs,
                    out,
                    seed=seed,
                    episodes=flags.episodes,
                    epsilon=config.eval_epsilon,
                    max_env_steps=flags.max_env_steps,
                    fps=flags.fps,
                    q_bars=flags.q_bars,
                    saliency=flags.saliency,
                    actions=filming.action_labels(config, envs),
                    stop=stop,
                )
            status.clear()
            _say(config.env_id, summary, out)
    return 0


def _say(env_id: str, summary: FilmSummary, out: Path) -> None:
    """The last words, also of a film that a signal has ended."""
    scores = ", ".join(f"{value:g}" for value in summary.returns)
    cut = ", cut there" if summary.unfinished else ""
    word = "return" if len(summary.returns) == 1 else "returns"
    seconds = summary.frames / summary.fps
    what = f"{env_id}: {word} {scores} in {sum(summary.lengths):,} steps{cut}"
    print(f"{what}\n{out} ({summary.frames:,} frames, {seconds:.1f} s)", flush=True)
