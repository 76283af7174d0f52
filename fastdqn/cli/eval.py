"""``fastdqn eval``: play with a trained agent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from fastdqn.cli.arguments import parse
from fastdqn.cli.play_flags import PlayFlags, config_for
from fastdqn.cli.scores import score
from fastdqn.cli.status_line import StatusLine
from fastdqn.config.seeds import eval_seed
from fastdqn.config.windows import check_window
from fastdqn.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class _EvalFlags(PlayFlags):
    """The options of ``fastdqn eval``."""

    episodes: int = 100
    """Rounded up to a multiple of the envs."""
    epsilon: float | None = None
    """Chance of a random action; None: the run's eval_epsilon."""
    num_envs: int | None = None
    """Envs that play side by side; None: the run's eval_num_envs."""
    render: Literal["human"] | None = None
    """human: watch it in the env's own window, in one env; Ctrl-C ends it."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print everything as JSON."""


def run(args: list[str]) -> int:
    """Play with a trained agent and say its score; ``fastdqn eval``."""
    flags = parse(
        _EvalFlags,
        args,
        prog="fastdqn eval",
        description="Play with a trained agent and say its score.",
        example="fastdqn eval runs/MY-RUN --checkpoint best --episodes 20",
    )
    if flags.episodes < 1:
        raise ConfigError(f"episodes = {flags.episodes} is out of range; use 1 or more.")
    if flags.render is not None and flags.num_envs not in (None, 1):
        raise ConfigError(
            f"num_envs = {flags.num_envs} does not fit in one window; leave it out, or leave "
            f"--render out."
        )
    changes: dict[str, Any] = {"eval_episodes": flags.episodes}
    if flags.epsilon is not None:
        changes["eval_epsilon"] = flags.epsilon
    if flags.num_envs is not None:
        changes["eval_num_envs"] = flags.num_envs
    call = "fastdqn.evaluate({policy}, envs, episodes_per_env=10)"
    config = config_for(flags, "eval", call=call, **changes)
    num_envs, seed = min(config.eval_num_envs, flags.episodes), eval_seed(config, flags.seed)
    if flags.render is not None:
        check_window(config.env_id)
        num_envs = 1
    with StatusLine() as status:
        status.say(f"{config.env_id}: loading torch ...")
        from fastdqn.acting import evaluation
        from fastdqn.training import build, playing

        with playing.playing(
            flags.run,
            config,
            num_envs=num_envs,
            checkpoint=flags.choice,
            render_mode=flags.render,
        ) as played:
            policy, envs, stop = played
            status.say(f"{config.env_id}: playing {flags.episodes} episodes ...")
            result = evaluation.evaluate(
                policy,
                envs,
                episodes_per_env=-(-flags.episodes // num_envs),
                epsilon=config.eval_epsilon,
                max_env_steps=config.eval_max_env_steps,
                patience_env_steps=build.eval_patience(config, envs),
                seed=seed,
                stop=stop,
            )
    if flags.json:
        report = {
            "run": flags.run,
            "env_id": config.env_id,
            "return_mean": float(result.mean),
            "return_std": float(result.std),
            "episodes": int(result.episodes),
            "unfinished_episodes": int(result.unfinished),
            "given_up": result.given_up,
            "epsilon": config.eval_epsilon,
            "returns": [float(value) for value in result.returns],
            "lengths": [int(value) for value in result.lengths],
        }
        print(json.dumps(report, indent=2))
    else:
        said = score(
            result.mean,
            result.std,
            result.episodes,
            result.unfinished,
            result.given_up,
            config.eval_epsilon,
        )
        print(f"{config.env_id}: {said}")
    return 0
