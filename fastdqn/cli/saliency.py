"""``fastdqn saliency``: play an episode and draw what the network looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fastdqn.cli.arguments import parse
from fastdqn.cli.pictures import disk_may_refuse, picture_path
from fastdqn.cli.play_flags import PlayFlags, config_for
from fastdqn.cli.status_line import StatusLine
from fastdqn.config.seeds import eval_seed
from fastdqn.errors import ConfigError


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


def run(args: list[str]) -> int:
    """Play an episode and draw what the network looked at; ``fastdqn saliency``."""
    flags = parse(
        _SaliencyFlags,
        args,
        prog="fastdqn saliency",
        description="Play an episode and draw what the network looks at.",
        example="fastdqn saliency runs/MY-RUN --frames 12 --out looks.png",
    )
    for name, high in (("frames", 32), ("max_env_steps", 10_000_000)):
        if not 1 <= getattr(flags, name) <= high:
            value = getattr(flags, name)
            raise ConfigError(f"{name} = {value} is out of range; use 1 to {high:,}.")
    out = picture_path(flags.out)
    call = "fastdqn.input_gradient({policy}, observations)"
    config = config_for(flags, "saliency", call=call, eval_epsilon=flags.epsilon)
    seed = eval_seed(config, flags.seed)

    with StatusLine() as status:
        status.say(f"{config.env_id}: loading torch ...")
        from fastdqn.plotting import labels, saliency_episode, saliency_picture
        from fastdqn.training import playing

        with playing.playing(flags.run, config, num_envs=1, checkpoint=flags.choice) as played:
            policy, envs, stop = played
            status.say(f"{config.env_id}: playing an episode ...")
            episode = saliency_episode.play_episode(
                policy,
                envs,
                seed=seed,
                epsilon=config.eval_epsilon,
                max_env_steps=flags.max_env_steps,
                stop=stop,
            )
            status.say(f"{config.env_id}: looking at {flags.frames} of its steps ...")
            everything = list(range(len(episode.step)))
            chosen = saliency_episode.spread(flags.frames, len(everything))
            moments = saliency_episode.explain(policy, episode, chosen)
            cut = ", cut there" if episode.unfinished else ""
            what = (
                f"{config.env_id}, return {episode.episode_return:g} in "
                f"{episode.length:,} steps{cut}"
            )
            title = f"{Path(flags.run).name}: {what}"[:110]
            actions = labels.action_names(
                config.env_id, envs.num_actions, full_action_space=config.atari_full_action_space
            )
            with disk_may_refuse(out):
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
